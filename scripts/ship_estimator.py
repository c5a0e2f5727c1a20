"""Put a run among the estimators that ship: python scripts/ship_estimator.py RUN NAME --limits TEXT"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from omegaconf import OmegaConf

from difffx.pretrained import FOLDER, ship
from difffx.runs import RunError, load_run

ANSWERS = ("estimate", "told", "dry", "midpoint", "oracle")


def scores(folder: Path) -> dict:
    """The means of every evaluation of a run, the answers that a card shows."""
    found = {}
    for path in sorted((folder / "evaluations").glob("*.json")):
        results = json.loads(path.read_text(encoding="utf-8"))
        rows = {
            metric: {answer: round(row[answer], 4) for answer in ANSWERS if answer in row}
            for metric, row in results["metrics"].items()
        }
        found[path.stem] = {"items": results["items"], **rows}
        if "untouched" in results:
            found[path.stem]["untouched"] = {key: round(x, 4) for key, x in results["untouched"].items()}
    return found


def work(options: argparse.Namespace) -> None:
    """Writes the weights and the card."""
    run = load_run(options.run, options.checkpoint)
    typed = OmegaConf.load(options.run / ".hydra" / "overrides.yaml")
    command = [word for word in typed if not word.startswith("hydra.")]
    seconds = run.checkpoint.stat().st_mtime - (options.run / "config.yaml").stat().st_mtime
    about = {
        "command": " ".join(["python train.py", *command]),
        "data": options.data,
        "seed": run.config.seed,
        "hours": round(seconds / 3600.0, 2),
        "limits": options.limits,
        "scores": scores(options.run),
    }
    path = ship(run, options.name, about, options.folder)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, card beside it")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a folder that train.py made, evaluated as the card is to say")
    parser.add_argument("name", help="what users call it")
    parser.add_argument("--limits", required=True, help="what it cannot do, for the card")
    parser.add_argument("--data", default="endless synthetic music, data=synthetic", help="for the card")
    parser.add_argument("--checkpoint", default="best", help="best, last, or a file")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to; default: the package")
    options = parser.parse_args()
    try:
        work(options)
    except (RunError, ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
