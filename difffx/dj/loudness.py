"""How loud music is, as broadcasters measure it, in LUFS."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difffx.functional.cascade import sosfilt

BLOCK_S, STEP_S = 0.4, 0.1
ABSOLUTE_LUFS, RELATIVE_LU = -70.0, -10.0
OFFSET_DB = -0.691
# (Hz, q, gain in dB, exponent of the gain at the middle) of the head's shelf, and (Hz, q) of the high-pass,
# from which the standard's coefficients at 48 kHz follow by the bilinear transform
SHELF = (1681.974450955533, 0.7071752369554196, 3.999843853973347, 0.4996667741545416)
HIGH_PASS = (38.13547087602444, 0.5003270373238773)


def k_weighted(audio: Tensor, sample_rate: int) -> Tensor:
    """As the ear weighs it: audio [..., C, T] -> float64, highs up by 4 dB, what lies below 60 Hz down."""
    batch = audio.reshape(1, -1, audio.shape[-1]).double()
    return sosfilt(batch, _k_weighting(sample_rate).to(batch.device)).reshape(audio.shape)


def integrated_lufs(audio: Tensor, sample_rate: int) -> float:
    """Loudness of a whole programme, pauses left out: audio [C, T] -> LUFS, -inf for silence.

    Mono or stereo, every channel at weight 1: a mono file counts as one loudspeaker, 3 dB below the same
    sound from two. Shorter than 0.4 s is taken as one block. ITU-R BS.1770-4, gates at -70 LUFS and at 10 LU
    below what they let through.
    """
    power = _block_powers(audio, sample_rate, BLOCK_S, STEP_S)
    for gate in (ABSOLUTE_LUFS, None):
        if gate is None:
            gate = _lufs(power.mean()).item() + RELATIVE_LU
        power = power[_lufs(power) > gate]
        if not len(power):
            return -math.inf
    return _lufs(power.mean()).item()


def loudness_curve(
    audio: Tensor, sample_rate: int, seconds: float = 3.0, step_s: float = STEP_S
) -> tuple[Tensor, Tensor]:
    """Short-term loudness over time: audio [C, T] -> middles of the windows in s [N], LUFS [N].

    seconds   of a window: 3 is EBU's short-term, 0.4 its momentary loudness
    step_s    from one window to the next

    No gate: silence is -inf. Audio shorter than a window is one window.
    """
    power = _block_powers(audio, sample_rate, seconds, step_s)
    window = min(seconds, audio.shape[-1] / sample_rate)
    return torch.arange(len(power), dtype=torch.float64) * step_s + 0.5 * window, _lufs(power)


def _block_powers(audio: Tensor, sample_rate: int, block_s: float, step_s: float) -> Tensor:
    if audio.ndim != 2 or not audio.numel():
        raise ValueError(f"loudness: expected audio [C, T] that is not empty, got {tuple(audio.shape)}")
    power = k_weighted(audio, sample_rate).square().sum(0)
    total = torch.nn.functional.pad(power.cumsum(0), (1, 0))
    block = min(round(block_s * sample_rate), len(power))
    count = int((len(power) - block) / (step_s * sample_rate) + 1e-9) + 1
    starts = (torch.arange(count, dtype=torch.float64) * step_s * sample_rate).round().long()
    return ((total[starts + block] - total[starts]) / block).clamp(min=0.0)


def _lufs(power: Tensor) -> Tensor:
    return OFFSET_DB + 10.0 * torch.log10(power)


def _k_weighting(sample_rate: int) -> Tensor:
    """[1, 2, 6]: b0 b1 b2 1 a1 a2 of the shelf and of the high-pass."""
    hz, q, gain_db, exponent = SHELF
    k, top = math.tan(math.pi * hz / sample_rate), 10.0 ** (gain_db / 20.0)
    middle = top**exponent
    scale = 1.0 + k / q + k * k
    ends = 2.0 * (k * k - 1.0) / scale, (1.0 - k / q + k * k) / scale
    shelf = [top + middle * k / q + k * k, 2.0 * (k * k - top), top - middle * k / q + k * k]
    hz, q = HIGH_PASS
    k = math.tan(math.pi * hz / sample_rate)
    low = 1.0 + k / q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2.0 * (k * k - 1.0) / low, (1.0 - k / q + k * k) / low]
    sections = [[*(b / scale for b in shelf), 1.0, *ends], high_pass]
    return torch.tensor([sections], dtype=torch.float64)
