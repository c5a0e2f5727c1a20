"""Faster or slower: with the pitch kept, or as a turntable does it."""

from __future__ import annotations

import math

import numpy as np
import soxr
import torch
from torch import Tensor

SEED = 1


def stretch(audio: Tensor, sample_rate: int, ratio: float) -> Tensor:
    """Faster or slower at the same pitch.

    audio    [C, T] or [B, C, T]
    ratio    1.05: five percent faster, and as much shorter
    returns  [C, T / ratio] or [B, C, T / ratio]; a ratio of 1 gives the audio itself

    All channels of an item go through one machine that turns their phases alike, so that stems stacked as
    channels still add up: the sum of stretched stems is the stretched sum. What began at t begins at
    t / ratio: latency is taken off. The same audio gives the same result. Signalsmith Stretch, 120 ms blocks:
    clicks are smeared over some milliseconds.
    """
    audio, ratio = _checked(audio, ratio)
    if ratio == 1.0:
        return audio
    if audio.ndim == 3:
        return torch.stack([stretch(item, sample_rate, ratio) for item in audio])
    try:
        from python_stretch import Signalsmith
    except ImportError as error:
        raise ImportError("time stretching needs python-stretch: pip install 'difffx[dj]'") from error
    machine = Signalsmith.Stretch(SEED)
    machine.preset(audio.shape[0], float(sample_rate))
    machine.setTimeFactor(ratio)
    samples = audio.detach().cpu().float().contiguous().numpy()
    return _fitted(torch.from_numpy(np.array(machine.process(samples))), audio, ratio)


def varispeed(audio: Tensor, ratio: float) -> Tensor:
    """Faster and higher, or slower and lower: a turntable. As `stretch`; soxr at very high quality."""
    audio, ratio = _checked(audio, ratio)
    if ratio == 1.0:
        return audio
    rows = audio.detach().cpu().float().reshape(-1, audio.shape[-1]).numpy()
    rate = 48_000.0
    moved = soxr.resample(np.ascontiguousarray(rows.T), rate * ratio, rate, quality="VHQ")
    moved = torch.from_numpy(np.ascontiguousarray(moved.T)).reshape(*audio.shape[:-1], -1)
    return _fitted(moved, audio, ratio)


def _checked(audio: Tensor, ratio: float) -> tuple[Tensor, float]:
    if not isinstance(audio, Tensor) or audio.ndim not in (2, 3) or not audio.numel():
        shape = tuple(audio.shape) if isinstance(audio, Tensor) else type(audio).__name__
        raise ValueError(f"stretch: expected audio [C, T] or [B, C, T] that is not empty, got {shape}")
    if not math.isfinite(ratio) or not 0.25 <= ratio <= 4.0:
        raise ValueError(f"stretch: the ratio must lie within 0.25..4, got {ratio!r}")
    return audio, float(ratio)


def _fitted(moved: Tensor, audio: Tensor, ratio: float) -> Tensor:
    """Exactly T / ratio samples, in the type and on the device of what came in."""
    wanted = max(1, round(audio.shape[-1] / ratio))
    moved = torch.nn.functional.pad(moved, (0, max(0, wanted - moved.shape[-1])))[..., :wanted]
    return moved.to(audio)
