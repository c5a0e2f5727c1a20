"""Filters of finite length: any taps, and linear-phase equalizers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional.convolution import convolve

SHORT = 32
"""Up to so many taps a banded matrix is faster than a Fourier transform."""


def fir_filter(x: Tensor, taps: Tensor) -> Tensor:
    """x convolved with taps, from silence, cut to the length of x: y[n] = sum over k of taps[k] x[n - k].

    x         [B, C, T]
    taps      [B or 1, C or 1, N], any N
    returns   [B, C, T] in the type of x

    Exact and causal, in float64 inside: short filters as products with a banded matrix, long ones by
    `convolve`, with Fourier transforms long enough that nothing wraps around, O(log N) a sample.
    """
    fits = x.ndim == taps.ndim == 3 and all(taps.shape[i] in (1, x.shape[i]) for i in (0, 1))
    if not fits:
        shapes = f"{tuple(x.shape)} and {tuple(taps.shape)}"
        raise ValueError(f"fir_filter: expected x [B, C, T] and taps [B or 1, C or 1, N], got {shapes}")
    taps = taps[..., : x.shape[-1]].double()
    y = _banded(x.double(), taps) if taps.shape[-1] <= SHORT else convolve(x.double(), taps)
    return y.to(x.dtype)


def zero_phase_filter(x: Tensor, taps: Tensor) -> Tensor:
    """`fir_filter` with an odd number N of symmetric taps, their delay taken back: (N - 1) / 2 look ahead."""
    ahead = taps.shape[-1] // 2
    return fir_filter(pad(x, (0, ahead)), taps)[..., ahead:]


def linear_phase_taps(magnitude: Tensor, num_taps: int) -> Tensor:
    """Taps that have this magnitude at every frequency, and delay all of them by (num_taps - 1) / 2 samples.

    magnitude   [..., K]  factors at K frequencies, evenly spaced from 0 to half the sample rate
    num_taps    odd; at most 2 K - 1
    returns     [..., num_taps], symmetric, in float64

    The response is what the taps can draw of it: detail narrower than some sample_rate / num_taps is smeared
    (a Hann taper falls over the outer halves of both sides). All at 1 are one tap of 1.
    """
    reach = num_taps // 2
    if num_taps % 2 == 0 or num_taps < 1 or reach > magnitude.shape[-1] - 1:
        most = 2 * magnitude.shape[-1] - 1
        raise ValueError(f"linear_phase_taps: num_taps must be odd and at most {most}, got {num_taps}")
    response = torch.fft.irfft(magnitude.double().to(torch.complex128))[..., : reach + 1]
    ramp = torch.arange(reach + 1, dtype=torch.float64, device=magnitude.device) / (reach + 1)
    half = response * (0.5 - 0.5 * torch.cos(2 * math.pi * ramp.clamp(min=0.5)))
    return torch.cat((half[..., 1:].flip(-1), half), -1)


def magnitude_db(taps: Tensor, frequencies_hz: Tensor, sample_rate: int) -> Tensor:
    """What the taps do to a steady sine: taps [B, N], frequencies_hz [K] -> [B, K] dB in float64."""
    delays = torch.arange(taps.shape[-1], dtype=torch.float64, device=taps.device) / sample_rate
    turns = torch.exp(-2j * math.pi * delays[:, None] * frequencies_hz.double())
    return 20 * (taps.to(torch.complex128) @ turns).abs().log10()


def _banded(x: Tensor, taps: Tensor) -> Tensor:
    """Blocks of L samples and the N - 1 before them, times a Toeplitz matrix [N - 1 + L, L]."""
    samples, length = x.shape[-1], taps.shape[-1]
    block = min(4 * SHORT, samples)
    blocks = -(-samples // block)
    frames = pad(x, (length - 1, blocks * block - samples)).unfold(-1, block + length - 1, block)
    matrix = pad(taps.flip(-1), (block - 1, block - 1)).unfold(-1, block, 1).flip(-1)
    return (frames @ matrix).flatten(2)[..., :samples]
