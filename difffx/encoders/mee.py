"""Encoder on the waveform itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from difffx.encoders.base import Encoder
from difffx.networks.cnn import conv_block, kaiming, known_statistics, pool_time


class MusicalEffectsEncoder(Encoder):
    """Hears the waveform, so clipping and fast attacks as well as the balance of the spectrum.

    channels    of each block, and so how many there are
    kernels     of each block
    strides     of each block; the time axis shrinks by their product
    statistics  over what time is left, see `pool_time`

    Residual convolutions after Koo et al., "Music mixing style transfer: a contrastive learning approach to
    disentangle audio effects", ICASSP 2023. Published (Peladeau and Peeters, ICASSP 2024; 81,392,228
    parameters): channels (16, 32, 64, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048), kernels (25, 25, 15,
    15, 10, 10, 10, 10, 5, 5, 5, 5), strides (4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1), statistics [mean]. The
    defaults take larger strides early, where the time is spent.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: Sequence[int] = (16, 32, 64, 128, 128, 192, 192),
        kernels: Sequence[int] = (25, 15, 10, 10, 5, 5, 5),
        strides: Sequence[int] = (8, 8, 4, 2, 2, 1, 1),
        statistics: Sequence[str] = ("mean", "std"),
    ) -> None:
        if not len(channels) == len(kernels) == len(strides):
            counts = f"{len(channels)} channels, {len(kernels)} kernels, {len(strides)} strides"
            raise ValueError(f"MusicalEffectsEncoder: one of each per block, got {counts}")
        statistics = known_statistics(statistics)
        super().__init__(sample_rate, channels[-1] * len(statistics))
        self.statistics = statistics
        inputs = (1, *channels[:-1])
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(before, after, kernel, stride)
                for before, after, kernel, stride in zip(inputs, channels, kernels, strides, strict=True)
            )
        )
        kaiming(self)

    def embed(self, x: Tensor) -> Tensor:
        return pool_time(self.blocks(x), self.statistics)


class ResidualBlock(nn.Module):
    """A convolution added to what it heard, then one that goes on with fewer frames and more channels."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.pad = ((kernel - 1) // 2, kernel // 2)
        self.same = conv_block(nn.Conv1d(before, before, kernel))
        self.onward = conv_block(nn.Conv1d(before, after, kernel, stride))

    def forward(self, x: Tensor) -> Tensor:
        return self.onward(x + self.same(F.pad(x, self.pad)))
