"""A curve drawn with straight lines through points, as one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled


def drawn(x: Tensor, *, gain: Tensor, mix: Tensor, table: Tensor) -> Tensor | None:
    """(1 - mix) x + mix table(gain x); see `waveshapers.table_shaper`. None where pure torch has to do it.

    x          [B, C, T]       float32 or float64
    gain, mix  [B or 1, 1, 1]
    table      [B or 1, K, 1]
    """
    knobs = gain, mix, table
    if (
        any(knob.ndim != 3 or knob.shape[0] not in (1, x.shape[0]) for knob in knobs)
        or (gain.shape[1:], mix.shape[1:], table.shape[2]) != ((1, 1), (1, 1), 1)
        or x.ndim != 3
        or not compiled.serves(x, *knobs)
    ):
        return None
    return _look_up(x, *knobs)


@torch.library.custom_op("difffx::look_up", mutates_args=())
def _look_up(x: Tensor, gain: Tensor, mix: Tensor, table: Tensor) -> Tensor:
    x = x.contiguous()
    y = torch.empty_like(x)
    compiled.call("look_up", *_sizes(x, gain, mix, table), *_plain(gain, mix, table), x, y)
    return y


@_look_up.register_fake
def _(x: Tensor, gain: Tensor, mix: Tensor, table: Tensor) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("difffx::look_up_backward", mutates_args=())
def _look_up_backward(
    grad: Tensor, x: Tensor, gain: Tensor, mix: Tensor, table: Tensor, to_x: bool, to_knobs: bool
) -> tuple[Tensor, Tensor]:
    """The gradient to x and those to gain, mix and table, one after the other in float64; or no elements."""
    grad, x = grad.contiguous(), x.contiguous()
    by_x, by_knobs = _gradients(x, gain, mix, table, to_x, to_knobs)
    wanted = by_x if to_x else None, by_knobs if to_knobs else None
    sizes = _sizes(x, gain, mix, table)
    compiled.call("look_up_backward", *sizes, *_plain(gain, mix, table), x, grad, *wanted)
    return by_x, by_knobs


@_look_up_backward.register_fake
def _(
    grad: Tensor, x: Tensor, gain: Tensor, mix: Tensor, table: Tensor, to_x: bool, to_knobs: bool
) -> tuple[Tensor, Tensor]:
    return _gradients(x, gain, mix, table, to_x, to_knobs)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _back(ctx, grad: Tensor):
    x, *knobs = ctx.saved_tensors
    to_x, *to = ctx.needs_input_grad
    by_x, by_knobs = _look_up_backward(grad, x, *knobs, to_x, any(to))
    if not any(to):
        return by_x, None, None, None
    parts = by_knobs.split([knob.numel() for knob in knobs])
    to_each = [part.view(knob.shape).to(knob.dtype) for part, knob in zip(parts, knobs, strict=True)]
    return by_x if to_x else None, *to_each


_look_up.register_autograd(_back, setup_context=_keep)


def _plain(*knobs: Tensor) -> list[Tensor]:
    return [knob.double().contiguous() for knob in knobs]


def _sizes(x: Tensor, gain: Tensor, mix: Tensor, table: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape, x.element_size(), table.shape[1], gain.shape[0], mix.shape[0], table.shape[0]


def _gradients(
    x: Tensor, gain: Tensor, mix: Tensor, table: Tensor, to_x: bool, to_knobs: bool
) -> tuple[Tensor, Tensor]:
    """Room for both."""
    count = gain.numel() + mix.numel() + table.numel() if to_knobs else 0
    return x.new_empty(x.shape if to_x else 0), x.new_empty(count, dtype=torch.float64)
