"""A mix and its two songs in, the DJ's moves out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from difffx.dj.config import MixerConfig
from difffx.dj.gradient_fit import Descent, fit
from difffx.dj.inversion_scene import FAR, Lags, Scene, baselines, explained, open_scene
from difffx.dj.lags import residual_lags
from difffx.dj.layout import DECK_NAMES, STEM_NAMES, STEM_PARAM_NAMES, get_default_params, index_of
from difffx.dj.mixer import DJMixer
from difffx.dj.powers import MASTER_KNOTS, Objective, frozen_numbers, measured
from difffx.dj.transitions import TRANSITIONS, transition
from difffx.params import unknown

Progress = Callable[[int, int, float], None]
STEPS, RATE, POLISH = 300, 0.05, 20
FRAMES_PER_SECOND, MOST_FRAMES = 2.0, 128
STAGES = ((16, 8, 0.3), (48, 2, 0.3), (None, 1, 0.4))  # points at most, frames in a block, share of the steps
TRIAL_STEPS = 25
WORTH = 0.005  # share of the loss that moving a deck in time must bring
TRIED = ("cut", "filter_sweep", "spectral_handover")
STARTS = ("best", "convex", "linear", "equal_power", "bass_swap")
MODELS = ("auto", "coherent", "incoherent")
CLEAR = 0.8  # of the mix's energy: what sums of the decks must explain for their phases to be trusted


@dataclass(frozen=True)
class Inversion:
    """What was done, as far as the mix tells.

    curves      [F, 54]  of the mixer, first point at the first sample, last at the last; all strips of a deck
                that is a whole song move alike
    times_s     [F]
    master_db   [knots]  of what comes after the mixer, see `inversion_scene.mastered`; a gain is in it
    rendered    [2, T]   the decks through mixer and master
    distances   method -> {"all", "low", "mid", "high"} in dB, see `mel_distance`: baselines, start, after
    loss        at the start and after; what was gone down from, and none of the distances
    model       coherent or incoherent
    start       what was started from
    lags        of both decks, times [W] and seconds [W] by which they were moved; None: not looked for
    ended       settled, seconds (out of time) or interrupted
    """

    curves: Tensor
    times_s: Tensor
    master_db: Tensor
    rendered: Tensor
    distances: dict[str, dict[str, float]]
    loss: tuple[float, float]
    model: str
    start: str
    lags: list[Lags] | None
    ended: str


def invert(
    deck_a: Mapping[str, Tensor],
    deck_b: Mapping[str, Tensor],
    mix: Tensor,
    sample_rate: int,
    *,
    mixer: DJMixer | None = None,
    start: str = "best",
    model: str = "auto",
    frames: int | None = None,
    bands: int = 3,
    lagging: bool = True,
    steps: int = STEPS,
    seconds: float = math.inf,
    progress: Progress | None = None,
) -> Inversion:
    """The moves that make this mix of these songs.

    deck_a, deck_b   stems by name, or {"other": song}, [C, T], in line with the mix to some milliseconds
    mix              [C, T]
    start            convex, linear, equal_power, bass_swap, rule:NAME; best: what promises most of all
    model            coherent: phases are trusted, for mixes of these very sounds, `gradient_fit.fit`;
                     incoherent: powers alone, for mixes whose songs were stretched, coded and mastered;
                     auto: coherent where sums of the decks explain four fifths of the mix
    frames           points of the curves; None: two a second, at most 128
    bands            3: faders, isolators, low- and high-passes; 1: faders alone
    lagging          songs up to 60 ms off, now more, now less, are moved where that helps; not where phases
                     are trusted
    steps            of Adam; the incoherent model takes a third of them on 16 points, a third on 48
    seconds          the longest it may take to get down; the best by then counts, as after Ctrl-C

    Without phases a master's gain and equalizer, standing still, are looked for along with the moves; echoes
    and halls are not.
    """
    mixer = mixer or DJMixer(MixerConfig(sample_rate))
    scene = open_scene(deck_a, deck_b, mix, mixer)
    count = frames or max(2, min(MOST_FRAMES, round(FRAMES_PER_SECOND * mix.shape[-1] / sample_rate)))
    _check(start, model, bands, count, steps)
    deadline = time.monotonic() + seconds
    found = explained(scene) if model != "incoherent" and bands == 3 else (0.0, 1.0)
    if model == "auto":
        model = "coherent" if found[0] > CLEAR else "incoherent"
    frozen, answers = frozen_numbers(bands), baselines(scene, count)
    plain = {name: scene.rendered(curves) for name, curves in answers.items()}
    judge = Objective(measured(*scene.decks, scene.mix, sample_rate), mixer.config, frozen)
    chosen, begun, name = _start(start, answers, judge)
    plain["start"] = scene.rendered(chosen)
    lags = None
    if model == "incoherent" and lagging:
        scene, judge, lags = _in_time(scene, begun, judge)
    adam = Descent(steps, progress, deadline - time.monotonic(), patient=True)
    if model == "coherent":
        curves, master = _with_phases(scene, chosen, steps, adam, found[1])
    else:
        curves, master = _without_phases(judge, begun, count, steps, adam)
    curves = spread(curves, scene)
    levels = [judge.difference(chosen, judge.level(chosen)), judge.difference(curves, master)]
    rendered = scene.rendered(curves, master)
    return Inversion(
        curves[0],
        torch.linspace(0.0, (mix.shape[-1] - 1) / sample_rate, count, dtype=torch.float64),
        master,
        rendered,
        {name: scene.distance(sound) for name, sound in {**plain, "after": rendered}.items()},
        (levels[0].item(), levels[1].item()),
        model,
        name,
        lags,
        adam.ended,
    )


def _check(start: str, model: str, bands: int, frames: int, steps: int) -> None:
    if model not in MODELS:
        raise ValueError(f"no model {unknown(model, MODELS)}")
    if bands not in (1, 3):
        raise ValueError(f"bands must be 1 (faders alone) or 3 (with isolators and filters), got {bands}")
    if model == "coherent" and bands == 1:
        raise ValueError("the coherent model finds all knobs: bands=1 needs model=incoherent")
    if frames < 2 or steps < 1:
        raise ValueError(f"expected 2 frames or more and a step or more, got {frames} and {steps}")
    rule = start.removeprefix("rule:")
    if rule != start and rule not in TRANSITIONS:
        raise ValueError(f"start: no transition {unknown(rule, TRANSITIONS)}")
    if rule == start and start not in STARTS:
        raise ValueError(f"no start {unknown(start, [*STARTS, *(f'rule:{name}' for name in TRANSITIONS)])}")


def _start(start: str, answers: dict[str, Tensor], judge: Objective) -> tuple[Tensor, Tensor, str]:
    """Where to begin: curves [1, F, 54], where a few steps lead from there, [1, few, 54], and its name."""
    frames = answers["convex"].shape[1]
    rules = TRIED if start == "best" else (start.removeprefix("rule:"),) if start.startswith("rule:") else ()
    field = {f"rule:{name}": transition(name, frames)[None] for name in rules}
    field |= answers if start == "best" else {} if rules else {start: answers[start]}
    tried, judge = {}, judge.coarser(STAGES[0][1])
    for name, curves in field.items():
        tried[name] = _tried(drawn_anew(curves, min(STAGES[0][0], frames)), judge)
    best = min(tried, key=lambda name: tried[name][0])
    return field[best], tried[best][1], best


def _tried(curves: Tensor, judge: Objective) -> tuple[float, Tensor]:
    """What is reached in a few steps, and the curves there."""
    master = judge.level(curves)
    curves = Descent(TRIAL_STEPS)(curves, judge, TRIAL_STEPS, RATE, [master])
    return judge(curves, master).item(), curves


def _in_time(scene: Scene, curves: Tensor, judge: Objective) -> tuple[Scene, Objective, list[Lags]]:
    """Decks moved by the lags that are heard, each only if that brings the mix nearer."""
    mix, rate = scene.mix, scene.sample_rate
    heard = [residual_lags(song, mix.mean(0), rate) for song in scene.songs]
    none = [(times, torch.zeros_like(lags)) for times, lags in heard]
    shift = scene.later(heard)
    best = _tried(curves, judge)[0], scene, judge, none
    for which in ((True, True), (True, False), (False, True)):
        decks = [
            pair[move] for pair, move in zip(zip(scene.decks, shift.decks, strict=True), which, strict=True)
        ]
        songs = [
            pair[move] for pair, move in zip(zip(scene.songs, shift.songs, strict=True), which, strict=True)
        ]
        lags = [pair[move] for pair, move in zip(zip(none, heard, strict=True), which, strict=True)]
        other = Objective(measured(*decks, mix, rate), judge.config, judge.frozen)
        reached = _tried(curves, other)[0]
        if reached < (1.0 - WORTH) * best[0]:
            best = reached, replace(scene, decks=decks, songs=songs), other, lags
    return best[1:]


def _without_phases(
    judge: Objective, curves: Tensor, frames: int, steps: int, adam: Descent
) -> tuple[Tensor, Tensor]:
    """From coarse to fine on powers alone: curves [1, frames, 54] and the master's [knots] in dB."""
    master = None
    for stage, (points, block, share) in enumerate(STAGES):
        there = judge.coarser(block)
        curves = drawn_anew(curves, min(points or frames, frames))
        master = there.level(curves) if master is None else master
        curves = adam(curves, there, round(share * steps), RATE * 0.6**stage, [master])
    return judge.held(drawn_anew(curves, frames)), master


