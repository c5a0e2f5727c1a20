"""A delay line read at a place that moves, as one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled

MOST_SAMPLES = 2**31 - 1024
"""Places in a row are counted in 32 bits."""


@torch.library.custom_op("difffx::delay_line", mutates_args=())
def delay_line(x: Tensor, delay: Tensor, neighbors: int) -> Tensor:
    """x[n - delay[n]]; see `delays.fractional_delay`.

    x         [B, C, T]            float32 or float64
    delay     [B or 1, C or 1, T]  float64; less than 0 is held at 0
    returns   [B, C, T]            in the type of x, worked out in float64
    """
    x, delay = x.contiguous(), delay.contiguous()
    y = torch.empty_like(x)
    compiled.call("delay_line", *_sizes(x, delay, neighbors), x, delay, y)
    return y


@delay_line.register_fake
def _(x: Tensor, delay: Tensor, neighbors: int) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("difffx::delay_line_backward", mutates_args=())
def _delay_line_backward(
    grad: Tensor, x: Tensor, delay: Tensor, neighbors: int, to_x: bool, to_delay: bool
) -> tuple[Tensor, Tensor]:
    """The gradients to x and to the delay, each [B, C, T] or, if not wanted, of no elements."""
    grad, x, delay = (t.contiguous() for t in (grad, x, delay))
    by_x, by_delay = _gradients(x, to_x, to_delay)
    wanted = by_x if to_x else None, by_delay if to_delay else None
    compiled.call("delay_line_backward", *_sizes(x, delay, neighbors), x, delay, grad, *wanted)
    return by_x, by_delay


@_delay_line_backward.register_fake
def _(
    grad: Tensor, x: Tensor, delay: Tensor, neighbors: int, to_x: bool, to_delay: bool
) -> tuple[Tensor, Tensor]:
    return _gradients(x, to_x, to_delay)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.neighbors = inputs[2]


def _back(ctx, grad: Tensor):
    x, delay = ctx.saved_tensors
    to_x, to_delay, _ = ctx.needs_input_grad
    by_x, by_delay = _delay_line_backward(grad, x, delay, ctx.neighbors, to_x, to_delay)
    return by_x if to_x else None, by_delay.sum_to_size(delay.shape) if to_delay else None, None


delay_line.register_autograd(_back, setup_context=_keep)


def _sizes(x: Tensor, delay: Tensor, neighbors: int) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape, *delay.shape[:2], x.element_size(), neighbors


def _gradients(x: Tensor, to_x: bool, to_delay: bool) -> tuple[Tensor, Tensor]:
    """Room for both."""
    by_delay = x.new_empty(x.shape if to_delay else 0, dtype=torch.float64)
    return x.new_empty(x.shape if to_x else 0), by_delay
