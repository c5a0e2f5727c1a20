"""How often a sound stands where: what clipping and compression do to amplitudes, levels and their moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difffx.functional.spectra import envelope_db
from difffx.networks.cnn import RunningNorm

FRAME_MS = 1.5
LAGS_MS = (1.5, 6.0, 24.0, 96.0)
FLOOR_DB = -80.0
RAREST = 1e-5


class Histograms(nn.Module):
    """The logarithms of three kinds of histograms, each bin on its own running scale.

    amplitudes   64 bins from -1 to 1: a clipper piles them up at the ends, an offset on one side
    levels       40 bins from -80 to 0 dB below the peak, of frames of 1.5 ms: a compressor narrows them
    moves        24 bins from -24 to 24 dB between frames 1.5, 6, 24 and 96 ms apart: attack and release

    x  [B, 1, T] at full scale, at least 0.2 s -> [B, features]. No gradient passes to the sound.
    """

    features = 64 + 40 + 24 * len(LAGS_MS)

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.scale = RunningNorm(self.features)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            x = x.detach().float()
            levels = envelope_db(x, self.sample_rate, FRAME_MS, FLOOR_DB)[:, 0]
            parts = [histogram(x[:, 0], -1.0, 1.0, 64), histogram(levels, FLOOR_DB, 0.0, 40)]
            for lag_ms in LAGS_MS:
                lag = round(lag_ms / FRAME_MS)
                parts.append(histogram(levels[:, lag:] - levels[:, :-lag], -24.0, 24.0, 24))
            shares = torch.cat(parts, 1)
        return self.scale((shares + RAREST).log())


def histogram(x: Tensor, low: float, high: float, bins: int) -> Tensor:
    """The share of the values of each row in each of equal bins; what lies outside counts in the outermost.

    x  [B, N] -> [B, bins]
    """
    place = ((x - low) * (bins / (high - low))).clamp(0, bins - 1).long()
    counts = x.new_zeros(len(x), bins).scatter_add_(1, place, torch.ones_like(x))
    return counts / x.shape[1]
