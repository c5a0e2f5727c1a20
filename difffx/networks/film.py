"""Knobs that steer a network: feature-wise scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Conditioner(nn.Module):
    """Knobs in 0..1 become the vector that every layer listens to.

    z        [B, K]
    returns  [B, size]
    """

    def __init__(self, knobs: int, size: int, hidden: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(knobs, hidden), nn.Tanh(), nn.Linear(hidden, size), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(2.0 * z - 1.0)


class FiLM(nn.Module):
    """Each channel is scaled and shifted by what the knobs say (Perez et al., 2018, equation 2).

    x        [B, C, ...]
    c        [B, size]
    returns  [B, C, ...]; untouched channels where nothing has been learned
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.affine = nn.Linear(size, 2 * channels)
        nn.init.normal_(self.affine.weight, std=0.1)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.affine(c).reshape(len(c), -1, *[1] * (x.ndim - 2)).chunk(2, 1)
        return torch.addcmul(shift, x, 1.0 + scale)
