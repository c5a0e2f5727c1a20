"""How late one sound is beside another, and the way back."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from difffx.functional.convolution import fft_length

CLEAR = 8.0  # a delay is believed where its peak stands so many times above the RMS of all other lags


def latency(dry: Tensor, wet: Tensor, sample_rate: int, longest_ms: float = 50.0) -> int:
    """By how many samples wet is late beside dry, negative where it is early; 0 where that is not clear.

    dry, wet  [C, T], of one shape

    The highest peak, of either sign, of the cross-correlation of the channels' sums with all frequencies
    brought to equal level (Knapp and Carter, 1976: PHAT): filters and compressors in between bend it, but
    leave it where the sound begins. Less than 0.25 ms counts as none, since steep filters look like it.
    """
    reach = min(round(longest_ms * sample_rate / 1000), dry.shape[-1] // 2)
    size = fft_length(dry.shape[-1] + reach + 1)
    ours, theirs = (torch.fft.rfft(x.double().sum(-2), size) for x in (dry, wet))
    cross = theirs * ours.conj()
    cross = cross / (cross.abs() + 1e-4 * cross.abs().mean() + 1e-30)
    lags = torch.fft.irfft(cross, size).roll(reach)[: 2 * reach + 1].abs()
    place = int(lags.argmax())
    clear = lags[place] > CLEAR * lags.square().mean().sqrt()
    return place - reach if clear and abs(place - reach) >= 0.00025 * sample_rate else 0


def delayed(x: Tensor, samples: int) -> Tensor:
    """x [..., T] so many samples later, or earlier where negative; silence comes in, the length stays."""
    if samples >= 0:
        return F.pad(x, (samples, 0))[..., : x.shape[-1]]
    return F.pad(x, (0, -samples))[..., -samples:]
