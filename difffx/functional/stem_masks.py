"""A strip of a DJ's mixer as one mask over short spectra: fader, isolator, low-pass and high-pass."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional.short_time import spans

OPEN = 0.02
"""The end of a filter's way, over which it leaves the sound altogether: a fifth of an octave."""

COEFFICIENTS = 7
"""Of each strip and frame: levels of the three bands, place and depth of the low-pass, of the high-pass."""


def steepness(transition_octaves: float) -> float:
    """Order n of 1 / (1 + (f / cutoff)^n): 0.5 octaves are 11.5, 69.5 dB an octave; 1.44 are 4, 24 dB."""
    return 4.0 / (math.log(2.0) * transition_octaves)


def bin_log_hz(sample_rate: int, n_fft: int) -> Tensor:
    """Natural logarithm of each bin's frequency in Hz, [N] in float64; 0 Hz counts as 1 Hz."""
    return torch.fft.rfftfreq(n_fft, 1.0 / sample_rate, dtype=torch.float64).clamp(min=1.0).log()


def isolator_bands(log_hz: Tensor, low_hz: float, high_hz: float, order: float) -> Tensor:
    """Shares of bass, mid and treble of each bin, [3, N]; they add up to 1 everywhere.

    Two crossovers of equal width in octaves, both bands at half where they meet, without a turn of phase.
    """
    below_low = torch.sigmoid(order * (math.log(low_hz) - log_hz))
    above_low = torch.sigmoid(order * (log_hz - math.log(low_hz)))
    below_high = torch.sigmoid(order * (math.log(high_hz) - log_hz))
    above_high = torch.sigmoid(order * (log_hz - math.log(high_hz)))
    return torch.stack((below_low, above_low * below_high, above_low * above_high))


def strip_coefficients(
    gain: Tensor,
    eq_low: Tensor,
    eq_mid: Tensor,
    eq_high: Tensor,
    lpf: Tensor,
    hpf: Tensor,
    *,
    order: float,
    lpf_hz: tuple[float, float],
    hpf_hz: tuple[float, float],
) -> Tensor:
    """Six knobs of a strip, each [..., M], as what `mixed_stems` wants, [..., 7, M].

    gain                      factor
    eq_low, eq_mid, eq_high   factor of a band; 0 takes it away, 1 leaves it, 2 is 6 dB more
    lpf, hpf                  0..1, equal steps of pitch through lpf_hz and hpf_hz; lpf 1 and hpf 0 are no
                              filter at all, which fades in over the first OPEN of the way
    """
    low, high = (order * math.log(hz) for hz in lpf_hz)
    low_pass = -(low + lpf * (high - low))
    low, high = (order * math.log(hz) for hz in hpf_hz)
    high_pass = low + hpf * (high - low)
    depths = ((1.0 - lpf) / OPEN).clamp(max=1.0), (hpf / OPEN).clamp(max=1.0)
    bands = gain * eq_low, gain * eq_mid, gain * eq_high
    return torch.stack((*bands, low_pass, depths[0], high_pass, depths[1]), -2)


def mixed_stems(stems: Sequence[Tensor], coefficients: Tensor, bands: Tensor, slope: Tensor) -> Tensor:
    """Stems through their strips, added up, all in short spectra.

    stems          S of them, [B or 1, C, 2, M, N] from `short_time.to_spectrum`; C is 1 or the largest
    coefficients   [B, S, 7, M] from `strip_coefficients`
    bands          [3, N]  from `isolator_bands`
    slope          [N]     order times the logarithm of each bin's frequency
    returns        [B, C, 2, M, N]

    Each bin of each frame is multiplied by one real number,

        (sum of level_b band_b) (1 - d sigma(p + slope)) (1 - e sigma(q - slope))

    with (p, d) of the low-pass and (q, e) of the high-pass. The masks are made again for the way back, so
    nothing is kept but the stems and the coefficients. Gradients to both, once.
    """
    return _MixedStems.apply(coefficients, bands, slope, *stems)


