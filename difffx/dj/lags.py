"""A few milliseconds between a song and its place in a mix, that come and go, found and taken out."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from difffx.dj import observed
from difffx.functional.interpolation import weights_at

LONGEST_MS = 60.0
WINDOW_S, HOP_S = 4.0, 1.0
PER_OCTAVE = 3
HASTE = 0.004  # of correlation, a millisecond of change from window to window is worth
IDLE = 0.0005  # and a millisecond away from none
OVERSAMPLED = 2


def residual_lags(song: Tensor, mix: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """By how many seconds the song is heard late in the mix, negative where early; times [W], lags [W] in s.

    song, mix   [T]

    Onsets in bands of a third of an octave are correlated over windows of 4 s, 60 ms either way; of all ways
    through the windows the one with the highest sum counts, less what its moves cost: where the song is not
    heard the lag stays what it was.
    """
    n_fft = 2 ** round(math.log2(0.023 * sample_rate))
    hop = n_fft // 8
    ours, theirs = (_onsets(x, sample_rate, n_fft, hop) for x in (song, mix))  # [M, N]
    step_s = hop / sample_rate
    reach = max(1, round(LONGEST_MS / 1000.0 / step_s))
    window, stride = round(WINDOW_S / step_s), round(HOP_S / step_s)
    starts = list(range(0, max(len(ours) - window, 0) + 1, stride))
    window = min(window, len(ours))
    products = [(ours.roll(lag, 0) * theirs).sum(1) for lag in range(-reach, reach + 1)]
    sums = torch.stack(products).cumsum(1)  # [L, M]
    sums = torch.nn.functional.pad(sums, (1, 0))
    norms = [torch.nn.functional.pad(x.square().sum(1).cumsum(0), (1, 0)) for x in (ours, theirs)]
    scores = []
    for first in starts:
        energy = math.prod(float(n[first + window] - n[first]) for n in norms)
        scores.append((sums[:, first + window] - sums[:, first]) / math.sqrt(energy + 1e-12))
    path = _smoothest(torch.stack(scores).double().numpy(), 1000.0 * step_s)
    times = torch.tensor([(first + 0.5 * window) * step_s for first in starts], dtype=torch.float64)
    return times, torch.from_numpy(path - reach) * step_s


def _onsets(x: Tensor, sample_rate: int, n_fft: int, hop: int) -> Tensor:
    """How much louder each band becomes, [M, N], without its mean."""
    where = observed.grid(len(x), sample_rate, n_fft, hop, per_octave=PER_OCTAVE, lowest_hz=60.0)
    spectrum = observed.spectra(x[None, None], where)
    power = observed.products(spectrum, spectrum, where)[0]
    level = (power + 1e-3 * power.mean(0) + 1e-12).log()
    rise = torch.relu(level[2:] - level[:-2])
    return torch.nn.functional.pad(rise - rise.mean(0), (0, 0, 1, 1))


def _smoothest(scores: np.ndarray, step_ms: float) -> np.ndarray:
    """The best way through scores [W, L], a place for each window, between places where a parabola peaks."""
    windows, count = scores.shape
    places = np.arange(count)
    toll = HASTE * step_ms * np.abs(places[:, None] - places)
    idle = IDLE * step_ms * np.abs(places - count // 2)
    total, came = scores[0] - idle, []
    for row in scores[1:]:
        ways = total - toll  # [to, from]
        came.append(ways.argmax(1))
        total = ways.max(1) + row - idle
    path = [int(total.argmax())]
    for back in reversed(came):
        path.append(int(back[path[-1]]))
    found = np.array(path[::-1])
    inner = np.clip(found, 1, count - 2)
    left, here, right = (scores[np.arange(windows), inner + k] for k in (-1, 0, 1))
    bend = left - 2.0 * here + right
    peak = (bend < -1e-9) & (here >= left) & (here >= right) & (inner == found)
    return found + np.where(peak, 0.5 * (left - right) / np.where(peak, bend, 1.0), 0.0)


def moved(x: Tensor, times_s: Tensor, lags_s: Tensor, sample_rate: int) -> Tensor:
    """x [C, T] later by lags that go in straight lines from time to time; silence comes in, the length stays.

    Lagrange's cubic on twice the samples: 60 dB right up to 6 kHz, 40 up to 11 kHz.
    """
    if not lags_s.abs().max() > 0.0:
        return x
    samples = x.shape[-1]
    at = np.interp(np.arange(samples) / sample_rate, times_s.numpy(), lags_s.numpy())
    place = torch.from_numpy(np.arange(samples) - at * sample_rate) * OVERSAMPLED
    spectrum = torch.fft.rfft(torch.nn.functional.pad(x, (0, samples % 2)))
    padded = samples + samples % 2
    dense = OVERSAMPLED * torch.fft.irfft(spectrum, OVERSAMPLED * padded)
    dense = torch.nn.functional.pad(dense, (4, 4))
    first = place.floor().clamp(-2, OVERSAMPLED * padded + 1) - 1
    weights = weights_at((place - first).clamp(0.0, 3.0).to(x), 4)
    inside = (place >= 0) & (place <= OVERSAMPLED * (samples - 1))
    first = first.long() + 4
    return sum(dense[:, first + k] * weight for k, weight in enumerate(weights)) * inside.to(x)
