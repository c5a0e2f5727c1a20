"""Tempo, beats and bars of music that keeps its tempo: one grid for the whole song."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

RATE = 22_050
N_FFT, HOP = 512, 64
FRAMES_PER_S = RATE / HOP
EDGES_HZ = (30.0, 120.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 11_000.0)
SLOWEST_BPM, FASTEST_BPM = 60.0, 185.0
BEATS_PER_BAR = 4
BINS_PER_BEAT = 48
HARMONICS = 16


@dataclass(frozen=True)
class Grid:
    """Beats at equal distances, four a bar.

    tempo_bpm    beats a minute
    downbeat_s   seconds of a first beat of a bar, the earliest in the song
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
    changes: np.ndarray | None = None,
    tempo_bpm: float | None = None,
    downbeat_s: float | None = None,
) -> Grid:
    """The grid that fits best.

    curves       [8, N] of `onsets`
    changes      [N] how much the harmony changes at each frame, or None
    tempo_bpm    known, or None
    downbeat_s   known, or None
    """
    full, low, mid = parts(curves)
    seconds = len(full) / FRAMES_PER_S
    beats_per_s = find_tempo(full, low, mid) if tempo_bpm is None else tempo_bpm / 60.0
    if downbeat_s is None:
        bar = find_bar(full, low, mid, changes, beats_per_s)
        downbeat_s = refine_phase(full, beats_per_s, bar)
    bar_s = BEATS_PER_BAR / beats_per_s
    first = downbeat_s % bar_s
    first = first - bar_s if bar_s - first < 0.02 and seconds > bar_s else first
    return Grid(60.0 * beats_per_s, max(first, 0.0), confidence(full, beats_per_s, first))


def parts(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All bands, the bass drum's, the snare's: [N] each, mean 1."""
    sums = curves.sum(0), curves[:1].sum(0), curves[2:7].sum(0)
    return tuple((x / (x.mean() + 1e-9)).astype(np.float64) for x in sums)


def find_tempo(full: np.ndarray, low: np.ndarray, mid: np.ndarray) -> float:
    """Beats a second, from the spectrum of what begins."""
    seconds = len(full) / FRAMES_PER_S
    size = 2 ** math.ceil(math.log2(8 * len(full)))
    powers = []
    for curve in (full, low, mid):
        powers.append(np.abs(np.fft.rfft(curve - curve.mean(), size)) ** 2 / np.sum(curve**2))
    power = sum(powers)
    beats = np.arange(SLOWEST_BPM / 60.0, FASTEST_BPM / 60.0, 1.0 / (32.0 * seconds))

    def at(ratio: float) -> np.ndarray:
        return power[np.rint(beats * ratio * size / FRAMES_PER_S).astype(int)]

    prior = np.exp(-0.5 * (np.log2(beats * 60.0 / 118.0) / 0.55) ** 2)
    score = prior * (at(1) + at(2) + 0.7 * at(4) + 0.3 * at(0.5) + 0.2 * at(8) + 0.3 * at(0.25))
    return refine_tempo(full, float(beats[score.argmax()]))


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


LOW = np.array([1.0, -0.2, 0.0, -0.2, 0.3, -0.2, 0.0, -0.2, 0.6, -0.2, 0.2, -0.2, 0.3, -0.2, 0.0, -0.2])
MID = np.array([0.0, -0.2, 0.0, -0.2, 0.8, -0.2, 0.0, -0.2, 0.0, -0.2, 0.0, -0.2, 0.8, -0.2, 0.0, -0.2])
FULL = np.array([0.5, -0.1, 0.2, -0.1, 0.4, -0.1, 0.2, -0.1, 0.4, -0.1, 0.2, -0.1, 0.4, -0.1, 0.2, -0.1])
CHANGE = np.array([1.0, *([0.0] * 7), 0.2, *([0.0] * 7)])


def find_bar(
    full: np.ndarray, low: np.ndarray, mid: np.ndarray, changes: np.ndarray | None, beats_per_s: float
) -> float:
    """Seconds of a downbeat, to a 48th of a beat."""
    bins = BEATS_PER_BAR * BINS_PER_BEAT
    kernel = np.exp(-0.5 * (np.fft.fftfreq(bins, 1.0 / bins) / 1.5) ** 2)
    total = np.zeros(bins)
    pairs = [(full, FULL, 1.0), (low, LOW, 1.0), (mid, MID, 1.0)]
    if changes is not None:
        pairs.append((changes, CHANGE, 1.5))
    for curve, pattern, weight in pairs:
        folded = fold(curve, beats_per_s, BEATS_PER_BAR, bins)
        folded = np.fft.irfft(np.fft.rfft(folded) * np.fft.rfft(kernel), bins)
        folded = (folded - folded.mean()) / (folded.std() + 1e-9)
        for slot, value in enumerate(pattern):
            total += weight * value * np.roll(folded, -slot * bins // 16)
    return float(total.argmax()) / BINS_PER_BEAT / beats_per_s


def refine_phase(full: np.ndarray, beats_per_s: float, near_s: float) -> float:
    """The time within a few hundredths of a second around which beats and eighths begin."""
    bins = 2 * round(500.0 / beats_per_s)
    folded = fold(full, beats_per_s, 1, bins)
    kernel = np.exp(-0.5 * (np.fft.fftfreq(bins, beats_per_s) / 0.005) ** 2)
    folded = np.fft.irfft(np.fft.rfft(folded) * np.fft.rfft(kernel), bins)
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
