"""How well are tempo, beats and bars found? python scripts/score_analysis.py [--songs 20] [--clips FOLDER]"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.score import write_score
from difffx.data.segments import generator
from difffx.data.synthetic import render
from difffx.dj.analysis import Analysis, analyze

RATE = 44_100
RATIOS = (1.0, 2.0, 0.5, 1.5, 2 / 3)
SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))


def synthetic_song(seed: int, index: int, seconds: float) -> tuple[torch.Tensor, dict]:
    """A band playing, [2, T], and where its beats and bars are, in seconds."""
    length = round(seconds * RATE)
    score = write_score(generator(seed, "test", index), length, RATE)
    audio = render(generator(seed, "test", index), RATE, length, 2)
    times = score.steps / RATE
    heard = (times >= 0.0) & (times < seconds)
    truth = {
        "tempo_bpm": 15.0 * RATE / score.step,
        "beats_s": times[heard & (score.places % 4 == 0)],
        "downbeats_s": times[heard & (score.places == 0)],
        "beats_per_bar": score.per_bar // 4,
    }
    return torch.from_numpy(audio), truth


def compare(found: Analysis, truth: dict) -> dict[str, float]:
    """Tempo against the nearest of right, double, half, ...; beats and bars in ms, from true to nearest."""
    raw = found.tempo_bpm / truth["tempo_bpm"]
    ratio = min(RATIOS, key=lambda known: abs(np.log(raw / known)))
    pairs = (truth["beats_s"], found.beats_s) if ratio >= 1.0 else (found.beats_s, truth["beats_s"])
    return {
        "ratio": ratio,
        "tempo_percent": 100.0 * (raw / ratio - 1.0),
        "beat_ms": _typical_ms(*pairs),
        "downbeat_ms": _typical_ms(truth["downbeats_s"], found.downbeats_s),
        "four": truth["beats_per_bar"] == 4,
    }


def _typical_ms(wanted: np.ndarray, given: np.ndarray) -> float:
    """Median distance to the nearest one given."""
    distances = np.asarray(wanted)[:, None] - np.asarray(given)[None]
    return 1000.0 * float(np.median(np.abs(distances).min(1)))


def synthetic(options: argparse.Namespace) -> None:
    table = Table("song", "bpm", "found", "error %", "beat ms", "downbeat ms", "confidence", "s")
    rows = []
    for index in track(range(options.songs), "listening", console=ASIDE):
        audio, truth = synthetic_song(options.seed, index, options.seconds)
        begin = time.process_time()
        found = analyze(audio, RATE)
        spent = time.process_time() - begin
        row = compare(found, truth)
        rows.append(row)
        bar = "" if row["four"] else f" in {truth['beats_per_bar']}"
        numbers = row["tempo_percent"], row["beat_ms"], row["downbeat_ms"], found.confidence, spent
        texts = [f"{number:.{digits}f}" for number, digits in zip(numbers, (4, 1, 1, 2, 1), strict=True)]
        table.add_row(f"{index}{bar}", f"{truth['tempo_bpm']:.2f}", f"{found.tempo_bpm:.3f}", *texts)
    SCREEN.print(table)
    four = [row for row in rows if row["four"]]
    SCREEN.print(
        f"tempo right {_share(row['ratio'] == 1.0 for row in rows)}, right, half or double "
        f"{_share(row['ratio'] in (1.0, 2.0, 0.5) for row in rows)}, "
        f"within 0.5 % of that {_share(abs(row['tempo_percent']) < 0.5 for row in rows)}",
        f"beats within 20 ms {_share(row['beat_ms'] < 20.0 for row in rows)}, median "
        f"{np.median([row['beat_ms'] for row in rows]):.1f} ms",
        f"of those with four beats a bar, downbeats within 20 ms "
        f"{_share(row['downbeat_ms'] < 20.0 for row in four)}",
        sep="\n",
    )


def _share(hits) -> str:
    hits = list(hits)
    return f"{sum(hits)} of {len(hits)}"


def clips(folder: Path) -> None:
    """Tempos of recordings, and of both halves of each alone: one tempo, if the song has one."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and audio_io.is_audio(file)]
    table = Table("file", "s", "bpm", "first half", "second half", "key", "LUFS", "confidence")
    for file in track(files, "listening", console=ASIDE):
        try:
            audio, rate = audio_io.load(file, channels=2)
            parts = audio, *audio.tensor_split(2, 1)
            found, first, second = (analyze(part, rate) for part in parts)
        except (AudioError, ValueError) as error:
            table.add_row(file.name, " ".join(str(error).split()))
            continue
        tempos = [f"{part.tempo_bpm:.2f}" for part in (found, first, second)]
        loudness, confidence = f"{found.loudness_lufs:.1f}", f"{found.confidence:.2f}"
        table.add_row(file.name, f"{found.seconds:.1f}", *tempos, found.key, loudness, confidence)
    SCREEN.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--songs", type=int, default=20, help="synthetic songs whose grids are known")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each")
    parser.add_argument("--seed", type=int, default=7, help="of the songs")
    parser.add_argument("--clips", type=Path, help="a folder of recordings, instead of synthetic songs")
    options = parser.parse_args()
    try:
        if options.clips is None and (options.songs < 1 or not 4.0 <= options.seconds <= 600.0):
            raise ValueError("--songs must be 1 or more, --seconds within 4..600")
        if options.clips is not None and not options.clips.is_dir():
            raise ValueError(f"--clips {options.clips}: no such folder")
        clips(options.clips) if options.clips else synthetic(options)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
