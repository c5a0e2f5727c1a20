"""How near do inversions come to mixes made by other means? python scripts/score_inversion.py MUSIC"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.signal import butter, sosfilt

from difffx.data import audio_io
from difffx.data.stems import open_deck
from difffx.dj.inversion import STEPS, invert
from difffx.dj.mel_distance import PARTS
from difffx.dj.stretching import stretch
from difffx.runs import RunError, keep_memory

RATE = 44_100
LONGEST_S = 60.0
METHODS = ("linear", "equal_power", "bass_swap", "convex", "after")
PUBLISHED = (5.13, 4.95, 4.78, 4.45, 3.90)  # ten real transitions; the last is the goal
SEGMENT_S = 0.25


def nasty_mix(songs: list[np.ndarray], seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """A mix [T, 2] and its songs as an aligner would give them, [T, 2] each.

    In the mix songs are stretched by Signalsmith, waver by up to 20 ms, pass causal Butterworth isolators and
    sweeps with curves of their own, a master's equalizer, a soft limiter and MP3; the songs given are
    stretched by as much with a phase vocoder, so that no phase agrees.
    """
    import librosa

    rng = np.random.default_rng(seed)
    played, given = [], []
    for song in songs:
        ratio = 1.0 + rng.choice([-1.0, 1.0]) * rng.uniform(0.01, 0.03)
        kept = torch.from_numpy(song.T.copy())
        played.append(stretch(kept, RATE, ratio).numpy().T)
        given.append(librosa.effects.time_stretch(song.T, rate=ratio).T)
    length = min(len(x) for x in (*played, *given))
    played = [wavering(x[:length], rng) for x in played]
    curves = dj_curves(length, rng)
    mix = sum(isolated(x, curve, rng) for x, curve in zip(played, curves, strict=True))
    return [x[:length].astype(np.float32) for x in given], coded(mastered(mix, rng))


def wavering(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Read up to 20 ms early or late, another amount every three seconds or so."""
    knots = rng.uniform(-0.02, 0.02, max(2, round(len(x) / RATE / 3)))
    lag = np.interp(np.arange(len(x)), np.linspace(0, len(x) - 1, len(knots)), knots) * RATE
    at = np.clip(np.arange(len(x)) - lag, 0, len(x) - 1)
    return np.stack([np.interp(at, np.arange(len(x)), channel) for channel in x.T], 1)


