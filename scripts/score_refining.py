"""How near does refining come? python scripts/score_refining.py MUSIC [--model peq_comp_dist]"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from difffx.blind_benchmark import BlindBenchmark
from difffx.pretrained import load_estimator
from difffx.refine import refine
from difffx.runs import RunError, keep_memory

GOAL = 0.03


def score(options: argparse.Namespace) -> Table:
    """Items of benchmark=blind, refined from the estimate of a model that ships, a row each."""
    task = load_estimator(options.model).task
    graph, spec = task.sfx, task.sfx.spec
    items = [
        (name, batch["dry"][k : k + 1], batch["z"][k : k + 1])
        for batch in BlindBenchmark(options.folder, spec, task.sample_rate)
        for k, name in enumerate(batch["name"])
    ]
    table = Table("sound and settings", "estimate", "refined", "renders", "s", title=f"mel, {options.model}")
    rows = []
    for name, dry, z in track(items[:: options.every], "refining", console=Console(stderr=True)):
        with torch.no_grad():
            wet = graph(dry, controls=graph.from_unit(z))
            start = task.estimate(wet)
        began = time.perf_counter()
        found = refine(graph, dry, wet, start, seconds=options.seconds)
        rows.append((found.before, found.after, found.renders, time.perf_counter() - began))
        table.add_row(
            name, *(f"{value:.{digits}f}" for value, digits in zip(rows[-1], (3, 4, 0, 1), strict=True))
        )
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    table.add_section()
    table.add_row("mean", *(f"{value:.{digits}f}" for value, digits in zip(means, (3, 4, 0, 1), strict=True)))
    worst = max(rows, key=lambda row: row[1])
    reached = sum(row[1] <= GOAL for row in rows)
    table.caption = (
        f"{reached} of {len(rows)} at {GOAL} or below, the farthest {worst[1]:.4f}; the slowest "
        f"{max(row[3] for row in rows):.0f} s with {torch.get_num_threads()} threads"
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="music, any tree of files")
    parser.add_argument("--model", default="peq_comp_dist", help="an estimator that ships")
    parser.add_argument("--every", type=int, default=6, help="every so many items of the benchmark")
    parser.add_argument("--seconds", type=float, default=60.0, help="the longest for an item")
    options = parser.parse_args()
    keep_memory()
    try:
        Console().print(score(options))
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
