"""From features to settings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difffx.networks.cnn import feature_norm


class StaticHead(nn.Module):
    """One setting per knob for the whole clip, [B, E, F] -> z [B, P, 1] in (0, 1).

    embed_dim   E; several frames are averaged first
    num_values  P
    norm        "layer", or "batch" as published

    Linear, normalization and PReLU per hidden layer, then Linear and sigmoid. The last layer starts small, so
    that training starts with every knob near its middle. Published: hidden (2048, 1024, 512), norm "batch".
    """

    def __init__(
        self, embed_dim: int, num_values: int, hidden: Sequence[int] = (1024, 512), norm: str = "layer"
    ) -> None:
        super().__init__()
        if num_values < 1:
            raise ValueError(f"StaticHead: there is nothing to estimate, {num_values} values")
        layers: list[nn.Module] = []
        width = embed_dim
        for size in hidden:
            layers += [nn.Linear(width, size), feature_norm(norm, size), nn.PReLU()]
            width = size
        last = nn.Linear(width, num_values)
        with torch.no_grad():
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.layers = nn.Sequential(*layers, last)

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.layers(embedding.mean(-1)))[..., None]
