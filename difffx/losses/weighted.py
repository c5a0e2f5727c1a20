"""Several losses as one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from difffx.losses.base import Loss
from difffx.losses.estimate import Estimate
from difffx.params import ControlSpec


class Weighted(Loss):
    """A dictionary of losses, a dictionary of weights; 0 means logged only.

    A loss of one term is called as here, one of several gives "name/term". The weights stand in place of
    those of single-term losses, so that what one reads is what counts, and multiply those of the others.
    """

    def __init__(self, terms: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        if set(terms) != set(weights):
            raise ValueError(f"Weighted: terms {sorted(terms)} but weights for {sorted(weights)}")
        if not terms:
            raise ValueError("Weighted: needs at least one term")
        combined: dict[str, float] = {}
        for name, loss in terms.items():
            for term, weight in loss.weights.items():
                combined[_label(name, term, loss)] = weights[name] * (
                    1.0 if len(loss.weights) == 1 else weight
                )
        super().__init__(combined)
        for name, loss in terms.items():
            if not weights[name]:
                loss.weights = dict.fromkeys(loss.weights, 0.0)
            elif len(loss.weights) == 1:
                loss.weights = dict.fromkeys(loss.weights, 1.0)
        self.terms = nn.ModuleDict(terms)

    def require(self, sfx: ControlSpec, afx: ControlSpec) -> None:
        for loss in self.terms.values():
            loss.require(sfx, afx)

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        return {
            _label(name, term, loss): value
            for name, loss in self.terms.items()
            for term, value in loss(pred, target).items()
        }


def _label(name: str, term: str, loss: Loss) -> str:
    return name if len(loss.weights) == 1 else f"{name}/{term}"
