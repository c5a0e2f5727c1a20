"""Which settings made this sound? python scripts/estimate.py WET [--dry DRY] --run RUN --out DIR"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import track

from difffx import inference, plots
from difffx.data import audio_io
from difffx.runs import RunError, load_run, write_json

SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))


def work(options: argparse.Namespace) -> None:
    """Writes settings.json and report.png; with a dry file also matched.wav and distances.json."""
    wet, rate = inference.open_sound(options.wet)
    dry, cut, notes = inference.open_dry(options.dry, wet, rate) if options.dry else (None, wet, [])
    run = load_run(options.run, options.checkpoint)
    for note in notes:
        ASIDE.print(note)
    windows = inference.estimate_windows(
        run.task, wet, rate, progress=lambda parts: track(parts, "listening", console=ASIDE)
    )
    z, spread = windows.mean(0, keepdim=True), windows.std(0) if len(windows) > 1 else None
    write_json(options.out / "settings.json", inference.settings(run.task, z))
    sounds, scores = {"wet": wet}, None
    if dry is not None:
        with ASIDE.status("matching"):
            matched, scores = inference.match(run.task, dry, cut, rate, z)
        audio_io.save(options.out / "matched.wav", matched, rate)
        write_json(options.out / "distances.json", scores)
        sounds = {"dry": dry, "wet": cut, "matched": matched}
    report = plots.report(run.task.afx, z, sounds, rate, options.wet.name, scores, spread)
    plots.save_figure(report, options.out / "report.png")
    SCREEN.print(*inference.tables(run.task, z, scores), f"written to {options.out}", sep="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wet", type=Path, help="the sound to explain: any format, rate, channels; from 1 s")
    parser.add_argument("--dry", type=Path, help="the same sound before the effects")
    parser.add_argument("--run", type=Path, required=True, help="a folder that train.py made")
    parser.add_argument("--out", type=Path, required=True, help="the folder for the results")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a file")
    options = parser.parse_args()
    try:
        work(options)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