class _MixedStems(torch.autograd.Function):
    @staticmethod
    def forward(ctx, coefficients: Tensor, bands: Tensor, slope: Tensor, *stems: Tensor) -> Tensor:
        ctx.save_for_backward(coefficients, bands, slope, *stems)
        channels = max(stem.shape[1] for stem in stems)
        mix = stems[0].new_zeros(coefficients.shape[0], channels, *stems[0].shape[2:])
        for item, knobs in enumerate(coefficients):
            for a, b in spans(mix.shape[-2], mix.device):
                for stem, strip in zip(stems, knobs, strict=True):
                    levels, low, _, high, _ = _masks(strip[:, a:b], bands, slope)
                    mask = levels.mul_(low).mul_(high)
                    heard = stem[min(item, stem.shape[0] - 1), :, :, a:b]
                    mix[item, :, :, a:b].addcmul_(heard, mask)
        return mix

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        coefficients, bands, slope, *stems = ctx.saved_tensors
        by_knobs = torch.zeros_like(coefficients) if ctx.needs_input_grad[0] else None
        by_stems = [
            torch.zeros_like(stem) if wanted else None
            for stem, wanted in zip(stems, ctx.needs_input_grad[3:], strict=True)
        ]
        for item, knobs in enumerate(coefficients):
            for a, b in spans(grad.shape[-2], grad.device):
                felt = grad[item, :, :, a:b]
                for s, (stem, strip) in enumerate(zip(stems, knobs, strict=True)):
                    masks = _masks(strip[:, a:b], bands, slope)
                    row = min(item, stem.shape[0] - 1)
                    if by_knobs is not None:
                        by_mask = _summed_product(felt, stem[row, :, :, a:b])
                        by_knobs[item, s, :, a:b] = _by_coefficients(by_mask, masks, strip[:, a:b], bands)
                    if by_stems[s] is not None:
                        back = felt * (masks[0] * masks[1] * masks[3])
                        by_stems[s][row, :, :, a:b] += back.sum_to_size(by_stems[s][row, :, :, a:b].shape)
        return by_knobs, None, None, *by_stems


def _masks(strip: Tensor, bands: Tensor, slope: Tensor) -> tuple[Tensor, ...]:
    """strip [7, m] -> levels, low-pass, its share, high-pass, its share, each [m, N]."""
    levels = strip[:3].T @ bands
    low_share = (strip[3, :, None] + slope).sigmoid_()
    high_share = (strip[5, :, None] - slope).sigmoid_()
    one = strip.new_ones(())
    low = torch.addcmul(one, strip[4, :, None], low_share, value=-1)
    high = torch.addcmul(one, strip[6, :, None], high_share, value=-1)
    return levels, low, low_share, high, high_share


def _summed_product(x: Tensor, y: Tensor) -> Tensor:
    """x [C, 2, m, N] times y [C or 1, 2, m, N], added over the planes: [m, N]."""
    (first, second), *pairs = zip(x.flatten(0, 1), y.expand_as(x).flatten(0, 1), strict=True)
    total = first * second
    for first, second in pairs:
        total.addcmul_(first, second)
    return total


def _by_coefficients(by_mask: Tensor, masks: tuple[Tensor, ...], strip: Tensor, bands: Tensor) -> Tensor:
    """The gradient to a mask [m, N] -> to the coefficients that made it, [7, m]."""
    levels, low, low_share, high, high_share = masks
    by_levels = bands @ (by_mask * low * high).T
    felt = by_mask * levels
    rows = [*by_levels]
    for other, share, depth in ((high, low_share, strip[4]), (low, high_share, strip[6])):
        by_share = (felt * other).mul_(share)
        first = by_share.sum(-1)
        second = by_share.mul_(share).sum(-1)
        rows += [depth * (second - first), -first]
    return torch.stack(rows)
