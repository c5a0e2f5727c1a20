"""Recursions that follow a level: attack and release, and the plain one-pole. Exact, without a loop over samples."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 64


def attack_release(
    u: Tensor, attack_pole: Tensor, release_pole: Tensor, initial: float | Tensor = 0.0
) -> Tensor:
    """Follow a curve, quickly upward and slowly downward: one pole while it is above the state, another below.

    u             [B, C, T]           each channel is followed by itself
    attack_pole   [B or 1, C or 1, 1] 0 <= a < 1; ms_to_pole(time_ms, sample_rate)
    release_pole  [B or 1, C or 1, 1]
    initial       the state before the first sample; a number or [B or 1, C or 1, 1]
    returns       [B, C, T]           s[n] = a s[n-1] + (1 - a) u[n],  a = attack if u[n] > s[n-1] else release

    Exact, in float64 inside whatever comes in; gradients to all four arguments hold the branches that were taken,
    which is exact almost everywhere. One step is the larger (attack faster than release) or the smaller of two
    increasing affine maps, so a block of samples maps its first state to its last by an increasing convex (concave)
    function, whose value and slope one sweep gives for all blocks at once; Newton's method over the starting states
    of the blocks rises to the solution and stops there. The sweep is a loop over the samples of *one* block: its
    length does not grow with T.
    """
    shape = torch.broadcast_shapes(u.shape[:2], attack_pole.shape[:2], release_pole.shape[:2])
    initial = torch.as_tensor(initial, dtype=torch.float64, device=u.device).expand(*shape, 1)
    rows = [
        x.expand(*shape, x.shape[2]).reshape(-1, x.shape[2]) for x in (u, attack_pole, release_pole, initial)
    ]
    return _AttackRelease.apply(*rows).reshape(*shape, u.shape[2])


def one_pole(u: Tensor, pole: Tensor) -> Tensor:
    """Smooth a curve; 63 % of a step after one time constant.

    u        [B, C, T]
    pole     [B or 1, C or 1, 1]  0 <= a < 1; ms_to_pole(time_ms, sample_rate)
    returns  [B, C, T]            s[n] = a s[n-1] + (1 - a) u[n], from rest

    Exact, in float64 inside, by a blocked scan; so are the gradients.
    """
    shape = torch.broadcast_shapes(u.shape[:2], pole.shape[:2])
    rows = [x.expand(*shape, x.shape[2]).reshape(-1, x.shape[2]) for x in (u, pole)]
    return _OnePole.apply(*rows).reshape(*shape, u.shape[2])


class _AttackRelease(torch.autograd.Function):
    """u [R, T]; attack, release, initial [R, 1] -> [R, T]."""

    @staticmethod
    def forward(ctx, u: Tensor, attack: Tensor, release: Tensor, initial: Tensor) -> Tensor:
        rows, samples = u.shape
        poles = torch.stack([attack, release]).double()  # [2, R, 1]
        # Where release is the faster, the mirrored curve has it the other way round: always the larger of two maps.
        sign = torch.where(poles[0] > poles[1], -1.0, 1.0)  # [R, 1]
        lanes = _to_lanes(u.double() * sign)
        fast, slow = poles.amin(0), poles.amax(0)
        states = _solve(lanes, fast, slow, initial.double() * sign)
        rising = lanes > states[:-1]  # of the mirrored curve
        ctx.save_for_backward(lanes, states, rising, poles, sign)
        ctx.samples, ctx.dtypes = samples, (u.dtype, attack.dtype, release.dtype, initial.dtype)
        return (_from_lanes(states[1:], rows, samples) * sign).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        lanes, states, rising, poles, sign = ctx.saved_tensors
        rows, samples = grad.shape
        fast, slow = (_per_lane(x, lanes.shape[1]) for x in (poles.amin(0), poles.amax(0)))
        pole = torch.where(rising, fast, slow)
        adjoint = _adjoint(_to_lanes(grad.double() * sign), pole, rows)
        grad_u = _from_lanes(adjoint * (1.0 - pole), rows, samples) * sign
        moved = adjoint * (states[:-1] - lanes)
        total = moved.sum(0).view(rows, -1).sum(1, keepdim=True)
        by_fast = torch.where(rising, moved, 0.0).sum(0).view(rows, -1).sum(1, keepdim=True)
        by_slow = total - by_fast
        mirrored = sign < 0
        grad_attack = torch.where(mirrored, by_slow, by_fast)
        grad_release = torch.where(mirrored, by_fast, by_slow)
        grad_initial = (adjoint[0] * pole[0]).view(rows, -1)[:, :1] * sign
        grads = (grad_u, grad_attack, grad_release, grad_initial)
        return tuple(g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True))


class _OnePole(torch.autograd.Function):
    """u [R, T]; pole [R, 1] -> [R, T]."""

    @staticmethod
    def forward(ctx, u: Tensor, pole: Tensor) -> Tensor:
        rows, samples = u.shape
        lanes = _to_lanes(u.double())
        a = _per_lane(pole.double(), lanes.shape[1])
        states = _linear_recurrence(lanes * (1.0 - a), a.expand_as(lanes), rows)
        ctx.save_for_backward(u, pole)
        return _from_lanes(states, rows, samples).to(u.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        u, pole = ctx.saved_tensors
        rows, samples = u.shape
        lanes = _to_lanes(u.double())
        a = _per_lane(pole.double(), lanes.shape[1]).expand_as(lanes)
        states = _linear_recurrence(lanes * (1.0 - a), a, rows)
        before = _previous(states, rows)
        adjoint = _adjoint(_to_lanes(grad.double()), a, rows)
        grad_u = _from_lanes(adjoint * (1.0 - a), rows, samples)
        grad_pole = (adjoint * (before - lanes)).sum(0).view(rows, -1).sum(1, keepdim=True)
        return grad_u.to(u.dtype), grad_pole.to(pole.dtype)


def _solve(u: Tensor, fast: Tensor, slow: Tensor, initial: Tensor) -> Tensor:
    """u [L, R N]; fast <= slow [R, 1] poles; initial [R, 1] -> the states [L + 1, R N], each block's start first."""
    rows, (length, width) = initial.shape[0], u.shape
    blocks = width // rows
    a, b = _per_lane(fast, width), _per_lane(slow, width)
    log_a, log_b = a.clamp(min=1e-300).log(), b.clamp(min=1e-300).log()
    by_a, by_b = u * (1.0 - a), u * (1.0 - b)
    states = u.new_empty(length + 1, width)
    steps = list(zip(by_a.unbind(0), by_b.unbind(0), states.unbind(0), states[1:].unbind(0), strict=False))
    other = u.new_empty(width)
    start = initial.expand(rows, blocks).clone()
    tolerance = 1e-12 * torch.maximum(u.abs().amax(), initial.abs().amax())
    for _ in range(blocks + 1):
        states[0] = start.reshape(-1)
        for rise, fall, now, after in steps:
            torch.addcmul(rise, a, now, out=after)
            torch.addcmul(fall, b, now, out=other)
            torch.maximum(after, other, out=after)
        end = states[-1].view(rows, blocks)
        gap = end[:, :-1] - start[:, 1:]
        # Written so that NaN in the signal ends the search instead of prolonging it.
        if blocks == 1 or not bool(gap.abs().amax() > tolerance):
            break
        rising = (u > states[:-1]).sum(0)
        slope = torch.exp(rising * log_a + (length - rising) * log_b).view(rows, blocks)
        move = _scan(slope[:, :-1].clone(), gap, torch.zeros_like(initial))
        start = torch.cat([initial, start[:, 1:] + move], 1)
    return states


