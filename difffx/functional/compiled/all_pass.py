"""All-pass filters in a row at a moving frequency, as one recursion forward and one back.

The frequency is a curve, or an oscillator moves it that is part of the recursion.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.lfo import SHAPES

SETTINGS = 7


def all_pass_chain(x: Tensor, log_g: Tensor, feedback: Tensor, stages: int) -> Tensor:
    """All-pass filters of first order in a row; see `phaser.all_pass_chain`.

    x         [B, C, T]  float32 or float64
    log_g     [B, 1, T]  float64
    feedback  [B, 1, 1]  float64; 0: none
    returns   [B, C, T]  in the type of x
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, log_g, feedback))
    return _all_pass_chain(x, log_g, feedback, stages, keep)[0]


@torch.library.custom_op("difffx::all_pass_chain", mutates_args=())
def _all_pass_chain(
    x: Tensor, log_g: Tensor, feedback: Tensor, stages: int, keep: bool
) -> tuple[Tensor, Tensor]:
    """The sound and, if to be kept, states where the way back starts."""
    x, log_g, feedback = (t.contiguous() for t in (x, log_g, feedback))
    y, kept = torch.empty_like(x), _states(x, stages + 1, keep)
    sizes = *_sizes(x, kept), x.element_size(), stages
    compiled.call("all_pass_chain", *sizes, x, log_g, feedback, y, kept if keep else None)
    return y, kept


@_all_pass_chain.register_fake
def _(x: Tensor, log_g: Tensor, feedback: Tensor, stages: int, keep: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _states(x, stages + 1, keep)


@torch.library.custom_op("difffx::all_pass_chain_backward", mutates_args=())
def _all_pass_chain_backward(
    grad: Tensor, x: Tensor, log_g: Tensor, feedback: Tensor, kept: Tensor, stages: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to x, log_g [B, C, T] and feedback [B, C, 1]; the channels are still to be summed."""
    grad, x, log_g, feedback = (t.contiguous() for t in (grad, x, log_g, feedback))
    grads = torch.empty_like(x), log_g.new_empty(x.shape), log_g.new_empty(*x.shape[:2], 1)
    sizes = *_sizes(x, kept), x.element_size(), stages
    compiled.call("all_pass_chain_backward", *sizes, x, log_g, feedback, grad, kept, *grads)
    return grads


@_all_pass_chain_backward.register_fake
def _(
    grad: Tensor, x: Tensor, log_g: Tensor, feedback: Tensor, kept: Tensor, stages: int
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), log_g.new_empty(x.shape), log_g.new_empty(*x.shape[:2], 1)


def _keep_chain(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:3], output[1])
    ctx.stages = inputs[3]
    ctx.set_materialize_grads(False)


def _chain_back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 5 * (None,)
    by_x, by_log_g, by_feedback = _all_pass_chain_backward(grad, *ctx.saved_tensors, ctx.stages)
    return by_x, by_log_g.sum(1, keepdim=True), by_feedback.sum(1, keepdim=True), None, None


_all_pass_chain.register_autograd(_chain_back, setup_context=_keep_chain)


def swinging_chain(x: Tensor, shape: str, stages: int, *columns: Tensor) -> Tensor:
    """The sound x [B, C, T] and what an all-pass chain makes of it, whose frequency swings.

    columns   seven of [B or 1, 1, 1]: cycles per sample; phase in cycles; middle of the swing and half of its
              width, as log tan(pi frequency / sample_rate); feedback; levels of the sound and of the chain
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *columns))
    settings = torch.cat([k.double().expand(*x.shape[:2], 1) for k in columns], 2)
    return _swinging_chain(x, settings, SHAPES.index(shape), stages, keep)[0]


@torch.library.custom_op("difffx::swinging_chain", mutates_args=())
def _swinging_chain(
    x: Tensor, settings: Tensor, shape: int, stages: int, keep: bool
) -> tuple[Tensor, Tensor]:
    """x [B, C, T], settings [B, C, 7] -> the sound and, if to be kept, states where the way back starts."""
    x, settings = x.contiguous(), settings.contiguous()
    y, kept = torch.empty_like(x), _states(x, stages + 1, keep)
    sizes = *_sizes(x, kept), x.element_size(), stages, shape
    compiled.call("swinging_chain", *sizes, x, settings, y, kept if keep else None)
    return y, kept


@_swinging_chain.register_fake
def _(x: Tensor, settings: Tensor, shape: int, stages: int, keep: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _states(x, stages + 1, keep)


@torch.library.custom_op("difffx::swinging_chain_backward", mutates_args=())
def _swinging_chain_backward(
    grad: Tensor, x: Tensor, settings: Tensor, kept: Tensor, shape: int, stages: int
) -> tuple[Tensor, Tensor]:
    """The gradients to x and to the settings."""
    grad, x, settings = (t.contiguous() for t in (grad, x, settings))
    grads = torch.empty_like(x), torch.empty_like(settings)
    sizes = *_sizes(x, kept), x.element_size(), stages, shape
    compiled.call("swinging_chain_backward", *sizes, x, settings, grad, kept, *grads)
    return grads


@_swinging_chain_backward.register_fake
def _(
    grad: Tensor, x: Tensor, settings: Tensor, kept: Tensor, shape: int, stages: int
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), settings.new_empty(settings.shape)


def _keep_swinging(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2], output[1])
    ctx.shape, ctx.stages = inputs[2:4]
    ctx.set_materialize_grads(False)


def _swinging_back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 5 * (None,)
    grads = _swinging_chain_backward(grad, *ctx.saved_tensors, ctx.shape, ctx.stages)
    return *grads, None, None, None


_swinging_chain.register_autograd(_swinging_back, setup_context=_keep_swinging)


def _sizes(x: Tensor, kept: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape, kept.shape[0]


def _states(x: Tensor, count: int, keep: bool) -> Tensor:
    """Room for `count` values of every row at the start of every block, see `kept` in all_pass.c."""
    items, channels, samples = x.shape
    values = -(-samples // compiled.BLOCK) * count * compiled.LANES if keep else 0
    return x.new_empty(compiled.groups_of(items * channels), values, dtype=torch.float64)
