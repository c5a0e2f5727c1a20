"""Settings polished until a dry sound comes out of the effects as the wet one: no network, no training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import cmaes
import torch
from torch import Tensor

from difffx.functional.spectra import log_mel, normalize_rms
from difffx.graph import ProcessorGraph
from difffx.losses import Mel

RENDERS = 4_000
SECONDS = 60.0
NEAR = 0.01  # mel: a settled search stops here, and is shaken above
PROBE = 0.005  # how far a knob is turned, of its whole way, to hear what it does
COARSE_PROBE = 0.03  # the same where knobs may snap to steps
DAMPINGS = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
SETTLED = 0.02  # a move that gains less than this share of the distance is the last one
SAMPLES_AT_ONCE = 4_000_000

Progress = Callable[[int, int, float], None]


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
    renders   the budget: on it and on the seed depends the answer, unless `seconds` are over before
    restarts  False: downhill from the best start and no farther
    progress  called with renders done, renders in all, best mel

    Levenberg-Marquardt on the picture of ln mel magnitudes. What a knob does to the picture is heard by
    turning it a little, all knobs as one batch: no gradient is needed, and moves are few. Differences count
    by their absolute value, knobs stay in 0..1. Ctrl-C ends the search, and the best by then is returned.
    """
    _check(graph, dry, wet, start)
    judge = Judge(graph, dry, wet, renders, seconds, progress)
    starts = graph.spec.decided(start.detach().cpu().double().clamp(0, 1))[..., 0]
    before, ended = math.nan, "settled"
    try:
        before = judge.measure(starts)[1][0].item()
        if restarts:
            search(judge, graph, starts, seed)
        else:
            descend(judge, judge.best, graph.spec.switches, moves=100)
    except Ended as reason:
        ended = str(reason)
    except KeyboardInterrupt:
        ended = "interrupted"
        if math.isnan(before):
            raise
    z = judge.best[None, :, None].to(start)
    return Refinement(z, before, judge.mel, tuple(judge.history), judge.renders, ended)


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


class Ended(Exception):
    """The search is over: "near", or out of "renders" or "seconds"."""


