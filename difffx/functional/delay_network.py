"""The recursion of delay lines that feed each other through a matrix, a first-order filter behind each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional import compiled

FORGOTTEN = 1e-20
"""What a filter has made this small is left out: 80 dB below the rounding of float64."""


def delay_network(x: Tensor, matrix: Tensor, filters: Tensor, delays: Sequence[int]) -> Tensor:
    """Delay lines, their filters, and one matrix from everything that sounds to everything that listens.

    x         [B, C, T]
    matrix    [B or 1, N + C', N + C]  columns: the N lines' ends, then the inputs; rows: the N lines'
                                       starts, then the outputs
    filters   [B or 1, N, 3]           b0, b1, p: w[n] = start[n - delay] + p w[n-1] and
                                       end[n] = b0 w[n] + b1 w[n-1]
    delays    N whole numbers of samples, 1 or more
    returns   [B, C', T] in the type of x, from silence

    Exact, whatever the decay: nothing is truncated, nothing wraps around; float64 inside. The network is
    stable if the filters' gain never exceeds 1 and the N x N part of the matrix is orthogonal.

    On a CPU compiled code goes sample by sample, where it can be had: through 6 lines 8 x 131072 samples take
    9 ms on one core, with gradients 41. In pure torch one step of a loop takes all lines as far as the
    shortest delay, for what they will hear is already in the lines. Inside a step a filter's pole is a
    product of ever longer two-tap filters, log2(step) of them or fewer where the pole forgets sooner. The
    gradient runs the transposed network backward in time, in the same loop; to x, matrix and filters, once.
    Cost O((N + C')(N + C) + N log2(step)) a sample; for the gradient it keeps N values a sample, in the type
    of x, and in pure torch needs as many again. On a GPU it waits once, for the largest pole.
    """
    lines = len(delays)
    if x.ndim != 3 or filters.shape[1:] != (lines, 3) or min(delays, default=0) < 1:
        raise ValueError(
            f"delay_network: expected x [B, C, T], filters [B or 1, N, 3] and N delays of a sample or more, "
            f"got {tuple(x.shape)}, {tuple(filters.shape)} and {list(delays)}"
        )
    if matrix.ndim != 3 or matrix.shape[1] <= lines or matrix.shape[2] != lines + x.shape[1]:
        raise ValueError(
            f"delay_network: expected matrix [B or 1, {lines} + outputs, {lines} + {x.shape[1]}], "
            f"got {tuple(matrix.shape)}"
        )
    matrix, filters = (knob.double().expand(x.shape[0], -1, -1) for knob in (matrix, filters))
    keep = torch.is_grad_enabled() and any(t.requires_grad for t in (x, matrix, filters))
    return _network(x, matrix, filters, [int(delay) for delay in delays], keep)[0]


@torch.library.custom_op("difffx::delay_network", mutates_args=())
def _network(
    x: Tensor, matrix: Tensor, filters: Tensor, delays: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor]:
    """matrix and filters one for each item, float64 -> outputs [B, C', T], and w, if to be kept.

    w is [B, N, T], or [B, N T] in the order of compiled code.
    """
    if compiled.serves(x, matrix, filters):
        x, matrix, filters = (t.contiguous() for t in (x, matrix, filters))
        lines = filters.shape[1]
        y, w = _rooms(x, matrix, filters, keep)
        settings = *_sizes(x, y, lines), matrix, filters, torch.tensor(delays)
        compiled.call("delay_network", *settings, x, y, w if keep else None)
        return y, w
    return _run(x, matrix, filters, delays, keep)


@_network.register_fake
def _(x: Tensor, matrix: Tensor, filters: Tensor, delays: Sequence[int], keep: bool) -> tuple[Tensor, Tensor]:
    return _rooms(x, matrix, filters, keep)


@torch.library.custom_op("difffx::delay_network_backward", mutates_args=())
def _network_backward(
    grad: Tensor, x: Tensor, matrix: Tensor, filters: Tensor, w: Tensor, delays: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, matrix and filters.

    The transposed network hears grad backward in time. Its outputs are the gradient to x; its lines' ends are
    the gradient to what enters the lines; its w is grad to the filters' outputs after one pole, so that
    the three gradients of a filter are sums over products with w, up to two samples apart.
    """
    if w.ndim == 2:
        grad, x, matrix, filters, w = (t.contiguous() for t in (grad, x, matrix, filters, w))
        grads = torch.empty_like(x), torch.empty_like(matrix), torch.empty_like(filters)
        settings = *_sizes(x, grad, filters.shape[1]), matrix, filters, torch.tensor(delays)
        compiled.call("delay_network_backward", *settings, x, w, grad, *grads)
        return grads
    by_x, adjoint = _run(grad.flip(-1), matrix.mT, filters, delays, True)
    by_x, adjoint = by_x.flip(-1), adjoint.flip(-1)
    b0, b1, pole = filters.unbind(-1)  # [B, N]
    from_b0, from_b1, to_b0, to_b1 = b0.unsqueeze(1), b1.unsqueeze(1), b0.unsqueeze(2), b1.unsqueeze(2)
    same, one, two = _products(adjoint, w, 3)
    lines = to_b0 * from_b0 * same + (to_b0 * from_b1 + to_b1 * from_b0) * one + to_b1 * from_b1 * two
    same, one = _products(adjoint, x, 2)
    inputs = to_b0 * same + to_b1 * one
    same, one = _products(grad, w, 2)
    outputs = from_b0 * same + from_b1 * one
    through = _products(grad, x, 1)[0]
    by_matrix = torch.cat((torch.cat((lines, inputs), 2), torch.cat((outputs, through), 2)), 1)
    passing = [_products(adjoint[:, i, None], w[:, i, None, delay:], 3) for i, delay in enumerate(delays)]
    same, one, two = (torch.cat(sums, 1).squeeze(2) for sums in zip(*passing, strict=True))
    by_filters = torch.stack((same - pole * one, one - pole * two, b0 * one + b1 * two), -1)
    return by_x, by_matrix, by_filters


@_network_backward.register_fake
def _(grad: Tensor, x: Tensor, matrix: Tensor, filters: Tensor, w: Tensor, delays: Sequence[int]):
    return torch.empty_like(x), torch.empty_like(matrix), torch.empty_like(filters)


def _rooms(x: Tensor, matrix: Tensor, filters: Tensor, keep: bool) -> tuple[Tensor, Tensor]:
    """Room for outputs and w."""
    batch, _, samples = x.shape
    lines = filters.shape[1]
    kept = lines if keep else 0
    shape = (kept * samples,) if compiled.serves(x, matrix, filters) else (kept, samples)
    return x.new_empty(batch, matrix.shape[1] - lines, samples), x.new_empty(batch, *shape)


def _sizes(x: Tensor, y: Tensor, lines: int) -> tuple[int, ...]:
    """What the C functions want to know first, in their order."""
    groups = compiled.groups_of(len(x))
    return *x.shape[:2], *y.shape[1:], lines, groups, x.element_size()


def _products(a: Tensor, b: Tensor, count: int) -> list[Tensor]:
    """a [B, I, T], b [B, J, up to T] -> for each d below the count the sum of a[n + d] b[n], [B, I, J]."""
    sums = []
    with torch.autocast(a.device.type, enabled=False):
        for late in range(count):
            both = max(min(a.shape[-1] - late, b.shape[-1]), 0)
            sums.append((a[..., late : late + both] @ b[..., :both].mT).double())
    return sums


def _keep_for_backward(ctx, inputs, output) -> None:
    x, matrix, filters, ctx.delays, _ = inputs
    ctx.save_for_backward(x, matrix, filters, output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx, grad: Tensor | None, _):
    if grad is None:
        return None, None, None, None, None
    if torch.is_grad_enabled() and grad.requires_grad:
        raise RuntimeError("delay_network: gradients of gradients are not there")
    return *_network_backward(grad, *ctx.saved_tensors, ctx.delays), None, None


_network.register_autograd(_backward, setup_context=_keep_for_backward)


def _run(
    x: Tensor, matrix: Tensor, filters: Tensor, delays: Sequence[int], keep: bool
) -> tuple[Tensor, Tensor]:
    """The loop, see `delay_network`; matrix and filters float64 and one for each item."""
    batch, inputs, samples = x.shape
    lines, outputs = filters.shape[1], matrix.shape[1] - filters.shape[1]
    step = min(*delays, samples)
    steps = -(-samples // step)
    x = pad(x, (0, steps * step - samples))
    y = x.new_empty(batch, outputs, steps * step)
    kept = x.new_empty(batch, lines if keep else 0, steps * step)
    b0, b1, pole = filters.unsqueeze(-1).unbind(2)
    matrix = matrix.contiguous()
    heard, said = (filters.new_empty(batch, lines + n, step) for n in (inputs, outputs))
    ends, fresh = heard[:, :lines], heard[:, lines:]
    w = filters.new_zeros(batch, lines, 1 + step)  # one sample of the step before leads the way
    ring = _Ring(said[:, :lines], [min(delay, steps * step) for delay in delays], step, steps)
    poles = _Poles(pole, w)
    for k, chunks in enumerate(zip(*(signal.split(step, -1) for signal in (x, y, kept)), strict=True)):
        u = ring.phases[k % len(ring.phases)]
        poles.filter(u)
        torch.mul(w[..., 1:], b0, out=ends).addcmul_(w[..., :-1], b1)
        fresh.copy_(chunks[0])
        torch.bmm(matrix, heard, out=said)
        chunks[1].copy_(said[:, lines:])
        ring.write(k)
        if keep:
            chunks[2].copy_(w[..., 1:])
    return y[..., :samples].contiguous(), kept[..., :samples].contiguous()


class _Ring:
    """What is in the lines: a step is read where each line's delay has run out, and written that much later.

    starts   [B, N, step], where the loop leaves what enters the lines
    phases   views [B, N, step] of the step to be read; they come round again
    """

    def __init__(self, starts: Tensor, delays: Sequence[int], step: int, steps: int) -> None:
        count = -(-max(delays) // step) + 1
        lines = starts.new_zeros(*starts.shape[:2], count * step)
        self.phases = lines.split(step, -1)
        self.moves = []
        for k in range(min(count, steps)):
            into, out_of = [], []
            for i, delay in enumerate(delays):
                start = (k * step + delay) % (count * step)
                first = min(step, count * step - start)
                into += [lines[:, i, start : start + first], lines[:, i, : step - first]]
                out_of += [starts[:, i, :first], starts[:, i, first:]]
            self.moves.append(([t for t in into if t.numel()], [t for t in out_of if t.numel()]))

    def write(self, k: int) -> None:
        torch._foreach_copy_(*self.moves[k % len(self.phases)])


class _Poles:
    """w[n] = u[n] + pole w[n-1] over one step after the other.

    pole   [B, N, 1]
    w      [B, N, 1 + step], the last sample of the step before and this step

    1 / (1 - p z) = (1 + p z) (1 + p^2 z^2) (1 + p^4 z^4) ..., and within a step this ends.
    """

    def __init__(self, pole: Tensor, w: Tensor) -> None:
        step = w.shape[-1] - 1
        count = (step - 1).bit_length()
        largest = float(pole.abs().amax())
        if largest < 1.0:  # not a NaN either
            reach = math.log(FORGOTTEN) / math.log(max(largest, FORGOTTEN))
            count = min(count, math.ceil(math.log2(reach)))
        self.pole, self.w = pole, w
        before = max(1 << count >> 1, 1)  # silence that the longest reach looks back into
        rooms = [pad(torch.zeros_like(w[..., 1:]), (before, 0)) for _ in range(min(count, 2))]
        powers = [pole ** (1 << j) for j in range(count)]
        self.first = powers[0] if powers else None
        into = [room[..., before:] for room in rooms]
        into = [into[j % 2] for j in range(count - 1)] + [w[..., 1:]]
        self.products = []
        for j in range(1, count):
            room = rooms[(j - 1) % 2]
            past = room[..., before - (1 << j) :][..., :step]
            self.products.append((room[..., before:], powers[j], past, into[j]))
        self.into = into[0]

    def filter(self, u: Tensor) -> None:
        """u [B, N, step], which is written over -> w."""
        self.w[..., 0] = self.w[..., -1]
        u[..., 0].addcmul_(self.pole[..., 0], self.w[..., 0])
        if self.first is None:
            self.into.copy_(u)
            return
        torch.addcmul(u[..., 1:], self.first, u[..., :-1], out=self.into[..., 1:])
        self.into[..., 0] = u[..., 0]
        for now, power, past, into in self.products:
            torch.addcmul(now, power, past, out=into)
