"""How well do two songs meet, rule by rule? python scripts/score_transitions.py A B [--bars 16]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from difffx import mixing
from difffx.dj import TRANSITIONS
from difffx.dj.alignment import MAX_STRETCH
from difffx.dj.handover import by_rule, hand_over, not_heard
from difffx.dj.meeting import Meeting, meet
from difffx.metrics.transition import transition_measures
from difffx.runs import RunError, keep_memory

SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))
COLUMNS = {
    "low_end_clash": ("low-end clash, %", 100.0, 0),
    "vocal_clash": ("vocal clash, %", 100.0, 0),
    "loudness_range_lu": ("loudness range, LU", 1.0, 1),
    "step_in_db": ("step in, dB", 1.0, 1),
    "step_out_db": ("step out, dB", 1.0, 1),
    "true_peak_dbtp": ("true peak, dBTP", 1.0, 1),
}


def work(options: argparse.Namespace) -> None:
    """Prints a row for each rule, and below what holds for all of them."""
    rate = mixing.native_rate(options.a)
    with ASIDE.status("hearing the songs"):
        songs = mixing.open_song(options.a, rate), mixing.open_song(options.b, rate)
        stretch = {"tempo_bpm": options.tempo, "max_stretch": options.max_stretch}
        meeting, _, notes = meet(*songs, rate, options.bars, **stretch)
    for note in [*mixing.doubt(songs[0], "a"), *mixing.doubt(songs[1], "b"), *notes]:
        ASIDE.print(note)
    found = {
        name: transition_measures(hand_over(meeting, by_rule(name)))
        for name in track(TRANSITIONS, "mixing", console=ASIDE, transient=True)
    }
    heads = ["rule", *(head for head, _, _ in COLUMNS.values())]
    rows = [
        [f"{name} *" if not_heard(name, meeting) else name, *(shown(column, measures) for column in COLUMNS)]
        for name, measures in found.items()
    ]
    about = below(meeting, next(iter(found.values())), rows)
    if options.markdown:
        print(*markdown(heads, rows), "", about, sep="\n")
    else:
        table = Table(*heads, title=f"{options.a.name} to {options.b.name}", caption=about)
        for row in rows:
            table.add_row(*row)
        SCREEN.print(table)


def shown(column: str, measures: dict[str, float | None]) -> str:
    _, factor, digits = COLUMNS[column]
    value = measures[column]
    return "" if value is None else f"{round(factor * value, digits) + 0.0:.{digits}f}"


def below(meeting: Meeting, measures: dict[str, float | None], rows: list[list[str]]) -> str:
    """What holds for all rules: the two songs outside do not depend on them."""
    ranges = [measures[f"loudness_range_{deck}_lu"] for deck in "ab"]
    before, after = ("too short" if value is None else f"{value:.1f} LU" for value in ranges)
    starred = any(row[0].endswith("*") for row in rows)
    return (
        f"{meeting.bars} bars at {meeting.tempo_bpm:.2f} bpm; loudness range of A before: {before}, "
        f"of B after: {after}{'; * without the stem that it moves by itself' if starred else ''}"
    )


def markdown(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("a", type=Path, help="the song that plays: a file, or a folder of stems")
    parser.add_argument("b", type=Path, help="the song that comes")
    parser.add_argument("--bars", type=int, default=16, help="how long the transition takes (default: 16)")
    parser.add_argument("--tempo", type=mixing.tempo, help="of both: a (default), b, or a number")
    parser.add_argument(
        "--max-stretch", type=float, default=MAX_STRETCH, help="faster or slower by this at most"
    )
    parser.add_argument("--markdown", action="store_true", help="as a table for a README")
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
