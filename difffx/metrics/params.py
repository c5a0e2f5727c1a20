"""How far off the knobs are, in the units of the person who turns them."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.params import ControlSpec, Param, flatten_tree


@torch.no_grad()
def knob_errors(spec: ControlSpec, z_hat: Tensor, z: Tensor) -> dict[str, Tensor]:
    """The absolute error of each value, each item by itself; units in knob_units.

    z_hat, z  [B, P, F] in 0..1 -> {label: [B]}; a curve counts by its mean error

    A frequency is off by octaves; another knob with a logarithmic range, such as a time or a ratio, by a
    factor of 1 or more (20 ms for 10 ms and 5 ms for 10 ms are both 2); every other knob in its own unit.
    """
    found, true = (flatten_tree(spec.unflatten(value)) for value in (z_hat, z))
    errors: dict[str, Tensor] = {}
    for path, param in spec.entries.items():
        error = _error(param, found[path], true[path]).mean(-1)
        for k in range(param.size):
            errors[path if param.size == 1 else f"{path}[{k}]"] = error[:, k]
    return errors


def knob_units(spec: ControlSpec) -> dict[str, str]:
    """The unit of each of knob_errors: octaves, "x" for a factor, dB, ms, or nothing for a plain number."""
    units: dict[str, str] = {}
    for path, param in spec.entries.items():
        for k in range(param.size):
            units[path if param.size == 1 else f"{path}[{k}]"] = _unit(param)
    return units


def _unit(param: Param) -> str:
    if param.unit == "Hz":
        return "octaves"
    return "x" if param.scale == "log" else param.unit


def _error(param: Param, found: Tensor, true: Tensor) -> Tensor:
    unit = _unit(param)
    if unit == "octaves":
        return (found / true).log2().abs()
    return (found / true).log().abs().exp() if unit == "x" else (found - true).abs()
