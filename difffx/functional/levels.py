"""Gain, polarity, fades, crossfades, offset and level normalization."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difffx.functional import cascade, filters
from difffx.functional.control import at_audio_rate
from difffx.functional.units import db_to_amplitude

SILENCE = 1e-6
"""-120 dBFS: what stays below, offset removed, is silence and is not turned up."""


def gain(x: Tensor, *, gain_db: Tensor) -> Tensor:
    """Louder or quieter: x [B, C, T], gain_db [B or 1, 1, F]; curves are straight lines in dB."""
    return x * db_to_amplitude(at_audio_rate(gain_db, x.shape[-1]))


def linear_gain(x: Tensor, *, gain: Tensor) -> Tensor:
    """Louder, quieter or nothing: x [B, C, T] times gain [B or 1, 1, F]; curves are straight lines."""
    return x * at_audio_rate(gain, x.shape[-1])


def polarity(x: Tensor, *, invert: Tensor, channel: str = "both") -> Tensor:
    """Upside down: a microphone facing the other way.

    x        [B, C, T]
    invert   [B or 1, 1, 1]  i: the factor 1 - 2 i; 0 upright, 1 upside down, 0.5 silence
    channel  "both", or of stereo sound "left" or "right"
    returns  [B, C, T]
    """
    factor = 1.0 - 2.0 * invert
    if channel == "both":
        return x * factor
    pair = (factor, torch.ones_like(factor))
    return x * torch.cat(pair if channel == "left" else pair[::-1], 1)


def fade_in(x: Tensor, sample_rate: int, *, fade_ms: Tensor, shape: str = "linear") -> Tensor:
    """From silence to full level.

    x        [B, C, T]
    fade_ms  [B or 1, 1, 1]  how long; above 0
    shape    the gain over the share u of the fade that is past:
             "linear" u; "equal_power" sin(pi u / 2), for what fades out beneath; "s_curve"
             (1 - cos(pi u)) / 2, no corners; "exponential" (10^(3 u) - 1) / 999, which sounds even
    returns  [B, C, T]       the first sample is silent
    """
    past = torch.arange(x.shape[-1], device=x.device, dtype=torch.float64)
    return x * _fade(past, sample_rate, fade_ms, shape).to(x.dtype)


def fade_out(x: Tensor, sample_rate: int, *, fade_ms: Tensor, shape: str = "linear") -> Tensor:
    """From full level to silence: `fade_in` backwards; the last sample is silent."""
    left = torch.arange(x.shape[-1] - 1, -1, -1, device=x.device, dtype=torch.float64)
    return x * _fade(left, sample_rate, fade_ms, shape).to(x.dtype)


FADES = {
    "linear": lambda u: u,
    "equal_power": lambda u: torch.sin(0.5 * math.pi * u),
    "s_curve": lambda u: torch.sin(0.5 * math.pi * u).square(),
    "exponential": lambda u: torch.expm1(3.0 * math.log(10.0) * u) / 999.0,
}


def _fade(samples: Tensor, sample_rate: int, fade_ms: Tensor, shape: str) -> Tensor:
    return FADES[shape]((samples * 1000.0 / (fade_ms.double() * sample_rate)).clamp(max=1.0))


def crossfade(a: Tensor, b: Tensor, *, position: Tensor, law: str = "equal_power") -> Tensor:
    """From one sound to another.

    a, b      [B, C, T]       mono and stereo may meet
    position  [B or 1, 1, F]  p: 0 is a, 1 is b
    law       "equal_power": cos(pi p / 2), sin(pi p / 2), as loud in the middle for unlike sounds; "linear":
              1 - p, p, for sounds that are alike
    returns   [B, C, T]
    """
    position = at_audio_rate(position.to(a.dtype), a.shape[-1])
    if law == "linear":
        return torch.lerp(*torch.broadcast_tensors(a, b), position)
    angle = 0.5 * math.pi * position
    return torch.addcmul(a * torch.cos(angle), b, torch.sin(angle))


def without_dc(x: Tensor, sample_rate: int, cutoff_hz: float = 5.0) -> Tensor:
    """x [B, C, T] with its offset let down within a fraction of a second: a first-order high-pass."""
    corner = torch.full((1, 1), cutoff_hz, dtype=torch.float64, device=x.device)
    return cascade.sosfilt(x, filters.first_order_high_pass(corner, sample_rate))


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