def dj_curves(length: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Levels of bass, mid and treble of both decks, [length, 3]: each band changes hands when it likes."""
    t = np.linspace(0.0, 1.0, length)
    out, into = np.empty((length, 3)), np.empty((length, 3))
    swap = rng.uniform(0.35, 0.65)
    for band in range(3):
        width = 0.03 if band == 0 else rng.uniform(0.1, 0.4)
        early, late = (
            (swap, swap) if band == 0 else (swap - rng.uniform(0.1, 0.3), swap + rng.uniform(0.1, 0.3))
        )
        into[:, band] = np.sin(0.5 * np.pi * np.clip((t - early) / width + 0.5, 0.0, 1.0))
        out[:, band] = np.cos(0.5 * np.pi * np.clip((t - late) / width + 0.5, 0.0, 1.0))
    dip = 1.0 - rng.uniform(0.3, 0.9) * np.exp(-(((t - rng.uniform(0.2, 0.8)) / 0.05) ** 2))
    out[:, rng.integers(1, 3)] *= dip
    return [out, into]


def isolated(x: np.ndarray, levels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Causal crossovers of 24 dB an octave somewhere about 250 Hz and 2.5 kHz; a high-pass that opens."""
    low, high = 250.0 * rng.uniform(0.7, 1.4), 2_500.0 * rng.uniform(0.7, 1.4)
    below, above = (butter(2, edge, fs=RATE, output="sos") for edge in (low, high))
    bass = sosfilt(below, sosfilt(below, x, axis=0), axis=0)
    rest = x - bass
    middle = sosfilt(above, sosfilt(above, rest, axis=0), axis=0)
    bands = np.stack([bass, middle, rest - middle], -1)
    y = (bands * levels[:, None]).sum(-1)
    size, cutoff = round(SEGMENT_S * RATE), 400.0 * rng.uniform(0.0, 1.0)
    start, state = round(rng.uniform(0.1, 0.6) * len(y)), np.zeros((1, 2, y.shape[1]))
    for k, first in enumerate(range(start, min(start + 16 * size, len(y)), size)):
        sweep = butter(2, max(cutoff * (1.0 - k / 16), 10.0), "highpass", fs=RATE, output="sos")
        y[first : first + size], state = sosfilt(sweep, y[first : first + size], axis=0, zi=state)
    return y


def mastered(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some tilt, and a soft limiter that works on peaks."""
    shelf = butter(1, 4_000.0, "highpass", fs=RATE, output="sos")
    x = x + rng.uniform(-0.3, 0.5) * sosfilt(shelf, x, axis=0)
    x = x / np.abs(x).max() * 1.6
    return np.tanh(x) * 0.9


def coded(x: np.ndarray) -> np.ndarray:
    """Through an MP3."""
    file = io.BytesIO()
    soundfile.write(file, x, RATE, format="MP3", subtype="MPEG_LAYER_III")
    file.seek(0)
    back = soundfile.read(file, dtype="float32", always_2d=True)[0]
    return np.pad(back, ((0, max(0, len(x) - len(back))), (0, 0)))[: len(x)]


def songs_of(folder: Path, seconds: float) -> dict[str, np.ndarray]:
    """Name -> [T, 2] of all songs and folders of stems of 12 s and more."""
    folders = sorted({path.parent for path in folder.rglob("drums.*")})
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and audio_io.is_audio(path)]
    found = {}
    for path in (*folders, *(file for file in files if file.parent not in folders)):
        deck = open_deck(path, RATE)
        song = sum(x.expand(2, -1) for x in deck.values())[:, : round(seconds * RATE)]
        if song.shape[1] >= 12 * RATE:
            found[path.stem] = song.T.numpy().copy()
    return found


def score(options: argparse.Namespace) -> Table:
    """One row a mix: every song with the one after it."""
    songs = songs_of(options.folder, options.seconds)
    names = list(songs)
    if len(names) < 2:
        raise ValueError(f"{options.folder}: expected two songs or more of 12 s and more, got {len(names)}")
    table = Table("mix", *METHODS, "model", "s", title="log-mel distance in dB")
    rows, parts = [], []
    pairs = list(zip(names, names[1:] + names[:1], strict=True))[:: options.every]
    for seed, (a, b) in enumerate(track(pairs, "inverting", console=Console(stderr=True))):
        given, mix = nasty_mix([songs[a], songs[b]], seed)
        decks = [{"other": torch.from_numpy(x.T.copy())} for x in given]
        began = time.perf_counter()
        found = invert(*decks, torch.from_numpy(mix.T.copy()), RATE, steps=options.steps)
        spent = time.perf_counter() - began
        rows.append([found.distances[method]["all"] for method in METHODS])
        parts.append([[found.distances[method][part] for part in PARTS] for method in METHODS])
        table.add_row(f"{a} > {b}", *(f"{x:.2f}" for x in rows[-1]), found.model, f"{spent:.0f}")
    means = np.mean(parts, 0)
    table.add_section()
    for k, part in enumerate(PARTS):
        table.add_row(f"mean, {part}", *(f"{x:.2f}" for x in means[:, k]))
    table.add_row("published, ten real mixes", *(f"{x:.2f}" for x in PUBLISHED))
    ratio = means[-1, 0] / means[METHODS.index("convex"), 0]
    table.caption = f"after / convex: {ratio:.3f}; the goal of real mixes is 3.90 / 4.45 = 0.876"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="songs and folders of stems, any tree")
    parser.add_argument("--every", type=int, default=1, help="every so many pairs")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=LONGEST_S, help="of each song")
    options = parser.parse_args()
    keep_memory()
    try:
        Console().print(score(options))
    except (RunError, ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
