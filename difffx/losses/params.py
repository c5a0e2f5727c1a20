"""Losses that look at the knobs instead of listening."""

from __future__ import annotations

from torch import Tensor

from difffx.losses.base import Loss
from difffx.losses.estimate import Estimate
from difffx.params import ControlSpec


class Params(Loss):
    """Mean squared distance of the settings in 0..1, every knob alike whether one hears it or not.

    Left out are the knobs of an effect whose switch is off in the target.
    Always guessing the middle reads 0.083, guessing at random 0.167. The published weight is 10.
    """

    def __init__(self, weight: float = 10.0) -> None:
        super().__init__({"params": weight})

    def require(self, sfx: ControlSpec, afx: ControlSpec) -> None:
        found = sfx.differences(afx)
        if found:
            raise ValueError(
                f"Params needs the same knobs in sfx (here) and afx (there): {'; '.join(found)}. "
                "Choose afx=same, or a loss that only listens, such as loss=mel"
            )

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        if pred.z is None or target.z is None:
            raise ValueError("Params: both estimates need z; this data has sound only, choose loss=mel")
        if pred.z.shape != target.z.shape:
            raise ValueError(f"Params: z {tuple(pred.z.shape)} against {tuple(target.z.shape)}")
        return {"params": target.mean_squared_distance(pred.z)}
