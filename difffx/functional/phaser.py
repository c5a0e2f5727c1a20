"""Phasers: all-pass filters in a row whose frequency moves, and the recursions they are made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import compiled
from difffx.functional.compiled import all_pass, swing
from difffx.functional.control import at_audio_rate
from difffx.functional.delays import blend
from difffx.functional.lfo import lfo

BLOCK = 128
"""Samples per block; the loops over a block are this long however long the audio is."""
HIGHEST = 0.49


def phaser(
    x: Tensor,
    sample_rate: int,
    *,
    rate_hz: Tensor,
    frequency_hz: Tensor,
    depth_octaves: Tensor,
    phase: Tensor,
    mix: Tensor,
    feedback: Tensor | None = None,
    stages: int = 4,
    shape: str = "sine",
) -> Tensor:
    """A few notches that wander: softer than a flanger's, and not in tune with each other.

    x                             [B, C, T]
    rate_hz                       [B, 1, F]  swings in a second
    frequency_hz                  [B, 1, F]  middle of the swing, held below 0.49 of the sample rate
    depth_octaves                 [B, 1, F]  how far the swing goes, up and down
    phase                         [B, 1, 1]  cycles; at 0 the frequency is in the middle and rises
    mix                           [B, 1, F]  0.5: the deepest notches, one for every two stages
    feedback                      [B, 1, 1]  -1 to 1, exclusive: how sharply it rings; None: not at all
    stages                        all-pass filters of first order, a quarter of a turn at the frequency each
    returns                       [B, C, T]  all controls may be [1, 1, F]

    What swings is the frequency before the bilinear transform warps it, so it needs no limit on top. For
    exactness see `all_pass_chain`. On the CPU, where a compiler is found (`compiled`) and no knob is a curve,
    oscillator, chain and mix are one recursion that keeps 1.3 bytes per sample beside the sound: four stages,
    8 x 131072 samples, two threads, 2 ms, with all gradients 10 ms.
    """
    samples, fed_back = x.shape[-1], () if feedback is None else (feedback,)
    middle_hz = at_audio_rate(frequency_hz.double(), samples).clamp(max=HIGHEST * sample_rate)
    log_g = torch.log(torch.tan(middle_hz * (math.pi / sample_rate)))
    half = at_audio_rate(depth_octaves.double(), samples) * math.log(2.0)
    if swing.serves(x, rate_hz, frequency_hz, depth_octaves, phase, mix, *fed_back):
        share = torch.zeros_like(phase) if feedback is None else feedback
        columns = rate_hz.double() / sample_rate, phase, log_g, half, share, 1.0 - mix.double(), mix
        return all_pass.swinging_chain(x, shape, stages, *columns)
    wave = lfo(samples, sample_rate, rate_hz=rate_hz, phase=phase, shape=shape)
    log_g = torch.addcmul(log_g, half, wave)
    return blend(x, all_pass_chain(x, log_g, stages, feedback), mix)


def all_pass_chain(x: Tensor, log_g: Tensor, stages: int, feedback: Tensor | None = None) -> Tensor:
    """All-pass filters of first order in a row, at a frequency that moves, as fast as it likes.

    x         [B, C, T]
    log_g     [B or 1, 1, T]  logarithm of tan(pi frequency / sample_rate)
    stages    1 or more
    feedback  [B or 1, 1, 1]  share of the last output that is added to the next input, -1 to 1, exclusive
    returns   [B, C, T]       from silence

    With a = (g - 1) / (g + 1) and c = sqrt(1 - a^2), a stage with memory s makes y = a u + c s and
    s' = c u - a s of its input u: at rest the bilinear all-pass with -90 degrees at its frequency. The
    two-by-two matrix is its own inverse, so a stage neither adds nor loses energy however a moves, the loop
    is stable, and the adjoint is the chain itself run backward: gradients are exact and cheap to keep.

    Exact in float64, without a loop over samples. Without feedback each stage is one `first_order_varying`.
    With it the stages and the fed-back sample are one state, run by blocks: from silence, from each unit
    state, and, once a scan over the blocks has told where each starts, for good. On the CPU, where a compiler
    is found (`compiled`), the recursion itself runs.
    """
    items, channels, samples = x.shape
    if compiled.serves(x, log_g):
        share = x.new_zeros(1, 1, 1) if feedback is None else feedback
        curve, share = log_g.double().expand(items, 1, samples), share.double().expand(items, 1, 1)
        return all_pass.all_pass_chain(x, curve, share, stages)
    log_g = log_g.double().expand(items, channels, samples).reshape(-1, samples)
    u = x.double().reshape(-1, samples)
    if feedback is not None:
        feedback = feedback.double().expand(items, channels, 1).reshape(-1, 1)
        return compiled.untraced(_Loop, u, log_g, feedback, stages).view(x.shape).to(x.dtype)
    a, c = torch.tanh(0.5 * log_g), torch.reciprocal(torch.cosh(0.5 * log_g))
    for _ in range(stages):
        memory = first_order_varying(c * u, -a)
        u = torch.addcmul(a * u, c, pad(memory[:, :-1], (1, 0)))
    return u.view(x.shape).to(x.dtype)


def first_order_varying(x: Tensor, a: Tensor) -> Tensor:
    """The recursion of first order with a coefficient for each sample.

    x        [R, T]  float64
    a        [R, T]  float64, within -1 and 1
    returns  [R, T]  s[n] = a[n] s[n-1] + x[n], from s = 0

    Exact, and so are the gradients to both: the adjoint is the same recursion from the end,
    d[n] = grad[n] + a[n+1] d[n+1], with d[n] to x[n] and d[n] s[n-1] to a[n]. 16 bytes per sample are kept.
    Two sweeps over blocks that stand side by side, 128 steps each, and a scan over the blocks.
    """
    return compiled.untraced(_FirstOrder, x, a)


class _FirstOrder(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, a: Tensor) -> Tensor:
        states = _recur(x, a)
        ctx.save_for_backward(a, states)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        a, states = ctx.saved_tensors
        later = pad(a[:, 1:], (0, 1)).flip(-1)
        by_x = _recur(grad.flip(-1), later).flip(-1)
        return by_x, by_x * pad(states[:, :-1], (1, 0))


def _recur(x: Tensor, a: Tensor) -> Tensor:
    """`first_order_varying`, by blocks; its scan over the blocks is itself, on fewer samples."""
    rows, samples = x.shape
    lanes, slopes = _to_lanes(x), _to_lanes(a)
    states = torch.empty_like(lanes)
    steps = list(zip(lanes.unbind(), slopes.unbind(), states.unbind(), strict=True))
    start = torch.zeros_like(lanes[0])
    if lanes.shape[1] > rows:
        end = start
        for fresh, slope, _ in steps:
            end = torch.addcmul(fresh, slope, end)
        ends = _recur(end.view(rows, -1), slopes.prod(0).view(rows, -1))
        start = pad(ends[:, :-1], (1, 0)).reshape(-1)
    for fresh, slope, following in steps:
        torch.addcmul(fresh, slope, start, out=following)
        start = following
    return _from_lanes(states, rows, samples)


class _Loop(torch.autograd.Function):
    """x, log_g [R, T], feedback [R, 1], all float64 -> [R, T]: a chain with its last output fed back.

    The chain is its own adjoint on reversed time, and each stage its own inverse. So the backward pass walks
    from the end, takes the signals between the stages back out of the output, and keeps no more than that,
    the memories at the ends of the blocks and what a block does to them.
    """

    @staticmethod
    def forward(ctx, x: Tensor, log_g: Tensor, feedback: Tensor, stages: int) -> Tensor:
        rows, samples = x.shape
        lanes, a, c = _to_lanes(x), *_turns(_to_lanes(log_g))
        share = _per_lane(feedback, lanes)
        start, transition = lanes.new_zeros(stages + 1, lanes.shape[1]), None
        if lanes.shape[1] > rows:
            transition = _transition(a, c, share, stages)
            end = _walk(lanes, a, c, share, start, None)
            start = _starts(end, transition, rows)
        y = torch.empty_like(lanes)
        end = _walk(lanes, a, c, share, start, y)
        ctx.save_for_backward(log_g, feedback, y, start, end, transition)
        return _from_lanes(y, rows, samples)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        log_g, feedback, y, start, end, transition = ctx.saved_tensors
        rows, samples = grad.shape
        lanes, a, c = _to_lanes(grad), *_turns(_to_lanes(log_g))
        share = _per_lane(feedback, lanes)
        adjoint = torch.zeros_like(start)
        if transition is not None:
            back = _walk_back(lanes, a, c, share, adjoint)
            adjoint = _starts(back.flip(-1), transition.mT.flip(-3), rows).flip(-1)
        by_x, turn, by_share = _walk_out(lanes, a, c, share, y, start, end, adjoint)
        by_log_g = _from_lanes(turn * c, rows, samples) * -0.5
        return _from_lanes(by_x, rows, samples), by_log_g, by_share.view(rows, -1).sum(1, keepdim=True), None


def _turns(log_g: Tensor) -> tuple[Tensor, Tensor]:
    """a = (g - 1) / (g + 1) and c = sqrt(1 - a^2): cosine and sine of an angle, -c / 2 per log g."""
    return torch.tanh(0.5 * log_g), torch.reciprocal(torch.cosh(0.5 * log_g))


def _walk(x: Tensor | None, a: Tensor, c: Tensor, share: Tensor, start: Tensor, out: Tensor | None) -> Tensor:
    """A block from its state, the memories and the last output, [S + 1, ..., M], to the next one's.

    x [L, M], None for silence; a, c [L, M]; share [M]; what is heard goes to out [L, M].
    """
    *memories, last = start.unbind()
    for n, (cosine, sine) in enumerate(zip(a.unbind(), c.unbind(), strict=True)):
        u = share * last if x is None else torch.addcmul(x[n], share, last)
        for i, memory in enumerate(memories):
            memories[i] = torch.mul(sine, u).addcmul_(cosine, memory, value=-1)
            u = torch.mul(cosine, u).addcmul_(sine, memory)
        last = u
        if out is not None:
            out[n] = u
    return torch.stack((*memories, last))


def _walk_back(grad: Tensor, a: Tensor, c: Tensor, share: Tensor, adjoint: Tensor) -> Tensor:
    """The adjoint of `_walk`: from the adjoint of the state after a block to that of the state before it."""
    *memories, last = adjoint.unbind()
    for fresh, cosine, sine in reversed(list(zip(grad.unbind(), a.unbind(), c.unbind(), strict=True))):
        by_u = fresh + last
        for i, memory in reversed(list(enumerate(memories))):
            memories[i] = torch.mul(sine, by_u).addcmul_(cosine, memory, value=-1)
            by_u = torch.mul(cosine, by_u).addcmul_(sine, memory)
        last = share * by_u
    return torch.stack((*memories, last))


def _walk_out(
    grad: Tensor,
    a: Tensor,
    c: Tensor,
    share: Tensor,
    y: Tensor,
    start: Tensor,
    end: Tensor,
    adjoint: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """`_walk_back`, for good: gradients to input and angle of each sample [L, M], to the share [M].

    The stages run backward beside it, from what left them: the output y [L, M] and the memories at the end.
    """
    *memories, last = adjoint.unbind()
    held = list(end[:-1].unbind())
    by_x, turn = torch.empty_like(grad), torch.zeros_like(grad)
    rows = zip(grad.unbind(), a.unbind(), c.unbind(), y.unbind(), by_x.unbind(), turn.unbind(), strict=True)
    for fresh, cosine, sine, u, room, angle in reversed(list(rows)):
        by_u = fresh + last
        for i in reversed(range(len(held))):
            angle.addcmul_(memories[i], u).addcmul_(by_u, held[i], value=-1)
            memory, now = memories[i], held[i]
            memories[i] = torch.mul(sine, by_u).addcmul_(cosine, memory, value=-1)
            by_u = torch.mul(cosine, by_u).addcmul_(sine, memory)
            held[i] = torch.mul(sine, u).addcmul_(cosine, now, value=-1)
            u = torch.mul(cosine, u).addcmul_(sine, now)
        room.copy_(by_u)
        last = share * by_u
    heard = (by_x[1:] * y[:-1]).sum(0) + by_x[0] * start[-1]
    return by_x, turn, heard


def _transition(a: Tensor, c: Tensor, share: Tensor, stages: int) -> Tensor:
    """What a block makes of each unit state, without input: matrices [M, S + 1, S + 1]."""
    units = torch.eye(stages + 1, dtype=a.dtype, device=a.device).unsqueeze(-1)
    start = units.expand(-1, -1, a.shape[1])
    return _walk(None, a, c, share, start, None).permute(2, 0, 1)


def _starts(end: Tensor, transition: Tensor, rows: int) -> Tensor:
    """The state each block starts from, [S + 1, M], by doubling: log2 N steps over the N blocks of a row.

    end         [S + 1, M]         where each block arrives from silence
    transition  [M, S + 1, S + 1]  what it adds of the state it starts from
    """
    size = end.shape[0]
    maps = torch.cat((transition, end.t().unsqueeze(-1)), -1).view(rows, -1, size, size + 1)
    reach = 1
    while reach < maps.shape[1]:
        late, early = maps[:, reach:], maps[:, :-reach]
        joined = late[..., :size] @ early
        joined[..., size] += late[..., size]
        maps = torch.cat((maps[:, :reach], joined), 1)
        reach *= 2
    starts = pad(maps[:, :-1, :, size], (0, 0, 1, 0))
    return starts.reshape(-1, size).t().contiguous()


def _to_lanes(x: Tensor) -> Tensor:
    """[R, T] -> [L, R N]: blocks of L samples side by side, the last one filled up with zeros."""
    rows, samples = x.shape
    length = min(BLOCK, samples)
    blocks = -(-samples // length)
    x = pad(x, (0, blocks * length - samples))
    return x.reshape(rows * blocks, length).t().contiguous()


def _from_lanes(x: Tensor, rows: int, samples: int) -> Tensor:
    """[L, R N] -> [R, T]."""
    return x.t().reshape(rows, -1)[:, :samples]


def _per_lane(x: Tensor, lanes: Tensor) -> Tensor:
    """A value of each row for each of its blocks: [R, 1] -> [R N]."""
    return x.expand(x.shape[0], lanes.shape[1] // x.shape[0]).reshape(-1)
