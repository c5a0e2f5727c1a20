"""One song hands over to another. python scripts/mix.py A B --out mix.wav [--transition NAME] [--bars 16]"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from difffx import mixing
from difffx.data import audio_io
from difffx.dj import TRANSITIONS
from difffx.dj.alignment import MAX_STRETCH
from difffx.dj.handover import (
    FRAMES_PER_BEAT,
    Curves,
    HandOver,
    by_rule,
    eased,
    hand_over,
    limited,
    not_heard,
    trimmed,
)
from difffx.dj.meeting import meet
from difffx.dj.transition_files import CURVES, TEXT, write_curves, write_text
from difffx.metrics.transition import transition_measures
from difffx.plots.style import save_figure
from difffx.plots.transition import transition_figure
from difffx.runs import RunError, keep_memory, load_run
from difffx.tasks.dj_imitation import by_run

SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))
STEPS = 6
RULE = "bass_swap"
FULL_SCALE_DB = 0.0


def work(options: argparse.Namespace) -> None:
    """Writes the mix, and into <mix>_transition/ beside it params.npz, params.json and transition.png."""
    check(options)
    curves, chosen = drawn_by(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=ASIDE, transient=True) as bar:
        row = bar.add_task("", total=STEPS)

        def begin(step: str) -> None:
            bar.update(row, description=step, completed=bar.tasks[0].completed + 1)

        rate = mixing.native_rate(options.a)
        begin(f"hearing {options.a.name}")
        song_a = mixing.open_song(options.a, rate, options.bpm_a, options.downbeat_a)
        begin(f"hearing {options.b.name}")
        song_b = mixing.open_song(options.b, rate, options.bpm_b, options.downbeat_b)
        begin("bringing them in time")
        meeting, aligned, notes = meet(song_a, song_b, rate, options.bars, **placed(options))
        notes = [*mixing.doubt(song_a, "a"), *mixing.doubt(song_b, "b"), *notes]
        notes += [note for note in [not_heard(chosen["rule"], meeting)] if note]
        begin("mixing")
        handed = hand_over(meeting, curves, options.frames_per_beat)
        handed = limited(handed) if options.limiter else handed
        begin("measuring")
        measures = transition_measures(handed)
        handed = handed if options.lead is None else trimmed(handed, options.lead)
        notes += too_loud(measures["true_peak_dbtp"], options)
        begin("writing")
        text = mixing.description(handed, aligned, (song_a, song_b), chosen, measures, notes)
        write(handed, text, options)
    for note in notes:
        ASIDE.print(note)
    SCREEN.print(*tables(text), f"written to {options.out} and {beside(options.out)}", sep="\n")


def write(handed: HandOver, text: dict, options: argparse.Namespace) -> None:
    """The mix last: where it is, the rest is too."""
    folder = beside(options.out)
    write_curves(folder / CURVES, handed.curves, handed.times_s)
    write_text(folder / TEXT, text)
    how = text["transition"]["rule"] or text["transition"]["run"]
    title = f"{options.a.name} to {options.b.name}: {how}, {handed.meeting.tempo_bpm:.2f} bpm"
    save_figure(transition_figure(handed, title), folder / "transition.png")
    audio_io.save(options.out, handed.mix, handed.meeting.sample_rate)


def beside(out: Path) -> Path:
    """The folder of all that belongs to a mix."""
    return out.with_name(f"{out.stem}_transition")


def drawn_by(options: argparse.Namespace) -> tuple[Curves, dict[str, object]]:
    """What draws the curves, a rule or a run that learned them, and what params.json says of it."""
    chosen = {"rule": options.transition, "frames_per_beat": options.frames_per_beat}
    if options.run is None:
        chosen["rule"] = options.transition or RULE
        chosen["options"] = dict(options.option)
        return by_rule(chosen["rule"], **chosen["options"]), chosen
    if options.option:
        raise ValueError("--option is for a rule; what a run draws has none")
    run = load_run(options.run, options.checkpoint)
    return eased(by_run(run.task, options.transition)), {**chosen, "run": str(options.run)}


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for what can be known to be wrong before anything is opened."""
    if options.out.suffix.lower() not in audio_io.SUBTYPES:
        raise ValueError(f"--out {options.out}: expected a name that ends in {', '.join(audio_io.SUBTYPES)}")
    if options.out.is_dir():
        raise ValueError(f"--out {options.out}: is a folder, expected the name of a file")
    for option, least in (("bars", 1), ("frames_per_beat", 1), ("lead", 0)):
        value = getattr(options, option)
        if value is not None and not value >= least:
            raise ValueError(f"--{option.replace('_', '-')} must be {least} or more, got {value:g}")


