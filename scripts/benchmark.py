"""How fast, frugal and exact are the effects, and those of others? python scripts/benchmark.py effects

The DJ mixer beside its published formulas: python scripts/benchmark.py mixer [--seconds 30] [--frames 64]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from rich.console import Console

from difffx import benchmark, runs

WIDTH = None if sys.stdout.isatty() else 150  # a file or a pipe has no width of its own
SCREEN, ASIDE = Console(width=WIDTH, highlight=False), Console(stderr=True, soft_wrap=True, highlight=False)
SHAPE, LONG = (8, 1, 131_072), (1, 2, 30 * 44_100)


def effects(options: argparse.Namespace) -> None:
    """Measures case after case, the JSON grows with every one of them; a table of all ends it."""
    device = torch.device("cuda" if options.gpu else "cpu")
    shape = tuple(options.shape or (LONG if options.long else SHAPE))
    about = benchmark.machine(device, shape, options.rounds)
    SCREEN.print("  ".join(f"{key} {value}" for key, value in about.items()))
    runs.keep_memory()  # as in training: else new pages cost more than small effects do
    results = []
    if options.json:
        runs.write_json(options.json, benchmark.as_json(about, results))
    for case in benchmark.cases(options.only):
        ASIDE.print(f"{case.name} ...")
        figures = benchmark.measure_case(case, shape, options.rounds, device, options.peers, ASIDE.print)
        results.append((case, figures))
        SCREEN.print(benchmark.table(case, figures))
        if options.json:
            runs.write_json(options.json, benchmark.as_json(about, results))
    if len(results) > 1:
        SCREEN.print(benchmark.summary(results))


def mixer(options: argparse.Namespace) -> None:
    """One task, the published formulas and ours in turn."""
    device = torch.device("cuda" if options.gpu else "cpu")
    about = benchmark.machine(device, (1, 2, round(options.seconds * 44_100)), options.rounds)
    SCREEN.print("  ".join(f"{key} {value}" for key, value in about.items()))
    runs.keep_memory()
    found = benchmark.measure_mixer(options.seconds, options.frames, options.rounds, device)
    SCREEN.print(benchmark.mixer_table(found))
    if options.json:
        runs.write_json(options.json, benchmark.mixer_json(about, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["effects", "mixer"])
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="NAME", help="a class, or a part of a name in the table"
    )
    parser.add_argument(
        "--rounds", type=int, help="of every rival in turn, 15, or 3 of the mixer; medians are shown"
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure there")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="other libraries too"
    )
    parser.add_argument(
        "--long", action="store_true", help="one stereo item of 30 s instead of 8 x 131,072 samples"
    )
    parser.add_argument("--shape", type=int, nargs=3, metavar=("B", "C", "T"), help="any other batch")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the mixer's task")
    parser.add_argument("--frames", type=int, default=64, help="points of the mixer's curves")
    parser.add_argument("--gpu", action="store_true", help="on CUDA")
    options = parser.parse_args()
    try:
        if options.gpu and not torch.cuda.is_available():
            raise ValueError("--gpu: torch sees no CUDA device")
        options.rounds = options.rounds or (15 if options.what == "effects" else 3)
        {"effects": effects, "mixer": mixer}[options.what](options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
