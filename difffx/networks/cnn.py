"""Convolutional pieces that several encoders share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORMS = ("batch", "layer")
STATISTICS = ("mean", "std", "max", "min", "flux", "contrast")


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


class RunningNorm(nn.Module):
    """Each feature of [B, features] shifted and scaled by its mean and spread over all batches so far.

    Other than batch normalization it does the same in training and afterwards, so small batches add no noise.
    """

    def __init__(self, features: int, memory: float = 1000.0) -> None:
        super().__init__()
        self.memory = memory
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("square", torch.ones(features))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.batches += 1.0
                weight = 1.0 / self.batches.clamp(max=self.memory)
                self.mean.lerp_(x.mean(0), weight)
                self.square.lerp_(x.square().mean(0), weight)
        spread = (self.square - self.mean.square()).clamp(min=1e-4).sqrt()
        return (x - self.mean) / spread


def known_statistics(names: Sequence[str]) -> tuple[str, ...]:
    """The names of statistics over time, checked."""
    unknown = [name for name in names if name not in STATISTICS]
    if unknown or not names:
        raise ValueError(f"statistics: expected some of {', '.join(STATISTICS)}, got {list(names)}")
    return tuple(names)


def pool_time(x: Tensor, statistics: tuple[str, ...]) -> Tensor:
    """What stays when time goes.

    x           [B, ..., T], channels in dimension 1 -> [B, channels * len(statistics), ...]
    statistics  mean, std, max and min of each feature; flux, its mean absolute step from one frame to the
                next; contrast, its mean absolute distance to the feature before it in the last dimension
                but one, which is frequency in a spectrogram. An equalizer moves mean, max and min of a
                logarithmic spectrogram alike, and leaves std, flux and nearly contrast: they tell what plays
    """
    pooled = {
        "mean": lambda: x.mean(-1),
        "std": lambda: (x.var(-1, correction=0) + 1e-5).sqrt(),
        "max": lambda: x.amax(-1),
        "min": lambda: x.amin(-1),
        "flux": lambda: x.diff(dim=-1).abs().mean(-1),
        "contrast": lambda: F.pad(x.diff(dim=-2).abs().mean(-1), (1, 0)),
    }
    return torch.cat([pooled[name]() for name in statistics], 1)


def conv_block(conv: nn.Module) -> nn.Sequential:
    """A convolution, batch normalization and PReLU with a single slope."""
    norm = nn.BatchNorm2d if isinstance(conv, nn.Conv2d) else nn.BatchNorm1d
    return nn.Sequential(conv, norm(conv.out_channels), nn.PReLU())
