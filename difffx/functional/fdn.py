"""Reverberation made of delay lines: the feedback delay network, and combs behind all-passes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from difffx.functional import compiled
from difffx.functional.compiled import combs as machine
from difffx.functional.compiled.feedback_line import still_line
from difffx.functional.delay_network import delay_network
from difffx.functional.delays import blend, fractional_delay, ms_to_samples
from difffx.functional.interpolation import neighbors, places
from difffx.functional.reverb import SIXTY_DB, across, once

HIGHEST = 0.49
"""Damping frequencies stop at this share of the sample rate."""

FAINTEST = 1e-12
"""Echoes of less power are not turned up to the level of the dry sound."""

COMBS = (1116, 1188, 1277, 1356, 1422, 1491, 1557, 1617)
ALL_PASSES = (225, 341, 441, 556)
SPREAD = 23
"""Freeverb's delays in samples at 44.1 kHz; the right side's combs are longer by SPREAD."""


def feedback_delay_network(
    x: Tensor,
    sample_rate: int,
    *,
    decay_low_s: Tensor,
    decay_high_s: Tensor,
    damping_hz: Tensor,
    diffusion: Tensor,
    predelay_ms: Tensor,
    width: Tensor,
    mix: Tensor,
    delays: Sequence[int],
    scattering: Tensor,
) -> Tensor:
    """A room: echoes that meet and multiply, the treble fading at its own pace.

    x             [B, 1 or 2, T]
    decay_low_s   [B, 1, 1]  seconds until the bass is 60 dB down
    decay_high_s  [B, 1, 1]  the same for the treble; may be longer
    damping_hz    [B, 1, 1]  between the two, where 1 / decay is their mean; held at 0.49 of the sample rate
    diffusion     [B, 1, 1]  0: every echo returns to its own line; 1: all lines feed all others
    predelay_ms   [B, 1, 1]  besides the shortest of the delays; fractional
    width         [B, 1, 1]  0: the same from both sides
    mix           [B, 1, F]  0 is the sound, 1 the reverberation
    delays        N whole numbers of samples, such as `delay_lengths` gives
    scattering    [N, N]     skew-symmetric, such as `scattering` gives: the lines mix by the rotation
                             exp(diffusion * scattering)
    returns       [B, 2, T]

    Exact in the time domain for any decay, in float64; `delay_network` tells cost and memory. The wet
    sound of steady noise is about as loud as the dry, whatever the decays. The left channel enters every
    other line, the right one the lines between; the sides hear all lines, with different signs. All controls
    may be [1, 1, 1].
    Jot, Chaigne (1991), with first-order shelves (`decay_shelves`) for absorption.
    """
    filters = decay_shelves(decay_low_s, decay_high_s, damping_hz, delays, sample_rate)
    feedback = torch.matrix_exp(diffusion.double() * scattering.double())  # [B, N, N]
    into, out_of = _sides(len(delays), x.device)
    low, high = (
        decay_gains(decay_s, delays, sample_rate).square() for decay_s in (decay_low_s, decay_high_s)
    )
    power = 0.5 * (low / (1.0 - low) + high / (1.0 - high)).mean(1, keepdim=True)  # of all echoes to come
    out_of = across(out_of * power.clamp(min=FAINTEST).rsqrt().unsqueeze(2), width.double())
    x_late = _later(once(x), ms_to_samples(predelay_ms, sample_rate))
    into = into if x_late.shape[1] == 2 else into.sum(1, keepdim=True)
    wet = delay_network(x_late, _system(feedback, into, out_of), filters, delays)
    return blend(x, wet, mix)


def freeverb(
    x: Tensor,
    sample_rate: int,
    *,
    decay_s: Tensor,
    damping_hz: Tensor,
    diffusion: Tensor,
    predelay_ms: Tensor,
    width: Tensor,
    mix: Tensor,
    size: float = 1.0,
) -> Tensor:
    """The classic of free software: dense, metallic, cheap.

    x            [B, 1 or 2, T]
    decay_s      [B, 1, 1]  seconds until the bass is 60 dB down, in every comb
    damping_hz   [B, 1, 1]  where an echo loses 3 dB each time around; held at 0.49 of the sample rate
    diffusion    [B, 1, 1]  0..1 (not 1): gain of the all-passes, which smear each echo
    predelay_ms  [B, 1, 1]  besides the shortest comb; fractional
    width        [B, 1, 1]  0: the same from both sides
    mix          [B, 1, F]  0 is the sound, 1 the reverberation
    size         scales all delays
    returns      [B, 2, T]

    Four Schroeder all-passes, then eight combs a side with a one-pole filter in their loops, added with
    alternating signs. Exact, in float64; `schroeder_all_pass` and `combs` tell cost and memory. Unlike
    Jezar's original (2000) the all-passes are true ones and stand first, and the feedback follows the length
    of the comb, so that all of them decay alike.
    """
    scale = size * sample_rate / 44_100
    late = _later(once(x), ms_to_samples(predelay_ms, sample_rate))
    late = schroeder_all_pass(late, diffusion, *(max(round(scale * delay), 1) for delay in ALL_PASSES))
    delays = [[max(round(scale * (delay + spread)), 1) for delay in COMBS] for spread in (0, SPREAD)]
    gains = torch.stack([decay_gains(decay_s, side, sample_rate) for side in delays], 1)
    signs = 1.0 - 2.0 * (torch.arange(len(COMBS), device=x.device) % 2)
    power = gains.square() / (1.0 - gains.square())
    levels = signs * (len(COMBS) * power.clamp(min=FAINTEST)).rsqrt()
    wet = combs(late, gains, levels, _damping_pole(damping_hz, sample_rate), delays)
    with torch.autocast(x.device.type, enabled=False):
        wet = across(torch.eye(2, dtype=wet.dtype, device=wet.device).unsqueeze(0), width) @ wet
    return blend(x, wet, mix)


def decay_gains(decay_s: Tensor, delays: Sequence[int], sample_rate: int) -> Tensor:
    """What a line must multiply by so that the level falls 60 dB in decay_s: [B, 1, 1] -> [B, N], float64."""
    seconds = torch.tensor(delays, dtype=torch.float64, device=decay_s.device) / sample_rate
    return torch.exp(-SIXTY_DB * seconds / decay_s.double().squeeze(2))


def decay_shelves(
    decay_low_s: Tensor, decay_high_s: Tensor, damping_hz: Tensor, delays: Sequence[int], sample_rate: int
) -> Tensor:
    """A first-order shelf for each line that makes bass and treble decay in their own times.

    decay_low_s, decay_high_s, damping_hz   [B or 1, 1, 1]
    returns                                 [B or 1, N, 3]: b0, b1, pole for `delay_network`, float64

    Exact at 0 Hz, at half the sample rate and at damping_hz, where the gain in dB is the mean of both, so
    that all lines agree there; between these they agree closely, the lines being short against the decays.
    The gain never leaves the span between the two, which are below 1: the network is stable at any setting.
    """
    low, high = (decay_gains(decay_s, delays, sample_rate) for decay_s in (decay_low_s, decay_high_s))
    ratio, mean = (high / low).sqrt(), (high * low).sqrt()
    tangent = _half_angle(damping_hz, sample_rate).tan()
    b0, b1, pole = torch.broadcast_tensors(
        (high + mean * tangent) / (1.0 + ratio * tangent),
        (mean * tangent - high) / (1.0 + ratio * tangent),
        (1.0 - ratio * tangent) / (1.0 + ratio * tangent),
    )
    return torch.stack((b0, b1, pole), -1)


def delay_lengths(
    lines: int, sample_rate: int, size: float = 1.0, shortest_ms: float = 22.6, longest_ms: float = 47.6
) -> list[int]:
    """Prime numbers of samples, no two alike, in about equal ratios from the shortest to the longest."""
    lengths: list[int] = []
    for k in range(lines):
        wanted_ms = size * shortest_ms * (longest_ms / shortest_ms) ** (k / max(lines - 1, 1))
        wanted = wanted_ms * sample_rate / 1000.0
        length = max(round(wanted), 2)
        while length in lengths or any(length % d == 0 for d in range(2, math.isqrt(length) + 1)):
            length += 1
        lengths.append(length)
    return lengths


def scattering(lines: int) -> Tensor:
    """The skew-symmetric matrix whose exponential spreads each line over all the others: [N, N], float64.

    1 above the diagonal, -1 below, at the scale at which the largest entry of the rotation is smallest.
    """
    ones = torch.ones(lines, lines, dtype=torch.float64)
    skew = ones.triu(1) - ones.tril(-1)
    scales = torch.linspace(0.2, 4.0, 96, dtype=torch.float64).reshape(-1, 1, 1)
    return skew * scales[torch.matrix_exp(scales * skew).abs().amax((1, 2)).argmin()]


def combs(x: Tensor, gains: Tensor, levels: Tensor, pole: Tensor, delays: Sequence[Sequence[int]]) -> Tensor:
    """Echoes of echoes from many delays at once, each round duller than the one before.

    x              [B, 1 or S, T]  one sound for all sides, or one for each
    gains, levels  [B or 1, S, N]  of each comb: factor for each round, and for its echoes in the sum
    pole           [B or 1, 1, 1]  of the low-pass that the echoes pass on each round; 0 <= pole < 1
    delays         S times N whole numbers of samples, 1 or more
    returns        [B, S, T]       sum over N of levels y; y[n] = gains h(x + y)[n - delay],
                                   h(v)[n] = (1 - pole) v[n] + pole h(v)[n - 1], from silence

    Exact; float64 inside. Compiled, it keeps nothing for the gradient but its inputs, and 8 x 131072 samples
    through 16 combs take 9 ms on one core, with gradients 36; in pure torch it is a `delay_network` for each
    side.
    """
    batch, sides = x.shape[0], len(delays)
    gains, levels, pole = gains.double(), levels.double(), pole.double()
    if compiled.serves(x, gains, levels, pole):
        gains, levels, pole = (knob.expand(batch, -1, -1) for knob in (gains, levels, pole))
        return machine.combs(x, gains, levels, pole.flatten(), [delay for side in delays for delay in side])
    wet, heard = [], x.expand(-1, sides, -1).split(1, 1)
    for side, gain, level, lengths in zip(heard, gains.unbind(1), levels.unbind(1), delays, strict=True):
        b0, p = torch.broadcast_tensors(gain * (1.0 - pole.squeeze(2)), pole.squeeze(2))
        apart = torch.eye(len(lengths), dtype=b0.dtype, device=x.device).unsqueeze(0)
        matrix = _system(apart, b0.new_ones(len(lengths), 1), level.unsqueeze(1))
        filters = torch.stack((b0, torch.zeros_like(b0), p), -1)
        wet.append(delay_network(side, matrix, filters, lengths))
    return torch.cat(wet, 1)


def schroeder_all_pass(x: Tensor, gain: Tensor, *delays: int) -> Tensor:
    """Echoes of echoes, every frequency at its level; several delays are all-passes in a row.

    x         [B, C, T]
    gain      [B or 1, 1, 1]  of all, below 1
    returns   [B, C, T]       v[n - delay] - gain v[n] with v[n] = x[n] + gain v[n - delay], from silence

    Exact, float64 inside. Compiled, what leaves the last of them is kept for the gradient, and what is in
    the lines at the end, for an all-pass can be gone through backward; 8 x 131072 samples through four take
    1.5 ms on one core, with gradients 6. In pure torch blocks are as long as the delay, and a value a sample
    is kept for each.
    """
    gain = gain.double()
    if compiled.serves(x, gain):
        rows = gain.expand(*x.shape[:2], 1).reshape(-1)
        return machine.schroeder(x.reshape(len(rows), -1), rows, delays).view(x.shape)
    for delay in delays:
        x = compiled.untraced(_AllPass, x, gain, delay)
    return x


class _AllPass(torch.autograd.Function):
    """x [B, C, T], gain [B or 1, 1, 1] float64."""

    @staticmethod
    def forward(ctx, x: Tensor, gain: Tensor, delay: int) -> Tensor:
        v = _comb(x, gain, delay)
        ctx.save_for_backward(v.to(x.dtype), gain)
        ctx.delay = delay
        return _answer(v, gain, delay).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        v, gain = ctx.saved_tensors
        delay = ctx.delay
        adjoint = _comb(grad.flip(-1), gain, delay)
        by_x = _answer(adjoint, gain, delay).to(grad.dtype).flip(-1)
        # dy/dgain is -v and the all-pass's answer to v[n - delay]: by_x is what grad is to the latter
        early = v[..., : max(v.shape[-1] - delay, 0)]
        by_gain = (by_x[..., delay:] * early).sum((1, 2), keepdim=True, dtype=torch.float64)
        by_gain = by_gain - (grad * v).sum((1, 2), keepdim=True, dtype=torch.float64)
        return by_x, by_gain.sum_to_size(gain.shape), None


def _comb(x: Tensor, gain: Tensor, delay: int) -> Tensor:
    """v[n] = x[n] + gain v[n - delay], float64."""
    samples = x.shape[-1]
    delay = min(delay, samples)
    rows = -(-samples // delay)
    fresh = pad(x.double(), (0, rows * delay - samples)).unflatten(-1, (rows, delay)).unbind(2)
    blocks = [fresh[0]]
    for now in fresh[1:]:
        blocks.append(torch.addcmul(now, gain, blocks[-1]))
    return torch.cat(blocks, -1)[..., :samples]


def _answer(v: Tensor, gain: Tensor, delay: int) -> Tensor:
    """v[n - delay] - gain v[n]."""
    return pad(v, (delay, 0))[..., : v.shape[-1]] - gain * v


def _later(x: Tensor, delay: Tensor) -> Tensor:
    """`fractional_delay` by a steady time, [B or 1, 1, 1] in float64; compiled, it keeps nothing but x."""
    if not compiled.serves(x, delay):
        return fractional_delay(x, delay)
    shape, rows = x.shape[:2], x.shape[0] * x.shape[1]
    start, weights = places(delay.clamp(min=0.0), neighbors("lagrange"))
    weights = weights.expand(*shape, 1, -1).reshape(rows, -1)
    return still_line(x.reshape(rows, -1), start.expand(*shape, 1).reshape(rows), weights).view(x.shape)


def _damping_pole(damping_hz: Tensor, sample_rate: int) -> Tensor:
    """The pole of a one-pole low-pass that loses 3 dB at damping_hz, [B, 1, 1], float64."""
    bend = 2.0 * _half_angle(damping_hz, sample_rate).sin().square()  # 1 - cos of the whole angle
    return (1.0 + bend - (bend * (bend + 2.0)).sqrt()).unsqueeze(2)


def _half_angle(frequency_hz: Tensor, sample_rate: int) -> Tensor:
    """[B, 1, 1] -> [B, 1], float64."""
    return frequency_hz.double().squeeze(2).clamp(max=HIGHEST * sample_rate) * (math.pi / sample_rate)


def _sides(lines: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """How left and right enter the lines, [N, 2], and leave them, [2, N], float64."""
    k = torch.arange(lines, device=device)
    into = torch.stack((1 - k % 2, k % 2), 1) * (1 - 2 * (k // 2 % 2)).unsqueeze(1)
    out_of = torch.stack((torch.ones_like(k), 1 - 2 * (k % 2)))
    return into.double(), out_of.double() / math.sqrt(lines)


def _system(feedback: Tensor, into: Tensor, out_of: Tensor) -> Tensor:
    """feedback [N, N], into [N, C] and out_of [C', N], the first and last for each item or for all.

    The matrix of `delay_network`; nothing passes by the lines.
    """
    batch = max(feedback.shape[0], out_of.shape[0])
    starts = torch.cat((feedback, into.expand(feedback.shape[0], -1, -1)), 2)
    ends = pad(out_of, (0, into.shape[1]))
    return torch.cat((starts.expand(batch, -1, -1), ends.expand(batch, -1, -1)), 1)
