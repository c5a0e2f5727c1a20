"""Which settings made this sound? python scripts/estimate.py WET [--dry DRY] [--model NAME | --run RUN]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, track
from torch import Tensor, nn

from difffx import inference, plots
from difffx.candidates import candidates, write
from difffx.data import audio_io
from difffx.pretrained import estimators, load_estimator
from difffx.refine import RENDERS, SECONDS, line_up
from difffx.runs import RunError, keep_memory, load_run, write_json

SCREEN, ASIDE = (Console(stderr=aside, soft_wrap=True, highlight=False) for aside in (False, True))


def work(options: argparse.Namespace) -> None:
    """Writes settings.json and report.png; with a dry file also matched.wav and distances.json.

    Several candidates go into a folder of their own; refining then starts from each of them.
    """
    if options.refine and not options.dry:
        raise ValueError("--refine needs the sound before the effects: add --dry DRY")
    for name in ("seconds", "renders"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name} must be above 0, got {getattr(options, name):g}")
    wet, rate = inference.open_sound(options.wet)
    dry, cut, notes = inference.open_dry(options.dry, wet, rate) if options.dry else (None, wet, [])
    if options.refine:
        dry, moved = line_up(dry, cut, rate)
        notes += moved
    run = load_run(options.run, options.checkpoint) if options.run else load_estimator(options.model)
    for note in notes:
        ASIDE.print(note)
    windows = inference.estimate_windows(
        run.task, wet, rate, progress=lambda parts: track(parts, "listening", console=ASIDE)
    )
    z, spread = windows.mean(0, keepdim=True), windows.std(0) if len(windows) > 1 else None
    first, count = None, options.candidates
    found = [] if count is None else candidates(run.task, wet, rate, count)
    if options.refine:
        starts = torch.cat([z, *(candidate.z for candidate in found)])
        first, z, spread = z, refined(run.task, dry, cut, rate, starts, options), None
        write_json(options.out / "settings_network.json", inference.settings(run.task, first))
    write_json(options.out / "settings.json", inference.settings(run.task, z))
    sounds, scores = {"wet": wet}, None
    if dry is not None:
        with ASIDE.status("matching"):
            matched, scores = inference.match(run.task, dry, cut, rate, z, first)
        audio_io.save(options.out / "matched.wav", matched, rate)
        write_json(options.out / "distances.json", scores)
        sounds = {"dry": dry, "wet": cut, "matched": matched}
    several = [write(run.task, found, options.out / "candidates", rate, dry, cut)] if found else []
    report = plots.report(run.task.afx, z, sounds, rate, options.wet.name, scores, spread)
    plots.save_figure(report, options.out / "report.png")
    SCREEN.print(*inference.tables(run.task, z, scores), *several, f"written to {options.out}", sep="\n")


def refined(
    task: nn.Module, dry: Tensor, wet: Tensor, rate: int, z: Tensor, options: argparse.Namespace
) -> Tensor:
    """Better settings, a bar with the best mel meanwhile, and a line on how it went."""
    columns = TextColumn("refining"), BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with Progress(*columns, console=ASIDE) as bar:
        row = bar.add_task("listening", total=None)

        def show(done: int, total: int, mel: float) -> None:
            if bar.tasks[0].total is None:
                bar.print(f"refining from mel {mel:.4f}; Ctrl-C keeps the best so far")
            bar.update(row, completed=done, total=total, description=f"best mel {mel:.4f}")

        limits = {"seconds": options.seconds, "renders": options.renders, "progress": show}
        found, notes = inference.refined(task, dry, wet, rate, z, **limits)
    for note in notes:
        ASIDE.print(note)
    ASIDE.print(
        f"mel {found.before:.4f} before, {found.after:.4f} after {found.renders} renders: {found.ended}"
    )
    return found.z.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("wet", type=Path, help="the sound to explain: any format, rate, channels; from 1 s")
    parser.add_argument("--dry", type=Path, help="the same sound before the effects")
    parser.add_argument("--refine", action="store_true", help="polish the settings until dry sounds like wet")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the longest that refining may take")
    parser.add_argument("--renders", type=int, default=RENDERS, help="how many tries refining may take")
    parser.add_argument("--candidates", type=int, metavar="N", help="the N best distinct settings as well")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--model", default="peq_comp_dist", help=f"one that ships: {', '.join(estimators())}")
    who.add_argument("--run", type=Path, help="a folder that train.py made")
    parser.add_argument("--out", type=Path, help="folder for the results; default: estimates/<name of wet>")
    parser.add_argument("--checkpoint", default="best", help="of the run: best, last, or a file")
    options = parser.parse_args()
    options.out = options.out or Path("estimates") / options.wet.stem
    keep_memory()
    try:
        work(options)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
