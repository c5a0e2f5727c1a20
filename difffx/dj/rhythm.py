"""Tempo, beats and bars of music that keeps its tempo: one grid for the whole song."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from difffx.dj import tonality

RATE = 22_050
N_FFT, HOP = 512, 64
FRAMES_PER_S = RATE / HOP
EDGES_HZ = (30.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 11_000.0)
SLOWEST_BPM, FASTEST_BPM = 60.0, 185.0
BEATS_PER_BAR = 4
BINS_PER_BEAT = 48
USUAL_BPM, USUAL_OCTAVES, SLOW_BPM = 110.0, 0.7, 70.0
EMPTY = -1.8
RELATED = (0.5, 2.0, 2 / 3, 1.5, 0.75, 4 / 3)
# multiples of a tempo: how much their power shows a tempo at all, and how much it speaks for this one rather
# than for half, double, triplets of it
SHARPNESS = {0.25: 0.3, 0.5: 0.3, 1.0: 1.0, 2.0: 1.0, 4.0: 0.7, 8.0: 0.2}
LEVELS = {0.25: 0.4, 1 / 3: 0.2, 2 / 3: -0.6, 1.0: 0.3, 1.5: -0.2, 2.0: 0.7, 3.0: -0.4, 4.0: 1.7, 8.0: 0.4}
# what speaks for a downbeat at the first of a bar's sixteenths: strokes at all, of the bass drum and of the
# snare, and a new chord
FULL = np.array([0.4, 0, -0.1, 0, 0, 0, -0.1, 0, 0, -0.1, 0, 0, 0.1, -0.1, 0, 0])
LOW = np.array([0.6, -0.15, -0.15, 0, 0, -0.1, 0, 0, 0.1, 0, 0, -0.1, 0, 0, 0, 0])
MID = np.array([0, 0, -0.1, 0, 0.2, 0, 0, -0.1, 0, -0.1, 0, -0.1, 0.3, -0.1, 0, 0])
CHANGE = np.array([0.2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Grid:
    """Beats at equal distances, four a bar.

    tempo_bpm    beats a minute
    downbeat_s   seconds of a first beat of a bar, the earliest in the song; up to 20 ms before it
    confidence   0..1: how much of what begins, begins on sixteenths of this grid
    """

    tempo_bpm: float
    downbeat_s: float
    confidence: float

    @property
    def beat_s(self) -> float:
        """Seconds from beat to beat."""
        return 60.0 / self.tempo_bpm

    def times(self, seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """All beats and all downbeats of a song of this length."""
        before = int(self.downbeat_s / self.beat_s)
        count = max(0, math.ceil((seconds - self.downbeat_s) / self.beat_s - 1e-9))
        beats = [max(0.0, self.downbeat_s + n * self.beat_s) for n in range(-before, count)]
        return tuple(beats), tuple(beats[before::BEATS_PER_BAR])


def onsets(mono: np.ndarray) -> np.ndarray:
    """What begins, band by band: mono [T] at RATE -> [8, N], a frame every 2.9 ms.

    The rise of the compressed power of eight bands within 12 ms, 23 ms windows.
    """
    window = torch.hann_window(N_FFT)
    frames = 1 + len(mono) // HOP
    padded = torch.from_numpy(np.pad(mono, N_FFT // 2).astype(np.float32))
    hz = np.fft.rfftfreq(N_FFT, 1.0 / RATE)
    edges = np.searchsorted(hz, EDGES_HZ)
    bands = np.zeros((len(EDGES_HZ) - 1, len(hz)), np.float32)
    for row, low, high in zip(bands, edges[:-1], edges[1:], strict=True):
        row[low : max(high, low + 1)] = 1.0
    bands = torch.from_numpy(bands)
    power = torch.empty(len(bands), frames)
    block = 8192
    for first in range(0, frames, block):
        count = min(block, frames - first)
        part = padded[first * HOP : (first + count - 1) * HOP + N_FFT]
        spectrum = torch.stft(part, N_FFT, HOP, window=window, center=False, return_complex=True)
        power[:, first : first + count] = bands @ spectrum.abs().square()
    level = torch.log1p(power / (0.1 * power.mean(1, keepdim=True) + 1e-9)).numpy()
    level = np.pad(level, ((0, 0), (2, 2)), mode="edge")
    return np.maximum(level[:, 4:] - level[:, :-4], 0.0)


def find_grid(
    curves: np.ndarray,
    pitch_classes: np.ndarray | None = None,
    tempo_bpm: float | None = None,
    downbeat_s: float | None = None,
) -> Grid:
    """The grid that fits best.

    curves          [8, N] of `onsets`
    pitch_classes   [12, M] of `tonality.chroma`, or None
    tempo_bpm       known, or None
    downbeat_s      known, or None
    """
    full, low, mid = parts(curves)
    seconds = len(full) / FRAMES_PER_S
    beats_per_s = find_tempo(full, low, mid) if tempo_bpm is None else tempo_bpm / 60.0
    if downbeat_s is None:
        harmony = _harmony(pitch_classes, len(full), beats_per_s)
        bar = find_bar(full, low, mid, beats_per_s, *harmony)
        downbeat_s = refine_phase(full, beats_per_s, bar)
    bar_s = BEATS_PER_BAR / beats_per_s
    first = downbeat_s % bar_s
    first = first - bar_s if bar_s - first < 0.02 and seconds > bar_s else first
    return Grid(60.0 * float(beats_per_s), float(first), confidence(full, beats_per_s, first))


def _harmony(
    pitch_classes: np.ndarray | None, frames: int, beats_per_s: float
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """`changes` and `bar_changes` of `find_bar`."""
    if pitch_classes is None:
        return None, None
    changes = tonality.harmonic_change(pitch_classes)
    at = np.arange(frames) * (tonality.FRAMES_PER_S / FRAMES_PER_S)
    changes = np.interp(at, np.arange(len(changes)), changes)
    return changes, tonality.bar_change(pitch_classes, BEATS_PER_BAR / beats_per_s)


def parts(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All bands, the bass drum's, the snare's: [N] each, mean 1."""
    sums = curves.sum(0), curves[:1].sum(0), curves[2:7].sum(0)
    return tuple((x / (x.mean() + 1e-9)).astype(np.float64) for x in sums)


