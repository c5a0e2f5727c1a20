"""Compare synthetic music with a folder of recordings: spectrum, crest factor, loudness range, flux."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.signal import stft

from difffx.data import Synthetic, audio_io

BANDS_HZ = 1000.0 * 2.0 ** (np.arange(-15, 13) / 3.0)  # third octaves, 31.5 Hz to 16 kHz
RATE = 44_100


def describe(audio: np.ndarray) -> np.ndarray:
    """Mono segment [T] -> 28 band levels (dB of the whole), crest factor, loudness range (dB), flux (dB)."""
    freqs, _, spec = stft(audio, RATE, nperseg=8192, noverlap=4096)
    power = np.abs(spec) ** 2
    total = power.sum() + 1e-20
    edges = BANDS_HZ[:, None] * 2.0 ** (np.array([-1.0, 1.0]) / 6.0)
    bands = [power[(freqs >= low) & (freqs < high)].sum() for low, high in edges]
    levels = 10.0 * np.log10(np.array(bands) / total + 1e-9)
    crest = 20.0 * np.log10(np.abs(audio).max() / np.sqrt((audio**2).mean()))
    blocks = audio[: len(audio) // 4410 * 4410].reshape(-1, 4410)
    loudness = 10.0 * np.log10((blocks**2).mean(1) + 1e-9 * (audio**2).mean())
    _, _, short = stft(audio, RATE, nperseg=2048, noverlap=1024)
    log_mag = 20.0 * np.log10(np.abs(short) + 1e-4 * np.abs(short).max())
    flux = np.maximum(np.diff(log_mag, axis=1), 0.0).mean()
    return np.array([*levels, crest, np.percentile(loudness, 95) - np.percentile(loudness, 10), flux])


def recordings(folder: Path) -> list[np.ndarray]:
    """Files; where all files of a folder have one length, they are stems and their sum is the recording."""
    songs: dict[Path, list[np.ndarray]] = {}
    for path in sorted(p for p in folder.rglob("*") if audio_io.is_audio(p)):
        songs.setdefault(path.parent, []).append(audio_io.load(path, RATE, channels=1)[0][0].numpy())
    whole = [[np.sum(f, 0)] if len(f) > 1 and len({len(x) for x in f}) == 1 else f for f in songs.values()]
    return [audio for files in whole for audio in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="recordings")
    parser.add_argument("--items", type=int, default=300)
    args = parser.parse_args()
    data = Synthetic(RATE, seed=1).dataset("train")
    made = np.array([describe(data[i]["dry"][0].numpy()) for i in range(args.items)])
    cut = [np.array_split(r, max(1, len(r) // (3 * RATE))) for r in recordings(args.folder)]
    real = np.array([describe(p) for c in cut for p in c[:: max(1, len(c) // 4)] if (p**2).mean() > 1e-8])
    print(f"{len(made)} synthetic items, {len(real)} segments of {len(cut)} recordings: mean (std)")
    for i, name in enumerate([*(f"{hz:.0f} Hz" for hz in BANDS_HZ), "crest dB", "range dB", "flux dB"]):
        left, right = (f"{x[:, i].mean():7.1f} ({x[:, i].std():4.1f})" for x in (real, made))
        print(f"{name:>9}  real {left}   synthetic {right}")


if __name__ == "__main__":
    main()
