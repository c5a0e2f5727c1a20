"""Settings polished until a dry sound comes out of the effects as the wet one: no network, no training."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import cmaes
import torch
from torch import Tensor

from difffx.graph import ProcessorGraph
from difffx.refine.descent import descend
from difffx.refine.judge import Budget, Ended, Judge, Progress

RENDERS = 4_000
SECONDS = 60.0
NEAR = 0.01  # mel: a settled search stops here, and is shaken above
POOL, FIELD = 48, 6


@dataclass(frozen=True)
class Refinement:
    """The nearest settings found, and how they were found.

    z        [1, P, 1] in 0..1
    before   mel distance to the wet sound at the first start
    after    mel distance at z; never more than at any start
    history  (renders so far, best mel so far), a pair for each improvement
    renders  how often the sound was rendered and compared
    ended    "near", "renders" (all used up), "seconds" (out of time), "interrupted" (Ctrl-C), or "settled":
             downhill from the start and no farther, as asked
    """

    z: Tensor
    before: float
    after: float
    history: tuple[tuple[int, float], ...]
    renders: int
    ended: str


def refine(
    graph: ProcessorGraph,
    dry: Tensor,
    wet: Tensor,
    start: Tensor,
    *,
    renders: int = RENDERS,
    seconds: float = SECONDS,
    restarts: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Refinement:
    """The settings at which dry comes nearest to wet, as `losses.Mel` hears it, from one start or several.

    dry, wet  [1, C, T]  aligned, of one shape; their levels do not count
    start     [N, P, 1]  in 0..1; the first is the one to improve, more are tried too
    renders   the budget: on it and on the seed depends the answer, unless `seconds` are over before; an
              excerpt counts by its length
    restarts  False: downhill from the best start and no farther
    progress  called with renders done, renders in all, best mel

    Levenberg-Marquardt on the picture of ln mel magnitudes. What a knob does to the picture is heard by
    turning it a little, all knobs as one batch: no gradient is needed, and moves are few. Differences count
    by their absolute value, knobs stay in 0..1. From a random start a compressor or a clipper takes 50 to 500
    renders, an equalizer 100 and up, a chain of all three 1,000 and up; of 10 s at 44.1 kHz each takes 16 ms
    of a core. Knobs without audible effect end anywhere. Ctrl-C ends the search; the best by then counts.
    """
    _check(graph, dry, wet, start)
    judge = Judge(graph, dry, wet, Budget(renders, seconds), progress)
    starts = graph.spec.decided(start.detach().cpu().double().clamp(0, 1))[..., 0]
    before, ended = math.nan, "settled"
    try:
        before = judge.measure(starts)[1][0].item()
        if restarts:
            search(judge, starts, seed)
        else:
            descend(judge, judge.best, graph.spec.switches, moves=100)
    except Ended as reason:
        ended = str(reason)
    except KeyboardInterrupt:
        if judge.best is None:
            raise
        before, ended = judge.mel if math.isnan(before) else before, "interrupted"
    z = judge.best[None, :, None].to(start)
    return Refinement(z, before, judge.mel, tuple(judge.history), round(judge.budget.spent), ended)


def _check(graph: ProcessorGraph, dry: Tensor, wet: Tensor, start: Tensor) -> None:
    """Raises ValueError for sounds or settings that cannot be compared."""
    if dry.ndim != 3 or len(dry) != 1 or dry.shape != wet.shape:
        raise ValueError(
            f"expected two sounds [1, C, T] of one shape, got {tuple(dry.shape)}, {tuple(wet.shape)}"
        )
    if not len(graph.spec):
        raise ValueError("this graph has no knobs to refine")
    if start.ndim != 3 or start.shape[1:] != (len(graph.spec), 1) or not len(start):
        raise ValueError(f"start: expected z [N, {len(graph.spec)}, 1], got {tuple(start.shape)}")
    for name, sound in {"dry": dry, "wet": wet}.items():
        if not torch.isfinite(sound).all():
            raise ValueError(f"{name}: has samples that are NaN or infinite")


def search(judge: Judge, starts: Tensor, seed: int) -> None:
    """Rounds until the best is near: a field of settings goes downhill on a short excerpt, its best on all.

    starts  [N, P], the field of the first round, or where effects are not differentiable what CMA-ES makes of
            the best of them with half of the budget. Ends by raising Ended.
    """
    generator, switches = torch.Generator().manual_seed(seed), judge.graph.spec.switches
    for turn in itertools.count():
        short = judge.excerpt(turn)
        if turn == 0 and judge.graph.differentiable:
            field = list(starts)
        elif turn == 0:
            field = [evolve(short, judge.best, seed, judge.budget.renders // 2)]
        elif turn == 1:
            field = _strangers(short, judge.best, generator)
        else:
            field = [_shaken(judge.best, switches, generator) for _ in range(FIELD)]
        try:
            z = tournament(short, field, switches)
        except (Ended, KeyboardInterrupt):
            if short is not judge and short.best is not None:
                judge.measure(short.best[None], free=True)
            raise
        descend(judge, z, switches, moves=100)
        descend(judge, judge.best, switches, moves=100)
        if judge.mel < NEAR:
            raise Ended("near")


def _strangers(judge: Judge, best: Tensor, generator: torch.Generator) -> list[Tensor]:
    """The best of the middle, the defaults and many settings drawn at random, and each switch flipped."""
    spec = judge.graph.spec
    drawn = torch.rand(POOL, len(spec), generator=generator, dtype=torch.float64)
    pool = torch.cat([torch.full_like(drawn[:1], 0.5), spec.defaults()[..., 0].to(drawn), drawn])
    pool[:, spec.switches] = best[spec.switches]
    order = judge.measure(pool)[1].argsort()[:FIELD]
    return [*pool[order], *(_flipped(best, place) for place in spec.switches)]


def tournament(judge: Judge, field: list[Tensor], switches: list[int]) -> Tensor:
    """All go downhill for some moves, the better half goes on; the last one goes as far as it can."""
    while len(field) > 1:
        runs = sorted((descend(judge, z, switches, moves=4) for z in field), key=lambda run: run[0])
        field = [z for _, z in runs[: len(runs) // 2]]
    return descend(judge, field[0], switches, moves=20)[1]


def _flipped(z: Tensor, place: int) -> Tensor:
    """[P] with one switch turned over."""
    z = z.clone()
    z[place] = 1.0 - z[place]
    return z


def _shaken(z: Tensor, switches: list[int], generator: torch.Generator) -> Tensor:
    """[P] with a third of its knobs drawn anew; or, every other time, up to four neighbors, since knobs that
    belong together stand side by side. Every fourth time a switch is flipped, too."""
    scattered, flip, place, which = torch.rand(4, generator=generator).tolist()
    chosen = torch.rand(len(z), generator=generator) < 0.3
    if scattered < 0.5:
        first = int(place * len(z))
        chosen = torch.zeros_like(chosen)
        chosen[first : first + 1 + int(4 * which)] = True
    chosen[switches] = False
    shaken = torch.where(chosen, torch.rand(len(z), generator=generator, dtype=z.dtype), z)
    return _flipped(shaken, switches[int(which * len(switches))]) if switches and flip < 0.25 else shaken


def evolve(judge: Judge, z: Tensor, seed: int, renders: float) -> Tensor:
    """The best that CMA-ES finds from settings z [P]: it asks for no slope at all, and for many renders."""
    bounds = torch.tensor([[0.0, 1.0]]).repeat(len(z), 1).numpy()
    strategy = cmaes.CMA(mean=z.clamp(0.02, 0.98).numpy(), sigma=0.2, bounds=bounds, seed=seed)
    end = judge.budget.spent + renders
    while judge.budget.spent < end and not strategy.should_stop() and not judge.mel < NEAR:
        asked = [strategy.ask() for _ in range(strategy.population_size)]
        mels = judge.measure(torch.stack([torch.from_numpy(z) for z in asked]))[1]
        strategy.tell(list(zip(asked, mels.clamp(max=1e3).tolist(), strict=True)))
    return judge.best