def placed(options: argparse.Namespace) -> dict[str, object]:
    """What was typed about tempo, place and level, as `meet` takes it."""
    return {
        "tempo_bpm": options.tempo,
        "start_a_s": options.start_a,
        "start_b_s": options.start_b,
        "stretching": not options.no_stretch,
        "match_loudness": not options.no_loudness_match,
        "max_stretch": options.max_stretch,
    }


def too_loud(peak_dbtp: float, options: argparse.Namespace) -> list[str]:
    """A line where a converter, or a file that holds no more than full scale, would clip the mix."""
    if peak_dbtp <= FULL_SCALE_DB:
        return []
    clipped = "" if options.out.suffix.lower() == ".wav" else f", which {options.out.suffix} clips"
    return [f"the mix peaks at {peak_dbtp:+.1f} dBTP, above full scale{clipped}: --limiter holds it at -1"]


def tables(text: dict) -> list[Table]:
    """The two songs side by side, and the measures of the transition."""
    songs = Table(
        "", "A", "B", title=f"{text['transition']['bars']} bars at {text['transition']['tempo_bpm']:.2f} bpm"
    )
    for name, form in (
        ("tempo_bpm", "{:.2f}"),
        ("key", "{}"),
        ("camelot", "{}"),
        ("loudness_lufs", "{:.1f}"),
        ("transition_begins_s", "{:.2f}"),
        ("speed", "{:.4f}"),
        ("gain_db", "{:.1f}"),
    ):
        songs.add_row(name, *(form.format(text[deck][name]) for deck in "ab"))
    measures = Table("measure", "", title=text["transition"]["rule"] or text["transition"]["run"])
    for name, value in text["measures"].items():
        measures.add_row(name, "-" if value is None else f"{value:.2f}")
    return [songs, measures]


def option(text: str) -> tuple[str, object]:
    """point=0.25, enter=(0.1,0.3), fade_type=linear."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"expected name=value, such as point=0.25, got {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path, help="the song that plays: a file, or a folder of stems")
    parser.add_argument("b", type=Path, help="the song that comes")
    parser.add_argument(
        "--out", type=Path, default=Path("mix.wav"), help="mix.wav (32-bit float), .flac, ..."
    )
    names = ", ".join(TRANSITIONS)
    parser.add_argument(
        "--transition", metavar="NAME", help=f"{names}; default: {RULE}, of a run: its choice"
    )
    parser.add_argument(
        "--run", type=Path, help="a folder of task=dj_imitation, whose network draws the curves"
    )
    parser.add_argument("--checkpoint", default="best", help="of the run: best, last, or a file")
    parser.add_argument("--option", action="append", type=option, default=[], help="of it, such as point=0.5")
    parser.add_argument("--bars", type=int, default=16, help="how long the transition takes (default: 16)")
    parser.add_argument("--tempo", type=mixing.tempo, help="of both: a (default), b, or a number")
    parser.add_argument(
        "--max-stretch", type=float, default=MAX_STRETCH, help="faster or slower at most by this"
    )
    parser.add_argument("--no-stretch", action="store_true", help="leave every song its own tempo")
    parser.add_argument("--no-loudness-match", action="store_true", help="leave every song its own level")
    parser.add_argument("--limiter", action="store_true", help="hold true peaks of the mix at -1 dBTP")
    parser.add_argument(
        "--lead", type=float, metavar="S", help="seconds of A before and of B after; default: all"
    )
    parser.add_argument("--frames-per-beat", type=int, default=FRAMES_PER_BEAT, help="points of the curves")
    for deck, begins in (("a", "where in A the transition begins"), ("b", "what of B begins there")):
        parser.add_argument(
            f"--start-{deck}", type=float, metavar="S", help=f"{begins}, s; the nearest downbeat"
        )
        parser.add_argument(f"--bpm-{deck}", type=float, help="its tempo, where it is found wrong")
        parser.add_argument(
            f"--downbeat-{deck}", type=float, metavar="S", help="any first beat of a bar of it, s"
        )
    options = parser.parse_args()
    keep_memory()
    try:
        work(options)
    except (RunError, ValueError, OSError, ImportError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
