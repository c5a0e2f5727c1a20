"""Distortion by memoryless curves: every sample is bent on its own.

All but the clipper, the rectifier, the crusher and the table are (1 - mix) x + mix (f(g x + b) - f(b)): f the
curve, of slope 1 at zero unless said, g the gain of drive_db, which is not taken back, b the bias.

x           [B, C, T]
drive_db    [B or 1, 1, F]  gain into the curve
mix         [B or 1, 1, F]  0 the input, 1 the curve
bias        [B or 1, 1, F]  where on the curve silence lies; off center there are even harmonics
oversample  1 to 8: curves make harmonics without end, and those above Nyquist fold back as tones that fit no
            chord. A factor runs the curve faster and filters them off (`oversampling`); the result is in
            time with the input and hears 63 samples ahead. What is folded of a 5 kHz tone at 44.1 kHz,
            30 dB into tanh: -10 dB against the tone and its harmonics, by 2, 4, 8: -20, -28, -44 dB
returns     [B, C, T]

Silence stays silence, whatever the bias, but what is lopsided makes a DC component out of sound and leaves it
in; `levels.without_dc` takes it out. Gradients are exact almost everywhere.

Static knobs on a CPU with a C compiler: one pass forward and one back, which keeps nothing but x, oversampled
or not; within -139 dB of float64 however quiet the sound. Otherwise one pass for the curve and two around it,
4 bytes kept per sample, `oversample` times that and the filters. 8 x 131072 samples of tanh on one thread,
forward and with all gradients: 1.1 and 3.6 ms (torch.tanh alone 2.8 and 3.7), and 7 and 18, 16 and 43, 36 and
91 ms at 2, 4, 8 times the rate; in pure torch 3.3 and 7, and 28 and 78, 56 and 136, 156 and 356 ms.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional import bending
from difffx.functional.bending import bent
from difffx.functional.compiled import bending as compiled_bending
from difffx.functional.compiled import table as compiled_table
from difffx.functional.control import at_audio_rate
from difffx.functional.oversampling import oversampled
from difffx.functional.units import db_to_amplitude


def tanh(x: Tensor, *, drive_db: Tensor, bias: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Warm saturation, as of tubes and tape: tanh u."""
    return bent(x, bending.Tanh, drive_db=drive_db, bias=bias, mix=mix, oversample=oversample)


