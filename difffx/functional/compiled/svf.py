"""A state-variable filter whose knobs move, as one recursion forward and one back, coefficients included.

The definitions stand in `difffx.functional.svf`. For the way back the inputs are kept and the memories before
every block, half a byte per sample.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import compiled
from difffx.functional.control import at_audio_rate

KINDS = ("levels", "peak", "low_shelf", "high_shelf")
"""`levels`: low-pass, band-pass and high-pass, each at its own; in the order of svf.c."""

LONG = 8
"""Lines between frames are drawn by the kernel if they are as many samples long."""


def serves(x: Tensor, *knobs: Tensor) -> bool:
    """Whether a kernel can take x [B, C, T] and knobs [B or 1, 1, F]."""
    return (
        x.ndim == 3
        and all(k.ndim == 3 and k.shape[0] in (1, x.shape[0]) and k.shape[1] == 1 for k in knobs)
        and compiled.serves(x, *knobs)
    )


def moving_filter(x: Tensor, sample_rate: int, kind: str, *knobs: Tensor) -> Tensor:
    """x [B, C, T] filtered; knobs [B or 1, 1, F]: frequency in Hz, Q, then three levels, or the gain in
    dB and, if given, what is taken from it.

    A curve of as many points as x has samples is taken as it is, float32 or float64. So are few frames if all
    knobs that have any have the same number of them; others are drawn first.
    """
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *knobs))
    short = (k.shape[-1] for k in knobs if 1 < LONG * k.shape[-1] <= x.shape[-1])
    frames = max(short, default=1)
    hz, q, *rest = (_ready(x, knob, frames) for knob in knobs)
    rest += [None] * (3 - len(rest))
    return _moving_filter(x, hz, q, *rest, KINDS.index(kind), float(sample_rate), _segments(x), keep)[0]


def _ready(x: Tensor, knob: Tensor, frames: int) -> Tensor:
    """[B, 1, T], or, in float64, [B, 1, frames] or [B, 1, 1]."""
    if knob.shape[-1] in (1, frames):
        knob = knob.double()
    elif knob.shape[-1] != x.shape[-1]:
        knob = at_audio_rate(knob.double(), x.shape[-1])
    return knob.expand(x.shape[0], 1, -1)


@torch.library.custom_op("difffx::moving_filter", mutates_args=())
def _moving_filter(
    x: Tensor,
    hz: Tensor,
    q: Tensor,
    first: Tensor,
    second: Tensor | None,
    third: Tensor | None,
    kind: int,
    sample_rate: float,
    segments: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The sound and, if to be kept, memories before every block."""
    x, knobs = x.contiguous(), _contiguous(hz, q, first, second, third)
    y, kept = torch.empty_like(x), _memories(x, segments, keep)
    sizes = *_sizes(x, segments), kind, *_types(x, knobs), sample_rate
    compiled.call("moving_filter", *sizes, x, *knobs, y, kept if keep else None)
    return y, kept


@_moving_filter.register_fake
def _(
    x: Tensor,
    hz: Tensor,
    q: Tensor,
    first: Tensor,
    second: Tensor | None,
    third: Tensor | None,
    kind: int,
    sample_rate: float,
    segments: int,
    keep: bool,
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), _memories(x, segments, keep)


