"""The loop of a compressor that listens to its own output."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import ballistics, compiled
from difffx.functional.compiled.feedback import feedback_reduction
from difffx.functional.curves import knee

BLOCK = 128


def feedback_reduction_db(
    over_db: Tensor, attack_pole: Tensor, release_pole: Tensor, *, ratio: Tensor, knee_db: Tensor
) -> Tensor:
    """How far a compressor turns down when it hears itself, with a sample of delay around the loop.

    over_db       [B, 1, T]  level of the input above the threshold
    attack_pole   [B, 1, 1]  0 <= a < 1, as ms_to_pole(time_ms, sample_rate) gives
    release_pole  [B, 1, 1]
    ratio         [B, 1, 1]  what the static curve has, in dB of input for each dB of output
    knee_db       [B, 1, 1]  width of the bend, in dB of output
    returns       [B, 1, T]  s[n] = a s[n-1] + (1 - a) u[n], 0 before the first sample, where
                             u[n] = (ratio - 1) knee(over[n-1] - s[n-1]),
                             a = attack if u[n] > s[n-1] else release

    over[n-1] - s[n-1] is how far the last sample that left stood above the threshold. The loop oscillates
    where (1 - attack_pole) ratio > 2: at 44.1 kHz and 10:1, with attacks below 0.11 ms.

    Exact, in float64. On the CPU, where a C compiler is found (`compiled`), that loop itself runs. In pure
    torch the blocks of a row run side by side, each from a guess of its first state; one sweep
    gives where each ends and how steeply that depends on the guess, and Newton's method makes the blocks
    meet, as in `attack_release`. The gradients are exact almost everywhere: one step of the recursion is
    differentiated as it stands, and its slopes carry the gradient back through time. 8 x 131072 samples take
    5 to 8 sweeps of 128 steps.
    """
    shape = torch.broadcast_shapes(
        *(x.shape[:2] for x in (over_db, attack_pole, release_pole, ratio, knee_db))
    )
    over_db = over_db.expand(*shape, -1)
    knobs = [x.double().expand(*shape, 1) for x in (attack_pole, release_pole, ratio - 1.0, knee_db)]
    if compiled.serves(over_db, *knobs):
        return feedback_reduction(over_db.flatten(0, 1), torch.cat(knobs, 2).flatten(0, 1)).view(*shape, -1)
    return _in_torch(over_db, *knobs)


@torch.compiler.disable
def _in_torch(over_db: Tensor, attack: Tensor, release: Tensor, gain: Tensor, width: Tensor) -> Tensor:
    """over_db [B, 1, T], the others [B, 1, 1] -> [B, 1, T]; torch.compile would unroll the loops."""
    heard = pad(over_db, (1, 0), value=-torch.inf)[..., :-1].double()
    with torch.no_grad():
        rows = [x.reshape(-1, x.shape[-1]) for x in (heard, attack, release, gain, width)]
        states = _solve(*rows).view(heard.shape)
    target = gain * knee(heard - states, width)
    rising = target.detach() > states
    pole = torch.where(rising, attack, release)
    after = target + pole * (states - target)
    with torch.no_grad():
        slope = pole - (1.0 - pole) * gain * _bend(heard - states, 0.5 * width, 1.0 / _positive(width))
    return _ThroughTime.apply(after, slope).to(over_db.dtype)


class _ThroughTime(torch.autograd.Function):
    """A recursion solved: one step of it [B, C, T] with its slopes [B, C, T] by the state before -> the same.

    The gradient of every step gathers what it does to all later ones.
    """

    @staticmethod
    def forward(ctx, after: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(slope)
        return after.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (slope,) = ctx.saved_tensors
        samples, rows = grad.shape[-1], grad.shape[0] * grad.shape[1]
        lanes = [ballistics._to_lanes(x.reshape(rows, samples), BLOCK) for x in (grad, slope)]
        adjoint = ballistics._adjoint(*lanes, rows)
        return ballistics._from_lanes(adjoint, rows, samples).reshape(grad.shape), None


def _solve(heard: Tensor, attack: Tensor, release: Tensor, gain: Tensor, width: Tensor) -> Tensor:
    """heard [R, T], the others [R, 1] -> the state before each sample, [R, T]."""
    rows, samples = heard.shape
    lanes = ballistics._to_lanes(heard.clamp(min=-1e9), BLOCK)
    attack, release, gain, half, per_db = (
        ballistics._per_lane(x, lanes) for x in (attack, release, gain, 0.5 * width, 1.0 / _positive(width))
    )
    blocks = lanes.shape[1] // rows
    scale = heard.amax(1, keepdim=True).clamp(min=0.0)
    start = (
        (0.0 * scale).expand(rows, blocks).clone()
    )  # a NaN makes its own row NaN, and Newton's steps with it
    states = torch.empty_like(lanes)
    for _ in range(blocks):  # the first k blocks are right after k sweeps at the latest
        now, slope = start.view(-1), torch.ones_like(lanes[0])
        for level, state in zip(lanes.unbind(), states.unbind(), strict=True):
            state.copy_(now)
            over = level - now
            bend = _bend(over, half, per_db)
            target = gain * torch.addcmul((over - half).clamp_(min=0.0), half * bend, bend)
            pole = torch.where(target > now, attack, release)
            slope = slope * (pole - (1.0 - pole) * gain * bend)
            now = torch.addcmul(target, pole, now - target)
        gap = now.view(rows, blocks)[:, :-1] - start[:, 1:]
        if blocks == 1 or not bool((gap.abs() > 1e-12 * scale).any()):
            break
        start[:, 1:] += ballistics._scan(slope.view(rows, blocks)[:, :-1], gap)
    return ballistics._from_lanes(states, rows, samples)


def _bend(over_db: Tensor, half_db: Tensor, per_db: Tensor) -> Tensor:
    """The slope of the knee, 0 to 1."""
    return ((over_db + half_db) * per_db).clamp(0.0, 1.0)


def _positive(width: Tensor) -> Tensor:
    return width.clamp(min=torch.finfo(width.dtype).tiny)
