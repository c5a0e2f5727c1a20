"""How far apart two sounds are, in numbers for people; never back-propagated."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from difffx.functional.spectra import (
    envelope_db,
    log_mel,
    mel_bank,
    normalize_rms,
    stft_magnitude,
    third_octave_db,
)

MRSTFT_SIZES = (256, 1024, 4096)
BAND_RANGE_DB = 80.0
ENVELOPE_FLOOR_DB = -60.0


@torch.no_grad()
def audio_metrics(pred: Tensor, target: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Five distances, each item by itself, after removing the mean and the level of both.

    pred, target     [B, C, T] -> every value [B]

    mel              log-mel distance, as in losses.Mel
    mrstft           STFT distance of losses.MultiScale
    si_sdr           dB, higher is better, 100 at most; any gain is forgiven, a shift in time or phase is not
    third_octave_db  mean difference of 1/3-octave levels; bands 80 dB under the strongest do not count
    envelope_db      mean difference of the RMS of 20 ms frames; those under -60 dB re RMS do not count
    """
    if pred.shape != target.shape or pred.ndim != 3:
        raise ValueError(
            f"expected two sounds [B, C, T] of one shape, got {tuple(pred.shape)}, {tuple(target.shape)}"
        )
    p, t = normalize_rms(pred.float()), normalize_rms(target.float())
    return {
        "mel": mel_distance(p, t, sample_rate),
        "mrstft": mrstft_distance(p, t),
        "si_sdr": si_sdr(p, t),
        "third_octave_db": third_octave_distance_db(p, t, sample_rate),
        "envelope_db": envelope_distance_db(p, t, sample_rate),
    }


def mel_distance(pred: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Mean absolute difference of ln-mel magnitudes, [B, C, T] -> [B]."""
    bank = _bank(sample_rate).to(pred.device)
    return (log_mel(pred, bank) - log_mel(target, bank)).abs().mean((1, 2, 3))


def mrstft_distance(pred: Tensor, target: Tensor) -> Tensor:
    """Spectral convergence plus ln-magnitude difference, mean of three sizes, [B, C, T] -> [B]."""
    total = pred.new_zeros(pred.shape[0])
    for size in MRSTFT_SIZES:
        p, t = (stft_magnitude(x, size, size // 4).flatten(1) for x in (pred, target))
        total = total + (t - p).norm(dim=1) / t.norm(dim=1) + (p.log() - t.log()).abs().mean(1)
    return total / len(MRSTFT_SIZES)


def si_sdr(pred: Tensor, target: Tensor) -> Tensor:
    """Target against all else in the prediction, -100 to 100 dB, one gain per item; [B, C, T] -> [B]."""
    p, t = pred.double().flatten(1), target.double().flatten(1)
    wanted = (p * t).sum(1, keepdim=True) / t.square().sum(1, keepdim=True).clamp(min=1e-20) * t
    signal, rest = wanted.square().sum(1), (p - wanted).square().sum(1)
    ratio = signal.clamp(min=1e-20) / rest.clamp(min=1e-20)
    return (10.0 * torch.log10(ratio)).clamp(-100.0, 100.0).to(pred.dtype)


def third_octave_distance_db(pred: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Mean difference of the levels in 1/3-octave bands that the target fills, in dB, [B, C, T] -> [B]."""
    p, t = (third_octave_db(x, sample_rate) for x in (pred, target))
    return _mean_where((p - t).abs(), t > t.amax((1, 2), keepdim=True) - BAND_RANGE_DB)


def envelope_distance_db(pred: Tensor, target: Tensor, sample_rate: int) -> Tensor:
    """Mean difference of 20 ms levels where the target sounds, in dB, [B, C, T] -> [B]."""
    p, t = (envelope_db(x, sample_rate, floor_db=ENVELOPE_FLOOR_DB - 20.0) for x in (pred, target))
    return _mean_where((p - t).abs(), t > ENVELOPE_FLOOR_DB)


def _mean_where(value: Tensor, mask: Tensor) -> Tensor:
    """Mean of what the mask keeps, [B, ...] -> [B]; zero where it keeps nothing."""
    kept = mask.to(value.dtype).flatten(1)
    return (value.flatten(1) * kept).sum(1) / kept.sum(1).clamp(min=1.0)


@lru_cache(maxsize=4)
def _bank(sample_rate: int) -> Tensor:
    return mel_bank(sample_rate)