def _linear_recurrence(x: Tensor, pole: Tensor, rows: int) -> Tensor:
    """s[n] = pole[n] s[n-1] + x[n] from rest; x, pole [L, R N] -> [L, R N]."""
    length, width = x.shape
    states = torch.empty_like(x)
    steps = list(zip(x.unbind(0), pole.unbind(0), states.unbind(0), strict=True))
    for start in (None, "known"):
        if start is None:
            now = x.new_zeros(width)
        else:
            slope = pole.prod(0).view(rows, -1)
            ends = _scan(slope, now.view(rows, -1), x.new_zeros(rows, 1))
            now = torch.cat([x.new_zeros(rows, 1), ends[:, :-1]], 1).reshape(-1)
        for fresh, a, after in steps:
            torch.addcmul(fresh, a, now, out=after)
            now = after
        if width == rows:
            break
    return states


def _adjoint(grad: Tensor, pole: Tensor, rows: int) -> Tensor:
    """The same recurrence backward in time: d[n] = grad[n] + pole[n+1] d[n+1]; [L, R N]."""
    following = _previous(pole.flip(0).view(pole.shape[0], rows, -1).flip(2).reshape(pole.shape), rows)
    reverse = grad.flip(0).view(grad.shape[0], rows, -1).flip(2).reshape(grad.shape)
    back = _linear_recurrence(reverse, following, rows)
    return back.view(grad.shape[0], rows, -1).flip(0, 2).reshape(grad.shape)


def _scan(slope: Tensor, x: Tensor, initial: Tensor, length: int = 32) -> Tensor:
    """s[n] = slope[n] s[n-1] + x[n]; slope, x [R, N], initial [R, 1] -> [R, N]. Short loops on nested blocks."""
    rows, samples = x.shape
    if samples <= 2 * length:
        states, now = [], initial[:, 0]
        for a, fresh in zip(slope.unbind(1), x.unbind(1), strict=True):
            now = torch.addcmul(fresh, a, now)
            states.append(now)
        return torch.stack(states, 1)
    lanes, slopes = _to_lanes(x, length), _to_lanes(slope, length)
    states, products = [lanes[0]], [slopes[0]]
    for n in range(1, length):
        states.append(torch.addcmul(lanes[n], slopes[n], states[-1]))
        products.append(slopes[n] * products[-1])
    ends = _scan(products[-1].view(rows, -1), states[-1].view(rows, -1), initial, length)
    start = torch.cat([initial, ends[:, :-1]], 1).reshape(-1)
    return _from_lanes(torch.addcmul(torch.stack(states), torch.stack(products), start), rows, samples)


def _to_lanes(x: Tensor, length: int = BLOCK) -> Tensor:
    """[R, T] -> [L, R N]: blocks of L samples side by side, the last one filled up with zeros."""
    rows, samples = x.shape
    blocks = -(-samples // length)
    if blocks * length != samples:
        x = torch.nn.functional.pad(x, (0, blocks * length - samples))
    return x.reshape(rows * blocks, length).t().contiguous()


def _from_lanes(x: Tensor, rows: int, samples: int) -> Tensor:
    """[L, R N] -> [R, T]."""
    return x.t().contiguous().view(rows, -1)[:, :samples]


def _per_lane(x: Tensor, width: int) -> Tensor:
    """[R, 1] -> [R N]."""
    return x.expand(x.shape[0], width // x.shape[0]).reshape(-1)


def _previous(x: Tensor, rows: int) -> Tensor:
    """Every sample replaced by the one before it, the first of a row by 0; [L, R N]."""
    before = torch.roll(x, 1, 0)
    last = x[-1].view(rows, -1)
    before[0] = torch.cat([torch.zeros_like(last[:, :1]), last[:, :-1]], 1).reshape(-1)
    return before
