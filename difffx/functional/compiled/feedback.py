"""The loop of a compressor that hears itself, as one recursion forward and one back."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled


def feedback_reduction(over_db: Tensor, settings: Tensor) -> Tensor:
    """The recursion of `difffx.functional.feedback`.

    over_db   [R, T]  float32 or float64; worked on in float64
    settings  [R, 4]  float64: pole of the attack, of the release, ratio - 1, width of the knee in dB
    returns   [R, T]  in the type of over_db
    """
    keep = torch.is_grad_enabled() and (over_db.requires_grad or settings.requires_grad)
    return _reduction(over_db, settings, keep)[0]


@torch.library.custom_op("difffx::feedback_reduction", mutates_args=())
def _reduction(over_db: Tensor, settings: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """The reduction and, if to be kept, what the way back starts from."""
    over_db, settings = over_db.contiguous(), settings.contiguous()
    y, kept = _outputs(over_db, settings, keep)
    compiled.call("feedback_reduction", *_sizes(over_db, kept), settings, over_db, y, kept if keep else None)
    return y, kept


@_reduction.register_fake
def _(over_db: Tensor, settings: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    return _outputs(over_db, settings, keep)


@torch.library.custom_op("difffx::feedback_reduction_backward", mutates_args=())
def _reduction_backward(
    grad: Tensor, over_db: Tensor, settings: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients to over_db and to the settings."""
    grad, over_db, settings = (t.contiguous() for t in (grad, over_db, settings))
    grads = torch.empty_like(over_db), torch.empty_like(settings)
    compiled.call(
        "feedback_reduction_backward", *_sizes(over_db, kept), settings, over_db, grad, kept, *grads
    )
    return grads


@_reduction_backward.register_fake
def _(grad: Tensor, over_db: Tensor, settings: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    return over_db.new_empty(over_db.shape), settings.new_empty(settings.shape)


def _keep_for_backward(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2], output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, _):
    if grad is None:
        return None, None, None
    return *_reduction_backward(grad, *ctx.saved_tensors), None


_reduction.register_autograd(_backward, setup_context=_keep_for_backward)


def _outputs(over_db: Tensor, settings: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    rows, samples = over_db.shape
    states = -(-samples // compiled.BLOCK) * 2 * compiled.LANES if keep else 0
    return over_db.new_empty(over_db.shape), settings.new_empty(compiled.groups_of(rows), states)


def _sizes(over_db: Tensor, kept: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *over_db.shape, kept.shape[0], over_db.element_size()
