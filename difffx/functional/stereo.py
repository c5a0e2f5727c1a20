"""Two channels: mid and side, pan laws, width, the Haas effect."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difffx.functional.control import at_audio_rate
from difffx.functional.delays import fractional_delay, ms_to_samples

LAWS = {
    "-3dB": lambda u: torch.sin(0.5 * math.pi * u),
    "-4.5dB": lambda u: u * (0.5 * math.pi * torch.sinc(0.5 * u)).sqrt(),
    "-6dB": lambda u: torch.sin(0.5 * math.pi * u).square(),
    "linear": lambda u: u,
}
"""Gain of a channel, 0 to 1, over the way u from the other one, 0 to 1; named by the gain in the middle."""


def mid_side(x: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 2, T] -> mid (L + R) / 2 and side (L - R) / 2, [B, 1, T] each: a mono sound is its own mid."""
    left, right = x[:, :1], x[:, 1:]
    return 0.5 * (left + right), 0.5 * (left - right)


def left_right(mid: Tensor, side: Tensor) -> Tensor:
    """The inverse of `mid_side`: [B, 1, T] twice -> [B, 2, T]."""
    return torch.cat((mid + side, mid - side), 1)


def pan(x: Tensor, *, pan: Tensor, law: str = "-3dB") -> Tensor:
    """A mono sound between two loudspeakers.

    x        [B, 1, T]
    pan      [B or 1, 1, F]  -1 left, 0 the middle, 1 right
    law      "-3dB": sin and cos, the same power everywhere, for rooms; "-6dB": the squares of those, the same
             sum everywhere, for mono listeners; "linear": the same sum too, along a straight line; "-4.5dB":
             between power and sum, the root of "-3dB" times "linear"
    returns  [B, 2, T]       the channel away from the sound is silent at the ends

    Gradients are finite at the ends too.
    """
    return x * torch.cat(_gains(at_audio_rate(pan, x.shape[-1]), law), 1)


def balance(x: Tensor, *, pan: Tensor, law: str = "-3dB") -> Tensor:
    """A stereo sound moved to a side: the other side is turned down.

    x        [B, 2, T]
    pan      [B or 1, 1, F]  -1 left only, 0 as it was, 1 right only
    law      how the other channel goes down from the middle to the end: the curves of `pan`, less their level
             in the middle
    returns  [B, 2, T]
    """
    middle = LAWS[law](torch.full_like(pan[:1, :, :1], 0.5))
    gains = _gains(at_audio_rate(pan, x.shape[-1]), law)
    return x * torch.cat([(gain / middle).clamp(max=1.0) for gain in gains], 1)


def _gains(pan: Tensor, law: str) -> tuple[Tensor, Tensor]:
    return LAWS[law](0.5 - 0.5 * pan), LAWS[law](0.5 + 0.5 * pan)


def width(x: Tensor, *, width: Tensor) -> Tensor:
    """Narrower or wider: the side signal turned down or up.

    x        [B, 2, T]
    width    [B or 1, 1, F]  0 mono, 1 as it was, 2 the sides at +6 dB; the mono sum never changes
    returns  [B, 2, T]

    One 2 x 2 matrix for each item, (1 + w) / 2 on its diagonal and (1 - w) / 2 beside it, in one product,
    which keeps nothing but x; 1.2 times that product alone, with gradients too. Memory bounds it.
    """
    if width.shape[-1] != 1:
        return torch.lerp(x, x.flip(1), 0.5 - 0.5 * at_audio_rate(width.to(x.dtype), x.shape[-1]))
    keep, swap = 0.5 + 0.5 * width.to(x.dtype), 0.5 - 0.5 * width.to(x.dtype)
    matrix = torch.cat((torch.cat((keep, swap), 2), torch.cat((swap, keep), 2)), 1)
    with torch.autocast(x.device.type, enabled=False):
        return torch.matmul(matrix, x)


def haas(x: Tensor, sample_rate: int, *, delay_ms: Tensor, mix: Tensor, later: str = "right") -> Tensor:
    """A sound drawn to the side that is heard first, and wide: the other channel comes later.

    x         [B, 2, T]
    delay_ms  [B or 1, 1, 1]  0 or more; up to about 1 ms it moves the sound, from 1 to 30 ms it widens, above
                              it is an echo
    mix       [B or 1, 1, F]  how much of the late channel is delayed: 1 all of it; less makes a comb filter
    later     the channel that waits, "left" or "right"
    returns   [B, 2, T]

    Fractions of samples through four neighbors (`delays.fractional_delay`), with an exact gradient to the
    time. A mono sum of the result is comb-filtered.
    """
    first, last = (x[:, :1], x[:, 1:]) if later == "right" else (x[:, 1:], x[:, :1])
    delayed = fractional_delay(last, ms_to_samples(delay_ms, sample_rate))
    last = torch.lerp(last, delayed, at_audio_rate(mix.to(x.dtype), x.shape[-1]))
    return torch.cat((first, last) if later == "right" else (last, first), 1)