def find_tempo(full: np.ndarray, low: np.ndarray, mid: np.ndarray) -> float:
    """Beats a second: of the tempos at which strokes repeat, the one that divides best into a bar's parts.

    Candidates are peaks of the strokes' spectrum and their simple fractions. Strong beats, eighths and
    sixteenths speak for one, strong triplets against it; sixteenths between the eighths must be there, and
    nothing between the sixteenths. What is left open goes to the tempo nearer to 110; below 70 few are.
    """
    seconds = len(full) / FRAMES_PER_S
    size = 2 ** math.ceil(math.log2(8 * len(full)))
    powers = [
        np.abs(np.fft.rfft(x - x.mean(), size)) ** 2 / (np.var(x) * len(x) + 1e-9) for x in (full, low, mid)
    ]
    beats = np.arange(SLOWEST_BPM / 60.0, FASTEST_BPM / 60.0, 1.0 / (32.0 * seconds))
    sharp = sum(weight * _at(powers, beats, ratio).sum(0) for ratio, weight in SHARPNESS.items())
    tries = _candidates(beats, sharp)
    score = -0.5 * (np.log2(tries * 60.0 / USUAL_BPM) / USUAL_OCTAVES) ** 2
    score -= (np.maximum(SLOW_BPM - tries * 60.0, 0.0) / 5.0) ** 2
    for ratio, weight in LEVELS.items():
        score += weight * np.log(_at(powers, tries, ratio) + 0.3).mean(0)
    for n, tempo in enumerate(tries):
        between_eighths, between_sixteenths = _gaps(full, tempo)
        score[n] -= 0.15 * between_eighths + 0.5 * between_eighths**2
        score[n] += 0.95 * between_sixteenths**2 - 0.65 * between_sixteenths
    return refine_tempo(full, float(tries[score.argmax()]))


def _at(powers: list[np.ndarray], beats: np.ndarray, ratio: float) -> np.ndarray:
    """Power of each curve at a multiple of each tempo, [3, N]."""
    size = 2 * (len(powers[0]) - 1)
    index = np.rint(beats * ratio * size / FRAMES_PER_S).astype(int)
    return np.stack([power[np.minimum(index, len(power) - 1)] for power in powers])


def _candidates(beats: np.ndarray, sharp: np.ndarray) -> np.ndarray:
    """The sharpest tempos, 3 % apart, and what is related to the sharpest of all."""
    usual = sharp * np.exp(-0.5 * (np.log2(beats * 60.0 / USUAL_BPM) / 0.8) ** 2)
    peaks = np.flatnonzero((usual[1:-1] > usual[:-2]) & (usual[1:-1] >= usual[2:])) + 1
    peaks = peaks[np.argsort(-usual[peaks])] if len(peaks) else np.array([int(usual.argmax())])
    found: list[float] = []
    for tempo in beats[peaks]:
        if all(abs(math.log(tempo / other)) > 0.03 for other in found):
            found.append(float(tempo))
        if len(found) == 8:
            break
    for ratio in RELATED:
        near = np.flatnonzero(np.abs(np.log(beats / (found[0] * ratio))) < 0.01)
        if len(near):
            tempo = float(beats[near[sharp[near].argmax()]])
            if all(abs(math.log(tempo / other)) > 0.02 for other in found):
                found.append(tempo)
    return np.array(found)


