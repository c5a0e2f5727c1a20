"""Encoders on a constant-Q spectrogram."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difffx.encoders.base import Encoder
from difffx.functional.spectra import cqt
from difffx.networks.cnn import feature_norm, kaiming, known_statistics, pool_time


class LogCQT(nn.Module):
    """ln(CQT + 1e-6) of a mono sound at full scale, [B, 1, T] -> [B, 1, bins, frames].

    standardize  relative to the RMS of the whole, plus 4, over 3, which brings music to about -1..1 whatever
                 its peaks; the published encoders take it as it is
    """

    def __init__(self, sample_rate: int, bins: int = 113, hop: int = 512, standardize: bool = False) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.bins = bins
        self.hop = hop
        self.standardize = standardize

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            magnitude = cqt(x, self.sample_rate, bins=self.bins, hop=self.hop).to(x.dtype) + 1e-6
            value = magnitude.log()
            if not self.standardize:
                return value
            level = 0.5 * magnitude.square().sum(-2, keepdim=True).mean(-1, keepdim=True).log()
            return (value - level + 4.0) / 3.0


class TimbreEncoder(Encoder):
    """Hears spectral shapes wherever they lie: a maximum over frequency makes it blind to absolute pitch.

    heights     bins of the kernels, from coarse to fine spectral envelopes
    widths      frames of the kernels, for each height
    channels    kernels of each width
    statistics  over time, see `pool_time`
    norm        of the features: "layer", or "batch" as published

    After Pons et al., "Timbre analysis of music audio signals with convolutional neural networks", 2017.
    Published (Peladeau and Peeters, ICASSP 2024; 10,503 parameters): statistics [mean], hop 512, standardize
    false, norm batch.
    """

    def __init__(
        self,
        sample_rate: int,
        heights: Sequence[int] = (85, 51, 25),
        widths: Sequence[int] = (1, 3, 5, 7),
        channels: Sequence[int] = (10, 6, 3, 3),
        statistics: Sequence[str] = ("mean", "std"),
        hop: int = 1024,
        bins: int = 113,
        standardize: bool = True,
        norm: str = "layer",
    ) -> None:
        if len(widths) != len(channels):
            raise ValueError(f"TimbreEncoder: {len(widths)} widths but {len(channels)} numbers of channels")
        if max(heights) > bins:
            raise ValueError(f"TimbreEncoder: a kernel of {max(heights)} bins on a spectrogram of {bins}")
        features = sum(channels) * len(heights)
        statistics = known_statistics(statistics)
        super().__init__(sample_rate, features * len(statistics))
        self.statistics = statistics
        self.front = LogCQT(sample_rate, bins=bins, hop=hop, standardize=standardize)
        self.convs = nn.ModuleList(
            nn.Conv2d(1, count, (height, width))
            for height in heights
            for width, count in zip(widths, channels, strict=True)
        )
        self.out = nn.Sequential(feature_norm(norm, self.embed_dim), nn.PReLU())
        kaiming(self)

    def embed(self, x: Tensor) -> Tensor:
        spectrogram = self.front(x)
        pooled = [self._pooled(conv, spectrogram) for conv in self.convs]
        return self.out(pool_time(torch.cat(pooled, 1), self.statistics))

    def _pooled(self, conv: nn.Conv2d, spectrogram: Tensor) -> Tensor:
        """One kernel's best match over frequency and over four frames, [B, channels, frames // 4]."""
        spare = conv.kernel_size[1] - 1
        padded = F.pad(spectrogram, (spare // 2, spare - spare // 2), value=1e-6)
        return F.max_pool1d(conv(padded).amax(2), 4)
