"""Keys: which one, how far two of them are apart, and where the harmony changes."""

from __future__ import annotations

import math

import numpy as np
import torch

RATE = 22_050
N_FFT, HOP = 4096, 1024
FRAMES_PER_S = RATE / HOP
PITCHES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
FLATS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
MODES = ("major", "minor")
# how well each pitch fits a key on C: Krumhansl and Kessler (1982)
PROFILES = np.array(
    [
        (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
    ]
)


def chroma(mono: np.ndarray) -> np.ndarray:
    """How much of each pitch class sounds: mono [T] at RATE -> [12, N], C first, a frame every 46 ms."""
    librosa = _librosa()
    weights = librosa.filters.chroma(sr=RATE, n_fft=N_FFT, ctroct=5.0, octwidth=2.0)
    weights = torch.from_numpy(weights.astype(np.float32))
    audio = torch.from_numpy(np.pad(mono, N_FFT // 2).astype(np.float32))
    window = torch.hann_window(N_FFT)
    frames, block = 1 + len(mono) // HOP, 1024
    found = []
    for first in range(0, frames, block):
        last = min(first + block, frames)
        part = audio[first * HOP : (last - 1) * HOP + N_FFT]
        spectrum = torch.stft(part, N_FFT, HOP, window=window, center=False, return_complex=True)
        found.append(weights @ spectrum.abs())
    return torch.cat(found, 1).numpy()


def find_key(pitch_classes: np.ndarray) -> tuple[str, float]:
    """The key whose profile fits best, such as "A minor", and the correlation, -1..1: [12, N] of `chroma`.

    Every frame counts the same, however loud. Krumhansl (1990).
    """
    level = pitch_classes / (np.linalg.norm(pitch_classes, axis=0) + 1e-9)
    mean = level[:, pitch_classes.sum(0) > 0.05 * pitch_classes.sum(0).mean()].mean(1)
    mean = mean - mean.mean()
    fits = []
    for profile in PROFILES - PROFILES.mean(1, keepdims=True):
        for tonic in range(12):
            fits.append(np.dot(mean, np.roll(profile, tonic)) / np.linalg.norm(profile))
    best = int(np.argmax(fits))
    return f"{PITCHES[best % 12]} {MODES[best // 12]}", float(fits[best] / (np.linalg.norm(mean) + 1e-9))


def harmonic_change(pitch_classes: np.ndarray, seconds: float = 0.4) -> np.ndarray:
    """How different the harmony after each frame is from that before, [N]: 0 the same, 1 nothing shared."""
    size = max(1, round(seconds * FRAMES_PER_S))
    level = pitch_classes / (np.linalg.norm(pitch_classes, axis=0) + 1e-9)
    total = np.pad(np.cumsum(np.pad(level, ((0, 0), (size, size)), mode="edge"), 1), ((0, 0), (1, 0)))
    means = total[:, size:] - total[:, :-size]
    before, after = means[:, : level.shape[1]], means[:, size : size + level.shape[1]]
    norms = np.linalg.norm(before, axis=0) * np.linalg.norm(after, axis=0) + 1e-9
    return np.clip(1.0 - (before * after).sum(0) / norms, 0.0, 1.0)


def bar_change(pitch_classes: np.ndarray, bar_s: float, offsets: int = 32) -> np.ndarray:
    """How much the harmony changes from bar to bar, were bars to begin n / offsets of a bar late, [offsets].

    Logarithmic. Greatest where bars begin with their chords: elsewhere each bar is a mixture of two.
    """
    level = pitch_classes / (np.linalg.norm(pitch_classes, axis=0) + 1e-9)
    total = np.pad(np.cumsum(level, 1), ((0, 0), (1, 0)))
    length, span = level.shape[1], bar_s * FRAMES_PER_S
    found = np.zeros(offsets)
    for n in range(offsets):
        edges = np.arange(n / offsets * span, length, span)
        sums = np.stack([np.interp(edges, np.arange(length + 1), row) for row in total])
        change = np.diff(np.diff(sums, axis=1) / span, axis=1)
        found[n] = math.log(np.mean(np.square(change)) + 1e-9) if change.size else 0.0
    return found


def camelot(key: str) -> str:
    """A key's place on the DJ's wheel: "A minor" is 8A, "C major" 8B."""
    tonic, mode = _parsed(key)
    fifths = (7 * (tonic + (3 if mode == "minor" else 0))) % 12
    return f"{(fifths + 7) % 12 + 1}{'A' if mode == 'minor' else 'B'}"


def key_distance(a: str, b: str) -> int:
    """Steps on the DJ's wheel, 0..7: 0 the same key, 1 a fifth or the relative key; few steps mix well."""
    (first, side), (second, other) = ((int(place[:-1]), place[-1]) for place in (camelot(a), camelot(b)))
    apart = abs(first - second)
    return min(apart, 12 - apart) + (side != other)


def _parsed(key: str) -> tuple[int, str]:
    tonic, _, mode = key.partition(" ")
    tonic = FLATS.get(tonic, tonic)
    if tonic not in PITCHES or mode not in MODES:
        raise ValueError(f"no key {key!r}; keys are written like 'A minor' or 'F# major'")
    return PITCHES.index(tonic), mode


def _librosa():
    try:
        import librosa
    except ImportError as error:
        raise ImportError("analysis of songs needs librosa: pip install 'difffx[dj]'") from error
    return librosa
