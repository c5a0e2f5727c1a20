"""A limiter as one recursion: level, sliding maximum, release, moving averages, gain.

The definition stands in `difffx.functional.limiting`; here it is one pass forward and one back, which keeps
the gain beside the sound, and a quarter of a byte per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.compiled.tensors import are_knobs, contiguous, curve_or_column
from difffx.functional.units import ms_to_pole


def limit(
    x: Tensor,
    sample_rate: int,
    *,
    ceiling_db: Tensor,
    drive_db: Tensor,
    release_ms: Tensor,
    lookahead: int,
    margin: float,
    taps: list[list[float]] | None,
) -> Tensor | None:
    """x [B, C, T] limited; `margin` is a factor of the ceiling, `taps` lead to points between the samples.

    release_ms is [B or 1, 1, 1], the others may be curves. None where pure torch has to do it.
    """
    levels, knobs = (ceiling_db, drive_db), (ceiling_db, drive_db, release_ms)
    if not (x.ndim == 3 and are_knobs(x.shape[0], (release_ms,), levels) and compiled.serves(x, *knobs)):
        return None
    parts = (curve_or_column(level_db, x.shape[0], x.shape[2]) for level_db in levels)
    curves, columns = zip(*parts, strict=True)
    pole = ms_to_pole(release_ms.double(), sample_rate).expand(x.shape[0], 1, 1)
    table = torch.cat((*columns, pole), 1).squeeze(2)
    points = None if taps is None else torch.tensor(taps, dtype=torch.float64)
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *knobs))
    return _limit(x, table, *curves, points, lookahead, margin, keep)[0]


@torch.library.custom_op("difffx::limit", mutates_args=())
def _limit(
    x: Tensor,
    settings: Tensor,
    ceilings: Tensor | None,
    drives: Tensor | None,
    taps: Tensor | None,
    lookahead: int,
    margin: float,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """x [B, C, T]; settings [B, 3], curves [B, 1, T] in float64 -> the sound; to keep, gain and states."""
    x, settings, ceilings, drives = contiguous(x, settings, ceilings, drives)
    y, gain, kept = _outputs(x, settings, lookahead, keep)
    sizes = _sizes(x, kept, lookahead, margin)
    kept_or_not = (gain, kept) if keep else (None, None)
    compiled.call("limit", *sizes, settings, ceilings, drives, taps, x, y, *kept_or_not)
    return y, gain, kept


@_limit.register_fake
def _(x, settings, ceilings, drives, taps, lookahead, margin, keep):
    return _outputs(x, settings, lookahead, keep)


@torch.library.custom_op("difffx::limit_backward", mutates_args=())
def _limit_backward(
    grad: Tensor,
    x: Tensor,
    settings: Tensor,
    ceilings: Tensor | None,
    drives: Tensor | None,
    taps: Tensor | None,
    gain: Tensor,
    kept: Tensor,
    lookahead: int,
    margin: float,
    to_x: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients to x, settings and curves; of no elements if not there or, to x, not wanted."""
    grad, x, settings, ceilings, drives = contiguous(grad, x, settings, ceilings, drives)
    grads = tuple(by.zero_() for by in _gradients(x, settings, ceilings, drives, to_x))
    wanted = (by if by.numel() else None for by in grads)
    sizes = _sizes(x, kept, lookahead, margin)
    compiled.call("limit_backward", *sizes, settings, ceilings, drives, taps, x, grad, gain, kept, *wanted)
    return grads


@_limit_backward.register_fake
def _(grad, x, settings, ceilings, drives, taps, gain, kept, lookahead, margin, to_x):
    return _gradients(x, settings, ceilings, drives, to_x)


def _keep_for_backward(ctx, inputs, output) -> None:
    *tensors, ctx.lookahead, ctx.margin, _ = inputs
    ctx.save_for_backward(*tensors, *output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, *_):
    if grad is None:
        return 8 * (None,)
    needed = ctx.needs_input_grad
    grads = _limit_backward(grad, *ctx.saved_tensors, ctx.lookahead, ctx.margin, needed[0])
    wanted = (by if yes else None for yes, by in zip(needed, grads, strict=False))
    return *wanted, None, None, None, None


_limit.register_autograd(_backward, setup_context=_keep_for_backward)


def _outputs(x: Tensor, settings: Tensor, lookahead: int, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
    items, _, samples = x.shape
    blocks = -(-(samples + lookahead) // compiled.BLOCK) if keep else 0
    gain = x.new_empty(items, samples if keep else 0)
    kept = settings.new_empty(compiled.groups_of(items), blocks * compiled.LANES)
    return x.new_empty(x.shape), gain, kept


def _gradients(
    x: Tensor, settings: Tensor, ceilings: Tensor | None, drives: Tensor | None, to_x: bool
) -> tuple[Tensor, ...]:
    """Room for them."""
    like = x if to_x else None, settings, ceilings, drives
    return tuple(x.new_empty(0) if t is None else t.new_empty(t.shape) for t in like)


def _sizes(x: Tensor, kept: Tensor, lookahead: int, margin: float) -> tuple[int | float, ...]:
    """What the C functions want to know, in their order."""
    return *x.shape, kept.shape[0], x.element_size(), lookahead, margin
