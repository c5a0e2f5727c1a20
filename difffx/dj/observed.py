"""What is left of songs once nobody looks at single samples: powers of narrow bands, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj.config import MixerConfig
from difffx.functional import short_time, stem_masks

BANDS_PER_OCTAVE = 24
LOWEST_HZ = 20.0


@dataclass(frozen=True)
class Grid:
    """Where powers are measured: frames, gathered in blocks, and bins, gathered in bands.

    at        [M]  the sample in the middle of each block
    log_hz    [N]  natural logarithm of each band's frequency
    gather    [bins, N]  1 where a bin belongs to a band
    frames    n_fft, hop, and frames in a block
    samples   length of the sound
    """

    at: Tensor
    log_hz: Tensor
    gather: Tensor
    frames: tuple[int, int, int]
    samples: int


def grid(
    samples: int,
    sample_rate: int,
    n_fft: int,
    hop: int,
    block: int = 1,
    per_octave: int = BANDS_PER_OCTAVE,
    lowest_hz: float = LOWEST_HZ,
) -> Grid:
    """Bands of equal width in octaves, at least a bin wide, from lowest_hz up; blocks of so many frames."""
    at = short_time.frame_positions(samples, n_fft, hop).double()
    hz = torch.fft.rfftfreq(n_fft, 1.0 / sample_rate, dtype=torch.float64)
    place = ((hz / lowest_hz).clamp(min=1e-9).log2() * per_octave).floor().long()
    heard = hz >= lowest_hz
    band = torch.unique(place[heard], return_inverse=True)[1]
    gather = torch.zeros(len(hz), int(band.max()) + 1)
    gather[heard, band] = 1.0
    share = gather.double() / gather.double().sum(0)
    log_hz = hz.clamp(min=1.0).log() @ share
    return Grid(gathered(at, block, mean=True), log_hz, gather, (n_fft, hop, block), samples)


def gathered(x: Tensor, block: int, mean: bool = False) -> Tensor:
    """[M] or [..., M, N] -> sums or means of so many frames; the last block may hold fewer."""
    dim = 0 if x.ndim == 1 else -2
    parts = [part.mean(dim) if mean else part.sum(dim) for part in x.split(block, dim)]
    return torch.stack(parts, dim)


def spectra(x: Tensor, where: Grid) -> Tensor:
    """Short spectra of x [B, C, T], complex [B, C, frames, bins]."""
    planes = short_time.to_spectrum(x, *where.frames[:2])
    return torch.complex(*planes.unbind(-3))


def products(first: Tensor, second: Tensor, where: Grid) -> Tensor:
    """What two complex spectra [B, C, frames, bins] have in common, channels added, real: [B, M, N]."""
    both = (first.real * second.real).add_(first.imag * second.imag).sum(1)
    return gathered(both, where.frames[2]) @ where.gather.to(both)


def gram(sounds: Sequence[Tensor], where: Grid) -> Tensor:
    """Products of every pair i <= j of S spectra, [B, S (S + 1) / 2, M, N], those of unlike pairs doubled."""
    rows = [
        products(x, y, where) * (1.0 if i == j else 2.0)
        for i, x in enumerate(sounds)
        for j, y in enumerate(sounds)
        if i <= j
    ]
    return torch.stack(rows, 1)


def quadratic(masks: Tensor, pairs: Tensor) -> Tensor:
    """Power of sounds added under masks [B, S, M, N]; pairs from `gram` -> [B, M, N]."""
    upper = torch.triu_indices(masks.shape[1], masks.shape[1])
    return (masks[:, upper[0]] * masks[:, upper[1]] * pairs).sum(1)


def drawn(curves: Tensor, where: Grid) -> Tensor:
    """Curves [..., F], their first point at the first sample, their last at the last -> [..., M]."""
    last = curves.shape[-1] - 1
    at = where.at.clamp(0, where.samples - 1) * (last / max(where.samples - 1, 1))
    first = at.floor().clamp(max=max(last - 1, 0)).long()
    share = (at - first).to(curves)
    return torch.lerp(curves[..., first], curves[..., (first + 1).clamp(max=last)], share)


def strip_masks(strips: Tensor, where: Grid, config: MixerConfig) -> Tensor:
    """What strips do to each band: knobs [B, S, 6, F] in the order of the layout -> [B, S, M, N]."""
    order = stem_masks.steepness(config.filter_transition_octaves)
    coefficients = stem_masks.strip_coefficients(
        *drawn(strips, where).unbind(2),
        order=order,
        lpf_hz=(config.lpf_min, config.lpf_max),
        hpf_hz=(config.hpf_min, config.hpf_max),
    )  # [B, S, 7, M]
    log_hz = where.log_hz.to(strips.device)
    bands = stem_masks.isolator_bands(log_hz, config.eq_low_hz, config.eq_high_hz, order).to(strips)
    slope = (order * log_hz).to(strips)
    levels = coefficients[..., :3, :].mT @ bands
    low, low_depth, high, high_depth = (row.unsqueeze(-1) for row in coefficients[..., 3:, :].unbind(-2))
    return (
        levels
        * (1.0 - low_depth * torch.sigmoid(low + slope))
        * (1.0 - high_depth * torch.sigmoid(high - slope))
    )
