"""Three-band faders of two songs in a mix, as a convex problem: the published baseline, and a start."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from scipy.optimize import isotonic_regression
from torch import Tensor

from difffx.dj.layout import STEM_NAMES, get_default_params, index_of
from difffx.dj.mel_distance import MELS
from difffx.functional.spectra import mel_bank, stft_magnitude

BAND_EDGES = (0, 10, 80, MELS)  # mel bands of bass, mid and treble: about 180 Hz and 3 kHz at 44.1 kHz
FRAMES_PER_SECOND = 16
ITERATIONS = 300


def convex_faders(
    song_a: Tensor, song_b: Tensor, mix: Tensor, sample_rate: int, *, monotone: bool = True
) -> Tensor:
    """Levels of bass, mid and treble of both songs over time, [2, M, 3], 16 times a second.

    song_a, song_b, mix   [T] in line

    Least squares on mel magnitudes, each band by itself (NIME 2021): levels within 0..1; monotone: those of A
    never rise, those of B never fall. A projected gradient with momentum, the projection exact.
    """
    hop = max(1, round(sample_rate / FRAMES_PER_SECOND))
    bank = mel_bank(sample_rate, 2048, MELS)
    a, b, y = (
        (bank @ stft_magnitude(x[None, None], 2048, hop))[0, 0].double() for x in (song_a, song_b, mix)
    )
    bands = [
        _band(*(x[first:last] for x in (a, b, y)), monotone) for first, last in itertools.pairwise(BAND_EDGES)
    ]
    return torch.from_numpy(np.stack(bands, -1)).float()


def _band(a: Tensor, b: Tensor, y: Tensor, monotone: bool) -> np.ndarray:
    """Mel magnitudes [K, M] -> [2, M]."""
    scale = max(float(y.max()), 1e-9)
    a, b, y = (x / scale for x in (a, b, y))
    own = np.stack([(a * a).sum(0), (b * b).sum(0)])
    cross, wanted = (a * b).sum(0).numpy(), np.stack([(a * y).sum(0), (b * y).sum(0)])
    steepest = float((own.max(0) + np.abs(cross)).max()) + 1e-12
    levels = ahead = np.full_like(own, 0.5)
    momentum = 1.0
    for _ in range(ITERATIONS):
        slope = own * ahead + cross * ahead[::-1] - wanted
        moved = _projected(ahead - slope / steepest, monotone)
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / following * (moved - levels)
        levels, momentum = moved, following
    return levels


def _projected(levels: np.ndarray, monotone: bool) -> np.ndarray:
    """The nearest levels that are allowed."""
    if monotone:
        rows = zip(levels, (False, True), strict=True)
        levels = np.stack([isotonic_regression(row, increasing=rises).x for row, rises in rows])
    return levels.clip(0.0, 1.0)


def drawn_levels(levels: Tensor, frames: int, scale: tuple[float, float] = (1.0, 1.0)) -> Tensor:
    """Curves [1, frames, 54] of levels [2, M, 3] of bass, mid and treble, the same for all stems.

    scale   of each deck; where a level passes what a strip can do, all levels are taken down together

    The fader stands at the highest band, the isolator takes the others down.
    """
    size = {"size": frames, "mode": "linear", "align_corners": True}
    levels = torch.nn.functional.interpolate(levels.mT, **size).mT * levels.new_tensor(scale)[:, None, None]
    levels = levels / max(1.0, levels.max().item())
    curves = get_default_params(frames)
    for deck, level in zip("ab", levels, strict=True):
        gain = level.amax(-1)
        for stem in STEM_NAMES:
            curves[..., index_of(deck, stem, "gain")] = gain
            for k, name in enumerate(("eq_low", "eq_mid", "eq_high")):
                share = torch.where(gain > 1e-3, level[:, k] / gain.clamp(min=1e-3), 1.0)
                curves[..., index_of(deck, stem, name)] = share
    return curves


def outer_levels(song_a: Tensor, song_b: Tensor, mix: Tensor, sample_rate: int) -> tuple[float, float]:
    """What brings A to the level of the mix's first seconds and B to that of its last: songs and mix [T]."""
    span = min(4 * sample_rate, len(mix) // 3)
    ends = ((song_a[:span], mix[:span]), (song_b[-span:], mix[-span:]))
    return tuple(
        float(theirs.square().mean().sqrt() / max(float(ours.square().mean().sqrt()), 1e-6))
        for ours, theirs in ends
    )
