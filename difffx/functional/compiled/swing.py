"""What a slow oscillator moves, the oscillator included: a pass forward, a pass back, only the sound kept.

The definitions stand in `difffx.functional.modulation`. Every row has a table of settings in float64: cycles
per sample; phase in cycles; then, of a delay, the middle of the swing and half of its width in samples, the
level of the sound itself and that of each voice; of a gain, its middle and half of its width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.compiled.delay_line import MOST_SAMPLES
from difffx.functional.lfo import SHAPES

SETTINGS = 6


def serves(x: Tensor, *knobs: Tensor) -> bool:
    """Whether all knobs, [B or 1, 1, F], stand still and a kernel can take them."""
    return (
        x.ndim == 3
        and x.shape[-1] < MOST_SAMPLES
        and all(k.ndim == 3 and k.shape[0] in (1, x.shape[0]) and k.shape[1:] == (1, 1) for k in knobs)
        and compiled.serves(x, *knobs)
    )


def swinging_delay(x: Tensor, shape: str, voices: int, *columns: Tensor) -> Tensor:
    """x [B, C, T] and its delayed copies; columns [B or 1, C or 1, 1] of the table above, all six."""
    return _swing(x, _table(x, columns), SHAPES.index(shape), voices)


def swinging_gain(x: Tensor, shape: str, *columns: Tensor) -> Tensor:
    """x [B, C, T] at a level that swings; columns [B or 1, C or 1, 1] of the table above, the first four."""
    return _swing(x, _table(x, columns), SHAPES.index(shape), 0)


def _table(x: Tensor, columns: tuple[Tensor, ...]) -> Tensor:
    """[B, C, 6]."""
    none = x.new_zeros(1, 1, SETTINGS - len(columns), dtype=torch.float64)
    return torch.cat([k.double().expand(*x.shape[:2], -1) for k in (*columns, none)], 2)


@torch.library.custom_op("difffx::swing", mutates_args=())
def _swing(x: Tensor, settings: Tensor, shape: int, voices: int) -> Tensor:
    """x [B, C, T], settings [B, C, 6] -> [B, C, T]; of no voices, the level swings."""
    x, settings = x.contiguous(), settings.contiguous()
    y = torch.empty_like(x)
    compiled.call("swing", *_sizes(x, shape, voices), settings, x, y)
    return y


@_swing.register_fake
def _(x: Tensor, settings: Tensor, shape: int, voices: int) -> Tensor:
    return x.new_empty(x.shape)


@torch.library.custom_op("difffx::swing_backward", mutates_args=())
def _swing_backward(
    grad: Tensor, x: Tensor, settings: Tensor, shape: int, voices: int, to_x: bool, to_settings: bool
) -> tuple[Tensor, Tensor]:
    """The gradients to x and to the settings, of no elements if not wanted."""
    grad, x, settings = (t.contiguous() for t in (grad, x, settings))
    by_x, by_settings = _gradients(x, settings, to_x, to_settings)
    wanted = by_x if to_x else None, by_settings if to_settings else None
    compiled.call("swing_backward", *_sizes(x, shape, voices), settings, x, grad, *wanted)
    return by_x, by_settings


@_swing_backward.register_fake
def _(
    grad: Tensor, x: Tensor, settings: Tensor, shape: int, voices: int, to_x: bool, to_settings: bool
) -> tuple[Tensor, Tensor]:
    return _gradients(x, settings, to_x, to_settings)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.shape, ctx.voices = inputs[2:]


def _back(ctx, grad: Tensor):
    to_x, to_settings = ctx.needs_input_grad[:2]
    by_x, by_settings = _swing_backward(grad, *ctx.saved_tensors, ctx.shape, ctx.voices, to_x, to_settings)
    return by_x if to_x else None, by_settings if to_settings else None, None, None


_swing.register_autograd(_back, setup_context=_keep)


def _sizes(x: Tensor, shape: int, voices: int) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    items, channels, samples = x.shape
    return items * channels, samples, x.element_size(), shape, voices


def _gradients(x: Tensor, settings: Tensor, to_x: bool, to_settings: bool) -> tuple[Tensor, Tensor]:
    """Room for both."""
    return x.new_empty(x.shape if to_x else 0), settings.new_empty(settings.shape if to_settings else 0)
