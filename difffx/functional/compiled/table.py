"""A curve drawn with straight lines through points, as one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled


@torch.library.custom_op("difffx::look_up", mutates_args=())
def look_up(u: Tensor, table: Tensor) -> Tensor:
    """What `waveshapers.table_shaper` says of a table, without drive and mix.

    u        [B, C, T]       float32 or float64
    table    [B or 1, K, 1]  the output at K inputs from -1 to 1; beyond, the ends hold
    returns  [B, C, T]
    """
    u, values = u.contiguous(), table.double().contiguous()
    y = torch.empty_like(u)
    compiled.call("look_up", *_sizes(u, table), values, u, y)
    return y


@look_up.register_fake
def _(u: Tensor, table: Tensor) -> Tensor:
    return u.new_empty(u.shape)


@torch.library.custom_op("difffx::look_up_backward", mutates_args=())
def _look_up_backward(
    grad: Tensor, u: Tensor, table: Tensor, to_u: bool, to_table: bool
) -> tuple[Tensor, Tensor]:
    """The gradients to u and, in float64, to the table; of no elements if not wanted."""
    grad, u, values = grad.contiguous(), u.contiguous(), table.double().contiguous()
    by_u, by_table = _gradients(u, table, to_u, to_table)
    wanted = by_u if to_u else None, by_table if to_table else None
    compiled.call("look_up_backward", *_sizes(u, table), values, u, grad, *wanted)
    return by_u, by_table


@_look_up_backward.register_fake
def _(grad: Tensor, u: Tensor, table: Tensor, to_u: bool, to_table: bool) -> tuple[Tensor, Tensor]:
    return _gradients(u, table, to_u, to_table)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _back(ctx, grad: Tensor):
    u, table = ctx.saved_tensors
    to_u, to_table = ctx.needs_input_grad
    by_u, by_table = _look_up_backward(grad, u, table, to_u, to_table)
    return by_u if to_u else None, by_table.to(table.dtype) if to_table else None


look_up.register_autograd(_back, setup_context=_keep)


def _sizes(u: Tensor, table: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *u.shape, u.element_size(), table.shape[1], int(table.shape[0] == 1)


def _gradients(u: Tensor, table: Tensor, to_u: bool, to_table: bool) -> tuple[Tensor, Tensor]:
    """Room for both."""
    by_table = u.new_empty(table.shape if to_table else 0, dtype=torch.float64)
    return u.new_empty(u.shape if to_u else 0), by_table
