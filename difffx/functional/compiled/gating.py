"""An expander or gate as one recursion: level, sliding maximum, hysteresis, static curve, follower, gain.

The definition stands in `difffx.functional.gating`; here it is one pass forward and one back, which keeps
three quarters of a byte per sample beside the sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.compiled.tensors import are_knobs, contiguous, curve_or_column
from difffx.functional.units import ms_to_pole


def expand(
    x: Tensor,
    sample_rate: int,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    knee_db: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    range_db: Tensor,
    hysteresis_db: Tensor,
    hold: int,
    floor_db: float,
    key: Tensor | None = None,
) -> Tensor | None:
    """x [B, C, T] turned down where it, or the key [B, C', T], is quiet.

    threshold_db may be a curve, the others are [B or 1, 1, 1]. None where pure torch has to do it.
    """
    still = ratio, knee_db, range_db, hysteresis_db, attack_ms, release_ms
    heard = x if key is None else key
    if not (
        heard.ndim == x.ndim == 3
        and heard.dtype == x.dtype
        and (heard.shape[0], heard.shape[2]) == (x.shape[0], x.shape[2])
        and are_knobs(x.shape[0], still, (threshold_db,))
        and compiled.serves(x, heard, threshold_db, *still)
    ):
        return None
    items, _, samples = x.shape
    curve, column = curve_or_column(threshold_db, items, samples)
    poles = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in (attack_ms, release_ms))
    columns = column, ratio.double() - 1.0, knee_db, range_db, hysteresis_db, *poles
    table = torch.cat([column.double().expand(items, 1, 1) for column in columns], 1).squeeze(2)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, key, table, curve) if t is not None)
    return _gate(x, key, table, curve, min(hold, samples), floor_db, keep)[0]


@torch.library.custom_op("difffx::gate", mutates_args=())
def _gate(
    x: Tensor,
    key: Tensor | None,
    settings: Tensor,
    thresholds: Tensor | None,
    window: int,
    floor_db: float,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """x and key; settings [B, 7] and a curve [B, 1, T] in float64 -> the sound and, to keep, states."""
    x, key, settings, thresholds = contiguous(x, key, settings, thresholds)
    y, kept = _outputs(x, settings, keep)
    sizes = _sizes(x, key, kept, window, floor_db)
    sounds = x, x if key is None else key
    compiled.call("gate", *sizes, settings, thresholds, *sounds, y, kept if keep else None)
    return y, kept


@_gate.register_fake
def _(x, key, settings, thresholds, window, floor_db, keep):
    return _outputs(x, settings, keep)


@torch.library.custom_op("difffx::gate_backward", mutates_args=())
def _gate_backward(
    grad: Tensor,
    x: Tensor,
    key: Tensor | None,
    settings: Tensor,
    thresholds: Tensor | None,
    kept: Tensor,
    window: int,
    floor_db: float,
    to_sounds: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients to x, key, settings, thresholds; of no elements if not there or, to sounds, unwanted."""
    grad, x, key, settings, thresholds = contiguous(grad, x, key, settings, thresholds)
    grads = _gradients(x, key, settings, thresholds, to_sounds)
    wanted = (by if by.numel() else None for by in grads)
    sizes = _sizes(x, key, kept, window, floor_db)
    sounds = x, x if key is None else key
    compiled.call("gate_backward", *sizes, settings, thresholds, *sounds, grad, kept, *wanted)
    return grads


@_gate_backward.register_fake
def _(grad, x, key, settings, thresholds, kept, window, floor_db, to_sounds):
    return _gradients(x, key, settings, thresholds, to_sounds)


def _keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.window, ctx.floor_db, _ = inputs
    ctx.save_for_backward(*tensors, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, _):
    if grad is None:
        return 7 * (None,)
    to_sounds = any(ctx.needs_input_grad[:2])
    grads = _gate_backward(grad, *ctx.saved_tensors, ctx.window, ctx.floor_db, to_sounds)
    wanted = (by if needed else None for needed, by in zip(ctx.needs_input_grad, grads, strict=False))
    return *wanted, None, None, None


_gate.register_autograd(_backward, setup_context=_keep_for_backward)


def _outputs(x: Tensor, settings: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    items, _, samples = x.shape
    states = 3 * -(-samples // compiled.BLOCK) * compiled.LANES if keep else 0
    return x.new_empty(x.shape), settings.new_empty(compiled.groups_of(items), states)


def _gradients(
    x: Tensor, key: Tensor | None, settings: Tensor, thresholds: Tensor | None, to_sounds: bool
) -> tuple[Tensor, ...]:
    """Room for them."""
    sounds = (x, key) if to_sounds else (None, None)
    like = *sounds, settings, thresholds
    return tuple(x.new_empty(0) if t is None else t.new_empty(t.shape) for t in like)


def _sizes(
    x: Tensor, key: Tensor | None, kept: Tensor, window: int, floor_db: float
) -> tuple[int | float, ...]:
    """What the C functions want to know, in their order."""
    keys = x.shape[1] if key is None else key.shape[1]
    return *x.shape, keys, kept.shape[0], x.element_size(), window, 10.0 ** (floor_db / 20.0)