def _with_phases(
    scene: Scene, curves: Tensor, steps: int, adam: Descent, level: float
) -> tuple[Tensor, Tensor]:
    """Curves [1, F, 54] by `fit`, and a master that is the mix's gain where faders do not reach so far."""
    decks = [{stem: x[None] for stem, x in deck.items()} for deck in scene.decks]
    scale = level if not 1.0 / FAR < level < FAR else 1.0
    polish = max(2, round(min(1.0, 10.0 * scene.sample_rate / scene.mix.shape[-1]) * POLISH))
    adam.total = steps + 3 * polish
    curves = fit(*decks, scene.mix[None] / scale, scene.mixer, curves, steps, polish=polish, adam=adam)
    return curves, torch.full((MASTER_KNOTS,), 20.0 * math.log10(scale))


def spread(curves: Tensor, scene: Scene) -> Tensor:
    """Strips of stems that a deck does not have do as its `other`, or rest where there is none."""
    curves, rest = curves.clone(), get_default_params(1).to(curves)
    for deck, stems in zip(DECK_NAMES, scene.decks, strict=True):
        for stem in STEM_NAMES:
            if stem not in stems:
                for name in STEM_PARAM_NAMES:
                    place = index_of(deck, stem, name)
                    like = curves[..., index_of(deck, "other", name)]
                    curves[..., place] = like if "other" in stems else rest[..., place]
    return curves


def drawn_anew(curves: Tensor, frames: int) -> Tensor:
    """Curves [1, F, 54] with another number of points."""
    return interpolate(curves.mT, size=frames, mode="linear", align_corners=True).mT.contiguous()
