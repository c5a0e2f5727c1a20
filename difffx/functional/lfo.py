"""Slow oscillators that move a knob: sine, triangle, saw, square, as exact after an hour as at the start."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional.control import at_audio_rate

SHAPES = ("sine", "triangle", "saw", "square")
EDGE = 0.02
"""Share of a cycle that a jump of saw and square takes: 4 ms at 5 Hz, a step without a click."""
BLOCK = 256


def lfo(
    num_samples: int, sample_rate: int, *, rate_hz: Tensor, phase: Tensor | float = 0.0, shape: str = "sine"
) -> Tensor:
    """A wave between -1 and 1 that moves a knob.

    rate_hz   [B, 1, F]         a curve is integrated: the phase never jumps
    phase     [B or 1, K, 1]    where the wave starts, in cycles: 0.25 starts a sine at its top
    returns   [B, K, T]         float64

    At phase 0 every shape but the square crosses zero upward; the square starts in the middle of its rise.
    The jumps of saw and square are straight lines over 2 % of a cycle, so rate and phase always have a
    gradient, which is exact. The phase is counted in float64. A sine at a constant rate is two small tables
    and their products; whatever else costs a floor and a few operations for each sample.
    """
    _check(shape)
    phase = torch.as_tensor(phase, device=rate_hz.device).double()
    if shape == "sine":
        if rate_hz.shape[-1] == 1:
            return _steady_sine(num_samples, rate_hz.double() / sample_rate, phase)
        return torch.sin(2 * math.pi * cycles(num_samples, sample_rate, rate_hz=rate_hz, phase=phase))
    return wave(cycles(num_samples, sample_rate, rate_hz=rate_hz, phase=phase), shape)


def cycles(num_samples: int, sample_rate: int, *, rate_hz: Tensor, phase: Tensor | float = 0.0) -> Tensor:
    """How far an oscillator has come, in cycles, less the whole ones: [B, K, T] in float64, 0 to 1.

    rate_hz [B, 1, F], phase [B or 1, K, 1]. The first sample stands at `phase`; each sample moves it on by
    the rate at that sample over the sample rate.
    """
    step = at_audio_rate(rate_hz.double(), num_samples) / sample_rate
    if step.shape[-1] == 1:
        turned = step * torch.arange(num_samples, dtype=torch.float64, device=step.device)
    else:
        turned = _integral(step)
    turned = turned + torch.as_tensor(phase, device=step.device).double()
    return turned - turned.detach().floor()


def _integral(step: Tensor) -> Tensor:
    """Sum of all steps before each, less whole cycles: by blocks, for a running sum of millions drifts."""
    samples = step.shape[-1]
    blocks = pad(step, (0, -samples % BLOCK)).unflatten(-1, (-1, BLOCK))
    within = blocks.cumsum(-1)
    ends = within[..., -1:]
    ends = ends - ends.detach().floor()
    return (within - blocks + (ends.cumsum(-2) - ends)).flatten(-2)[..., :samples]


def wave(cycle: Tensor, shape: str) -> Tensor:
    """The shape at a place in its cycle, any shape of tensor: 0 to 1 -> -1 to 1."""
    _check(shape)
    if shape == "sine":
        return torch.sin(2 * math.pi * cycle)
    place = torch.where(cycle < 0.5, cycle, cycle - 1.0)  # -1/2 to 1/2, rising through 0
    if shape == "saw":
        return _corners(place, 2.0 / (1.0 - EDGE), 2.0 / EDGE)
    triangle = _corners(place, 4.0, 4.0)
    return triangle if shape == "triangle" else (triangle / (2.0 * EDGE)).clamp(-1.0, 1.0)


def _corners(place: Tensor, up: float, down: float) -> Tensor:
    """Up through 0 at one slope, down to +-1/2 at another."""
    return torch.maximum(torch.minimum(up * place, down * (0.5 - place)), -down * (0.5 + place))


def _steady_sine(num_samples: int, step: Tensor, phase: Tensor) -> Tensor:
    """step [B, 1, 1] cycles per sample, phase [B or 1, K, 1] -> [B, K, T].

    sin(a + b) = sin a cos b + cos a sin b, with a where a block starts and b how far into it a sample is.
    """
    blocks = -(-num_samples // BLOCK)
    start = BLOCK * torch.arange(blocks, dtype=torch.float64, device=step.device)
    a = step * start + phase
    a = 2 * math.pi * (a - a.detach().floor())
    b = 2 * math.pi * step * torch.arange(BLOCK, dtype=torch.float64, device=step.device)
    outer = torch.stack((a.sin(), a.cos()), -1)
    inner = torch.stack((b.cos(), b.sin()), -2)
    return (outer @ inner).flatten(-2)[..., :num_samples]


def _check(shape: str) -> None:
    if shape not in SHAPES:
        raise ValueError(f"lfo: shape must be one of {', '.join(SHAPES)}, got {shape!r}")
