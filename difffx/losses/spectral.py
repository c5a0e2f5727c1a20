"""Losses that hear: what differs between two spectrograms at the same loudness."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from auraloss.freq import MultiResolutionSTFTLoss
from torch import Tensor

from difffx.functional.spectra import log_mel, mel_bank, normalize_rms
from difffx.losses.base import Loss
from difffx.losses.estimate import Estimate


class Mel(Loss):
    """How differently two sounds are balanced and move, at equal level and blind to polarity.

    Mean absolute difference of the natural logarithms of 128 mel bands, after removing the mean and the RMS
    of both (Peladeau and Peeters, ICASSP 2024). 0.1 is about 0.9 dB a band. The same as auraloss's
    MelSTFTLoss with only its log-magnitude term, without its need of librosa and without the phases it
    computes and drops.
    """

    def __init__(
        self, sample_rate: int, n_fft: int = 4096, hop: int = 1024, bands: int = 128, weight: float = 1.0
    ) -> None:
        super().__init__({"mel": weight})
        self.hop = hop
        self.register_buffer("bank", mel_bank(sample_rate, n_fft, bands), persistent=False)

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        with torch.no_grad():
            goal = log_mel(normalize_rms(target.audio), self.bank, self.hop)
        return {"mel": (log_mel(normalize_rms(pred.audio), self.bank, self.hop) - goal).abs().mean()}


class MultiScale(Loss):
    """How differently two sounds look through short and long windows, at equal level: onsets as well as hum.

    n_fft  sizes in samples, a quarter of each between frames

    Spectral convergence plus the mean absolute difference of ln-magnitudes, mean of the sizes: auraloss's
    MultiResolutionSTFTLoss (Yamamoto et al., 2020) after removing the mean and the RMS of both.
    """

    def __init__(self, n_fft: Sequence[int] = (256, 1024, 4096), weight: float = 1.0) -> None:
        super().__init__({"multi_scale": weight})
        self.distance = MultiResolutionSTFTLoss(list(n_fft), [size // 4 for size in n_fft], list(n_fft))

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        with torch.no_grad():
            goal = normalize_rms(target.audio)
        return {"multi_scale": self.distance(normalize_rms(pred.audio), goal)}
