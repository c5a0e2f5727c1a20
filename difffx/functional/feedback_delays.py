"""Delay lines that hear themselves: echoes of echoes, exact over the whole decay, in blocks of the delay.

On a CPU the lines run compiled, where a C compiler is found (`compiled`); in pure torch otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import compiled
from difffx.functional.compiled import feedback_line as machine
from difffx.functional.compiled.delay_line import MOST_SAMPLES
from difffx.functional.control import at_audio_rate
from difffx.functional.delays import blend, lagged_products, ms_to_samples
from difffx.functional.interpolation import neighbors, places, polynomial, split, weights_at

BLOCK = 8192
CHUNK = 4096


def feedback_delay(
    x: Tensor,
    sample_rate: int,
    *,
    delay_ms: Tensor,
    feedback: Tensor,
    mix: Tensor,
    damping_hz: Tensor | None = None,
) -> Tensor:
    """Echoes of echoes, each quieter than the one before; above 0.95 feedback the tail outlives the file.

    x           [B, C, T]
    delay_ms    [B, 1, 1]  2 samples or more
    feedback    [B, 1, 1]  -1 to 1, exclusive: the level of each echo after the last
    mix         [B, 1, F]  0: dry; 1: the echoes alone
    damping_hz  [B, 1, 1]  from here on each echo is duller than the last; None: all are alike
    returns     [B, C, T]  all controls may be [1, 1, F]

    Cost and exactness: `feedback_line`.
    """
    pole = None if damping_hz is None else hz_to_pole(damping_hz, sample_rate)
    return blend(x, feedback_line(x, ms_to_samples(delay_ms, sample_rate), feedback, pole), mix)


def ping_pong_delay(
    x: Tensor,
    sample_rate: int,
    *,
    delay_ms: Tensor,
    feedback: Tensor,
    damping_hz: Tensor,
    width: Tensor,
    mix: Tensor,
) -> Tensor:
    """Echoes that jump from left to right and back, each duller than the one before.

    x           [B, 2, T]
    delay_ms    [B, 1, 1]  from one echo to the next, 2 samples or more
    feedback    [B, 1, 1]  -1 to 1, exclusive
    damping_hz  [B, 1, 1]
    width       [B, 1, F]  1: each echo on one side alone; 0: all in the middle
    mix         [B, 1, F]  0: dry; 1: the echoes alone
    returns     [B, 2, T]  all controls may be [1, 1, F]

    The mean of both channels enters the left line; what leaves one line enters the other. Two crossed lines
    are two lines that know nothing of each other, one with the feedback and one with its negative: their sum
    is left, their difference right. Cost: twice `feedback_line`, and as much again for sums and differences.
    """
    middle = 0.5 * x.mean(1, keepdim=True).expand(-1, 2, -1)
    both, pole = torch.cat((feedback, -feedback), 1), hz_to_pole(damping_hz, sample_rate)
    same, crossed = feedback_line(middle, ms_to_samples(delay_ms, sample_rate), both, pole).split(1, 1)
    side = at_audio_rate(width, x.shape[-1]).to(x.dtype) * crossed
    return blend(x, torch.cat((same + side, same - side), 1), mix)


def feedback_line(
    x: Tensor,
    delay: Tensor,
    feedback: Tensor,
    damping_pole: Tensor | None = None,
    interpolation: str = "lagrange",
) -> Tensor:
    """Echoes of echoes: a delay line with its output fed back, each round duller than the one before.

    x             [B, C, T]
    delay         [B or 1, C or 1, 1]  samples in float64; 2 or more, less is held at 2
    feedback      [B or 1, C or 1, 1]  factor for each round, -1 < feedback < 1
    damping_pole  [B or 1, C or 1, 1]  pole p of a one-pole low-pass in the way back; None: no damping
    returns       [B, C, T]            y[n] = e[n - delay]; e = x + feedback h(y);
                                       h(y)[n] = (1 - p) y[n] + p h(y)[n - 1]; the first echo is not damped

    Exact, in float64, over the whole decay: blocks as long as the shortest delay, without a loop over
    samples. The backward pass is the same recursion on the reversed gradient.

    Compiled, 8 x 131072 samples take 1 ms on one core, 1.5 with damping, and with gradients 7 and 10 ms,
    whatever the delay (from 1 ms on; at 2 samples 4 and 13 ms); what enters the line is kept, in the type of
    x. In pure torch the cost grows with T / delay, the number of blocks: 7 ms (21 ms with gradients) at 25 to
    250 ms of delay, 44 (96) at 2 ms, and about twice as much with damping; 16 bytes per sample are kept, 24
    with damping.
    """
    start, weights = places(delay.double().clamp(min=2.0), neighbors(interpolation))
    shape = x.shape[:2]
    pole = None if damping_pole is None else _rows(damping_pole.double(), shape)
    line = machine.feedback_line if compiled.serves(x, weights, feedback) else _FeedbackLine.apply
    return line(
        x.reshape(-1, x.shape[2]),
        start.expand(*shape, 1).reshape(-1),
        weights.expand(*shape, 1, -1).reshape(x.shape[0] * x.shape[1], -1),
        _rows(feedback.double(), shape),
        pole,
    ).view(x.shape)


def moving_feedback_line(
    x: Tensor, delay: Tensor, feedback: Tensor, interpolation: str = "lagrange"
) -> Tensor:
    """A delay line whose time moves while its output is fed back: what a flanger rings with.

    x         [B, C, T]
    delay     [B or 1, C or 1, T]  samples in float64; 2 or more, less is held at 2
    feedback  [B or 1, C or 1, 1]  -1 < feedback < 1
    returns   [B, C, T]            y[n] = e[n - delay[n]], e = x + feedback y

    Exact, in float64, in blocks as long as the shortest delay that occurs; compiled, as the next delays
    allow. 8 x 131072 samples take 3 ms compiled on one core, 16 with gradients, and keep what enters the
    line, in the type of x; in pure torch 78 ms (174 with gradients) where the shortest delay is 1.1 ms, and
    32 bytes per sample are kept.
    """
    count, delay, feedback = neighbors(interpolation), delay.double(), feedback.double()
    if compiled.serves(x, delay, feedback) and x.shape[-1] < MOST_SAMPLES:
        return machine.moving_feedback_line(x, delay, feedback.expand(*x.shape[:2], 1), count)
    delay, feedback = (_rows(knob, x.shape[:2]) for knob in (delay.clamp(min=2.0), feedback))
    flat = x.reshape(-1, x.shape[2])
    return compiled.untraced(_MovingFeedbackLine, flat, delay, feedback, count).view(x.shape)


def hz_to_pole(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    """The pole p of y[n] = p y[n-1] + (1 - p) x[n], 3 dB down near this frequency; any shape, float64."""
    return torch.exp(frequency_hz.double() * (-2.0 * math.pi / sample_rate))


class _FeedbackLine(torch.autograd.Function):
    """x [R, T], start [R], weights [R, W], feedback [R, 1], pole [R, 1] or None -> [R, T]."""

    @staticmethod
    def forward(ctx, x: Tensor, start: Tensor, weights: Tensor, feedback: Tensor, pole: Tensor | None):
        entered, left, returned = _ring(x, start, weights, feedback, pole)
        ctx.save_for_backward(start, weights, feedback, pole, entered, left, returned)
        ctx.dtype = x.dtype
        return left.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        start, weights, feedback, pole, entered, left, returned = ctx.saved_tensors
        # A line that does not move is its own adjoint on reversed time, where it is entered at its output.
        at_output, at_input, damped = (
            y.flip(-1) for y in _ring(grad.flip(-1), start, weights, feedback, pole)
        )
        by_weights = lagged_products(at_output, entered, start, weights.shape[-1])
        by_feedback = (at_input * returned).sum(-1, keepdim=True)
        by_pole = None
        if pole is not None:
            by_pole = damped[:, 1:] * (returned[:, :-1] - left[:, 1:])
            by_pole = by_pole.sum(-1, keepdim=True) - damped[:, :1] * left[:, :1]
            by_pole = by_pole * feedback / (1.0 - pole)
        return at_input.to(ctx.dtype), None, by_weights, by_feedback, by_pole


class _MovingFeedbackLine(torch.autograd.Function):
    """x [R, T], delay [R, T] in float64, feedback [R, 1] -> [R, T]."""

    @staticmethod
    def forward(ctx, x: Tensor, delay: Tensor, feedback: Tensor, count: int) -> Tensor:
        start, place = split(delay, count)
        samples, block = x.shape[-1], _shortest(start)
        entered = pad(x.double(), (count, 0))
        left = torch.empty_like(delay)
        for a, b in _spans(0, samples, CHUNK):
            index, weights = _chunk(start, place, a, b, count)
            for c, d in _spans(a, b, block):
                span = slice(c - a, d - a)
                taps = _gather(entered, index[..., span]) * weights[..., span]
                torch.sum(taps, 1, out=left[:, c:d])
                entered[:, count + c : count + d].addcmul_(feedback, left[:, c:d])
        ctx.save_for_backward(start, place, feedback, entered, left)
        ctx.count, ctx.dtype, ctx.block = count, x.dtype, block
        return left.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        start, place, feedback, entered, left = ctx.saved_tensors
        samples, count, block = grad.shape[-1], ctx.count, ctx.block
        at_output = grad.double()
        at_output = at_output.clone() if at_output is grad else at_output
        at_input = torch.zeros_like(entered)
        by_delay = torch.empty_like(at_output)
        for a, b in reversed(_spans(0, samples, CHUNK)):
            index, weights = _chunk(start, place, a, b, count)
            for c, d in reversed(_spans(a, b, block)):
                span = slice(c - a, d - a)
                at_output[:, c:d].addcmul_(feedback, at_input[:, count + c : count + d])
                part = at_output[:, None, c:d] * weights[..., span]
                at_input.scatter_add_(1, index[..., span].flatten(1), part.flatten(1))
            taps = _gather(entered, index).unbind(1)
            by_delay[:, a:b] = polynomial(taps, place[:, a:b], True)[1]
        at_input = at_input[:, count:]
        by_feedback = (at_input * left).sum(-1, keepdim=True)
        return at_input.to(ctx.dtype), by_delay.mul_(at_output), by_feedback, None


def _ring(
    x: Tensor, start: Tensor, weights: Tensor, feedback: Tensor, pole: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What enters the line, leaves it and comes back to its input: three times [R, T] in float64."""
    rows, samples = x.shape
    count = weights.shape[1]
    start = start.clamp(max=samples)
    block = min(_shortest(start), samples, BLOCK)
    reach = int(start.max()) + count - 1
    damp = _Damping(pole, block) if pole is not None else None
    block = damp.block if damp is not None else block
    length = -(-samples // block) * block
    x = pad(x.double(), (0, length - samples))
    entered = x.new_zeros(rows, reach + length)
    left = x.new_empty(rows, length)
    returned = torch.empty_like(left) if damp is not None else left
    window = torch.arange(block + count - 1, device=x.device) + (reach - count + 1 - start).unsqueeze(1)
    by_tap = weights.unsqueeze(2).unbind(1)
    for a, b in _spans(0, length, block):
        seen = entered[:, a : a + reach + block].gather(1, window)
        out = left[:, a:b]
        torch.mul(seen[:, count - 1 :], by_tap[0], out=out)
        for k in range(1, count):
            out.addcmul_(seen[:, count - 1 - k : count - 1 - k + block], by_tap[k])
        if damp is not None:
            returned[:, a:b] = damp(out)
        torch.addcmul(x[:, a:b], feedback, returned[:, a:b], out=entered[:, reach + a : reach + b])
    return entered[:, reach : reach + samples], left[:, :samples], returned[:, :samples]


class _Damping:
    """A one-pole low-pass, block after block: y[n] = (1 - p) x[n] + p y[n - 1].

    A block is cut into chunks; one product of matrices runs all chunks from rest, another hands the last
    sample of each to the next.
    """

    def __init__(self, pole: Tensor, block: int) -> None:
        chunk = 1 << max(0, min(5, (block.bit_length()) // 2))
        self.block = block // chunk * chunk
        steps = torch.arange(max(chunk, self.block // chunk) + 1, device=pole.device, dtype=pole.dtype)
        lag = (steps - steps[:, None]).clamp(min=0.0)
        self.within = (1.0 - pole[..., None]) * (pole[..., None] ** lag[:chunk, :chunk]).triu()
        across = self.block // chunk
        self.across = ((pole**chunk)[..., None] ** lag[:across, :across]).triu()
        self.decay = (pole ** steps[1 : chunk + 1]).unsqueeze(1)
        self.last = torch.zeros_like(pole)

    def __call__(self, x: Tensor) -> Tensor:
        """x [R, block] -> [R, block]; remembers where it stopped."""
        chunks = x.reshape(x.shape[0], -1, self.within.shape[1])
        y = chunks @ self.within
        ends = torch.cat((self.last, y[:, :-1, -1]), 1).unsqueeze(1)
        y = torch.addcmul(y, (ends @ self.across).mT, self.decay).flatten(1)
        self.last = y[:, -1:]
        return y


def _chunk(start: Tensor, place: Tensor, a: int, b: int, count: int) -> tuple[Tensor, Tensor]:
    """Samples a to b of [R, T] -> where their neighbors lie in a padded row, and weights: [R, W, b - a]."""
    now = torch.arange(a, b, device=start.device)
    index = (now - start[:, a:b].long()).clamp_(min=-1).add_(count)
    steps = torch.arange(count, device=start.device).unsqueeze(1)
    return index.unsqueeze(1) - steps, torch.stack(weights_at(place[:, a:b], count), 1)


def _gather(rows: Tensor, index: Tensor) -> Tensor:
    """rows [R, N], index [R, W, L] -> [R, W, L]."""
    return rows.unsqueeze(1).expand(-1, index.shape[1], -1).gather(2, index)


def _spans(first: int, last: int, block: int) -> list[tuple[int, int]]:
    return [(a, min(a + block, last)) for a in range(first, last, block)]


def _shortest(start: Tensor) -> int:
    """Samples that a line can run before it hears itself."""
    return int(start.min())


def _rows(x: Tensor, shape: Sequence[int]) -> Tensor:
    """[B or 1, C or 1, F] -> [B C, F]."""
    return x.expand(*shape, x.shape[2]).reshape(-1, x.shape[2])
