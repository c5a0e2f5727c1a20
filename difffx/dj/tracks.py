"""What may come into a mixer: stems by name, checked before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj.layout import STEM_NAMES
from difffx.params import unknown

Track = Mapping[str, Tensor]


@dataclass(frozen=True)
class PreparedTrack:
    """Stems already transformed, for many renders of the same sound: made by `DJMixer.prepare`.

    spectra   stem -> [B, C, 2, M, N]
    samples   length of the sound
    frames    (sample_rate, n_fft, hop_length) of the mixer that made it
    """

    spectra: dict[str, Tensor]
    samples: int
    frames: tuple[int, int, int]


def checked_track(name: str, track: Track) -> dict[str, Tensor]:
    """Stems in the order of the layout, each [B, C, T], C 1 or 2. Raises ValueError naming what is wrong."""
    if not isinstance(track, Mapping):
        raise ValueError(f"{name}: expected a dictionary of stems, got {type(track).__name__}")
    for stem in track:
        if stem not in STEM_NAMES:
            raise ValueError(f"{name}: no stem {unknown(stem, STEM_NAMES)}")
    if not track:
        raise ValueError(f"{name}: no stems; expected at least one of {', '.join(STEM_NAMES)}")
    stems = {stem: _checked(f"{name}.{stem}", track[stem]) for stem in STEM_NAMES if stem in track}
    sizes = {stem: (x.shape[0], x.shape[2]) for stem, x in stems.items()}
    first = next(iter(sizes))
    for stem, (batch, samples) in sizes.items():
        if samples != sizes[first][1]:
            raise ValueError(f"{name}.{stem} has {samples} samples, {name}.{first} has {sizes[first][1]}")
        if batch != sizes[first][0]:
            raise ValueError(f"{name}.{stem} has {batch} items, {name}.{first} has {sizes[first][0]}")
    return stems


def _checked(name: str, x: Tensor) -> Tensor:
    if not isinstance(x, Tensor) or x.ndim not in (2, 3):
        shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise ValueError(f"{name}: expected audio [B, T] or [B, C, T], got {shape}")
    x = x.unsqueeze(1) if x.ndim == 2 else x
    if x.shape[1] not in (1, 2) or not x.numel():
        raise ValueError(f"{name}: expected mono or stereo audio that is not empty, got {tuple(x.shape)}")
    if not x.is_floating_point():
        raise ValueError(f"{name}: expected floats, got {x.dtype}")
    if not torch.isfinite(x.detach().sum()):
        raise ValueError(f"{name}: the audio is not finite: NaN, infinite, or beyond what floats can add")
    return x


def shared_batch(samples: Mapping[str, int], batches: Mapping[str, int]) -> int:
    """The number of items of all together, each having as many or one. Raises ValueError if they differ."""
    names = list(samples)
    for name in names[1:]:
        if samples[name] != samples[names[0]]:
            raise ValueError(
                f"{name} has {samples[name]} samples, {names[0]} has {samples[names[0]]}; "
                "both must be equally long"
            )
    batch = max(batches.values())
    for name, items in batches.items():
        if items not in (1, batch):
            every = ", ".join(f"{other} {count}" for other, count in batches.items())
            raise ValueError(f"{name} has {items} items, expected 1 or {batch}: {every}")
    return batch
