"""Estimators that ship with the package: loaded by name, checked by hash, each with a card of what it can do.

`difffx/estimators/` holds for each a file of weights, <name>.safetensors, and its card, <name>.json: what it
estimates, data, command, seed, hours, scores, limits, and the SHA-256 of the weights.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save

from difffx.params import unknown
from difffx.runs import Run, RunError, plain, run_from, write_json

FOLDER = Path(__file__).with_name("estimators")
FORMAT = "difffx estimator 1"
LARGE = 4096
KEPT = ("task", "data", "sample_rate", "seed")


def estimators(folder: Path = FOLDER) -> list[str]:
    """Their names."""
    return sorted(path.stem for path in folder.glob("*.json"))


def card(name: str, folder: Path = FOLDER) -> dict:
    """What is known of an estimator."""
    if name not in estimators(folder):
        raise RunError(f"model={name}: there is no estimator {unknown(name, estimators(folder))}")
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def load_estimator(name: str, results: str | Path = "runs/estimators", folder: Path = FOLDER) -> Run:
    """A shipped estimator as if it were a run, whose folder for results is results/<name>.

    Raises RunError for an unknown name and for weights that are missing or not those of the card.
    """
    about, path = card(name, folder), folder / f"{name}.safetensors"
    if not path.is_file():
        raise RunError(f"{path}: the weights of estimator {name} are missing; install difffx again")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if about.get("format") != FORMAT or found != about["sha256"]:
        raise RunError(f"{path}: these are not the weights that its card names; install difffx again")
    tensors = {key: value.float() for key, value in load(content).items()}
    return run_from(about["config"], tensors, Path(results) / name, path)


def ship(run: Run, name: str, about: Mapping, folder: Path = FOLDER) -> Path:
    """Writes the weights of a run and its card; large matrices in half precision.

    about   what a reader of the card should know: data, command, hours, scores, limits
    """
    weights = {
        key: (value.half() if value.is_floating_point() and value.numel() >= LARGE else value).contiguous()
        for key, value in run.task.state_dict().items()
    }
    content = save(weights)
    config = {key: value for key, value in plain(run.config).items() if key in KEPT}
    path = folder / f"{name}.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_bytes(content)
    os.replace(part, path)
    written = {
        "name": name,
        "format": FORMAT,
        "sha256": hashlib.sha256(content).hexdigest(),
        "knobs": run.task.afx.spec.labels,
        "weights": sum(value.numel() for value in weights.values()),
        "torch": torch.__version__.partition("+")[0],
        **about,
        "config": config,
    }
    write_json(folder / f"{name}.json", written)
    return path
