"""A transient shaper as one recursion: level, sliding maximum, three envelopes, gain.

The definition stands in `difffx.functional.dynamics`; here it is one pass forward and one back, which keeps
one and a quarter bytes per sample beside the sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.compiled.tensors import are_knobs, contiguous, curve_or_column


def shape_transients(
    x: Tensor,
    *,
    attack_db: Tensor,
    sustain_db: Tensor,
    poles: tuple[Tensor, Tensor, Tensor, Tensor],
    window: int,
    floor_db: float,
    depth_db: float,
) -> Tensor | None:
    """x [B, C, T] with its onsets and tails turned up or down; see the definition.

    poles   [B or 1, 1, 1] in float64: of the falls of both peaks, of the rises of the envelopes
    window  samples for which a peak counts

    The gains may be curves. None where pure torch has to do it.
    """
    if not (
        x.ndim == 3
        and are_knobs(x.shape[0], poles, (attack_db, sustain_db))
        and compiled.serves(x, attack_db, sustain_db, *poles)
    ):
        return None
    items, _, samples = x.shape
    gains = (curve_or_column(gain_db, items, samples) for gain_db in (attack_db, sustain_db))
    curves, columns = zip(*gains, strict=True)
    falls_db = [-20.0 * pole.log10().expand(items, 1, 1) for pole in poles[:2]]
    rises = [pole.expand(items, 1, 1) for pole in poles[2:]]
    table = torch.cat((*columns, *falls_db, *rises), 1).squeeze(2)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, table, *curves) if t is not None)
    return _transients(x, table, *curves, min(window, samples), floor_db, depth_db, keep)[0]


@torch.library.custom_op("difffx::transients", mutates_args=())
def _transients(
    x: Tensor,
    settings: Tensor,
    attacks: Tensor | None,
    sustains: Tensor | None,
    window: int,
    floor_db: float,
    depth_db: float,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """x [B, C, T]; settings [B, 6], curves [B, 1, T] in float64 -> the sound and, to keep, states."""
    x, settings, attacks, sustains = contiguous(x, settings, attacks, sustains)
    y, kept = _outputs(x, settings, keep)
    sizes = _sizes(x, kept, window, floor_db, depth_db)
    compiled.call("transients", *sizes, settings, attacks, sustains, x, y, kept if keep else None)
    return y, kept


@_transients.register_fake
def _(x, settings, attacks, sustains, window, floor_db, depth_db, keep):
    return _outputs(x, settings, keep)


@torch.library.custom_op("difffx::transients_backward", mutates_args=())
def _transients_backward(
    grad: Tensor,
    x: Tensor,
    settings: Tensor,
    attacks: Tensor | None,
    sustains: Tensor | None,
    kept: Tensor,
    window: int,
    floor_db: float,
    depth_db: float,
    to_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients to x, settings and curves; of no elements if not there or, to x, not wanted."""
    grad, *inputs = contiguous(grad, x, settings, attacks, sustains)
    grads = _gradients(*inputs, to_x)
    wanted = (by if by.numel() else None for by in grads)
    x, *knobs = inputs
    sizes = _sizes(x, kept, window, floor_db, depth_db)
    compiled.call("transients_backward", *sizes, *knobs, x, grad, kept, *wanted)
    return grads


@_transients_backward.register_fake
def _(grad, x, settings, attacks, sustains, kept, window, floor_db, depth_db, to_x):
    return _gradients(x, settings, attacks, sustains, to_x)


def _keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.window, ctx.floor_db, ctx.depth_db, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, _):
    if grad is None:
        return 8 * (None,)
    needed = ctx.needs_input_grad
    grads = _transients_backward(grad, *ctx.saved_tensors, ctx.window, ctx.floor_db, ctx.depth_db, needed[0])
    wanted = (by if yes else None for yes, by in zip(needed, grads, strict=False))
    return *wanted, None, None, None, None


_transients.register_autograd(_backward, setup_context=_keep_for_backward)


def _outputs(x: Tensor, settings: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    items, _, samples = x.shape
    states = 5 * -(-samples // compiled.BLOCK) * compiled.LANES if keep else 0
    return x.new_empty(x.shape), settings.new_empty(compiled.groups_of(items), states)


def _gradients(
    x: Tensor, settings: Tensor, attacks: Tensor | None, sustains: Tensor | None, to_x: bool
) -> tuple[Tensor, ...]:
    """Room for them."""
    like = x if to_x else None, settings, attacks, sustains
    return tuple(x.new_empty(0) if t is None else t.new_empty(t.shape) for t in like)


def _sizes(x: Tensor, kept: Tensor, window: int, floor_db: float, depth_db: float) -> tuple[int | float, ...]:
    """What the C functions want to know, in their order."""
    return *x.shape, kept.shape[0], x.element_size(), window, 10.0 ** (floor_db / 20.0), depth_db
