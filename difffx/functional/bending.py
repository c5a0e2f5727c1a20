"""The curves of the waveshapers, their slopes, and one autograd node that runs any of them in few passes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional.compiled import bending as compiled_bending
from difffx.functional.control import at_audio_rate
from difffx.functional.oversampling import oversampled
from difffx.functional.units import db_to_amplitude


def bent(
    x: Tensor,
    curve: type[Curve],
    *,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None = None,
    ceiling_db: Tensor | None = None,
    shape: Tensor | None = None,
    oversample: int = 1,
) -> Tensor:
    """(1 - mix) x + mix c (f(g x / c + b) - f(b)), f the curve: x [B, C, T] -> [B, C, T].

    drive_db    [B or 1, 1, F]  g; curves over time are straight lines in dB
    mix         [B or 1, 1, F]
    bias        [B or 1, 1, F]  b; None: 0
    ceiling_db  [B or 1, 1, F]  c; None: 0 dB
    shape       [B or 1, 1, 1]  what bends the curve itself, where it has such a thing
    oversample  1 to 8: the curve runs at that multiple of the rate; the dry part does not
    """
    knobs = {"drive_db": drive_db, "mix": mix, "bias": bias, "ceiling_db": ceiling_db, "shape": shape}
    knobs = {name: None if knob is None else knob.to(x.dtype) for name, knob in knobs.items()}
    y = compiled_bending.bend(x, curve.__name__, **knobs, oversample=oversample)
    if y is not None:
        return y
    if oversample == 1:
        return _bent(x, curve, **knobs)
    wet = oversampled(x, oversample, lambda up: _bent(up, curve, **knobs, with_dry=False))
    return torch.addcmul(wet, x, 1.0 - at_audio_rate(knobs["mix"], x.shape[-1]))


def _bent(
    x: Tensor,
    curve: type[Curve],
    *,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    with_dry: bool = True,
) -> Tensor:
    """In pure torch, at the rate of x."""
    samples = x.shape[-1]
    gain, wet = db_to_amplitude(at_audio_rate(drive_db, samples)), at_audio_rate(mix, samples)
    dry = 1.0 - wet if with_dry else None
    if ceiling_db is not None:
        ceiling = db_to_amplitude(at_audio_rate(ceiling_db, samples))
        gain, wet = gain / ceiling, wet * ceiling
    rest = None
    if bias is not None:
        bias = at_audio_rate(bias, samples)
        one = bias.new_ones(1, 1, 1)
        silence = bias if shape is None else bias + torch.zeros_like(shape)  # as many items as curves
        rest = -wet * _Bend.apply(silence, curve, one, None, shape, None, one, None)
    return _Bend.apply(x, curve, gain, bias, shape, dry, wet, rest)


class Curve(Protocol):
    """f(u), slope 1 at 0 unless said. All tensors [B, C, T] but shape, [B or 1, 1, 1] or None."""

    @staticmethod
    def value(u: Tensor, shape: Tensor | None) -> Tensor:
        """f(u); u may be overwritten."""

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: Tensor | None) -> Tensor:
        """grad f'(u), in new memory; v is f(u), again() is u in new memory."""

    @staticmethod
    def by_shape(v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        """The derivative of f(u) to shape; for curves that have one."""


class _Bend(torch.autograd.Function):
    """dry x + wet f(gain x + offset) + rest. Keeps x, which is there anyway, and f: 4 bytes a sample."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        curve: type[Curve],
        gain: Tensor,
        offset: Tensor | None,
        shape: Tensor | None,
        dry: Tensor | None,
        wet: Tensor,
        rest: Tensor | None,
    ) -> Tensor:
        u = x * gain
        v = curve.value(u if offset is None else u.add_(offset), shape)
        ctx.curve = curve
        ctx.save_for_backward(x, v, gain, offset, shape, dry, wet, rest)
        y = v * wet
        if rest is not None:
            y.add_(rest)
        return y if dry is None else y.addcmul_(x, dry)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, v, gain, offset, shape, dry, wet, rest = ctx.saved_tensors
        by_x, _, by_gain, by_offset, by_shape, by_dry, by_wet, by_rest = ctx.needs_input_grad

        def again() -> Tensor:
            u = x * gain
            return u if offset is None else u.add_(offset)

        found: list[Tensor | None] = [None] * 8
        if by_shape:
            found[4] = _total((ctx.curve.by_shape(v, again, shape) * wet).mul_(grad), shape)
        if by_dry:
            found[5] = _total(grad * x, dry)
        if by_wet:
            found[6] = _total(grad * v, wet)
        if by_rest:
            found[7] = _total(grad, rest)
        if by_x or by_gain or by_offset:
            back = ctx.curve.slope(grad, v, again, shape).mul_(wet)
            found[2] = _total(back * x, gain) if by_gain else None
            found[3] = _total(back, offset) if by_offset else None
            if by_x:
                back = back * gain if by_offset else back.mul_(gain)  # of mono sound back may be found[3]
                found[0] = back if dry is None else back.addcmul_(grad, dry)
        return tuple(found)


def _total(by_sample: Tensor, like: Tensor) -> Tensor:
    return by_sample.sum_to_size(like.shape)


class Tanh:
    """tanh u."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        if u.device.type != "cpu":
            return u.tanh_()
        growth = u.clamp_(-20.0, 20.0).mul_(2.0).expm1_()  # torch's tanh takes half as long again
        return growth.div_(growth + 2.0)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return torch.ops.aten.tanh_backward(grad, v)


class Hard:
    """u, held in +-1."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        return u.clamp_(-1.0, 1.0)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return torch.ops.aten.hardtanh_backward(grad, v, -1.0, 1.0)


class Soft:
    """u up to 1 - k, a parabola from there to 1 + k, then +-1; k = shape > 0."""

    @staticmethod
    def _knee(level: Tensor, shape: Tensor) -> Tensor:
        return ((level - (1.0 - shape)) * (0.5 / shape)).clamp_(0.0, 1.0)

    @staticmethod
    def value(u: Tensor, shape: Tensor) -> Tensor:
        level = u.abs()
        knee = Soft._knee(level, shape)
        level = torch.minimum(level, 1.0 + shape).addcmul_(knee.square_(), -shape)
        return level.copysign_(u)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        return Soft._knee(again().abs_(), shape).neg_().add_(1.0).mul_(grad)

    @staticmethod
    def by_shape(v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        u = again()
        knee = Soft._knee(u.abs(), shape)
        return (knee - 1.0).mul_(knee).mul_(u.sign_())


class DoubleSoft:
    """(tanh(u - o) + tanh(u + o)) / 2, slope 1 / cosh(o)^2 at 0; o = shape."""

    @staticmethod
    def value(u: Tensor, shape: Tensor) -> Tensor:
        t, shape = Tanh.value(u, None), shape.tanh().square()
        below = (t * t).mul_(-shape).add_(1.0)
        return t.mul_(1.0 - shape).div_(below)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        square, shape = Tanh.value(again(), None).square_(), shape.tanh().square()
        spread = square * shape
        falling = square.neg_().add_(1.0).mul_(1.0 - shape)
        return falling.addcmul_(falling, spread).div_(spread.neg_().add_(1.0).square_()).mul_(grad)

    @staticmethod
    def by_shape(v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        t, step = Tanh.value(again(), None), shape.tanh()
        square = t.square()
        below = (square * -step.square()).add_(1.0)
        by_square = t.mul_(square.sub_(1.0)).div_(below.square_())
        return by_square.mul_(2.0 * step * (1.0 - step.square()))


class Cubic:
    """u - 4/27 u^3 up to |u| = 1.5, then +-1."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        u = u.clamp_(-1.5, 1.5)
        return u.mul_((u * u).mul_(-4.0 / 27.0).add_(1.0))

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return again().clamp_(-1.5, 1.5).square_().mul_(-4.0 / 9.0).add_(1.0).mul_(grad)


class ArcTan:
    """2 / pi atan(pi u / 2)."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        return u.mul_(math.pi / 2).atan_().mul_(2 / math.pi)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return grad / again().mul_(math.pi / 2).square_().add_(1.0)


class ArcSinh:
    """asinh u."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        level = u.abs()
        square = level * level
        return level.add_(square.div_((square + 1.0).sqrt_().add_(1.0))).log1p_().copysign_(u)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return grad / again().square_().add_(1.0).sqrt_()


class ArcTanh:
    """atanh u, up to +-2."""

    LAST = math.tanh(2.0)

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        level = u.abs().clamp_(max=ArcTanh.LAST)
        return level.div_(1.0 - level).mul_(2.0).log1p_().mul_(0.5).copysign_(u)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        u = again()
        inside = torch.ops.aten.hardtanh_backward(grad, u, -ArcTanh.LAST, ArcTanh.LAST)
        return inside.div_(u.clamp_(-ArcTanh.LAST, ArcTanh.LAST).square_().neg_().add_(1.0))


class Exponential:
    """1 - exp(-u) above zero; below, (exp(k u) - 1) / k, which ends at -1 / k; k = shape > 0."""

    @staticmethod
    def _speed(u: Tensor, shape: Tensor) -> Tensor:
        """1 above zero, k below."""
        return u.sign().mul_((1.0 - shape) / 2).add_((1.0 + shape) / 2)

    @staticmethod
    def value(u: Tensor, shape: Tensor) -> Tensor:
        speed = Exponential._speed(u, shape)
        return (u.abs().neg_()).mul_(speed).expm1_().div_(speed).copysign_(u)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        return Exponential._speed(v, shape).mul_(v.abs()).neg_().add_(1.0).mul_(grad)

    @staticmethod
    def by_shape(v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        u, v = again().clamp_(max=0.0), v.clamp(max=0.0)
        rising = (v * shape).add_(1.0)  # exp(k u)
        return rising.mul_(u).sub_(v).div_(shape)


class Magnitude:
    """|u|."""

    @staticmethod
    def value(u: Tensor, shape: None) -> Tensor:
        return u.abs_()

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: None) -> Tensor:
        return again().sign_().mul_(grad)


class Blend:
    """Tanh at shape 0, Cubic at 1, Hard at 2; between them a crossfade."""

    @staticmethod
    def _shares(shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        soft, hard = (1.0 - shape).clamp(min=0.0), (shape - 1.0).clamp(min=0.0)
        return soft, 1.0 - soft - hard, hard

    @staticmethod
    def value(u: Tensor, shape: Tensor) -> Tensor:
        soft, cubic, hard = Blend._shares(shape)
        y = Tanh.value(u.clone(), None).mul_(soft).addcmul_(Cubic.value(u.clone(), None), cubic)
        return y.addcmul_(Hard.value(u, None), hard)

    @staticmethod
    def slope(grad: Tensor, v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        soft, cubic, hard = Blend._shares(shape)
        u = again()
        slope = Tanh.slope(grad, Tanh.value(u.clone(), None), again, None).mul_(soft)
        slope.addcmul_(Cubic.slope(grad, v, again, None), cubic)
        return slope.addcmul_(Hard.slope(grad, u, again, None), hard)

    @staticmethod
    def by_shape(v: Tensor, again: Callable[[], Tensor], shape: Tensor) -> Tensor:
        cubic = Cubic.value(again(), None)
        below, above = cubic - Tanh.value(again(), None), Hard.value(again(), None) - cubic
        return torch.where(shape < 1.0, below, above)
