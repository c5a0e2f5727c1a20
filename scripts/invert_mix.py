"""What did the DJ do? python scripts/invert_mix.py A B MIX [--align]: the moves that make this mix"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from torch import Tensor

from difffx.data import audio_io
from difffx.data.stems import open_deck
from difffx.dj.inversion import MODELS, STARTS, STEPS, Inversion, invert
from difffx.dj.mel_distance import PARTS
from difffx.dj.placing import place, put
from difffx.dj.powers import master_hz
from difffx.dj.transition_files import CURVES, TEXT, write_curves, write_text
from difffx.inference import open_sound
from difffx.plots.inversion import inversion_figure
from difffx.plots.style import save_figure
from difffx.runs import keep_memory

SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))


def work(options: argparse.Namespace) -> None:
    """Writes rendered.wav, params.npz, params.json, distances.json and inversion.png."""
    if not options.seconds > 0:
        raise ValueError(f"--seconds must be above 0, got {options.seconds:g}")
    mix, rate = open_sound(options.mix)
    if len(mix) > 2:
        raise ValueError(f"{options.mix}: {len(mix)} channels, expected mono or stereo")
    decks, notes = [], []
    for name, path in (("A", options.a), ("B", options.b)):
        deck, said = on_deck(name, path, mix, rate, options.align)
        decks.append(deck)
        notes += said
        for note in said:
            ASIDE.print(note)
    found = inverted(decks, mix, rate, options)
    write(found, mix, rate, notes, options)
    SCREEN.print(table(found), f"written to {options.out}", sep="\n")


def on_deck(
    name: str, path: Path, mix: Tensor, rate: int, align: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """A song or its stems as long as the mix and in line with it, and in words what was done to them."""
    deck = open_deck(path, rate)
    source, song = next(iter(deck.values())), sum(x.mean(0) for x in deck.values())
    if not song.square().mean() > 1e-10:
        raise ValueError(f"{path}: is silent (below -100 dBFS): nothing of it can be found in a mix")
    if align:
        with ASIDE.status(f"looking for {path.name} in the mix"):
            placed = place(deck, mix, rate, str(path))
        return placed.deck, [f"{name}, {path.name}, {placed}"]
    if source.shape[1] == mix.shape[1]:
        return deck, []
    lengths = f"{source.shape[1] / rate:.2f} s, the mix {mix.shape[1] / rate:.2f} s"
    done = "cut" if source.shape[1] > mix.shape[1] else "followed by silence"
    return (
        {stem: put(x, 0.0, rate, mix.shape[1]) for stem, x in deck.items()},
        [f"{name}, {path.name}, lasts {lengths}: it is {done}; add --align if it is not in line"],
    )


def inverted(
    decks: list[dict[str, Tensor]], mix: Tensor, rate: int, options: argparse.Namespace
) -> Inversion:
    """The moves, a bar meanwhile, and a line on how it went."""
    columns = TextColumn("inverting"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=ASIDE) as bar:
        row = bar.add_task("looking for a start", total=None)

        def show(done: int, total: int, loss: float) -> None:
            if bar.tasks[0].total is None:
                bar.print(f"going down from loss {loss:.4f}; Ctrl-C keeps the best so far")
            bar.update(row, completed=done, total=total, description=f"loss {loss:.4f}")

        found = invert(
            *decks,
            mix,
            rate,
            start=options.start,
            model=options.model,
            frames=options.frames,
            bands=options.bands,
            steps=options.steps,
            seconds=options.seconds,
            progress=show,
        )
    ASIDE.print(
        f"{found.model} model from {found.start}: loss {found.loss[0]:.4f} before, "
        f"{found.loss[1]:.4f} after: {found.ended}"
    )
    return found


def write(found: Inversion, mix: Tensor, rate: int, notes: list, options: argparse.Namespace) -> None:
    """All files of the result, each of them whole."""
    audio_io.save(options.out / "rendered.wav", found.rendered, rate)
    write_curves(options.out / CURVES, found.curves, found.times_s)
    lags = found.lags or []
    said = {
        "a": str(options.a),
        "b": str(options.b),
        "mix": str(options.mix),
        "sample_rate": rate,
        "notes": notes,
        "model": found.model,
        "start": found.start,
        "ended": found.ended,
        "loss": {"start": found.loss[0], "after": found.loss[1]},
        "master": {"hz": master_hz(), "db": found.master_db},
        "lags": {d: {"times_s": t, "late_s": late} for d, (t, late) in zip("ab", lags, strict=False)},
    }
    write_text(options.out / TEXT, said)
    write_text(options.out / "distances.json", found.distances)
    figure = inversion_figure(
        found.curves, found.times_s, mix, found.rendered, rate, f"{options.mix.name}: {found.model} model"
    )
    save_figure(figure, options.out / "inversion.png")


def table(found: Inversion) -> Table:
    """How far the mix is from each way of making it."""
    rows = Table("made by", *PARTS, title="log-mel distance to the mix in dB; lower is better")
    for name, scores in found.distances.items():
        rows.add_row(name, *(f"{scores[part]:.2f}" for part in PARTS))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path, help="the song that goes: a file, or a folder of stems")
    parser.add_argument("b", type=Path, help="the song that comes")
    parser.add_argument("mix", type=Path, help="the mix of both: any format, rate, channels")
    parser.add_argument("--out", type=Path, help="folder for the results; default: inversions/<name of mix>")
    parser.add_argument("--align", action="store_true", help="find where and how fast both are in the mix")
    parser.add_argument("--start", default="best", help=f"{', '.join(STARTS)}, or rule:NAME")
    parser.add_argument("--model", default="auto", help=f"{', '.join(MODELS)}: whether phases are trusted")
    parser.add_argument("--frames", type=int, help="points of the curves; default: two a second, at most 128")
    parser.add_argument("--bands", type=int, default=3, help="3: isolators and filters too; 1: faders alone")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the descent")
    parser.add_argument("--seconds", type=float, default=math.inf, help="the longest it may take")
    options = parser.parse_args()
    options.out = options.out or Path("inversions") / options.mix.stem
    keep_memory()
    try:
        work(options)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
