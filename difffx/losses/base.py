"""The contract of every loss."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from difffx.losses.estimate import Estimate
from difffx.params import ControlSpec


class Loss(nn.Module):
    """Named distances between a guess and the truth, not yet weighted.

    weights  term -> weight; a term of weight 0 is computed for the log only, without a gradient

    A subclass writes `measure`. The target takes no gradient.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        for name, weight in weights.items():
            if not weight >= 0:
                raise ValueError(
                    f"{type(self).__name__}: the weight of {name} must be 0 or more, got {weight}"
                )
        self.weights = {name: float(weight) for name, weight in weights.items()}

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        """Every term as a scalar. Subclasses write this."""
        raise NotImplementedError

    def require(self, sfx: ControlSpec, afx: ControlSpec) -> None:
        """Raises ValueError where this loss cannot judge two such sets of knobs; most losses only listen."""

    def forward(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        """The terms, unweighted, as scalars."""
        if pred.audio.shape != target.audio.shape:
            shapes = f"{tuple(pred.audio.shape)} and {tuple(target.audio.shape)}"
            raise ValueError(f"{type(self).__name__}: expected two sounds of one shape, got {shapes}")
        with torch.set_grad_enabled(torch.is_grad_enabled() and any(self.weights.values())):
            return self.measure(pred, target)

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms with a weight above 0: what is trained on."""
        parts = [weight * terms[name] for name, weight in self.weights.items() if weight > 0]
        return sum(parts[1:], parts[0]) if parts else torch.zeros_like(next(iter(terms.values())))
