"""Attention along frames."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FrameTransformer(nn.Module):
    """Every frame looks at all others, [B, width, F] -> [B, width, F].

    width    features
    layers   of attention and of a network of two layers, each added to what it heard
    heads    of attention; they share the width

    Where a frame lies is told by sines over its number, so any F will do.
    """

    def __init__(self, width: int = 96, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        if width % (2 * heads) or layers < 1:
            raise ValueError(
                f"FrameTransformer: width must be a multiple of twice the heads and layers 1 or more, "
                f"got width {width}, heads {heads}, layers {layers}"
            )
        self.width = width
        block = nn.TransformerEncoderLayer(
            width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.blocks((x + positions(x.shape[-1], self.width).to(x)).mT).mT


def positions(frames: int, width: int) -> Tensor:
    """Sines and cosines of places in 0..frames, [width, frames]; periods from 6 to 6000 frames."""
    rates = torch.exp(-math.log(1000.0) * torch.arange(width // 2) / max(width // 2 - 1, 1))
    angles = rates[:, None] * torch.arange(frames)
    return torch.cat((angles.sin(), angles.cos()))
