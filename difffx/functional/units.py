"""Decibels, milliseconds and what the mathematics wants instead."""

from __future__ import annotations

import torch
from torch import Tensor


def db_to_amplitude(level_db: Tensor) -> Tensor:
    """Decibels to a factor: 0 dB is 1, 6.02 dB is 2; any shape."""
    return torch.pow(10.0, level_db / 20.0)


def amplitude_to_db(x: Tensor, floor_db: float = -120.0) -> Tensor:
    """Level of each sample's magnitude in dB re 1.0, any shape; held at the floor, gradient 0 there."""
    return 20.0 * torch.log10(x.abs().clamp(min=10.0 ** (floor_db / 20.0)))


def ms_to_pole(time_ms: Tensor, sample_rate: int) -> Tensor:
    """The pole a of y[n] = a y[n-1] + (1 - a) x[n] that covers 1 - 1/e of a step in this time; any shape."""
    return torch.exp(-1000.0 / (time_ms * sample_rate))
