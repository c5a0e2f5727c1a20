"""Curves at random: what DJs do by rule, what they might do by hand, and both at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from difffx.dj.layout import LABELS, N_TOTAL_PARAMS, RANGES, STEM_NAMES, get_default_params
from difffx.dj.transitions import BEATS_PER_BAR, TRANSITIONS, draw_options, transition
from difffx.params import unknown

CHANCES = {"rule": 0.4, "mixture": 0.1, "smooth": 0.3, "perturbed": 0.2}
"""How often curves are of each kind.

rule        a rule of `TRANSITIONS`, its options drawn
mixture     two of them, each on stems of its own
smooth      every number goes its own way, slowly
perturbed   a rule by an unsteady hand
"""
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)  # bars
BLIND_BPM = 90.0, 160.0  # bars of curves that follow no beat
HZ = 0.05, 1.0  # how fast a hand moves at most
RESTS = {
    **{"gain": 0.15, "eq_low": 0.35, "eq_mid": 0.45, "eq_high": 0.45, "lpf": 0.6, "hpf": 0.6},
    **{"reverb_send": 0.5, "delay_send": 0.5, "delay_feedback": 0.3},
}
"""Chance that a smooth curve does not leave its usual value."""
KILLS = 0.2  # chance that an equalizer that moves is also shut at times
LOWEST_DB = -40.0  # an equalizer lower than that is shut
USUAL = get_default_params(1)[0, 0].numpy().astype(np.float64)
LOW, HIGH = np.array(RANGES).T
NAMES = np.array([label.split(".")[1] for label in LABELS])


@dataclass(frozen=True)
class Beats:
    """A steady beat under the curves: a downbeat at start_s, four beats a bar."""

    tempo_bpm: float
    start_s: float

    def bars(self, times_s: np.ndarray) -> np.ndarray:
        """Bars since the downbeat."""
        return (times_s - self.start_s) * (self.tempo_bpm / 60.0 / BEATS_PER_BAR)


def draw_curves(
    rng: np.random.Generator,
    frames: int,
    seconds: float,
    beats: Beats | None = None,
    chances: Mapping[str, float] = CHANCES,
) -> tuple[Tensor, str]:
    """Curves [frames, 54], float32, and what they are: "bass_swap", "cut+echo_out", "smooth", "cut~".

    seconds   from the first point to the last
    beats     where the downbeats are; None: anywhere
    chances   of each kind in `CHANCES`; they need not add up to 1

    A transition need not lie within the segment: it may have begun before it and may end after it.
    """
    kinds = checked_chances(chances)
    kind = list(kinds)[rng.choice(len(kinds), p=list(kinds.values()))]
    if beats is None:
        tempo = rng.uniform(*BLIND_BPM)
        beats = Beats(tempo, rng.uniform(-60.0, 0.0) * BEATS_PER_BAR / tempo)
    if kind == "smooth":
        curves, name = smooth(rng, frames, seconds), kind
    elif kind == "mixture":
        curves, name = mixture(rng, frames, seconds, beats)
    else:
        curves, name = by_rule(rng, frames, seconds, beats)
        if kind == "perturbed":
            curves, name = perturbed(rng, curves, seconds), f"{name}~"
    return torch.from_numpy(np.clip(curves, LOW, HIGH).astype(np.float32)), name


def checked_chances(chances: Mapping[str, float]) -> dict[str, float]:
    """As shares of 1. Raises ValueError naming an unknown kind or what cannot be a chance."""
    for kind, chance in chances.items():
        if kind not in CHANCES:
            raise ValueError(f"chances: no kind {unknown(kind, CHANCES)}")
        if not 0.0 <= chance < float("inf"):
            raise ValueError(f"chances.{kind} must not be negative, got {chance!r}")
    total = sum(chances.values())
    if not total > 0.0:
        raise ValueError("chances: at least one must be above 0")
    return {kind: chance / total for kind, chance in chances.items()}


def by_rule(rng: np.random.Generator, frames: int, seconds: float, beats: Beats) -> tuple[np.ndarray, str]:
    """A rule with random options somewhere around the segment: [frames, 54] and its name."""
    name, bars, start_s = list(TRANSITIONS)[rng.integers(len(TRANSITIONS))], *_when(rng, seconds, beats)
    return _ruled(rng, name, frames, seconds, beats, bars, start_s), name


def mixture(rng: np.random.Generator, frames: int, seconds: float, beats: Beats) -> tuple[np.ndarray, str]:
    """Two rules at the same time, the second on some of the stems: [frames, 54] and both names."""
    first, second = (list(TRANSITIONS)[i] for i in rng.choice(len(TRANSITIONS), 2, replace=False))
    bars, start_s = _when(rng, seconds, beats)
    curves, other = (_ruled(rng, name, frames, seconds, beats, bars, start_s) for name in (first, second))
    chosen = rng.permutation(STEM_NAMES)[: rng.integers(1, len(STEM_NAMES))]
    places = ["sends", *chosen] if rng.random() < 0.5 else list(chosen)
    moved = np.array([label.split(".")[0].split("_")[1] in places for label in LABELS])
    return np.where(moved, other, curves), f"{first}+{second}"


def smooth(rng: np.random.Generator, frames: int, seconds: float) -> np.ndarray:
    """Every number its own slow way around its usual value, [frames, 54].

    Gains anywhere, those of a deck together and each alone; equalizers in dB, shut at times; filters in
    octaves, mostly open; sends mostly shut.
    """
    fast = float(np.exp(rng.uniform(*np.log(HZ))))
    walk = walks(rng, frames, seconds, fast, N_TOTAL_PARAMS + 2)
    drift, both = walk[:, :N_TOTAL_PARAMS], walk[:, N_TOTAL_PARAMS:]
    again = walks(rng, frames, seconds, fast, N_TOTAL_PARAMS)
    kills = rng.random(N_TOTAL_PARAMS) < KILLS
    deck = np.array([int(label[0] == "b") for label in LABELS])
    shared = rng.uniform(0.0, 1.0)
    fader = 0.55 + 0.45 * (np.sqrt(shared) * both[:, deck] + np.sqrt(1.0 - shared) * drift)
    level_db = -3.0 + 7.0 * drift - 60.0 * kills * np.clip(2.0 * again, 0.0, 1.0)
    bent = np.clip(0.35 * (drift + 0.5), 0.0, 0.9)
    ways = {
        "gain": np.clip(fader, 0.0, 1.0),
        "eq_low": from_db(level_db),
        "lpf": 1.0 - bent,
        "hpf": bent,
        "reverb_send": np.clip(0.4 * drift, 0.0, 1.0),
        "delay_feedback": np.clip(0.5 + 0.25 * drift, 0.0, 1.0),
    }
    ways |= {"eq_mid": ways["eq_low"], "eq_high": ways["eq_low"], "delay_send": ways["reverb_send"]}
    moving = np.stack([ways[name][:, i] for i, name in enumerate(NAMES)], -1)
    rests = rng.random(N_TOTAL_PARAMS) < np.array([RESTS[name] for name in NAMES])
    resting = np.where(NAMES == "gain", (rng.random(N_TOTAL_PARAMS) < 0.7).astype(float), USUAL)
    return np.where(rests, resting, moving)


def perturbed(rng: np.random.Generator, curves: np.ndarray, seconds: float) -> np.ndarray:
    """The same by an unsteady hand, half of the numbers a little off: [frames, 54]."""
    fast = float(np.exp(rng.uniform(*np.log(HZ))))
    off = walks(rng, len(curves), seconds, fast, N_TOTAL_PARAMS) * (rng.random(N_TOTAL_PARAMS) < 0.5)
    leveled = curves * 10.0 ** (rng.uniform(1.0, 4.0) * off / 20.0)
    turned = 0.12 * np.maximum(off, 0.0)
    ways = {name: leveled for name in ("gain", "eq_low", "eq_mid", "eq_high")}
    ways |= {name: curves + turned for name in ("hpf", "reverb_send", "delay_send", "delay_feedback")}
    ways["lpf"] = curves - turned
    return np.stack([ways[name][:, i] for i, name in enumerate(NAMES)], -1)


def walks(rng: np.random.Generator, frames: int, seconds: float, fast_hz: float, count: int) -> np.ndarray:
    """Slow random curves, [frames, count], each of mean 0 and variance 1 over many draws.

    Sums of sines below fast_hz, or below what so many points can show; the slowest takes eight times as long
    as the segment.
    """
    slow, shown = 0.125 / seconds, 0.5 * (frames - 1) / seconds
    hz = rng.uniform(slow, max(min(fast_hz, shown), 2.0 * slow), (6, count))
    phase = rng.uniform(0.0, 2.0 * np.pi, (6, count))
    times = np.linspace(0.0, seconds, frames)
    return np.sqrt(2.0 / 6.0) * np.sin(2.0 * np.pi * hz * times[:, None, None] + phase).sum(1)


def from_db(level_db: np.ndarray) -> np.ndarray:
    """dB -> factor, exactly 0 below LOWEST_DB, without a step."""
    floor = 10.0 ** (LOWEST_DB / 20.0)
    return np.maximum(10.0 ** (level_db / 20.0) - floor, 0.0) / (1.0 - floor)


def _when(rng: np.random.Generator, seconds: float, beats: Beats) -> tuple[float, float]:
    """Length of a transition in bars, and the downbeat, s, on which it begins: they overlap the segment."""
    bars = LENGTHS[rng.integers(len(LENGTHS))]
    first, last = beats.bars(np.array([0.0, seconds]))
    start = rng.integers(int(np.ceil(first - bars + 0.5)), max(int(np.floor(last)), int(np.ceil(first))) + 1)
    return bars, beats.start_s + start * 60.0 * BEATS_PER_BAR / beats.tempo_bpm


def _ruled(
    rng: np.random.Generator,
    name: str,
    frames: int,
    seconds: float,
    beats: Beats,
    bars: float,
    start_s: float,
) -> np.ndarray:
    """One rule with random options, [frames, 54]."""
    when = {"seconds": seconds, "tempo_bpm": beats.tempo_bpm, "start_s": start_s}
    return transition(name, frames, bars, **when, **draw_options(rng, name)).double().numpy()