def hard_clip(x: Tensor, *, drive_db: Tensor, ceiling_db: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Harsh: nothing happens up to the ceiling, and nothing gets above it.

    ceiling_db  [B or 1, 1, F]  dBFS

    Oversampled, the filter that follows the clip overshoots the ceiling.
    """
    return bent(x, bending.Hard, drive_db=drive_db, ceiling_db=ceiling_db, mix=mix, oversample=oversample)


def soft_clip(
    x: Tensor, *, drive_db: Tensor, ceiling_db: Tensor, knee: Tensor, mix: Tensor, oversample: int = 1
) -> Tensor:
    """A hard clip with the corner rounded.

    ceiling_db  [B or 1, 1, F]  dBFS
    knee        [B or 1, 1, 1]  k above 0: straight up to 1 - k of the ceiling, a parabola that arrives there
                                at 1 + k; 1/3 is the curve of many pedals
    """
    return bent(
        x,
        bending.Soft,
        drive_db=drive_db,
        ceiling_db=ceiling_db,
        shape=knee,
        mix=mix,
        oversample=oversample,
    )


def double_soft_clip(
    x: Tensor, *, drive_db: Tensor, gap: Tensor, bias: Tensor, mix: Tensor, oversample: int = 1
) -> Tensor:
    """Two soft clips, one for each half wave: quiet sounds are thinned, loud ones saturate.

    gap  [B or 1, 1, 1]  o: (tanh(u - o) + tanh(u + o)) / 2, a step at +o and one at -o; 0 is tanh. The slope
                         at zero is 1 / cosh(o)^2, never quite flat
    """
    return bent(
        x, bending.DoubleSoft, drive_db=drive_db, bias=bias, shape=gap, mix=mix, oversample=oversample
    )


def cubic(x: Tensor, *, drive_db: Tensor, bias: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Little but the third harmonic until it clips: u - 4/27 u^3 up to |u| = 1.5, then +-1."""
    return bent(x, bending.Cubic, drive_db=drive_db, bias=bias, mix=mix, oversample=oversample)


def arctan(x: Tensor, *, drive_db: Tensor, bias: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Saturation that comes sooner and ends later than tanh: 2 / pi atan(pi u / 2)."""
    return bent(x, bending.ArcTan, drive_db=drive_db, bias=bias, mix=mix, oversample=oversample)


def arcsinh(x: Tensor, *, drive_db: Tensor, bias: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Saturation without a ceiling, a logarithm for loud sounds: asinh u."""
    return bent(x, bending.ArcSinh, drive_db=drive_db, bias=bias, mix=mix, oversample=oversample)


def arctanh(x: Tensor, *, drive_db: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Sharpens peaks, the inverse of tanh: atanh u, clipped where it reaches +-2, at |u| = 0.964."""
    return bent(x, bending.ArcTanh, drive_db=drive_db, mix=mix, oversample=oversample)


def exponential(
    x: Tensor, *, drive_db: Tensor, asymmetry: Tensor, mix: Tensor, oversample: int = 1
) -> Tensor:
    """Diodes, one for each half wave: 1 - exp(-u) above zero, (exp(k u) - 1) / k below.

    asymmetry  [B or 1, 1, 1]  k above 0: the lower half wave ends at -1 / k; 1 is symmetric, else DC stays in
    """
    return bent(x, bending.Exponential, drive_db=drive_db, shape=asymmetry, mix=mix, oversample=oversample)


def rectifier(x: Tensor, *, amount: Tensor, oversample: int = 1) -> Tensor:
    """Octave up: the lower half wave vanishes, then turns around.

    amount  [B or 1, 1, F]  a: (1 - a) x + a |x|; 0 the input, 0.5 half-wave, 1 full-wave, with its DC
    """
    unity = x.new_zeros(1, 1, 1)
    return bent(x, bending.Magnitude, drive_db=unity, mix=amount, oversample=oversample)


def bit_crusher(x: Tensor, *, bits: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Grit of early samplers: values snap to a grid of 2^bits steps between -1 and 1; no dither.

    bits  [B or 1, 1, F]  1 or more, fractions allowed. Zero is on the grid; nothing clips

    The gradient goes straight through: to x as if nothing had been rounded, to bits as if the error shrank in
    proportion to the step, as it does on average.
    """
    bits, mix = bits.to(x.dtype), mix.to(x.dtype)
    knobs = {"drive_db": x.new_zeros(1, 1, 1), "mix": mix, "bias": None, "ceiling_db": None, "shape": bits}
    y = compiled_bending.bend(x, "Steps", **knobs, oversample=oversample)
    if y is not None:
        return y
    samples = x.shape[-1] * oversample
    steps = torch.exp2(at_audio_rate(bits, samples) - 1.0)
    rounded = oversampled(x, oversample, lambda up: _Round.apply(up, steps))
    return torch.lerp(x, rounded, at_audio_rate(mix, x.shape[-1]))


def table_shaper(x: Tensor, *, drive_db: Tensor, table: Tensor, mix: Tensor, oversample: int = 1) -> Tensor:
    """Any curve, drawn with straight lines through K points.

    table    [B or 1, K, 1]  the output at K inputs from -1 to 1, equally far apart; beyond, the ends hold.
                             A table that is not 0 in the middle makes DC out of silence too
    returns  [B, C, T]       (1 - mix) x + mix table(g x)

    Compiled, 2 and 9 ms for 8 x 131072 samples on one thread, forward and with all gradients, and nothing is
    kept but x; in pure torch 5 and 20, and 4 bytes kept per sample.
    """
    drive_db, table, mix = (knob.to(x.dtype) for knob in (drive_db, table, mix))
    if oversample == 1:
        return _drawn(x, drive_db, table, mix)
    wet = oversampled(x, oversample, lambda up: _drawn(up, drive_db, table, torch.ones_like(mix[:1, :, :1])))
    return torch.lerp(x, wet, at_audio_rate(mix, x.shape[-1]))


def parametric_clipper(
    x: Tensor, *, drive_db: Tensor, offset: Tensor, shape: Tensor, oversample: int = 1
) -> Tensor:
    """Overdrive from a warm saturation to a hard clip.

    x         [B, C, T]
    drive_db  [B, 1, 1]  gain g into the curve, taken back behind it
    offset    [B, 1, 1]  b, how far off center the curve is used; even harmonics
    shape     [B, 1, 1]  0 tanh, 1 a cubic that ends at +-1, 2 a corner at +-1; between them a crossfade
    returns   [B, C, T]  (c(g x + b) - c(b)) / g

    c(u) = tanh u;  u - 4/27 u^3 up to |u| = 1.5, then the sign of u;  u held in +-1. At offset 0 quiet
    sounds keep their level. Silence stays silence, but an offset makes a DC component out of any sound and
    leaves it in. oversample: `tanh`.
    """
    one = drive_db.new_ones(1, 1, 1)
    knobs = {"drive_db": 0.0 * one, "ceiling_db": -drive_db, "mix": one, "bias": offset, "shape": shape}
    return bent(x, bending.Blend, **knobs, oversample=oversample)


class _Round(torch.autograd.Function):
    """x [B, C, T] to the grid n / steps."""

    @staticmethod
    def forward(ctx, x: Tensor, steps: Tensor) -> Tensor:
        y = (x * steps).round_().div_(steps)
        ctx.save_for_backward(x, y, steps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, y, steps = ctx.saved_tensors
        if not ctx.needs_input_grad[1]:
            return grad, None
        return grad, ((x - y).mul_(grad) / steps).sum_to_size(steps.shape)


def _drawn(x: Tensor, drive_db: Tensor, table: Tensor, mix: Tensor) -> Tensor:
    gain = db_to_amplitude(at_audio_rate(drive_db, x.shape[-1]))
    mix = at_audio_rate(mix, x.shape[-1])
    y = compiled_table.drawn(x, gain=gain, mix=mix, table=table)
    return torch.lerp(x, _Table.apply(x * gain, table), mix) if y is None else y


class _Table(torch.autograd.Function):
    """u [B, C, T], table [B or 1, K, 1] -> [B, C, T]. Keeps u; finds its place in the table again."""

    @staticmethod
    def forward(ctx, u: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(u, table)
        below, share = _place(u, table.shape[1])
        start, step = _segments(table, u.shape[0])
        return torch.addcmul(_looked_up(start, below), _looked_up(step, below), share)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        u, table = ctx.saved_tensors
        points = table.shape[1]
        below, share = _place(u, points)
        by_u = by_table = None
        if ctx.needs_input_grad[0]:
            _, step = _segments(table, u.shape[0])
            by_u = torch.ops.aten.hardtanh_backward(grad, u, -1.0, 1.0)
            by_u = by_u.mul_(_looked_up(step, below)).mul_((points - 1) / 2)
        if ctx.needs_input_grad[1]:
            upper = share.mul_(grad)
            by_table = grad.new_zeros(u.shape[0], points)
            by_table.scatter_add_(1, below.flatten(1), (grad - upper).flatten(1))
            by_table.scatter_add_(1, below.flatten(1) + 1, upper.flatten(1))
            by_table = by_table.unsqueeze(-1).sum_to_size(table.shape)
        return by_u, by_table


def _place(u: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """The point below each value and how far it is to the next, 0..1."""
    place = (u.clamp(-1.0, 1.0) + 1.0).mul_((points - 1) / 2)
    below = place.floor().clamp_(max=points - 2)
    return below.nan_to_num(0.0).long(), place - below


def _segments(table: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """[B or 1, K, 1] -> where each of K - 1 segments begins and how far it rises, [B, K - 1]."""
    table = table[..., 0].expand(batch, -1)
    return table[:, :-1], table.diff(dim=1)


def _looked_up(values: Tensor, index: Tensor) -> Tensor:
    """[B, K], [B, C, T] -> [B, C, T]."""
    return values.gather(1, index.flatten(1)).view(index.shape)
