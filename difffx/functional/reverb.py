"""Reverberation made of noise, and what reverbs have in common."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional.convolution import convolve
from difffx.functional.delays import blend, fractional_delay, ms_to_samples
from difffx.functional.units import db_to_amplitude

SIXTY_DB = math.log(1000.0)
"""A decay time is the time in which the level falls by 60 dB."""

TILE = 256


def convolution_reverb(
    x: Tensor, sample_rate: int, *, ir: Tensor, gain_db: Tensor, predelay_ms: Tensor, mix: Tensor
) -> Tensor:
    """The sound in the place whose impulse response this is.

    x            [B, C, T]
    ir           [B or 1, C or 1, N] or [B or 1, C', C, N], see `convolution.convolve`
    gain_db      [B, 1, 1]   of the reverberation
    predelay_ms  [B, 1, 1]   fractional
    mix          [B, 1, F]   0 is the sound, 1 the reverberation
    returns      [B, C', T]

    All controls may be [1, 1, 1]. Cost and memory: that of the convolution.
    """
    heard = x if ir.ndim == 4 else once(x)
    late = fractional_delay(heard, ms_to_samples(predelay_ms, sample_rate))
    wet = convolve(late * db_to_amplitude(gain_db.to(x.dtype)), ir)
    return blend(x.expand_as(wet), wet, mix)


def noise_reverb(
    x: Tensor,
    sample_rate: int,
    *,
    gain_db: Tensor,
    decay_s: Tensor,
    predelay_ms: Tensor,
    width: Tensor,
    mix: Tensor,
    noise: Tensor,
) -> Tensor:
    """A dense hall whose bands fade each at its own pace.

    x            [B, 1 or 2, T]
    gain_db      [B, K, 1]   level of a band's reverberation of a steady sound, whatever its decay
    decay_s      [B, K, 1]   seconds until a band is 60 dB down
    predelay_ms  [B, 1, 1]   from the sound to its reverberation; fractional
    width        [B, 1, 1]   1: left answers left and right answers right; 0: the same from both sides
    mix          [B, 1, F]   0 is the sound, 1 the reverberation
    noise        [2, K, N]   from `band_noise`: the same noise makes the same sound
    returns      [B, 2, T]

    `noise_ir` convolved with the sound: the decay is exact to the last of the N taps, and there it ends. One
    noise for all items; all controls may be those of one item, [1, ., .].
    """
    ir = noise_ir(gain_db, decay_s, noise[..., : x.shape[-1]].to(x.dtype), sample_rate)
    late = fractional_delay(once(x), ms_to_samples(predelay_ms, sample_rate))
    mono = late.shape[1] == 1  # then the responses may be led across, which are shorter
    wet = convolve(late, across(ir, width)) if mono else across(convolve(late, ir), width)
    return blend(x, wet, mix)


def noise_ir(gain_db: Tensor, decay_s: Tensor, noise: Tensor, sample_rate: int) -> Tensor:
    """Bands of noise that fade in straight lines of dB, added.

    gain_db   [B or 1, K, 1]  level of a steady sound in this band, passed through: a long decay starts softer
    decay_s   [B or 1, K, 1]  seconds per 60 dB
    noise     [C, K, N]
    returns   [B or 1, C, N] in the type of the noise

    Cost O(K) for each tap; nothing is kept for the gradient but the controls and the noise.
    """
    rate = SIXTY_DB / (decay_s.double() * sample_rate)  # [B, K, 1], nepers a sample
    energy = -torch.expm1(-2.0 * rate)  # of 1 / the sum over exp(-2 rate n)
    start = db_to_amplitude(gain_db.double()) * energy.sqrt()
    start, rate = torch.broadcast_tensors(start.squeeze(2), rate.squeeze(2))
    return _FadingBands.apply(start, rate, noise)


def band_noise(bands: int, num_taps: int, sample_rate: int, channels: int = 2, seed: int = 0) -> Tensor:
    """White noise of power 1 cut into bands that overlap and add up to it again: [channels, bands, num_taps].

    Bands are centered at equal steps of pitch, see `band_centers_hz`; each rises and falls as cos^2 between
    its neighbors' centers, the outer two reach to 0 Hz and to half the sample rate.
    """
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(channels, 1, num_taps, generator=generator, dtype=torch.float64)
    centers = torch.tensor(band_centers_hz(bands, sample_rate), dtype=torch.float64)
    frequencies = torch.fft.rfftfreq(num_taps, 1.0 / sample_rate, dtype=torch.float64)
    octaves = (frequencies.clamp(centers[0], centers[-1]) / centers[0]).log2()
    step = (centers[-1] / centers[0]).log2() / max(bands - 1, 1)
    place = octaves / step if bands > 1 else torch.zeros_like(octaves)
    distance = (place - torch.arange(bands).unsqueeze(1)).abs().clamp(max=1.0)
    shares = torch.cos(0.5 * math.pi * distance).square()  # [K, F]
    return torch.fft.irfft(torch.fft.rfft(white) * shares, num_taps).float()


def band_centers_hz(bands: int, sample_rate: int) -> list[float]:
    """Equal steps of pitch from 40 Hz to 16 kHz, or to 0.4 of a low sample rate."""
    low, high = 40.0, min(16_000.0, 0.4 * sample_rate)
    return [low * (high / low) ** (k / max(bands - 1, 1)) for k in range(bands)]


def once(x: Tensor) -> Tensor:
    """[B, 2, T] -> [B, 1, T] where mono was only expanded to two channels; anything else as it is."""
    return x[:, :1] if x.shape[1] > 1 and x.stride(1) == 0 else x


def across(wet: Tensor, width: Tensor) -> Tensor:
    """Left and right led into each other, the power kept: wet [B, 2, T], width [B or 1, 1, 1] 0..1."""
    angle = (1.0 - width.to(wet.dtype)) * (0.25 * math.pi)
    return angle.cos() * wet + angle.sin() * wet.flip(1)


class _FadingBands(torch.autograd.Function):
    """start, rate [B, K] float64, noise [C, K, N] -> sum over k of start exp(-rate n) noise, [B, C, N].

    n = TILE i + j makes the exponential a product of two short ones.
    """

    @staticmethod
    def forward(ctx, start: Tensor, rate: Tensor, noise: Tensor) -> Tensor:
        ctx.save_for_backward(start, rate, noise)
        batch, (channels, bands, taps) = start.shape[0], noise.shape
        coarse, fine = _two_exponentials(rate, taps)
        coarse, fine = (start.unsqueeze(-1) * coarse).to(noise.dtype), fine.to(noise.dtype)
        ir = noise.new_zeros(batch, channels, taps)
        for k in range(bands):
            envelope = (coarse[:, k, :, None] * fine[:, k, None]).view(batch, 1, -1)[..., :taps]
            ir.addcmul_(envelope, noise[:, k])
        return ir

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        start, rate, noise = ctx.saved_tensors
        batch, (channels, bands, taps) = start.shape[0], noise.shape
        coarse, fine = _two_exponentials(rate, taps)  # [B, K, I] and [B, K, J], float64
        tiles = coarse.shape[-1]
        later = TILE * torch.arange(tiles, device=rate.device), torch.arange(TILE, device=rate.device)
        basis = torch.stack((fine, later[1] * fine), -1).to(grad.dtype)  # [B, K, J, 2]
        heard = grad.new_zeros(batch, tiles * TILE)
        moments = []
        with torch.autocast(grad.device.type, enabled=False):
            for k in range(bands):
                torch.mul(grad[:, 0], noise[0, k], out=heard[:, :taps])
                for c in range(1, channels):
                    heard[:, :taps].addcmul_(grad[:, c], noise[c, k])
                moments.append(heard.view(batch, tiles, TILE) @ basis[:, k])
        total, moment = torch.stack(moments, 1).double().unbind(-1)  # [B, K, I]
        by_start = (coarse * total).sum(-1)
        by_rate = -start * (coarse * (later[0] * total + moment)).sum(-1)
        return by_start, by_rate, None


def _two_exponentials(rate: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """rate [B, K] -> exp(-rate TILE i) [B, K, I] and exp(-rate j) [B, K, TILE], I tiles holding the taps."""
    tiles = torch.arange(-(-taps // TILE), device=rate.device, dtype=rate.dtype)
    within = torch.arange(TILE, device=rate.device, dtype=rate.dtype)
    rate = rate.unsqueeze(-1)
    return (-rate * TILE * tiles).exp(), (-rate * within).exp()
