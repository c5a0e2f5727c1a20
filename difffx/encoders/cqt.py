"""Encoders on a constant-Q spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difffx.functional.spectra import cqt


class LogCQT(nn.Module):
    """ln(CQT + 1e-6) of a mono sound at full scale, [B, 1, T] -> [B, 1, bins, frames].

    standardize  (value + 6) / 3, which brings music to about -1..1; the published encoders take it as it is
    """

    def __init__(self, sample_rate: int, bins: int = 113, hop: int = 512, standardize: bool = False) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.bins = bins
        self.hop = hop
        self.standardize = standardize

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            value = torch.log(cqt(x, self.sample_rate, bins=self.bins, hop=self.hop).to(x.dtype) + 1e-6)
        return (value + 6.0) / 3.0 if self.standardize else value
