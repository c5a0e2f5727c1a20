"""Combs and Schroeder's all-passes, as one pass forward and one back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from difffx.functional import compiled


@torch.library.custom_op("difffx::combs", mutates_args=())
def combs(x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor, delays: Sequence[int]) -> Tensor:
    """Damped combs, those of a side added; see `fdn.combs`.

    x              [B, 1 or S, T]  float32 or float64
    gains, levels  [B, S, N]       float64
    pole           [B]             float64
    delays         S N whole numbers of samples, 1 or more, side after side
    returns        [B, S, T]       in the type of x
    """
    x, *settings = (t.contiguous() for t in (x, gains, levels, pole))
    y = x.new_empty(_shape(x, gains))
    compiled.call("combs", *_comb_sizes(x, gains), torch.tensor(delays), x, *settings, y)
    return y


@combs.register_fake
def _(x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor, delays: Sequence[int]) -> Tensor:
    return x.new_empty(_shape(x, gains))


@torch.library.custom_op("difffx::combs_backward", mutates_args=())
def _combs_backward(
    grad: Tensor, x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor, delays: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients to x and the pole, of each side, [B, S, T] and [B, S], and to gains and levels."""
    grad, x, *settings = (t.contiguous() for t in (grad, x, gains, levels, pole))
    grads = _comb_gradients(x, gains, levels, pole)
    in_order = grads[0], *grads[2:], grads[1]
    compiled.call(
        "combs_backward", *_comb_sizes(x, gains), torch.tensor(delays), x, *settings, grad, *in_order
    )
    return grads


@_combs_backward.register_fake
def _(
    grad: Tensor, x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor, delays: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _comb_gradients(x, gains, levels, pole)


def _keep_combs(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.delays = inputs[4]


def _combs_back(ctx, grad: Tensor):
    x = ctx.saved_tensors[0]
    by_x, by_pole, by_gains, by_levels = _combs_backward(grad, *ctx.saved_tensors, ctx.delays)
    return by_x.sum_to_size(x.shape), by_gains, by_levels, by_pole.sum(1), None


combs.register_autograd(_combs_back, setup_context=_keep_combs)


def schroeder(x: Tensor, gain: Tensor, delays: Sequence[int]) -> Tensor:
    """All-passes in a row; see `fdn.schroeder_all_pass`.

    x         [R, T]  float32 or float64
    gain      [R]     float64
    delays    whole numbers of samples, 1 or more
    returns   [R, T]  in the type of x
    """
    return _schroeder(x, gain, [min(delay, x.shape[1]) for delay in delays])[0]


@torch.library.custom_op("difffx::schroeder", mutates_args=())
def _schroeder(x: Tensor, gain: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The sound, and what is in the lines when it ends: from there on, all can be gone through backward."""
    x, gain = x.contiguous(), gain.contiguous()
    y, lines = torch.empty_like(x), _lines(x, gain, lengths)
    compiled.call("schroeder", *_sizes(x, lengths), torch.tensor(lengths), x, gain, y, lines)
    return y, lines


@_schroeder.register_fake
def _(x: Tensor, gain: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _lines(x, gain, lengths)


@torch.library.custom_op("difffx::schroeder_backward", mutates_args=())
def _schroeder_backward(
    grad: Tensor, gain: Tensor, y: Tensor, lines: Tensor, lengths: Sequence[int], to_x: bool
) -> tuple[Tensor, Tensor]:
    """The gradients to x, if wanted, and to the gain."""
    grad, gain, y, lines = (t.contiguous() for t in (grad, gain, y, lines))
    by_x, by_gain = y.new_empty(y.shape if to_x else 0), torch.empty_like(gain)
    inputs = torch.tensor(lengths), gain, y, lines, grad
    compiled.call("schroeder_backward", *_sizes(y, lengths), *inputs, by_x if to_x else None, by_gain)
    return by_x, by_gain


@_schroeder_backward.register_fake
def _(
    grad: Tensor, gain: Tensor, y: Tensor, lines: Tensor, lengths: Sequence[int], to_x: bool
) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape if to_x else 0), torch.empty_like(gain)


def _keep_schroeder(ctx, inputs, output) -> None:
    _, gain, ctx.lengths = inputs
    ctx.save_for_backward(gain, *output)
    ctx.set_materialize_grads(False)


def _schroeder_back(ctx, grad: Tensor | None, _):
    if grad is None:
        return None, None, None
    to_x = ctx.needs_input_grad[0]
    by_x, by_gain = _schroeder_backward(grad, *ctx.saved_tensors, ctx.lengths, to_x)
    return by_x if to_x else None, by_gain, None


_schroeder.register_autograd(_schroeder_back, setup_context=_keep_schroeder)


def _shape(x: Tensor, gains: Tensor) -> tuple[int, ...]:
    return *gains.shape[:2], x.shape[2]


def _comb_sizes(x: Tensor, gains: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape[:2], *gains.shape[1:], x.shape[2], x.element_size()


def _comb_gradients(
    x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    by_pole = pole.new_empty(gains.shape[:2])
    return x.new_empty(_shape(x, gains)), by_pole, torch.empty_like(gains), torch.empty_like(levels)


def _sizes(x: Tensor, lengths: Sequence[int]) -> tuple[int, ...]:
    return *x.shape, x.element_size(), len(lengths)


def _lines(x: Tensor, gain: Tensor, lengths: Sequence[int]) -> Tensor:
    return gain.new_empty(len(x), sum(lengths))
