"""Waveshapers in one pass forward and one back, which keeps nothing but its inputs; oversampled if wanted."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from difffx.functional import compiled, oversampling

CURVES = (
    "Tanh",
    "Hard",
    "Soft",
    "DoubleSoft",
    "Cubic",
    "ArcTan",
    "ArcSinh",
    "ArcTanh",
    "Exponential",
    "Magnitude",
    "Blend",
    "Steps",
)
"""In the order of bending.c; the definitions stand in `difffx.functional.bending` under these names, that of
Steps in `waveshapers.bit_crusher`: its shape are the bits."""

BIASED = {"Tanh", "Hard", "DoubleSoft", "Cubic", "ArcTan", "ArcSinh", "Blend"}
"""Those that can be used off center here."""


def bend(
    x: Tensor,
    curve: str,
    *,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    oversample: int,
) -> Tensor | None:
    """`bending.bent`; see there. None where pure torch has to do it: another device, curves over time."""
    knobs = drive_db, mix, bias, ceiling_db, shape
    given = [knob for knob in knobs if knob is not None]
    if (
        x.ndim != 3
        or (bias is not None and curve not in BIASED)
        or any(k.ndim != 3 or k.shape[0] not in (1, x.shape[0]) or k.numel() != k.shape[0] for k in given)
        or not compiled.serves(x, *given)
    ):
        return None
    return _bend(x, *knobs, CURVES.index(curve), oversample)


@torch.library.custom_op("difffx::bend", mutates_args=())
def _bend(
    x: Tensor,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    curve: int,
    factor: int,
) -> Tensor:
    """x [B, C, T], float32 or float64; knobs [B or 1, 1, 1]; `curve` by its place in CURVES."""
    x, knobs = x.contiguous(), _plain(drive_db, mix, bias, ceiling_db, shape)
    y = torch.empty_like(x)
    compiled.call("bend", *_sizes(x, knobs, curve, factor), *knobs, _taps(factor), x, y)
    return y


@_bend.register_fake
def _(
    x: Tensor,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    curve: int,
    factor: int,
) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("difffx::bend_backward", mutates_args=())
def _bend_backward(
    grad: Tensor,
    x: Tensor,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    curve: int,
    factor: int,
    to_x: bool,
    to_knobs: bool,
) -> tuple[Tensor, Tensor]:
    """The gradient to x and those to the knobs, [5, B] float64; of no elements if not wanted.

    Of a knob that all items share, the first column is the gradient.
    """
    grad, x = grad.contiguous(), x.contiguous()
    knobs = _plain(drive_db, mix, bias, ceiling_db, shape)
    by_x, by_knobs = _gradients(x, to_x, to_knobs)
    wanted = by_x if to_x else None, by_knobs if to_knobs else None
    compiled.call("bend_backward", *_sizes(x, knobs, curve, factor), *knobs, _taps(factor), x, grad, *wanted)
    return by_x, by_knobs


@_bend_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    drive_db: Tensor,
    mix: Tensor,
    bias: Tensor | None,
    ceiling_db: Tensor | None,
    shape: Tensor | None,
    curve: int,
    factor: int,
    to_x: bool,
    to_knobs: bool,
) -> tuple[Tensor, Tensor]:
    return _gradients(x, to_x, to_knobs)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.curve, ctx.factor = inputs[6:]


def _back(ctx, grad: Tensor):
    saved = ctx.saved_tensors
    to_x, *to = ctx.needs_input_grad[:6]
    by_x, by_knobs = _bend_backward(grad, *saved, ctx.curve, ctx.factor, to_x, any(to))
    to_each = [
        by_knobs[i, : knob.shape[0]].view(knob.shape).to(knob.dtype) if wanted else None
        for i, (knob, wanted) in enumerate(zip(saved[1:], to, strict=True))
    ]
    return by_x if to_x else None, *to_each, None, None


_bend.register_autograd(_back, setup_context=_keep)


def _plain(*knobs: Tensor | None) -> list[Tensor | None]:
    return [None if knob is None else knob.double().contiguous() for knob in knobs]


def _sizes(x: Tensor, knobs: list[Tensor | None], curve: int, factor: int) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    shared = sum(1 << i for i, knob in enumerate(knobs) if knob is not None and knob.shape[0] == 1)
    return *x.shape, x.element_size(), factor, curve, shared


@functools.cache
def _taps(factor: int) -> Tensor | None:
    """[64, factor] float64; None where there is nothing to filter."""
    return None if factor == 1 else oversampling.taps(factor)


def _gradients(x: Tensor, to_x: bool, to_knobs: bool) -> tuple[Tensor, Tensor]:
    """Room for both."""
    by_knobs = x.new_empty((5, x.shape[0]) if to_knobs else 0, dtype=torch.float64)
    return x.new_empty(x.shape if to_x else 0), by_knobs
