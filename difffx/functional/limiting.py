"""A limiter: no sample, or no point between samples, leaves above its ceiling."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from difffx.functional.control import at_audio_rate
from difffx.functional.detectors import decaying_peak, loudest, moving_average, sliding_max
from difffx.functional.units import db_to_amplitude, ms_to_pole

MARGIN = 1.0 - 2.0**-22
"""What the multiplication by the gain may round up in float32."""

OVERSAMPLING = 4
TAPS = 24


def limiter(
    x: Tensor,
    sample_rate: int,
    *,
    ceiling_db: Tensor,
    drive_db: Tensor,
    release_ms: Tensor,
    lookahead: int,
    true_peak: bool = False,
) -> Tensor:
    """Turn down, just in time and just enough, what would stick out above a ceiling.

    x           [B, C, T]
    ceiling_db  [B, 1, F]  dBFS; no sample leaves above it
    drive_db    [B, 1, F]  louder before the limiter
    release_ms  [B, 1, 1]  63 % of the way back
    lookahead   samples within which the gain comes down
    true_peak   True: what the curve through the samples reaches counts
    returns     [B, C, T]

    One gain for all channels. With d[n] the share by which sample n must shrink, the gain is 1 - m with

        h[n] = max(d[n .. n + lookahead])           in time, and held until the sample comes
        e[n] = max(h[n], a e[n-1])                  the release
        m[n] = e[n - lookahead .. n], weighted      two moving averages, one after the other: no corners

    All that is averaged for sample n is at least d[n], so the ceiling holds for any settings; nothing is cut
    off. The gain looks into the future; the sound is not delayed: in real time this is a latency of
    `lookahead` samples. True peaks are those of the sound interpolated 4 times, 12 samples to either side;
    see `interpolated_peak` for what they miss.
    """
    x = x * db_to_amplitude(at_audio_rate(drive_db, x.shape[-1]))
    ceiling = MARGIN * db_to_amplitude(at_audio_rate(ceiling_db.double(), x.shape[-1]))
    peak = interpolated_peak(x) if true_peak else loudest(x).abs()
    excess = 1.0 - ceiling / torch.maximum(peak.double(), ceiling)
    window, shorter = lookahead + 1, lookahead // 2 + 1
    held = sliding_max(pad(excess, (0, lookahead)), window)
    released = decaying_peak(held, ms_to_pole(release_ms.double(), sample_rate))
    smooth = moving_average(moving_average(released, shorter), window - shorter + 1)
    return x * (1.0 - smooth[..., lookahead:]).to(x.dtype)


def interpolated_peak(x: Tensor) -> Tensor:
    """The largest magnitude at each sample and at the three points before the next: [B, C, T] -> [B, 1, T].

    A windowed sinc of 24 taps, flat within 0.01 dB up to 0.4 of the sample rate. Four points a sample miss at
    most 20 log10 cos(pi f / 4) dB of a sine at f times the sample rate: 0.17 dB at 0.25, 0.44 dB at 0.4.
    """
    batch, channels, samples = x.shape
    kernels = torch.tensor(_interpolators(), dtype=x.dtype, device=x.device).unsqueeze(1)
    between = conv1d(pad(x.reshape(-1, 1, samples), (TAPS // 2 - 1, TAPS // 2)), kernels).abs().amax(1)
    return torch.maximum(x.abs(), between.view(batch, channels, samples)).amax(1, keepdim=True)


@functools.cache
def _interpolators() -> tuple[tuple[float, ...], ...]:
    """For 1/4, 1/2 and 3/4 of the way to the next sample: a sinc under a raised cosine."""
    kernels = []
    for phase in range(1, OVERSAMPLING):
        at = [k - (TAPS // 2 - 1) - phase / OVERSAMPLING for k in range(TAPS)]
        taps = [math.sin(math.pi * t) / (math.pi * t) * math.cos(math.pi * t / TAPS) ** 2 for t in at]
        kernels.append(tuple(tap / sum(taps) for tap in taps))
    return tuple(kernels)
