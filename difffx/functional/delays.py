"""Delay lines, still and moving. Exact in time: nothing wraps around, nothing comes too early."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import compiled
from difffx.functional.compiled.delay_line import MOST_SAMPLES, delay_line
from difffx.functional.control import at_audio_rate
from difffx.functional.interpolation import neighbors, places, polynomial, split, weights_at


def delay(x: Tensor, sample_rate: int, *, delay_ms: Tensor, mix: Tensor) -> Tensor:
    """One echo.

    x         [B, C, T]
    delay_ms  [B, 1, F]  0 or more; a curve bends the pitch, as a tape does whose head is moved
    mix       [B, 1, F]  0: dry; 1: the echo alone
    returns   [B, C, T]  all controls may be [1, 1, F]

    Cost and exactness: `fractional_delay`.
    """
    samples = ms_to_samples(at_audio_rate(delay_ms.double(), x.shape[-1]), sample_rate)
    return blend(x, fractional_delay(x, samples), mix)


def multi_tap_delay(x: Tensor, sample_rate: int, *, delay_ms: Tensor, level: Tensor, mix: Tensor) -> Tensor:
    """Several echoes, each at its own time and level.

    x                [B, C, T]
    delay_ms, level  [B, K, 1]  0 or more; factor
    mix              [B, 1, F]  0: dry; 1: the echoes alone
    returns          [B, C, T]  all controls may be [1, K, 1]

    Cost and exactness: `echoes`.
    """
    wet = echoes(x, ms_to_samples(delay_ms, sample_rate).mT, level.mT)
    return blend(x, wet, mix)


def blend(dry: Tensor, wet: Tensor, mix: Tensor) -> Tensor:
    """dry and wet [B, C, T]; mix [B, 1, F] from 0, dry alone, to 1, wet alone; in amplitude."""
    return torch.lerp(dry, wet, at_audio_rate(mix, dry.shape[-1]).to(dry.dtype))


def ms_to_samples(time_ms: Tensor, sample_rate: int) -> Tensor:
    """Milliseconds to samples, any shape, in float64: float32 cannot hold a long delay to 0.001 samples."""
    return time_ms.double() * (sample_rate / 1000.0)


def fractional_delay(x: Tensor, delay: Tensor, interpolation: str = "lagrange") -> Tensor:
    """The sound, later.

    x         [B, C, T]
    delay     [B or 1, C or 1, 1 or T]  samples, 0 or more (less is held at 0), give it in float64; longer
                                        than T is silence; a curve is followed sample by sample
    returns   [B, C, T]                 y[n] = x[n - delay[n]], silence before the first sample

    A steady delay costs one shifted copy and four products, a moving one four gathers. The compiled reading
    of a moving delay keeps nothing for the backward pass but its inputs, that in torch 16 bytes per sample:
    8 x 131072 samples, two threads, in 2 ms, with both gradients 8 ms.
    """
    if delay.shape[-1] == 1:
        return echoes(x, delay, torch.ones_like(delay), interpolation)
    count, delay = neighbors(interpolation), delay.double()
    if compiled.serves(x, delay) and x.shape[-1] < MOST_SAMPLES:
        return delay_line(x, delay, count)
    return _MovingDelay.apply(x, delay.clamp(min=0.0), count)


def echoes(x: Tensor, delay: Tensor, level: Tensor, interpolation: str = "lagrange") -> Tensor:
    """The sum of several delayed copies.

    x              [B, C, T]
    delay, level   [B or 1, C or 1, K]  samples (0 or more), factor
    returns        [B, C, T]            sum over K of level x[n - delay]

    Cost: one shifted copy and four products for each K.
    """
    start, weights = places(delay.double().clamp(min=0.0), neighbors(interpolation))
    weights = weights * level.double().unsqueeze(-1)
    rows, taps = x.shape[0] * x.shape[1], delay.shape[-1]
    start = start.expand(*x.shape[:2], taps).reshape(rows, taps)
    weights = weights.expand(*x.shape[:2], *weights.shape[2:]).reshape(rows, taps, -1)
    return _Echoes.apply(x.reshape(rows, -1), start, weights).view(x.shape)


def beats_to_ms(beats: float, tempo_bpm: Tensor) -> Tensor:
    """How long so many beats last, in float64: half a beat at 120 beats a minute is 250 ms; any shape."""
    return beats * 60_000.0 / tempo_bpm.double()


class _MovingDelay(torch.autograd.Function):
    """x [B, C, T], delay [B or 1, C or 1, T] in float64 -> [B, C, T]."""

    @staticmethod
    def forward(ctx, x: Tensor, delay: Tensor, count: int) -> Tensor:
        start, place = split(delay, count)
        place = place.to(x.dtype)
        index = _index(start).expand(x.shape)
        padded = pad(x, (count, 0))
        taps = [_neighbor(padded, k, count).gather(-1, index) for k in range(count)]
        y, slope = polynomial(taps, place, ctx.needs_input_grad[1])
        ctx.save_for_backward(index, place, slope)
        ctx.count, ctx.shape = count, delay.shape
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        index, place, slope = ctx.saved_tensors
        by_x = by_delay = None
        if ctx.needs_input_grad[0]:
            by_x = grad.new_zeros(*grad.shape[:2], grad.shape[2] + ctx.count)
            for k, weight in enumerate(weights_at(place, ctx.count)):
                _neighbor(by_x, k, ctx.count).scatter_add_(-1, index, grad * weight)
            by_x = by_x[..., ctx.count :]
        if slope is not None:
            by_delay = (grad * slope).double().sum_to_size(ctx.shape)
        return by_x, by_delay, None


class _Echoes(torch.autograd.Function):
    """x [R, T], start [R, K] whole samples, weights [R, K, W] -> [R, T]: sum of weights x[n - start - w]."""

    @staticmethod
    def forward(ctx, x: Tensor, start: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, start, weights)
        return _echo(x, start, weights)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, start, weights = ctx.saved_tensors
        by_x = by_weights = None
        if ctx.needs_input_grad[0]:
            by_x = _echo(grad.flip(-1), start, weights).flip(-1)
        if ctx.needs_input_grad[2]:
            by_weights = torch.stack(
                [lagged_products(grad, x, s, weights.shape[-1]) for s in start.unbind(1)], 1
            )
        return by_x, None, by_weights


def _index(start: Tensor) -> Tensor:
    """Where the nearest neighbor of each sample lies, counted from 1; 0 where that is before the sound."""
    now = torch.arange(start.shape[-1], device=start.device)
    return (now - start.long()).clamp_(min=-1).add_(1)


def _neighbor(padded: Tensor, k: int, count: int) -> Tensor:
    """[..., count + T] -> the view that `_index` points into for the k-th neighbor."""
    return padded.narrow(-1, count - 1 - k, padded.shape[-1] - count + 1)


def _echo(x: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """x [R, T], start [R, K], weights [R, K, W] -> [R, T]."""
    weights = weights.to(x.dtype)
    y, samples, count = torch.zeros_like(x), x.shape[1], weights.shape[2]
    for tap in range(start.shape[1]):
        shifted = _shift(x, start[:, tap], count - 1)
        for k in range(count):
            y.addcmul_(shifted[:, count - 1 - k :][:, :samples], weights[:, tap, k, None])
    return y


def lagged_products(a: Tensor, x: Tensor, start: Tensor, count: int) -> Tensor:
    """Sum over n of a[n] x[n - start - k] for k below count: [R, T] twice, start [R] -> [R, count]."""
    shifted, samples = _shift(x, start, count - 1), x.shape[1]
    parts = [
        torch.linalg.vecdot(shifted[:, count - 1 - k :][:, :samples], a.to(x.dtype)) for k in range(count)
    ]
    return torch.stack(parts, 1).double()


def _shift(x: Tensor, start: Tensor, more: int) -> Tensor:
    """Each row later by its own whole samples, start [R], and by `more`: [R, T] -> [R, T + more]."""
    rows, samples = x.shape
    if x.device.type == "cpu":
        y = x.new_zeros(rows, samples + more)
        for row, source, by in zip(y, x, start.tolist(), strict=True):
            row[more + by :] = source[: max(samples - by, 0)]
        return y
    return _gathered_shift(x, start, more)


def _gathered_shift(x: Tensor, start: Tensor, more: int) -> Tensor:
    """`_shift` where reading `start` would make the device wait."""
    now = torch.arange(-more, x.shape[1], device=x.device)
    index = (now - start.unsqueeze(1)).clamp_(min=-1).add_(1)
    return pad(x, (1, 0)).gather(1, index)
