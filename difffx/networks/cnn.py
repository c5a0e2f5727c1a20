"""Convolutional pieces that several encoders share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "layer")
STATISTICS = ("mean", "std", "max")


def kaiming(module: nn.Module) -> nn.Module:
    """Convolutions drawn for rectifiers (He et al., 2015), their biases zero."""
    for part in module.modules():
        if isinstance(part, (nn.Conv1d, nn.Conv2d)):
            nn.init.kaiming_normal_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


class FeatureBatchNorm(nn.BatchNorm1d):
    """Batch normalization of [B, features]; one item alone has no spread and takes the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.shape[0] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def feature_norm(norm: str, features: int) -> nn.Module:
    """Normalization of [B, features]: "batch" over the items, or "layer" over the features of each."""
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}, got {norm!r}")
    return FeatureBatchNorm(features) if norm == "batch" else nn.LayerNorm(features)


def known_statistics(names: Sequence[str]) -> tuple[str, ...]:
    """The names of statistics over time, checked."""
    unknown = [name for name in names if name not in STATISTICS]
    if unknown or not names:
        raise ValueError(f"statistics: expected some of {', '.join(STATISTICS)}, got {list(names)}")
    return tuple(names)


def pool_time(x: Tensor, statistics: tuple[str, ...]) -> Tensor:
    """What stays when time goes: the mean, the spread, the peak of each feature.

    x  [B, ..., T], channels in dimension 1 -> [B, channels * len(statistics), ...]
    """
    pooled = {
        "mean": lambda: x.mean(-1),
        "std": lambda: (x.var(-1, correction=0) + 1e-5).sqrt(),
        "max": lambda: x.amax(-1),
    }
    return torch.cat([pooled[name]() for name in statistics], 1)


def conv_block(conv: nn.Module) -> nn.Sequential:
    """A convolution, batch normalization and PReLU with a single slope."""
    norm = nn.BatchNorm2d if isinstance(conv, nn.Conv2d) else nn.BatchNorm1d
    return nn.Sequential(conv, norm(conv.out_channels), nn.PReLU())
