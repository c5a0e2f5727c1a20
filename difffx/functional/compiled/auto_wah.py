"""An auto-wah as one recursion: level, attack and release, a band-pass that they move.

The definition stands in `difffx.functional.modulation`. For the way back the sound is kept and three values
of every row before every block, three quarters of a byte per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled


def auto_wah(x: Tensor, sample_rate: int, *columns: Tensor) -> Tensor:
    """x [B, C, T] through a band-pass that opens as it grows louder.

    columns   eight of [B or 1, 1, 1]: frequency at rest in Hz; octaves; gain before the follower; its poles
              for attack and release; 1 / Q; levels of the sound and of the band-pass
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *columns))
    settings = torch.cat([k.double().expand(*x.shape[:2], 1) for k in columns], 2)
    return _auto_wah(x, settings, float(sample_rate), keep)[0]


@torch.library.custom_op("difffx::auto_wah", mutates_args=())
def _auto_wah(x: Tensor, settings: Tensor, sample_rate: float, keep: bool) -> tuple[Tensor, Tensor]:
    """x [B, C, T], settings [B, C, 8] -> the sound and, if to be kept, states where the way back starts."""
    x, settings = x.contiguous(), settings.contiguous()
    y, kept = torch.empty_like(x), _states(x, keep)
    compiled.call("auto_wah", *_sizes(x, kept), sample_rate, x, settings, y, kept if keep else None)
    return y, kept


@_auto_wah.register_fake
def _(x: Tensor, settings: Tensor, sample_rate: float, keep: bool) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _states(x, keep)


@torch.library.custom_op("difffx::auto_wah_backward", mutates_args=())
def _auto_wah_backward(
    grad: Tensor, x: Tensor, settings: Tensor, kept: Tensor, sample_rate: float
) -> tuple[Tensor, Tensor]:
    """The gradients to x and to the settings."""
    grad, x, settings = (t.contiguous() for t in (grad, x, settings))
    by_x, by_settings = torch.empty_like(x), torch.empty_like(settings)
    by_level = x.new_empty(x.shape, dtype=torch.float64) if x.shape[1] > 1 else None
    sizes = *_sizes(x, kept), sample_rate
    compiled.call("auto_wah_backward", *sizes, x, settings, grad, kept, by_x, by_level, by_settings)
    if by_level is not None:
        magnitude = x.abs()
        loudest = magnitude == magnitude.amax(1, keepdim=True)
        share = by_level.sum(1, keepdim=True) / loudest.sum(1, keepdim=True)
        by_x += (share * loudest * x.sgn()).to(x.dtype)
    return by_x, by_settings


@_auto_wah_backward.register_fake
def _(grad: Tensor, x: Tensor, settings: Tensor, kept: Tensor, sample_rate: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), settings.new_empty(settings.shape)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2], output[1])
    ctx.sample_rate = inputs[2]
    ctx.set_materialize_grads(False)


def _back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 4 * (None,)
    return *_auto_wah_backward(grad, *ctx.saved_tensors, ctx.sample_rate), None, None


_auto_wah.register_autograd(_back, setup_context=_keep)


def _sizes(x: Tensor, kept: Tensor) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    return *x.shape, kept.shape[0], x.element_size()


def _states(x: Tensor, keep: bool) -> Tensor:
    """Room for the states of every row at the start of every block, see `kept` in auto_wah.c."""
    items, channels, samples = x.shape
    values = -(-samples // compiled.BLOCK) * 3 * compiled.LANES if keep else 0
    return x.new_empty(compiled.groups_of(items * channels), values, dtype=torch.float64)
