"""Songs into drums, bass, vocals and other: python scripts/separate_stems.py SONGS... --out DIR

DIR gets a folder of stems for each song, NAME/drums.flac and so on, at the song's own rate, level and length,
and manifest.jsonl, which says what there is. The same command again does what is missing.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.stem_library import FORMATS, Library, Song, find_songs
from difffx.data.stems import Separator, load_separator

PLAIN = {"soft_wrap": True, "highlight": False, "markup": False}
SCREEN, ASIDE = (Console(stderr=aside, **PLAIN) for aside in (False, True))
SETTINGS = ("overlap", "shifts", "segment", "exact", "format", "limit_seconds")
WEIGHTS = (
    "folder of NAME.yaml and SIGNATURE.th or .safetensors; a .th file can run code: only from whom you trust"
)

Show = Callable[[str, float], None]


@dataclass
class Tally:
    """What became of the songs: the name and the seconds of each."""

    separated: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, float] = field(default_factory=dict)
    failed: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, float] = field(default_factory=dict)

    def table(self) -> Table:
        table = Table("", "songs", "minutes")
        for state, songs in vars(self).items():
            if songs or state != "waiting":
                table.add_row(state, str(len(songs)), f"{sum(songs.values()) / 60:.1f}")
        return table


def work(options: argparse.Namespace, tally: Tally) -> None:
    """Stems of all songs that have none yet, the manifest after each song, a line for each that failed."""
    songs, notes = find_songs(options.songs, options.out)
    separator = load_separator(options.model, options.weights, options.device)
    settings = {"model": separator.name, "weights": separator.weights}
    settings |= {name: getattr(options, name) for name in SETTINGS}
    with Library(options.out, settings, options.restart) as library:
        to_do, done = library.plan(songs)
        tally.skipped = {song.name: library.lines[song.name]["seconds"] for song in done}
        tally.waiting = {song.name: seconds(song, options.limit_seconds) for song in to_do}
        for note in notes:
            ASIDE.print(note)
        ASIDE.print(f"{len(to_do)} to separate by {separator.name} on {separator.device}, {len(done)} done")
        with progress_bars(tally) as show:
            for song in to_do:
                separate_one(library, song, separator, tally, show)


def separate_one(library: Library, song: Song, separator: Separator, tally: Tally, show: Show) -> None:
    """One song, and one line on it; where something is wrong with it the run goes on."""
    begin = time.monotonic()
    show(song.name, 0.0)
    try:
        line = library.add(song, separator, lambda part: show(song.name, part))
    except (AudioError, OSError) as error:
        ASIDE.print(f"failed: {song.name}: {str(error).removeprefix(f'{song.path}: ')}")
        tally.failed[song.name] = tally.waiting.pop(song.name)
        return
    tally.separated[song.name] = line["seconds"]
    del tally.waiting[song.name]
    kept = all(file.endswith(library.settings["format"]) for file in line["stems"].values())
    loud = "" if kept else ", over full scale: 32-bit float WAV"
    ASIDE.print(f"{song.name}: {line['seconds']:.1f} s of music in {time.monotonic() - begin:.1f} s{loud}")


@contextmanager
def progress_bars(tally: Tally) -> Iterator[Show]:
    """A bar of the present song and one of all of them, by their length, with the time left."""
    total = sum(tally.waiting.values())
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn(compact=True)
    with Progress(*columns, console=ASIDE, transient=True, speed_estimate_period=600.0) as bars:
        one, every = bars.add_task(""), bars.add_task("all songs", total=total)

        def show(name: str, part: float) -> None:
            before = sum(tally.separated.values()) + sum(tally.failed.values())
            present = tally.waiting[name]
            if part == 0.0:
                bars.reset(one, total=present, description=name)
            bars.update(one, completed=part * present)
            bars.update(every, completed=before + part * present)

        yield show


def seconds(song: Song, limit: float | None) -> float:
    """Of a song, by its header, for the time left; 0 where it has none that can be read."""
    try:
        return min(audio_io.info(song.path).seconds, limit or float("inf"))
    except AudioError:
        return 0.0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("songs", type=Path, nargs="+", metavar="SONGS", help="audio files and folders of them")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for stems and manifest.jsonl")
    add("--model", default="htdemucs", help="of demucs; none: the whole song becomes other")
    add("--weights", type=Path, metavar="DIR", help=WEIGHTS)
    add(
        "--format",
        choices=FORMATS,
        default="flac",
        help="24-bit FLAC (float WAV if a stem passes full scale)",
    )
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--overlap", type=float, default=0.25, help="of the model's segments, 0 to 0.95")
    add("--shifts", type=int, default=0, help="mean over so many shifted copies, so many times as long")
    add("--segment", type=float, help="seconds heard at a time; default: the model's own")
    add("--exact", action="store_true", help="what the stems lack of the song becomes part of other")
    add("--limit-seconds", type=float, help="of each song the beginning only")
    add("--restart", action="store_true", help="do anew what is done")
    return parser.parse_args()


def main() -> None:
    options, tally = arguments(), Tally()
    try:
        work(options, tally)
    except (ValueError, OSError) as error:
        finished = f" ({len(tally.separated)} songs were separated)" if tally.separated else ""
        sys.exit(f"error: {' '.join(str(error).split())}{finished}")
    except KeyboardInterrupt:
        SCREEN.print(tally.table())
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    SCREEN.print(tally.table())
    if tally.failed:
        sys.exit(f"error: {len(tally.failed)} of {len(tally.failed) + len(tally.separated)} songs failed")


if __name__ == "__main__":
    main()
