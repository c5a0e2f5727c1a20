"""Bands that add up to the whole: a Linkwitz-Riley crossover."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difffx.functional import filters
from difffx.functional.cascade import sosfilt

BUTTERWORTH_Q = math.sqrt(0.5)


def linkwitz_riley(x: Tensor, sample_rate: int, *, frequency_hz: Tensor) -> Tensor:
    """Split a sound into bands, lowest first, with slopes of 24 dB an octave.

    x             [B, C, T]
    frequency_hz  [B or 1, N - 1, 1]  where neighbors meet, each 6 dB down and in phase
    returns       [N, B, C, T]

    The bands add up to x with its phase turned by all-passes: the level of the sum is flat at any frequencies
    in any order, however close together, for every band passes the all-pass of each crossover it does not
    pass itself. Exact recursions; frequencies above 0.49 of the sample rate are held there, without gradient.
    Cost: N cascades of at most 2 (N - 1) sections.
    Linkwitz (1976); D'Appolito (1984), for more than two bands.
    """
    count = frequency_hz.shape[1] + 1
    sos = _band_sections(frequency_hz, sample_rate).expand(-1, x.shape[0], -1, -1)
    return sosfilt(x.repeat(count, 1, 1), sos.reshape(-1, *sos.shape[2:])).view(count, *x.shape)


def _band_sections(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    """[B or 1, N - 1, 1] -> [N, B or 1, 2 (N - 1), 6]; an all-pass needs one section, the other is idle."""
    kinds = filters.low_pass, filters.high_pass, filters.all_pass
    q = torch.full_like(frequency_hz[..., 0], BUTTERWORTH_Q)
    low, high, turned = (kind(frequency_hz[..., 0], q, sample_rate) for kind in kinds)  # [B, N - 1, 6]
    nothing = torch.zeros_like(turned)
    nothing[..., 0] = nothing[..., 3] = 1.0
    bands = []
    for band in range(frequency_hz.shape[1] + 1):
        first = torch.cat((high[:, :band], low[:, band : band + 1], turned[:, band + 1 :]), 1)
        second = torch.cat((high[:, :band], low[:, band : band + 1], nothing[:, band + 1 :]), 1)
        bands.append(torch.cat((first, second), 1))
    return torch.stack(bands)
