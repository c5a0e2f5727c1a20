"""Echoes of what was sent into a line, coming back for as long as the feedback at that time lets them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad


def send_echo(x: Tensor, delay: int | Sequence[int], feedback: Tensor) -> Tensor:
    """The echoes alone: the first as loud as what was sent, the later ones by what the feedback then is.

    x          [B, C, T]       what is sent into the line
    delay      samples, 1 or more; one for all items or one for each
    feedback   [B, 1, T or 1]  -1 < feedback < 1, moving
    returns    [B, C, T]       y[n] = e[n - delay], e = x + feedback y

    Exact, in blocks of one delay; the way back is the same line on reversed time. Once the sending has ended
    the tail goes on, and dies when the feedback is taken down. Keeps what is in the line.
    """
    if isinstance(delay, int):
        return _SendEcho.apply(x, delay, feedback.expand(x.shape[0], 1, x.shape[2]))
    if len(delay) != x.shape[0]:
        raise ValueError(f"send_echo: expected one delay or {x.shape[0]} of them, got {len(delay)}")
    if len({*delay}) == 1:
        return send_echo(x, delay[0], feedback)
    feedback = feedback.expand(x.shape[0], 1, x.shape[2])
    items = zip(x.split(1), delay, feedback.split(1), strict=True)
    return torch.cat([send_echo(*item) for item in items])


class _SendEcho(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, delay: int, feedback: Tensor) -> Tensor:
        line, samples = x.clone(), x.shape[-1]
        for a in range(delay, samples, delay):
            b = min(a + delay, samples)
            line[..., a:b].addcmul_(feedback[..., a:b], line[..., a - delay : b - delay])
        ctx.save_for_backward(line, feedback)
        ctx.delay = delay
        return _later(line, delay)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        line, feedback = ctx.saved_tensors
        delay, samples = ctx.delay, grad.shape[-1]
        at_input = torch.zeros_like(line)
        at_input[..., : max(samples - delay, 0)] = grad[..., delay:]
        for a in reversed(range(delay, samples, delay)):
            b = min(a + delay, samples)
            at_input[..., a - delay : b - delay].addcmul_(feedback[..., a:b], at_input[..., a:b])
        by_feedback = (at_input * _later(line, delay)).sum(1, keepdim=True)
        return at_input, None, by_feedback


def _later(x: Tensor, delay: int) -> Tensor:
    return pad(x[..., : max(x.shape[-1] - delay, 0)], (min(delay, x.shape[-1]), 0))