class Judge:
    """Renders settings, compares them with the wet sound, keeps the best and the budget."""

    def __init__(
        self,
        graph: ProcessorGraph,
        dry: Tensor,
        wet: Tensor,
        renders: int,
        seconds: float,
        progress: Progress | None,
    ) -> None:
        self.graph, self.dry, self.progress = graph, dry, progress
        self.budget, self.deadline = renders, time.monotonic() + seconds
        self.loss = Mel(graph.sample_rate).to(dry.device)
        self.probe = PROBE if graph.differentiable else COARSE_PROBE
        self.rows = max(1, SAMPLES_AT_ONCE // dry[0].numel())
        self.goal = self.picture(wet)[0]
        self.renders, self.mel, self.best = 0, math.inf, None
        self.history: list[tuple[int, float]] = []

    def picture(self, audio: Tensor) -> Tensor:
        """Ln mel magnitudes at equal level, [N, C, T] -> [N, M]."""
        return log_mel(normalize_rms(audio), self.loss.bank, self.loss.hop).flatten(1)

    @torch.no_grad()
    def measure(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Settings [N, P] -> what is heard minus what should be, [N, M], and mel distances [N].

        Settings at which the effects fail to give numbers are infinitely far. Raises Ended when the budget
        was spent before, or while a part is rendered; the first time is free.
        """
        parts = []
        for rows in z.to(self.dry).split(self.rows):
            self._pay(len(rows))
            controls = self.graph.from_unit(rows[..., None])
            parts.append(self.picture(self.graph(self.dry.expand(len(rows), -1, -1), controls=controls)))
        off = torch.cat(parts) - self.goal
        mel = off.abs().mean(1).cpu().double().nan_to_num(math.inf)
        place = int(mel.argmin())
        if self.best is None or mel[place] < self.mel:
            self.mel, self.best = mel[place].item(), z[place].clone()
            self.history.append((self.renders, self.mel))
        if self.progress:
            self.progress(self.renders, self.budget, self.mel)
        return off, mel

    def _pay(self, renders: int) -> None:
        if self.best is not None and self.renders >= self.budget:
            raise Ended("renders")
        if self.best is not None and time.monotonic() > self.deadline:
            raise Ended("seconds")
        self.renders += renders


def search(judge: Judge, graph: ProcessorGraph, starts: Tensor, seed: int) -> None:
    """The best start goes downhill; where that does not end near, others do, the better half farther; then
    the best of all is shaken again and again.

    starts  [N, P]. Beside them: each with one switch flipped, the middle, the defaults, random settings.
    Ends by raising Ended.
    """
    generator, switches = torch.Generator().manual_seed(seed), graph.spec.switches
    if not graph.differentiable:
        evolve(judge, judge.best, seed, judge.budget // 2)
    finish(judge, switches)
    size = starts.shape[1]
    middle, usual = torch.full((1, size), 0.5).double(), graph.spec.defaults()[..., 0].double()
    others = torch.cat([middle, usual, torch.rand(32, size, generator=generator, dtype=torch.float64)])
    others[:, switches] = judge.best[switches]
    pool = torch.cat([starts, others])
    field = [judge.best, *(_flipped(judge.best, place) for place in switches)]
    field += list(pool[judge.measure(pool)[1].argsort()[:6]])
    for moves, keep in ((3, 4), (4, 2), (8, 1)):
        runs = sorted((descend(judge, z, switches, moves) for z in field), key=lambda run: run[0])
        field = [z for _, z in runs[:keep]]
    while True:
        finish(judge, switches)
        for _ in range(4):
            descend(judge, _shaken(judge.best, switches, generator), switches, moves=6)


def finish(judge: Judge, switches: list[int]) -> None:
    """The best goes downhill as far as it can. Raises Ended where that is near."""
    descend(judge, judge.best, switches, moves=100)
    if judge.mel < NEAR:
        raise Ended("near")


def _flipped(z: Tensor, place: int) -> Tensor:
    """[P] with one switch turned over."""
    z = z.clone()
    z[place] = 1.0 - z[place]
    return z


def _shaken(z: Tensor, switches: list[int], generator: torch.Generator) -> Tensor:
    """[P] with about a third of its knobs drawn anew, and every fourth time a switch flipped."""
    chosen = torch.rand(len(z), generator=generator) < 0.3
    chosen[switches] = False
    drawn = torch.where(chosen, torch.rand(len(z), generator=generator, dtype=z.dtype), z)
    if switches and torch.rand((), generator=generator) < 0.25:
        place = int(torch.randint(len(switches), (), generator=generator))
        drawn = _flipped(drawn, switches[place])
    return drawn


def descend(judge: Judge, z: Tensor, switches: list[int], moves: int) -> tuple[float, Tensor]:
    """Downhill from settings z [P], at most so many moves: the mel reached and where."""
    off, mel = (found[0] for found in judge.measure(z[None]))
    free = torch.ones(len(z), dtype=torch.bool)
    free[switches] = False
    for _ in range(moves):
        trials = _moves(judge, z, off, free)
        offs, mels = judge.measure(trials)
        place, last = int(mels.argmin()), mel
        if mels[place] < mel:
            z, off, mel = trials[place], offs[place], mels[place]
        if not mel < (1.0 - SETTLED) * last:
            break
    return mel.item(), z


def _moves(judge: Judge, z: Tensor, off: Tensor, free: Tensor) -> Tensor:
    """One trial for each damping, [D, P], from what every free knob does to the picture."""
    turn = torch.where(z > 0.5, -judge.probe, judge.probe)
    knobs = free.nonzero()[:, 0]
    turned = z.repeat(len(knobs), 1)
    turned[torch.arange(len(knobs)), knobs] += turn[knobs]
    slopes = (judge.measure(turned)[0] - off).nan_to_num(0.0) / turn[knobs, None].to(off)
    weighted = slopes / (off.abs() + 0.5 * off.abs().mean() + 1e-4)
    curvature, gradient = (weighted @ slopes.T).cpu().double(), (weighted @ off).cpu().double()
    trials = z.repeat(len(DAMPINGS), 1)
    for row, damping in zip(trials, DAMPINGS, strict=True):
        row[knobs] = _bounded(curvature, gradient, z[knobs], damping)
    return trials


def _bounded(curvature: Tensor, gradient: Tensor, z: Tensor, damping: float) -> Tensor:
    """The damped Gauss-Newton step from z [P], with knobs that would leave 0..1 held at that end."""
    own = curvature.diagonal()
    matrix = curvature + damping * torch.diag(own + 1e-3 * own.mean() + 1e-12)
    step, free = torch.zeros_like(z), torch.ones(len(z), dtype=torch.bool)
    for _ in range(len(z)):
        pull = gradient[free] + matrix[free][:, ~free] @ step[~free]
        step[free] = -torch.linalg.solve(matrix[free][:, free], pull)
        outside = free & ((z + step < 0.0) | (z + step > 1.0))
        if not outside.any():
            break
        step[outside] = (z + step).clamp(0.0, 1.0)[outside] - z[outside]
        free &= ~outside
    return (z + step).clamp(0.0, 1.0)


def evolve(judge: Judge, z: Tensor, seed: int, renders: int) -> None:
    """CMA-ES from settings z [P]: asks for no slope at all, and for many renders."""
    bounds = torch.tensor([[0.0, 1.0]]).repeat(len(z), 1).numpy()
    strategy = cmaes.CMA(mean=z.clamp(0.02, 0.98).numpy(), sigma=0.2, bounds=bounds, seed=seed)
    end = judge.renders + renders
    while judge.renders < end and not strategy.should_stop():
        asked = [strategy.ask() for _ in range(strategy.population_size)]
        mels = judge.measure(torch.stack([torch.from_numpy(z) for z in asked]))[1]
        strategy.tell(list(zip(asked, mels.tolist(), strict=True)))
