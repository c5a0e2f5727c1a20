"""How likely the true settings are to an estimator that knows several answers."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.encoders import Mixture, Posterior, to_normal
from difffx.params import ControlSpec


def dequantized(spec: ControlSpec, z: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Settings z [B, P, 1] with each switch anywhere in its half of 0..1, drawn evenly.

    Then the chance that a density gives to "on" is all of it above 0.5. Knobs of an effect that is off stay
    as they are: they were drawn like all others, and say nothing.
    """
    if not spec.switches:
        return z
    places = torch.tensor(spec.switches, device=z.device)
    drawn = torch.rand(len(z), len(places), z.shape[2], generator=generator).to(z)
    return z.index_copy(1, places, 0.5 * (z[:, places].round() + drawn))


def nats_per_value(posterior: Posterior, z: Tensor) -> Tensor:
    """Negative log-likelihood of settings z [B, P, 1] a value, [B]; 0 for who knows nothing."""
    return -posterior.log_prob(z) / z.shape[1]


def around(z_hat: Tensor, z: Tensor) -> Mixture:
    """One answer z_hat [B, P, 1] as a density: normal around it in the space of `to_normal`.

    The spread of each knob is the RMS error of the other items against the truth z: what can be said of point
    estimates once their errors on the same sounds are known. At least two items.
    """
    center = to_normal(z_hat[..., 0])
    squares = (to_normal(z[..., 0]) - center).square()
    others = (squares.sum(0) - squares) / (len(squares) - 1)
    spread = others.sqrt().clamp(min=1e-3)
    return Mixture(center.new_zeros(len(center), 1), center[:, None], spread[:, None])