def _gaps(full: np.ndarray, beats_per_s: float) -> tuple[float, float]:
    """Logarithms: how much begins between the eighths, and between the sixteenths, against on them."""
    bins = 64
    folded = _smooth(fold(full, beats_per_s, 1, bins), 1.6)
    start = int(np.argmax([folded[(n + 16 * np.arange(4)) % bins].sum() for n in range(16)]))
    parts = folded[(start + 8 * np.arange(8)) % bins]
    sixteenths, rest = parts[::2], parts[1::2]
    pairs = sixteenths[0] + sixteenths[2], sixteenths[1] + sixteenths[3]
    return (
        max(math.log((min(pairs) + 0.1) / (max(pairs) + 0.1)), EMPTY),
        max(math.log((rest.sum() + 0.2) / (sixteenths.sum() + 0.2)), EMPTY),
    )


def _smooth(folded: np.ndarray, width: float) -> np.ndarray:
    """A circle of bins seen through a bell of that standard deviation in bins."""
    bell = np.exp(-0.5 * (np.fft.fftfreq(len(folded), 1.0 / len(folded)) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(folded) * np.fft.rfft(bell / bell.sum()), len(folded))


def refine_tempo(full: np.ndarray, beats_per_s: float) -> float:
    """The tempo near this one whose beats, eighths and sixteenths line up best over the whole song."""
    seconds = len(full) / FRAMES_PER_S
    x = full - full.mean()
    t = np.arange(len(x)) / FRAMES_PER_S
    for width in (1.0 / (4.0 * seconds), 1.0 / (24.0 * seconds), 1.0 / (150.0 * seconds)):
        tries = beats_per_s + width * np.linspace(-1.0, 1.0, 13)
        scores = [
            sum(abs(np.dot(x, np.exp(-2j * np.pi * f * h * t))) ** 2 for h in (1, 2, 4, 8)) for f in tries
        ]
        beats_per_s = float(tries[int(np.argmax(scores))])
    return beats_per_s


def fold(curve: np.ndarray, beats_per_s: float, beats: int, bins: int) -> np.ndarray:
    """Mean of the curve over all spans of so many beats, in [bins]."""
    place = np.arange(len(curve)) * (beats_per_s / FRAMES_PER_S / beats) % 1.0 * bins
    index = place.astype(int) % bins
    share = place - np.floor(place)
    total = np.bincount(index, curve * (1.0 - share), bins) + np.bincount(
        (index + 1) % bins, curve * share, bins
    )
    weight = np.bincount(index, 1.0 - share, bins) + np.bincount((index + 1) % bins, share, bins)
    return total / np.maximum(weight, 1e-9)


def find_bar(
    full: np.ndarray,
    low: np.ndarray,
    mid: np.ndarray,
    beats_per_s: float,
    changes: np.ndarray | None = None,
    bar_changes: np.ndarray | None = None,
) -> float:
    """Seconds of a downbeat, to a 48th of a beat: where the patterns of a bar fit what begins in it.

    changes       [N] how much the harmony changes at each frame, or None
    bar_changes   [M] how much it changes from bar to bar, were bars to begin n / M of a bar late, or None
    """
    bins = BEATS_PER_BAR * BINS_PER_BEAT
    total = np.zeros(bins)
    for curve, pattern in ((full, FULL), (low, LOW), (mid, MID), (changes, CHANGE)):
        if curve is not None:
            folded = _standard(_smooth(fold(curve, beats_per_s, BEATS_PER_BAR, bins), 1.5))
            for slot in np.flatnonzero(pattern):
                total += pattern[slot] * np.roll(folded, -slot * bins // 16)
    if bar_changes is not None:
        places = np.arange(bins) * len(bar_changes) / bins
        around = np.append(bar_changes, bar_changes[0])
        total += _standard(np.interp(places, np.arange(len(around)), around))
    return float(total.argmax()) / BINS_PER_BEAT / beats_per_s


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / (x.std() + 1e-9)


def refine_phase(full: np.ndarray, beats_per_s: float, near_s: float) -> float:
    """The time within a few hundredths of a second around which beats and eighths begin."""
    bins = 2 * round(500.0 / beats_per_s)
    folded = fold(full, beats_per_s, 1, bins)
    folded = _smooth(folded, 0.005 * beats_per_s * bins)
    folded = folded + 0.5 * np.roll(folded, bins // 2)
    center = near_s * beats_per_s % 1.0 * bins
    reach = int(0.03 * beats_per_s * bins)
    around = np.arange(-reach, reach + 1)
    best = around[int(np.argmax(folded[np.rint(center + around).astype(int) % bins]))]
    return near_s + best / bins / beats_per_s


def confidence(full: np.ndarray, beats_per_s: float, downbeat_s: float) -> float:
    """Share of what begins within 25 ms of a sixteenth, chance taken off: 0 noise, 1 a machine."""
    place = (np.arange(len(full)) / FRAMES_PER_S - downbeat_s) * beats_per_s * 4.0
    off = np.abs(place - np.rint(place)) / (4.0 * beats_per_s)
    chance = np.mean(off < 0.025)
    share = np.sum(full[off < 0.025]) / (np.sum(full) + 1e-9)
    return float(np.clip((share - chance) / (1.0 - chance + 1e-9), 0.0, 1.0))
