"""Second-order filters whose knobs may move: the state-variable form, exact, without a loop over samples.

Where every knob stands still the filter runs as `cascade.sosfilt`, which is the same filter and faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional import filters
from difffx.functional.cascade import sosfilt
from difffx.functional.compiled import svf as compiled_svf
from difffx.functional.control import at_audio_rate

BLOCK = 128
"""Samples per block; the loops over a block are this long however long the audio is."""

SECTIONS: dict[str, Callable[..., Tensor]] = {
    "low_pass": filters.low_pass,
    "high_pass": filters.high_pass,
    "band_pass": filters.band_pass,
    "notch": filters.notch,
    "all_pass": filters.all_pass,
    "peak": filters.peak,
    "low_shelf": filters.low_shelf,
    "high_shelf": filters.high_shelf,
}
LEVELS = {
    "low_pass": (1.0, 0.0, 0.0),
    "high_pass": (0.0, 0.0, 1.0),
    "band_pass": (0.0, 1.0, 0.0),
    "notch": (1.0, 0.0, 1.0),
    "all_pass": (1.0, -1.0, 1.0),
}
"""What of the low-pass, the band-pass and the high-pass makes each kind without a gain."""


def svf(
    x: Tensor,
    sample_rate: int,
    *,
    kind: str,
    frequency_hz: Tensor,
    q: Tensor,
    gain_db: Tensor | None = None,
) -> Tensor:
    """One filter of the cookbook, whose frequency, Q and gain may move, up to audio rate.

    x             [B, C, T]
    kind          low_pass, high_pass, band_pass, notch, all_pass, peak, low_shelf or high_shelf
    frequency_hz  [B, 1, F]  held below 0.49 of the sample rate
    q             [B, 1, F]
    gain_db       [B, 1, F]  of a peak or a shelf
    returns       [B, C, T]  all controls may be [1, 1, F]

    Static knobs: `sosfilt` with the section of that name in `filters`. Moving ones: the trapezoidal
    (zero-delay) state-variable filter with the knobs of each sample, which at rest is that section exactly
    and which does not blow up when they jump: in torch `low_and_band`, on the CPU, where a compiler is found
    (`compiled`), that recursion itself, with what it needs of the knobs. It keeps half a byte per sample
    beside the sound and the curves as they came: 8 x 131072 samples, two threads, a frequency of 64 frames,
    3 ms, with all gradients 12 ms.
    Simper, "Solving the continuous SVF equations using trapezoidal integration" (2013).
    """
    if kind not in SECTIONS:
        raise ValueError(f"svf: kind must be one of {', '.join(SECTIONS)}; got {kind!r}")
    if (gain_db is None) != (kind in LEVELS):
        raise ValueError(f"svf: {kind} takes {'no' if kind in LEVELS else 'a'} gain_db")
    gain = () if gain_db is None else (gain_db,)
    if _static(frequency_hz, q, *gain):
        knobs = (knob[..., 0] for knob in (frequency_hz, *gain, q))
        return sosfilt(x, SECTIONS[kind](*knobs, sample_rate))
    if gain_db is None:
        if compiled_svf.serves(x, frequency_hz, q):
            levels = (q.new_full((1, 1, 1), level) for level in LEVELS[kind])
            return compiled_svf.moving_filter(x, sample_rate, "levels", frequency_hz, q, *levels)
        return _mixed(x, sample_rate, _curve(frequency_hz, x), _curve(q, x), *LEVELS[kind])
    if compiled_svf.serves(x, frequency_hz, q, gain_db):
        return compiled_svf.moving_filter(x, sample_rate, kind, frequency_hz, q, gain_db)
    return _with_gain(x, sample_rate, kind, *(_curve(knob, x) for knob in (frequency_hz, q, gain_db)))


def state_variable(
    x: Tensor,
    sample_rate: int,
    *,
    frequency_hz: Tensor,
    q: Tensor,
    low: Tensor,
    band: Tensor,
    high: Tensor,
) -> Tensor:
    """Low-pass, band-pass and high-pass of one filter, each at its own level; all at 1 are the input.

    x                            [B, C, T]
    frequency_hz, q              [B, 1, F]
    low, band, high              [B, 1, F]  factors; the band-pass is 0 dB at its center
    returns                      [B, C, T]  all controls may be [1, 1, F]

    Static knobs run as `sosfilt`, moving ones as in `svf`.
    """
    if _static(frequency_hz, q, low, band, high):
        knobs = (knob[..., 0] for knob in (frequency_hz, q, low, band, high))
        return sosfilt(x, filters.state_variable(*knobs, sample_rate))
    if compiled_svf.serves(x, frequency_hz, q, low, band, high):
        return compiled_svf.moving_filter(x, sample_rate, "levels", frequency_hz, q, low, band, high)
    return _mixed(x, sample_rate, *(_curve(knob, x) for knob in (frequency_hz, q, low, band, high)))


def butterworth(x: Tensor, sample_rate: int, *, frequency_hz: Tensor, order: int, high: bool) -> Tensor:
    """As flat as can be, then 6 dB an octave for each order; -3 dB at a frequency that may move.

    x             [B, C, T]
    frequency_hz  [B or 1, 1, F]  held below 0.49 of the sample rate
    order         1 or more
    high          False: what is above is taken away; True: what is below
    returns       [B, C, T]

    A static frequency runs as one `sosfilt`, a moving one as state-variable sections one after the other.
    """
    if _static(frequency_hz):
        design = filters.butterworth_high_pass if high else filters.butterworth_low_pass
        return sosfilt(x, design(frequency_hz[:, 0, 0], order, sample_rate))
    if compiled_svf.serves(x, frequency_hz):
        return _moving_butterworth(x, sample_rate, frequency_hz, order, high)
    g = _warped(_curve(frequency_hz, x), sample_rate)
    y = x.double()
    if order % 2:
        lows, bands = low_and_band(y, g, torch.full_like(g, 2.0))  # (1 + s) / (1 + s)^2: of first order
        y = y - (lows + bands) if high else lows + bands
    for q in filters.butterworth_qs(order):
        lows, bands = low_and_band(y, g, torch.full_like(g, 1 / q))
        y = y - bands / q - lows if high else lows
    return y.to(x.dtype)


def _moving_butterworth(x: Tensor, sample_rate: int, frequency_hz: Tensor, order: int, high: bool) -> Tensor:
    """The same through the compiled filter; the section of first order is one of Q 1/2 at these levels."""
    half, full, none = (frequency_hz.new_full((1, 1, 1), level) for level in (0.5, 1.0, 0.0))
    ends = (none, full) if high else (full, none)
    sections = [(half, half)] * (order % 2)
    sections += [(frequency_hz.new_full((1, 1, 1), q), none) for q in filters.butterworth_qs(order)]
    for q, band in sections:
        knobs = frequency_hz, q, ends[0], band, ends[1]
        x = compiled_svf.moving_filter(x, sample_rate, "levels", *knobs)
    return x


def low_and_band(x: Tensor, g: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """The two outputs of a state-variable filter of which all others are made; high-pass = x - k band - low.

    x         [B, C, T]
    g         [B or 1, 1, T or 1]  tan(pi frequency / sample_rate), at least 0
    k         [B or 1, 1, T or 1]  1 / Q, above 0
    returns   low, band, each [B, C, T] in float64, from silence; the band-pass is Q at its center

    Per sample, with memories s, r: band = s + g high, low = r + g band (the two hold at once and are solved),
    then s = 2 band - s, r = 2 low - r. Exact in float64, and so are the gradients to all three. T samples are
    cut into blocks that run side by side, first from silence and from each unit memory, then, once a scan has
    told the memory each block starts from, for good. A NaN spoils its own item only.
    """
    items, _, samples = x.shape
    g, k = (knob.double().expand(items, 1, samples) for knob in (g, k))
    return _low_and_band(x.double(), g, k)


def _mixed(
    x: Tensor,
    sample_rate: int,
    hz: Tensor,
    q: Tensor,
    low: float | Tensor,
    band: float | Tensor,
    high: float | Tensor,
) -> Tensor:
    """`state_variable` at audio rate; of levels that are plain numbers, what adds up to 0 is left out."""
    k = 1 / q
    lows, bands = low_and_band(x, _warped(hz, sample_rate), k)
    terms = [(low - high, lows), (band - high, k * bands), (high, x)]
    heard = [level * sound for level, sound in terms if isinstance(level, Tensor) or level]
    return sum(heard[1:], heard[0]).to(x.dtype)


def _with_gain(x: Tensor, sample_rate: int, kind: str, hz: Tensor, q: Tensor, gain_db: Tensor) -> Tensor:
    root = torch.pow(10.0, gain_db / 40)
    g, k = _warped(hz, sample_rate), 1 / q
    if kind == "peak":
        k = k / root
        _, bands = low_and_band(x, g, k)
        return (x + k * (root.square() - 1) * bands).to(x.dtype)
    power = root.square() - 1
    if kind == "low_shelf":
        lows, bands = low_and_band(x, g / root.sqrt(), k)
        return (x + k * (root - 1) * bands + power * lows).to(x.dtype)
    lows, bands = low_and_band(x, g * root.sqrt(), k)
    return (root.square() * x + k * root * (1 - root) * bands - power * lows).to(x.dtype)


def _static(*knobs: Tensor) -> bool:
    return all(knob.shape[-1] == 1 for knob in knobs)


def _curve(knob: Tensor, x: Tensor) -> Tensor:
    return at_audio_rate(knob.double(), x.shape[-1])


def _warped(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    return torch.tan(frequency_hz.clamp(max=filters.HIGHEST * sample_rate) * (math.pi / sample_rate))


@torch.library.custom_op("difffx::low_and_band", mutates_args=())
def _low_and_band(x: Tensor, g: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """x [B, C, T], g, k [B, 1, T], all float64 -> low, band [B, C, T].

    The memories obey s' = p s - c r + c x, r' = c s + e r + c g x, with c = 2 g / (1 + g (g + k)). The
    adjoint recursion is the same one with c turned to -c, run from the end.
    """
    lanes, steps, k_lanes = (_to_lanes(y) for y in (x, g, k))
    matrix = _matrix(steps, k_lanes)
    lanes = lanes * matrix[1]
    s, r = _run(lanes, lanes * steps, matrix, x.shape[0], reverse=False)
    low, band = (_from_lanes((y[1:] + y[:-1]).mul_(0.5), x) for y in (r, s))
    return low, band


@_low_and_band.register_fake
def _(x: Tensor, g: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape)


@torch.library.custom_op("difffx::low_and_band_backward", mutates_args=())
def _low_and_band_backward(
    grad_low: Tensor, grad_band: Tensor, x: Tensor, g: Tensor, k: Tensor, low: Tensor, band: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to x [B, C, T], g and k [B, 1, T]."""
    by_low, by_band, steps, k_lanes = (_to_lanes(y) for y in (grad_low, grad_band, g, k))
    p, c, e = _matrix(steps, k_lanes)
    first = torch.addcmul(by_band, steps, by_low).mul_(0.5 * (p + 1))
    second = torch.addcmul(by_low, steps, first, value=-1)
    s, r = _run(first, second, (p, -c, e), x.shape[0], reverse=True)
    by_band, by_low = (_from_lanes(y[1:] + y[:-1], x) for y in (s, r))
    by_k = -(by_band * band).sum(1, keepdim=True) * g
    by_g = (by_band * (x - k * band - low) + by_low * band).sum(1, keepdim=True)
    return g * by_band, by_g, by_k


