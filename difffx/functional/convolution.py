"""Convolution with long responses, by FFT."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

SHORTEST = 4096
"""Blocks are no shorter, however short the response: shorter FFTs cost more than they save."""


def convolve(x: Tensor, ir: Tensor) -> Tensor:
    """Sound as it would be in the place, or through the box, whose impulse response this is.

    x         [B, C, T]
    ir        [B or 1, C or 1, N]       each channel through its own response, or all through one; mono x
              [B or 1, C', N]           through several responses becomes C' channels
              [B or 1, C', C, N]        true stereo and the like: from each channel to each channel
    returns   [B, C', T] in the type of x: the first T samples, from silence; the tail after them is not kept

    Causal, without wrap-around; taps beyond T are not looked at, for they cannot be heard. One FFT over all,
    or blocks (overlap-add) where T is much longer than N. FFTs of float32 leave a floor some 135 dB below the
    loudest part of the block; float64 comes back in float64. Gradients to both arguments, once.

    Cost O(log N) a sample; for the gradient it keeps the two spectra.
    """
    if x.ndim != 3 or ir.ndim not in (3, 4) or ir.shape[0] not in (1, x.shape[0]) or not ir.shape[-1]:
        raise ValueError(
            f"convolve: expected x [B, C, T] and ir [B or 1, C', N] or [B or 1, C', C, N], "
            f"got {tuple(x.shape)} and {tuple(ir.shape)}"
        )
    channels = ir.shape[2] if ir.ndim == 4 else ir.shape[1]
    if channels != x.shape[1] and (ir.ndim == 4 or 1 not in (channels, x.shape[1])):
        raise ValueError(f"convolve: x has {x.shape[1]} channels, ir {tuple(ir.shape)} is for {channels}")
    ir = ir[..., : x.shape[-1]].to(x.dtype)
    if ir.ndim == 4:
        return _Convolve.apply(x.unsqueeze(1), ir)
    return _Convolve.apply(x.unsqueeze(2), ir.unsqueeze(2))


def fft_length(at_least: int) -> int:
    """The smallest even length of the form 2^a 3^b 5^c, for which FFTs are fast."""
    best = 1 << max(at_least - 1, 1).bit_length()
    fives = 1
    while fives < best:
        odd = fives
        while odd < best:
            best = min(best, odd << max(-(-at_least // odd) - 1, 1).bit_length())
            odd *= 3
        fives *= 5
    return best


def _plan(samples: int, taps: int) -> tuple[int, int, int]:
    """The cheapest (length of the FFTs, block, number of blocks); a tail ends within the next block."""
    whole = fft_length(samples + taps - 1)
    plans = [(whole, samples, 1)]
    length = fft_length(max(2 * taps, SHORTEST))
    while length < whole:
        block = length - taps + 1
        plans.append((length, block, -(-samples // block)))
        length *= 2
    return min(plans, key=lambda plan: plan[0] * plan[2] * math.log2(plan[0]))


class _Convolve(torch.autograd.Function):
    """x [B, 1, C, T] with ir [B or 1, C', C, N], or x [B, C, 1, T] with ir [B or 1, C', 1, N] -> [B, C', T].

    Spectra have the shape [B, C', C, blocks, F], with C' or C 1 where they do not matter.
    """

    @staticmethod
    def forward(ctx, x: Tensor, ir: Tensor) -> Tensor:
        ctx.samples, ctx.taps = x.shape[-1], ir.shape[-1]
        ctx.plan = _plan(ctx.samples, ctx.taps)
        length, block, blocks = ctx.plan
        x_spectrum = torch.fft.rfft(_cut(x, block, blocks), length)
        ir_spectrum = torch.fft.rfft(ir.unsqueeze(-2), length)
        ctx.save_for_backward(x_spectrum, ir_spectrum)
        y = torch.fft.irfft(_product(x_spectrum, ir_spectrum), length)  # [B, C', blocks, length]
        return _overlap_add(y, block, ctx.samples, ctx.taps)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        length, block, blocks = ctx.plan
        x_spectrum, ir_spectrum = ctx.saved_tensors
        reach = length if blocks > 1 else block
        grad = pad(grad, (0, (blocks - 1) * block + reach - ctx.samples)).unfold(-1, reach, block)
        spectrum = torch.fft.rfft(grad, length).unsqueeze(2)
        by_x = by_ir = None
        if ctx.needs_input_grad[0]:
            back = (spectrum * ir_spectrum.conj()).sum_to_size(x_spectrum.shape)
            by_x = torch.fft.irfft(back, length)[..., :block].flatten(-2)[..., : ctx.samples]
        if ctx.needs_input_grad[1]:
            back = (spectrum * x_spectrum.conj()).sum_to_size(ir_spectrum.shape)
            by_ir = torch.fft.irfft(back, length)[..., 0, : ctx.taps]
        return by_x, by_ir


def _product(x: Tensor, ir: Tensor) -> Tensor:
    """Summed over the channels that are heard together: [B, C', C, blocks, F] -> [B, C', blocks, F]."""
    product = x * ir
    return product.sum(2) if product.shape[2] > 1 else product.squeeze(2)


def _cut(x: Tensor, block: int, blocks: int) -> Tensor:
    """[..., T] -> [..., blocks, block]."""
    return pad(x, (0, blocks * block - x.shape[-1])).unflatten(-1, (blocks, block))


def _overlap_add(y: Tensor, block: int, samples: int, taps: int) -> Tensor:
    """[..., blocks, length] -> [..., samples]; each block's tail falls into the next block."""
    if y.shape[-2] == 1:
        return y[..., 0, :samples].contiguous()
    head = y[..., :block].clone()
    head[..., 1:, : taps - 1] += y[..., :-1, block : block + taps - 1]
    return head.flatten(-2)[..., :samples]
