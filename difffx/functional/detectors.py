"""What a dynamics processor listens to: levels, peaks that are held, peaks that die away, hysteresis.

Sound before the first sample is silence. All are exact, without a loop over T.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import ballistics, compiled
from difffx.functional.units import amplitude_to_db

LEAST_POLE = 1e-300
BLOCK = 64


def loudest(x: Tensor) -> Tensor:
    """[B, C, T] -> [B, 1, T]: the magnitude of the loudest channel; mono stays as it is, sign and all."""
    return x if x.shape[1] == 1 else x.abs().amax(1, keepdim=True)


def rms(x: Tensor, pole: Tensor, floor_db: float) -> Tensor:
    """The root of the mean square under an exponential window, of the loudest channel.

    x         [B, C, T]
    pole      [B or 1, 1, 1]  as ms_to_pole(time_ms, sample_rate) gives
    floor_db  what quieter sounds are held at, gradient 0 there
    returns   [B, 1, T]       a steady sine reads 3 dB below its peak
    """
    power = ballistics.one_pole(x.square(), pole).amax(1, keepdim=True)
    return power.clamp(min=10.0 ** (floor_db / 10.0)).sqrt()


def held_db(x: Tensor, window: int, floor_db: float) -> Tensor:
    """Level in dB of the largest of the last `window` samples of all channels: [B, C, T] -> [B, 1, T].

    It reads the peak of a sine, without ripple, down to half a period per window.
    """
    return amplitude_to_db(sliding_max(loudest(x).abs(), window), floor_db)


def ahead(x: Tensor, samples: int) -> Tensor:
    """The same, so many samples early; what would come after the end is zero. [..., T] -> [..., T]."""
    return pad(x, (0, samples))[..., samples:] if samples else x


def sliding_max(u: Tensor, window: int) -> Tensor:
    """The largest of each sample and the window - 1 before it.

    u        [B, C, T], 0 or more
    returns  [B, C, T]

    The gradient goes to the one sample that won. Cost: log2(window) passes; backward two running maxima.
    """
    if window < 1:
        raise ValueError(f"sliding_max: window must be at least 1 sample, got {window}")
    return _SlidingMax.apply(u, min(window, u.shape[-1])) if window > 1 else u


def decaying_peak(u: Tensor, pole: Tensor) -> Tensor:
    """Up at once, down by a share of the level each sample.

    u        [B, C, T], 0 or more
    pole     [B or 1, C or 1, 1]  0 <= a < 1, as ms_to_pole(time_ms, sample_rate) gives
    returns  [B, C, T]            y[n] = max(u[n], a y[n-1]), in the type of u

    In logarithms this is a running maximum of u[n] / a^n, and is computed so, in float64. The gradients to u
    and to the pole go to the peak that rules each sample.
    """
    pole = pole.expand(*torch.broadcast_shapes(u.shape[:2], pole.shape[:2]), 1)
    return _DecayingPeak.apply(u.expand(*pole.shape[:2], u.shape[2]), pole)


def hysteresis(u: Tensor, width: Tensor) -> Tensor:
    """Follow a curve upwards at once, and downwards only where it has fallen by more than `width`.

    u        [B, C, T]
    width    [B or 1, C or 1, 1]  0 or more; 0 gives u itself
    returns  [B, C, T]            y[n] = max(u[n], min(u[n] + width, y[n-1])); y = u at the first sample

    What crosses a threshold upwards at T crosses it downwards at T - width: the play of a gear, exact. Every
    step is a clamp, and clamps chain to clamps, so blocks of samples run side by side.
    """
    rows = torch.broadcast_shapes(u.shape[:2], width.shape[:2])
    flat = u.expand(*rows, u.shape[2]).reshape(-1, u.shape[2])
    width = width.expand(*rows, 1).reshape(-1, 1)
    return compiled.untraced(_Hysteresis, flat, width).view(*rows, u.shape[2])


def moving_average(u: Tensor, window: int) -> Tensor:
    """The mean of each sample and the window - 1 before it: u [B, C, T] in float64 -> [B, C, T]."""
    return u if window == 1 else _MovingAverage.apply(u, window)


class _MovingAverage(torch.autograd.Function):
    """Differences of running sums, ahead for the gradient; u [..., T]."""

    @staticmethod
    def forward(ctx, u: Tensor, window: int) -> Tensor:
        ctx.window = window
        sums = u.cumsum(-1)
        sums[..., window:] -= sums[..., :-window].clone()
        return sums.div_(window)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        window, samples = ctx.window, grad.shape[-1]
        sums = pad(grad.cumsum(-1), (1, 0))
        stops = sums[..., window:]
        last = sums[..., -1:].expand(*sums.shape[:-1], samples - stops.shape[-1])
        return (torch.cat((stops, last), -1) - sums[..., :-1]).div_(window), None


class _SlidingMax(torch.autograd.Function):
    """Values by doubling the window; which sample won, for the gradient, from running maxima of blocks.

    A window ends in one block of `window` samples and began in the one before: its largest sample leads the
    one from its block's start, or the other up to its block's end (van Herk, Gil and Werman).
    """

    @staticmethod
    def forward(ctx, u: Tensor, window: int) -> Tensor:
        ctx.save_for_backward(u)
        ctx.window = window
        y, room, other, reach = u, torch.empty_like(u), torch.empty_like(u), 1
        while reach < window:
            step = min(reach, window - reach)
            room[..., :step] = y[..., :step]
            torch.maximum(y[..., step:], y[..., :-step], out=room[..., step:])
            y, room, other, reach = room, other, room, reach + step
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (u,), window = ctx.saved_tensors, ctx.window
        samples = u.shape[-1]
        blocks = -(-samples // window)
        u = pad(u, (0, blocks * window - samples)).reshape(-1, blocks, window)
        first = window * torch.arange(blocks, device=u.device).unsqueeze(1)
        best, place = u.cummax(-1)
        best_after, place_after = u.flip(-1).cummax(-1)
        # Sample n of a block looks back at samples n + 1 and later of the block before.
        best_after = pad(best_after.flip(-1)[:, :-1, 1:], (0, 1, 1, 0), value=-1.0)
        place_after = pad((first + window - 1 - place_after).flip(-1)[:, :-1, 1:], (0, 1, 1, 0))
        winner = torch.where(best_after > best, place_after, place + first).flatten(1)[:, :samples]
        by_u = torch.zeros_like(grad).view(-1, samples)
        by_u.scatter_add_(1, winner, grad.reshape(-1, samples))
        return by_u.view_as(grad), None


class _DecayingPeak(torch.autograd.Function):
    """u [B, C, T], pole [B, C, 1] -> [B, C, T]."""

    @staticmethod
    def forward(ctx, u: Tensor, pole: Tensor) -> Tensor:
        log_pole = pole.double().clamp(min=LEAST_POLE).log()
        fall = log_pole * torch.arange(u.shape[-1], device=u.device, dtype=torch.float64)
        ruler = (u.double().log() - fall).cummax(-1).indices
        age = torch.arange(u.shape[-1], device=u.device) - ruler
        faded = (log_pole * age).exp()
        y = faded * u.gather(-1, ruler)
        ctx.save_for_backward(ruler, age, faded, y, pole)
        ctx.dtype = u.dtype
        return y.to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        ruler, age, faded, y, pole = ctx.saved_tensors
        by_u = torch.zeros_like(y).scatter_add_(-1, ruler, grad * faded)
        by_pole = (grad * y * age).sum(-1, keepdim=True) / pole.double().clamp(min=LEAST_POLE)
        return by_u.to(ctx.dtype), by_pole.to(pole.dtype)


class _Hysteresis(torch.autograd.Function):
    """u [R, T], width [R, 1] -> [R, T]. A block is summed up as the clamp that all its steps chain to."""

    @staticmethod
    def forward(ctx, u: Tensor, width: Tensor) -> Tensor:
        rows, samples = u.shape
        lower = ballistics._to_lanes(u, BLOCK)
        upper = lower + ballistics._per_lane(width, lower).to(u.dtype)
        bounds = list(zip(lower.unbind(), upper.unbind(), strict=True))
        low, high = torch.full_like(lower[0], -torch.inf), torch.full_like(lower[0], torch.inf)
        for bottom, top in bounds:
            low, high = (torch.maximum(bottom, torch.minimum(top, y)) for y in (low, high))
        states = [_chain(low.view(rows, -1), high.view(rows, -1)).view(-1)]
        for bottom, top in bounds:
            states.append(torch.maximum(bottom, torch.minimum(top, states[-1])))
        y = ballistics._from_lanes(torch.stack(states[1:]), rows, samples)
        before = torch.cat((u[:, :1], y[:, :-1]), -1)
        # Where the curve is held, the last sample that moved it rules.
        capped = before > u + width.to(u.dtype)
        moved = capped | ~(before > u)
        ruler = (moved * torch.arange(samples, device=u.device)).cummax(-1).values
        ctx.save_for_backward(ruler, capped)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        ruler, capped = ctx.saved_tensors
        by_u = torch.zeros_like(grad).scatter_add_(1, ruler, grad)
        return by_u, (by_u * capped).sum(-1, keepdim=True)


def _chain(low: Tensor, high: Tensor) -> Tensor:
    """Clamps of the blocks of each row, [R, N] -> the value each block starts from, [R, N].

    The first block's own clamp sends everything to one value, if the row starts at its first sample.
    """
    reach = 1
    while reach < low.shape[1]:
        bottom, top = low[:, reach:], high[:, reach:]
        earlier = [torch.maximum(bottom, torch.minimum(top, y[:, :-reach])) for y in (low, high)]
        low, high = (
            torch.cat((y[:, :reach], later), 1) for y, later in zip((low, high), earlier, strict=True)
        )
        reach *= 2
    return torch.cat((torch.full_like(low[:, :1], -torch.inf), low[:, :-1]), 1)
