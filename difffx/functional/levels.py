"""Gain and level normalization."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional.control import at_audio_rate
from difffx.functional.units import db_to_amplitude

SILENCE = 1e-6
"""-120 dBFS: what stays below, offset removed, is silence and is not turned up."""


def gain(x: Tensor, *, gain_db: Tensor) -> Tensor:
    """Louder or quieter: x [B, C, T], gain_db [B or 1, 1, F]; curves are straight lines in dB."""
    return x * db_to_amplitude(at_audio_rate(gain_db, x.shape[-1]))


def normalize_peak(x: Tensor) -> Tensor:
    """x [B, C, T] without offset, its largest sample at 0 dBFS; channels keep their balance.

    The gradient goes through the divisor too. Silence comes back as silence, with finite gradients.
    """
    x = x - x.mean(-1, keepdim=True)
    top = x.abs().amax((1, 2), keepdim=True)
    return x / torch.where(top > SILENCE, top, 1.0)


def normalize_rms(x: Tensor) -> Tensor:
    """x [B, C, T] without offset, at an RMS of 1 over all channels, so its peaks stand above 0 dBFS.

    The gradient goes through the divisor too. Silence comes back as silence, with finite gradients.
    """
    x = x - x.mean(-1, keepdim=True)
    power = x.square().mean((1, 2), keepdim=True)
    return x / torch.where(power > SILENCE**2, power, 1.0).sqrt()
