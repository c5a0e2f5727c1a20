"""What a transition is kept in: params.npz with its curves, params.json with what is to be known of it."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from difffx.dj.layout import LABELS, N_TOTAL_PARAMS

CURVES, TEXT = "params.npz", "params.json"


def write_curves(path: str | Path, curves: Tensor, times_s: Tensor) -> None:
    """params.npz, for numpy.load and for `read_curves`; it appears under its name only when it is whole.

    curves    [F, 54]  as `curves`, float32
    times_s   [F]      as `times`, float64, seconds into the mix
    path      `labels` beside them says which of the 54 is which
    """
    curves, times_s = torch.as_tensor(curves), torch.as_tensor(times_s)
    if curves.ndim != 2 or curves.shape[1] != N_TOTAL_PARAMS or times_s.shape != curves.shape[:1]:
        raise ValueError(
            f"{path}: expected curves [F, {N_TOTAL_PARAMS}] and times [F], "
            f"got {tuple(curves.shape)} and {tuple(times_s.shape)}"
        )
    held = {
        "curves": curves.detach().cpu().float().numpy(),
        "times": times_s.detach().cpu().double().numpy(),
        "labels": np.array(LABELS),
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.partial.npz")
    try:
        np.savez(part, **held)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_curves(path: str | Path) -> tuple[Tensor, Tensor]:
    """Curves [F, 54] and their times [F] in s, of params.npz.

    Raises ValueError in one line where it is damaged, foreign, not finite or of another mixer, and
    FileNotFoundError where there is none.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in ("curves", "times", "labels")}
    except KeyError as error:
        raise ValueError(f"{path}: holds no {error.args[0].split()[0]}; expected a params.npz") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged, or no params.npz ({error})") from None
    if list(held["labels"]) != list(LABELS):
        raise ValueError(f"{path}: its labels are not the {N_TOTAL_PARAMS} of this mixer")
    curves, times_s = torch.from_numpy(held["curves"]).float(), torch.from_numpy(held["times"]).double()
    if curves.shape != (len(times_s), N_TOTAL_PARAMS) or not len(times_s):
        raise ValueError(f"{path}: expected curves [F, {N_TOTAL_PARAMS}], got {tuple(curves.shape)}")
    if not (torch.isfinite(curves).all() and torch.isfinite(times_s).all()):
        raise ValueError(f"{path}: has curves or times that are NaN or infinite")
    return curves, times_s


def write_text(path: str | Path, values: Mapping) -> None:
    """params.json, indented, whole or not at all; what is NaN or infinite is written as null."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.partial")
    try:
        part.write_text(json.dumps(_plain(values), indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