@_low_and_band_backward.register_fake
def _(
    grad_low: Tensor, grad_band: Tensor, x: Tensor, g: Tensor, k: Tensor, low: Tensor, band: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), g.new_empty(g.shape), k.new_empty(k.shape)


def _keep_for_backward(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx, grad_low: Tensor, grad_band: Tensor):
    return _low_and_band_backward(grad_low, grad_band, *ctx.saved_tensors)


_low_and_band.register_autograd(_backward, setup_context=_keep_for_backward)


def _matrix(g: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What takes the memories one sample on: [[p, -c], [c, e]]."""
    share = 2 / (1 + g * (g + k))
    c = g * share
    return share - 1, c, 1 - g * c


def _run(
    first: Tensor, second: Tensor, matrix: tuple[Tensor, ...], items: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Drives [L, C, B N] of both memories -> their states [L + 1, C, B N], in reverse from the end.

    s' = first + p s - c r, r' = second + c s + e r; matrix is (p, c, e), each [L, 1, B N].
    """
    length, channels, lanes = first.shape
    order = slice(None, None, -1) if reverse else slice(None)
    steps = list(zip(*(y.unbind() for y in (first, second, *matrix)), strict=True))[order]
    s, r = (first.new_zeros(length + 1, channels, lanes) for _ in range(2))
    rooms = list(zip(s.unbind(), r.unbind(), strict=True))[order]
    if lanes > items:
        room = [tuple(torch.empty_like(rooms[0][0]) for _ in range(2)) for _ in range(2)]
        ends = _sweep(steps, [rooms[0], *(room[i % 2] for i in range(length))])
        starts = _starts(ends, _transition(steps), items, reverse)
        for memory, start in zip(rooms[0], starts, strict=True):
            memory.copy_(start)
    _sweep(steps, rooms)
    return s, r


def _sweep(steps: list[tuple[Tensor, ...]], rooms: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """From the memories in rooms[0] one sample at a time into the next room."""
    for (first, second, p, c, e), (s, r), (next_s, next_r) in zip(steps, rooms[:-1], rooms[1:], strict=True):
        torch.addcmul(first, p, s, out=next_s).addcmul_(c, r, value=-1)
        torch.addcmul(second, c, s, out=next_r).addcmul_(e, r)
    return rooms[-1]


def _transition(steps: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    """Where a whole block takes the unit memories without a drive: two rows of the matrix, [2, B N]."""
    _, _, p, c, e = steps[0]
    s, r = torch.cat((p, -c)), torch.cat((c, e))
    next_s, next_r = torch.empty_like(s), torch.empty_like(r)
    for _, _, p, c, e in steps[1:]:
        torch.mul(p, s, out=next_s).addcmul_(c, r, value=-1)
        torch.mul(c, s, out=next_r).addcmul_(e, r)
        s, r, next_s, next_r = next_s, next_r, s, r
    return s, r


def _starts(
    ends: tuple[Tensor, Tensor], transition: tuple[Tensor, Tensor], items: int, reverse: bool
) -> tuple[Tensor, Tensor]:
    """The memories each block starts from, [C, B N], by doubling: log2 N steps over the blocks.

    ends        [C, B N]  where each block arrives from silence
    transition  [2, B N]  where it takes the unit memories
    """
    top, bottom = (torch.cat(rows).unflatten(-1, (items, -1)) for rows in zip(transition, ends, strict=True))
    if reverse:
        top, bottom = top.flip(-1), bottom.flip(-1)
    reach, blocks = 1, top.shape[-1]
    while reach < blocks:
        # columns 0 and 1 are the matrix, the rest is the offset; before the first block stands silence
        old_top, old_bottom = (pad(y[..., :-reach], (reach, 0)) for y in (top, bottom))
        new = [row[:1] * old_top + row[1:2] * old_bottom for row in (top, bottom)]
        for fresh, row in zip(new, (top, bottom), strict=True):
            fresh[2:] += row[2:]
        top, bottom = new
        reach *= 2
    starts = (pad(y[2:, :, :-1], (1, 0)) for y in (top, bottom))
    return tuple((y.flip(-1) if reverse else y).flatten(1) for y in starts)


def _to_lanes(x: Tensor) -> Tensor:
    """[B, C, T] -> [L, C, B N]: blocks of L samples side by side, the last one filled up with zeros."""
    items, channels, samples = x.shape
    length = min(BLOCK, samples)
    blocks = -(-samples // length)
    x = pad(x, (0, blocks * length - samples)).reshape(items, channels, blocks, length)
    return x.permute(3, 1, 0, 2).reshape(length, channels, items * blocks)


def _from_lanes(lanes: Tensor, like: Tensor) -> Tensor:
    """[L, C, B N] -> [B, C, T]."""
    items, channels, samples = like.shape
    x = lanes.reshape(lanes.shape[0], channels, items, -1).permute(2, 1, 3, 0)
    return x.reshape(items, channels, -1)[..., :samples].contiguous()
