"""Delay lines and those that hear themselves, still and moving, as one pass forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled


def feedback_line(x: Tensor, start: Tensor, weights: Tensor, feedback: Tensor, pole: Tensor | None) -> Tensor:
    """Echoes of echoes; see `feedback_delays.feedback_line`.

    x         [R, T]  float32 or float64
    start     [R]     whole samples to the nearest neighbor, 1 or more, int64
    weights   [R, W]  of W neighbors, 2 or 4; float64
    feedback  [R, 1]  float64
    pole      [R, 1]  float64, or None
    returns   [R, T]  in the type of x
    """
    return _line(x, start, weights, feedback, pole, _learned(weights, feedback, pole))[0]


def still_line(x: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """One echo: as `feedback_line` without feedback, and `start` may be 0."""
    return _line(x, start, weights, None, None, _learned(weights))[0]


def moving_feedback_line(x: Tensor, delay: Tensor, feedback: Tensor, neighbors: int) -> Tensor:
    """A delay line whose time moves while it hears itself; see `feedback_delays.moving_feedback_line`.

    x         [B, C, T]            float32 or float64
    delay     [B or 1, C or 1, T]  float64; less than 2 is held at 2
    feedback  [B, C, 1]            float64
    returns   [B, C, T]            in the type of x
    """
    return _moving_line(x, delay, feedback, neighbors, _learned(x, delay, feedback))[0]


@torch.library.custom_op("difffx::feedback_line", mutates_args=())
def _line(
    x: Tensor, start: Tensor, weights: Tensor, feedback: Tensor | None, pole: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    """The sound and, if to be kept, what entered the line, where that is not x."""
    x, *settings = (t if t is None else t.contiguous() for t in (x, start, weights, feedback, pole))
    y, entered = torch.empty_like(x), _entered(x, feedback, keep)
    kept = entered if entered.numel() else None
    compiled.call("feedback_line", *_sizes(x, weights), x, *settings, y, kept)
    return y, entered


@_line.register_fake
def _(
    x: Tensor, start: Tensor, weights: Tensor, feedback: Tensor | None, pole: Tensor | None, keep: bool
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _entered(x, feedback, keep)


@torch.library.custom_op("difffx::feedback_line_backward", mutates_args=())
def _line_backward(
    grad: Tensor,
    x: Tensor | None,
    start: Tensor,
    weights: Tensor,
    feedback: Tensor | None,
    pole: Tensor | None,
    entered: Tensor,
    to_x: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients to x, if wanted, and to weights, feedback and pole: [R, W + 2], if `entered` was kept."""
    inputs = [t if t is None else t.contiguous() for t in (x, start, weights, feedback, pole)]
    grad, entered = grad.contiguous(), entered.contiguous()
    by_x, sums = _gradients(grad, weights, to_x)
    kept = inputs[0] if feedback is None else entered if entered.numel() else None
    sizes = _sizes(grad, weights)
    compiled.call("feedback_line_backward", *sizes, *inputs, kept, grad, by_x if to_x else None, sums)
    return by_x, sums


@_line_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor | None,
    start: Tensor,
    weights: Tensor,
    feedback: Tensor | None,
    pole: Tensor | None,
    entered: Tensor,
    to_x: bool,
) -> tuple[Tensor, Tensor]:
    return _gradients(grad, weights, to_x)


def _keep_line(ctx, inputs, output) -> None:
    x, *settings, keep = inputs
    feedback, pole = settings[-2:]
    needed = keep and (feedback is None or pole is not None)
    ctx.save_for_backward(x if needed else None, *settings, output[1])
    ctx.set_materialize_grads(False)


def _line_back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 6 * (None,)
    to_x, _, *learned, _ = ctx.needs_input_grad
    by_x, sums = _line_backward(grad, *ctx.saved_tensors, to_x)
    by_settings = sums[:, :-2], sums[:, -2:-1], sums[:, -1:]
    wanted = (by if needed else None for by, needed in zip(by_settings, learned, strict=True))
    return by_x if to_x else None, None, *wanted, None


_line.register_autograd(_line_back, setup_context=_keep_line)


@torch.library.custom_op("difffx::moving_feedback_line", mutates_args=())
def _moving_line(
    x: Tensor, delay: Tensor, feedback: Tensor, neighbors: int, keep: bool
) -> tuple[Tensor, Tensor]:
    """The sound and, if to be kept, what entered the line."""
    x, delay, feedback = (t.contiguous() for t in (x, delay, feedback))
    y, entered = torch.empty_like(x), _room(x, keep)
    sizes = _moving_sizes(x, delay, neighbors)
    compiled.call("moving_feedback_line", *sizes, x, delay, feedback, y, entered if keep else None)
    return y, entered


@_moving_line.register_fake
def _(x: Tensor, delay: Tensor, feedback: Tensor, neighbors: int, keep: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _room(x, keep)


@torch.library.custom_op("difffx::moving_feedback_line_backward", mutates_args=())
def _moving_line_backward(
    grad: Tensor, delay: Tensor, feedback: Tensor, entered: Tensor, neighbors: int, to_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to x, if wanted, to the delay of each row [B, C, T], and to the feedback."""
    inputs = [t.contiguous() for t in (delay, feedback, entered, grad)]
    by_x, by_delay, by_feedback = _moving_gradients(grad, feedback, to_x)
    sizes = _moving_sizes(grad, delay, neighbors)
    grads = by_x if to_x else None, by_delay, by_feedback
    compiled.call("moving_feedback_line_backward", *sizes, *inputs, *grads)
    return by_x, by_delay, by_feedback


@_moving_line_backward.register_fake
def _(
    grad: Tensor, delay: Tensor, feedback: Tensor, entered: Tensor, neighbors: int, to_x: bool
) -> tuple[Tensor, Tensor, Tensor]:
    return _moving_gradients(grad, feedback, to_x)


def _keep_moving_line(ctx, inputs, output) -> None:
    _, delay, feedback, ctx.neighbors, _ = inputs
    ctx.save_for_backward(delay, feedback, output[1])
    ctx.set_materialize_grads(False)


def _moving_line_back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 5 * (None,)
    delay, to_x = ctx.saved_tensors[0], ctx.needs_input_grad[0]
    by_x, by_delay, by_feedback = _moving_line_backward(grad, *ctx.saved_tensors, ctx.neighbors, to_x)
    return by_x if to_x else None, by_delay.sum_to_size(delay.shape), by_feedback, None, None


_moving_line.register_autograd(_moving_line_back, setup_context=_keep_moving_line)


def _learned(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _sizes(x: Tensor, weights: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape, x.element_size(), weights.shape[1]


def _moving_sizes(x: Tensor, delay: Tensor, neighbors: int) -> tuple[int, ...]:
    return *x.shape, *delay.shape[:2], x.element_size(), neighbors


def _room(x: Tensor, keep: bool) -> Tensor:
    return x.new_empty(x.shape if keep else 0)


def _entered(x: Tensor, feedback: Tensor | None, keep: bool) -> Tensor:
    return _room(x, keep and feedback is not None)


def _gradients(grad: Tensor, weights: Tensor, to_x: bool) -> tuple[Tensor, Tensor]:
    return _room(grad, to_x), weights.new_empty(len(weights), weights.shape[1] + 2)


def _moving_gradients(grad: Tensor, feedback: Tensor, to_x: bool) -> tuple[Tensor, Tensor, Tensor]:
    by_delay = grad.new_empty(grad.shape, dtype=torch.float64)
    return _room(grad, to_x), by_delay, torch.empty_like(feedback)
