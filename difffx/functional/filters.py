"""Second-order filters: cookbook coefficients and what they do to a steady sine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

HIGHEST = 0.49
"""Center frequencies stop at this share of the sample rate: at Nyquist a cookbook filter is a constant."""


def low_shelf(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Bass up or down by gain_db; half of it, in dB, is reached at frequency_hz.

    frequency_hz, gain_db, q   any shapes that broadcast to [...]
    returns                    [..., 6]: b0 b1 b2 1 a1 a2 in float64, as in scipy's sos

    A frequency_hz above 0.49 of the sample rate is held there. A Q above 0.71 overshoots beside the corner.
    Audio EQ Cookbook (R. Bristow-Johnson), shelf driven by Q.
    """
    return _shelf(frequency_hz, gain_db, q, sample_rate, -1.0)


def high_shelf(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Treble up or down by gain_db; half of it, in dB, is reached at frequency_hz. Shapes: `low_shelf`."""
    return _shelf(frequency_hz, gain_db, q, sample_rate, 1.0)


def peak(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """A bell, gain_db high at frequency_hz, narrower with more q. Shapes and source: `low_shelf`."""
    root, cos, alpha = _prepare(frequency_hz, gain_db, q, sample_rate)
    return _sos(1 + alpha * root, -2 * cos, 1 - alpha * root, 1 + alpha / root, -2 * cos, 1 - alpha / root)


def _shelf(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int, sign: float) -> Tensor:
    root, cos, alpha = _prepare(frequency_hz, gain_db, q, sample_rate)
    bend = 2 * root.sqrt() * alpha
    cos = sign * cos
    return _sos(
        root * (root + 1 + (root - 1) * cos + bend),
        -2 * sign * root * (root - 1 + (root + 1) * cos),
        root * (root + 1 + (root - 1) * cos - bend),
        root + 1 - (root - 1) * cos + bend,
        2 * sign * (root - 1 - (root + 1) * cos),
        root + 1 - (root - 1) * cos - bend,
    )


def _prepare(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int) -> Sequence[Tensor]:
    """The cookbook's A, cos w0 and alpha, in float64."""
    omega = frequency_hz.double().clamp(max=HIGHEST * sample_rate) * (2 * math.pi / sample_rate)
    root = torch.pow(10.0, gain_db.double() / 40)
    return torch.broadcast_tensors(root, omega.cos(), omega.sin() / (2 * q.double()))


def _sos(b0: Tensor, b1: Tensor, b2: Tensor, a0: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
    return torch.stack((b0, b1, b2, a0, a1, a2), -1) / a0.unsqueeze(-1)


def frequency_response(sos: Tensor, frequencies_hz: Tensor, sample_rate: int) -> Tensor:
    """What the cascade does to a steady sine.

    sos              [B, S, 6]
    frequencies_hz   [N]
    returns          [B, N], complex128
    """
    delay = torch.exp(-2j * math.pi * frequencies_hz.double() / sample_rate)
    powers = torch.stack((torch.ones_like(delay), delay, delay * delay))
    sections = sos.to(torch.complex128)
    return ((sections[..., :3] @ powers) / (sections[..., 3:] @ powers)).prod(-2)
