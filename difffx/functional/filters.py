"""Coefficients of second-order filters, alone and in cascades, and what they do to a steady sine."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

HIGHEST = 0.49
"""Center frequencies stop at this share of the sample rate: at Nyquist a cookbook filter is a constant."""


def low_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Dark: 12 dB an octave off above frequency_hz, where the level is q (q of 0.71: -3 dB, no bump).

    frequency_hz, q   any shapes that broadcast to [...]
    returns           [..., 6]: b0 b1 b2 1 a1 a2 in float64, as in scipy's sos

    A frequency_hz above 0.49 of the sample rate is held there.
    Audio EQ Cookbook (R. Bristow-Johnson): the bilinear transform, right at frequency_hz.
    """
    return state_variable(frequency_hz, q, 1.0, 0.0, 0.0, sample_rate)


def high_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Thin: 12 dB an octave off below frequency_hz, where the level is q. Shapes and source: `low_pass`."""
    return state_variable(frequency_hz, q, 0.0, 0.0, 1.0, sample_rate)


def band_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Only what is near frequency_hz, 0 dB there, frequency_hz / q wide. Shapes and source: `low_pass`."""
    return state_variable(frequency_hz, q, 0.0, 1.0, 0.0, sample_rate)


def notch(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Nothing at frequency_hz, all the rest; frequency_hz / q wide. Shapes and source: `low_pass`."""
    return state_variable(frequency_hz, q, 1.0, 0.0, 1.0, sample_rate)


def all_pass(frequency_hz: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """Every level kept, the phase turned: half a turn at frequency_hz. Shapes and source: `low_pass`."""
    return state_variable(frequency_hz, q, 1.0, -1.0, 1.0, sample_rate)


def state_variable(
    frequency_hz: Tensor,
    q: Tensor,
    low: float | Tensor,
    band: float | Tensor,
    high: float | Tensor,
    sample_rate: int,
) -> Tensor:
    """low_pass, band_pass and high_pass added, each at its own level; all three at 1 are the input.

    frequency_hz, q, low, band, high   any shapes that broadcast to [...]; shapes and source: `low_pass`
    """
    sine, cosine, alpha = _angles(frequency_hz, q, sample_rate)
    low, high, band = low * sine.square(), high * cosine.square(), band * alpha
    a0, a1, a2 = 1 + alpha, 2 * (sine.square() - cosine.square()), 1 - alpha
    return _sos(low + high + band, 2 * (low - high), low + high - band, a0, a1, a2)


def first_order_low_pass(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    """Darker, softly: -3 dB at frequency_hz, 6 dB an octave above. [...] -> [..., 6], b2 and a2 are 0."""
    sine, cosine = _half_angle(frequency_hz, sample_rate)
    zero = torch.zeros_like(sine)
    return _sos(sine, sine, zero, cosine + sine, sine - cosine, zero)


def first_order_high_pass(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    """Thinner, softly: -3 dB at frequency_hz, 6 dB an octave below. [...] -> [..., 6], b2 and a2 are 0."""
    sine, cosine = _half_angle(frequency_hz, sample_rate)
    zero = torch.zeros_like(sine)
    return _sos(cosine, -cosine, zero, cosine + sine, sine - cosine, zero)


def butterworth_low_pass(frequency_hz: Tensor, order: int, sample_rate: int) -> Tensor:
    """As flat as can be, then 6 dB an octave for each order; -3 dB at frequency_hz.

    frequency_hz   [...]
    order          1 or more
    returns        [..., S, 6] with S = ceil(order / 2), in float64; an odd order begins with first order

    A frequency_hz above 0.49 of the sample rate is held there. The bilinear transform, right at frequency_hz.
    """
    second = [low_pass(frequency_hz, q, sample_rate) for q in butterworth_qs(order)]
    first = [first_order_low_pass(frequency_hz, sample_rate)] * (order % 2)
    return torch.stack(first + second, -2)


def butterworth_high_pass(frequency_hz: Tensor, order: int, sample_rate: int) -> Tensor:
    """As flat as can be above frequency_hz, 6 dB an octave for each order below. `butterworth_low_pass`."""
    second = [high_pass(frequency_hz, q, sample_rate) for q in butterworth_qs(order)]
    first = [first_order_high_pass(frequency_hz, sample_rate)] * (order % 2)
    return torch.stack(first + second, -2)


def butterworth_qs(order: int) -> list[float]:
    """The Q of each second-order section, lowest first; an odd order has one of first order besides.

    Raises ValueError where the order is not a whole number from 1 up.
    """
    if order != int(order) or order < 1:
        raise ValueError(f"butterworth: order must be a whole number, 1 or more, got {order!r}")
    return [0.5 / math.cos(math.pi * (k + 0.5 + 0.5 * (order % 2)) / order) for k in range(order // 2)]


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


def _angles(frequency_hz: Tensor, q: float | Tensor, sample_rate: int) -> Sequence[Tensor]:
    """sin w0/2, cos w0/2 and the cookbook's alpha, in float64; 2 sin^2 is 1 - cos without the rounding."""
    sine, cosine = _half_angle(frequency_hz, sample_rate)
    return torch.broadcast_tensors(sine, cosine, sine * cosine / torch.as_tensor(q, dtype=torch.float64))


def _half_angle(frequency_hz: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    half = frequency_hz.double().clamp(max=HIGHEST * sample_rate) * (math.pi / sample_rate)
    return half.sin(), half.cos()


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


def magnitude_db(sos: Tensor, frequencies_hz: Tensor, sample_rate: int) -> Tensor:
    """`frequency_response` in decibels: sos [B, S, 6], frequencies_hz [N] -> [B, N] in float64."""
    return 20 * frequency_response(sos, frequencies_hz, sample_rate).abs().log10()
