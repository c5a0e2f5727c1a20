"""Runs side by side: python scripts/compare_runs.py RUNS... [--data blind] [--metric mel] [--markdown]"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from difffx.runs import RunError

CHOICES = ("task", "sfx", "afx", "encoder", "head", "loss")


def row(folder: Path, data: str, metric: str) -> dict[str, str]:
    """What was chosen for a run, and its mean scores on some data."""
    path = folder / "evaluations" / f"{data}.json"
    chosen = folder / ".hydra" / "hydra.yaml"
    if not chosen.is_file():
        raise RunError(f"{folder}: no .hydra/hydra.yaml in it; is this a folder that train.py made?")
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.json"))) or "none"
        raise RunError(f"{folder}: no scores on {data}; there are: {there}")
    choices = OmegaConf.load(chosen).hydra.runtime.choices
    scores = json.loads(path.read_text(encoding="utf-8"))["metrics"]
    if metric not in scores:
        raise RunError(f"{path}: no metric {metric}; there are: {', '.join(scores)}")
    found = {answer: f"{value:.3f}" for answer, value in scores[metric].items() if " " not in answer}
    return {name: str(choices.get(name)) for name in CHOICES} | found


def lines(rows: list[dict[str, str]]) -> list[list[str]]:
    """A header and the rows, without choices in which all runs agree; best estimate first."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    same = {name for name in CHOICES if len({row[name] for row in rows}) == 1 and len(rows) > 1}
    columns = [name for name in columns if name not in same]
    ordered = sorted(rows, key=lambda row: (row["sfx"], float(row["estimate"])))
    return [columns, *([row.get(name, "-") for name in columns] for row in ordered)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders that train.py made, scored by evaluate.py"
    )
    parser.add_argument("--data", default="test", help="which scores: test, folder, blind, ...")
    parser.add_argument("--metric", default="mel")
    parser.add_argument("--markdown", action="store_true", help="for a README")
    options = parser.parse_args()
    try:
        header, *body = lines([row(folder, options.data, options.metric) for folder in options.runs])
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    if options.markdown:
        print("\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *body]))
        return
    table = Table(*header, title=f"{options.metric} on {options.data}")
    for cells in body:
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
