"""How far a render is from a mix, as transitions are judged: log-mel levels in dB."""

from __future__ import annotations

from torch import Tensor

from difffx.functional.spectra import mel_bank, stft_magnitude

N_FFT, HOP, MELS = 2048, 1024, 128
FLOOR = 1e-3
EDGES_HZ = 180.0, 3_000.0
PARTS = ("all", "low", "mid", "high")


def mel_distance(found: Tensor, true: Tensor, sample_rate: int) -> dict[str, float]:
    """Mean absolute difference of mel levels in dB of two sounds [C, T], over all bands and in three parts.

    Both are summed to mono and brought to the RMS of the true one. Magnitudes of 128 Slaney bands, frames of
    2048 every 1024 samples, nothing below 1e-3. low is below 180 Hz, high from 3 kHz on.
    """
    levels = [mel_levels(x, sample_rate) for x in at_rms(found, true)]
    off = (levels[0] - levels[1]).abs().mean(1)
    hz = mel_centers_hz(sample_rate).to(off.device)
    low, high = EDGES_HZ
    parts = {"low": hz < low, "mid": (hz >= low) & (hz < high), "high": hz >= high}
    return {"all": off.mean().item()} | {name: off[part].mean().item() for name, part in parts.items()}


def at_rms(found: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Mono sums [1, T] of both [C, T], the first at the RMS of the second."""
    found, true = found.mean(0, keepdim=True), true.mean(0, keepdim=True)
    rms = [x.square().mean().sqrt() for x in (found, true)]
    return found * (rms[1] / rms[0].clamp(min=1e-9)), true


def mel_levels(x: Tensor, sample_rate: int) -> Tensor:
    """Mono sound [1, T] -> dB, [128, M]."""
    bank = mel_bank(sample_rate, N_FFT, MELS).to(x)
    return 20.0 * (bank @ stft_magnitude(x[None], N_FFT, HOP))[0, 0].clamp(min=FLOOR).log10()


def mel_centers_hz(sample_rate: int) -> Tensor:
    """Where each band weighs most, [128]."""
    return mel_bank(sample_rate, N_FFT, MELS).argmax(1) * (sample_rate / N_FFT)