@torch.library.custom_op("difffx::moving_filter_backward", mutates_args=())
def _moving_filter_backward(
    grad: Tensor,
    x: Tensor,
    hz: Tensor,
    q: Tensor,
    first: Tensor,
    second: Tensor | None,
    third: Tensor | None,
    kept: Tensor,
    kind: int,
    sample_rate: float,
    segments: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients to x and the knobs, of no elements if not wanted.

    To a curve [B, C, T], else [B, C N, F or 1] for N segments of each row: both are still to be summed.
    """
    grad, x, knobs = grad.contiguous(), x.contiguous(), _contiguous(hz, q, first, second, third)
    grads = _gradients(x, knobs, segments, wanted)
    to = (g if w else None for g, w in zip(grads, wanted, strict=True))
    sizes = *_sizes(x, segments), kind, *_types(x, knobs), sample_rate
    compiled.call("moving_filter_backward", *sizes, x, *knobs, grad, kept, *to)
    return grads


@_moving_filter_backward.register_fake
def _(
    grad: Tensor,
    x: Tensor,
    hz: Tensor,
    q: Tensor,
    first: Tensor,
    second: Tensor | None,
    third: Tensor | None,
    kept: Tensor,
    kind: int,
    sample_rate: float,
    segments: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    return _gradients(x, [hz, q, first, second, third], segments, wanted)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:6], output[1])
    ctx.options = inputs[6:9]
    ctx.set_materialize_grads(False)


def _back(ctx, grad: Tensor | None, _):
    if grad is None:
        return 10 * (None,)
    tensors, wanted = ctx.saved_tensors, list(ctx.needs_input_grad[:6])
    by_x, *grads = _moving_filter_backward(grad, *tensors, *ctx.options, wanted)
    sums = [
        by.sum_to_size(knob.shape) if want else None
        for by, knob, want in zip(grads, tensors[1:6], wanted[1:], strict=True)
    ]
    return by_x if wanted[0] else None, *sums, None, None, None, None


_moving_filter.register_autograd(_back, setup_context=_keep)


def _contiguous(*knobs: Tensor | None) -> list[Tensor | None]:
    return [None if knob is None else knob.contiguous() for knob in knobs]


def _segments(x: Tensor) -> int:
    """How many segments a row is cut into.

    With fewer rows than threads have lanes, rows are cut. That takes a second pass, so it has to make up for
    two.
    """
    samples, rows = x.shape[2], x.shape[0] * x.shape[1]
    wanted = compiled.LANES * torch.get_num_threads()
    return -(-wanted // rows) if 4 * rows <= wanted and samples >= 64 * compiled.BLOCK else 1


def _sizes(x: Tensor, segments: int) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    items, channels, samples = x.shape
    length = -(-samples // (segments * compiled.BLOCK)) * compiled.BLOCK
    return items * channels, samples, channels, segments, length, x.element_size()


def _types(x: Tensor, knobs: list[Tensor | None]) -> tuple[int, int]:
    """A byte for each knob, see `struct knob` in svf.c; the number of frames."""
    lengths = [1 if knob is None else knob.shape[-1] for knob in knobs]
    frames = max((length for length in lengths if length != x.shape[-1]), default=1)
    types = (
        0 if knob is None else 1 if length == 1 else 2 if length == frames else knob.element_size()
        for knob, length in zip(knobs, lengths, strict=True)
    )
    return sum(kind << 8 * i for i, kind in enumerate(types)), frames


def _memories(x: Tensor, segments: int, keep: bool) -> Tensor:
    """Room for two values of every row, or segment of it, at the start of every block."""
    groups = -(-x.shape[0] * x.shape[1] * segments // compiled.LANES)
    values = -(-x.shape[2] // (segments * compiled.BLOCK)) * 2 * compiled.LANES if keep else 0
    return x.new_empty(groups, values, dtype=torch.float64)


def _gradients(
    x: Tensor, knobs: list[Tensor | None], segments: int, wanted: list[bool]
) -> tuple[Tensor, ...]:
    items, channels, _ = x.shape
    rooms = [x.new_empty(x.shape if wanted[0] else 0)]
    for knob, want in zip(knobs, wanted[1:], strict=True):
        if not want:
            rooms.append(x.new_empty(0))
        elif knob.shape[-1] == x.shape[-1] > 1:
            rooms.append(knob.new_empty(items, channels, knob.shape[-1]))
        else:
            rooms.append(knob.new_zeros(items, channels * segments, knob.shape[-1]))
    return tuple(rooms)
