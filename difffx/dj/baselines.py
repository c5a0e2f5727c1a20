"""What an estimator of transitions must beat: answers that need no learning."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from difffx.dj.crossfader import SimpleCrossfader
from difffx.dj.gradient_fit import fit
from difffx.dj.layout import STEM_NAMES, get_default_params
from difffx.dj.mixer import DJMixer
from difffx.dj.regression import least_squares
from difffx.dj.responses import Bands

FIT_STEPS = 300


def fixed_answers(frames: int, batch: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
    """Curves [batch, frames, 54] that listen to nothing: default (A as it is), linear, equal_power."""
    found = {"default": get_default_params(frames, batch)}
    found |= {name: SimpleCrossfader(name)(frames, batch) for name in ("linear", "equal_power")}
    return {name: params.to(device) for name, params in found.items()}


def drawn_anew(params: Tensor, frames: int) -> Tensor:
    """Curves [B, F, 54] with another number of points, [B, frames, 54]."""
    return interpolate(params.mT, size=frames, mode="linear", align_corners=True).mT


def by_least_squares(stems: Tensor, mix: Tensor, mixer: DJMixer, bands: Bands, frames: int) -> Tensor:
    """Gains of bass, mid and treble of each stem; stems [B, 2, 4, C, T], mix [B, 2, T] -> [B, frames, 54]."""
    return least_squares(stems.mean(3), mix.mean(1), mixer, bands, frames)


def by_gradient(
    stems: Tensor, mix: Tensor, mixer: DJMixer, frames: int, tempo_bpm: Tensor, steps: int = FIT_STEPS
) -> Tensor:
    """Curves fitted to each mix by itself; stems [B, 2, 4, C, T], mix [B, 2, T] -> [B, frames, 54].

    Stems that are silent are left out.
    """
    start = SimpleCrossfader("equal_power")(frames).to(stems)
    found = []
    with torch.enable_grad():
        for item, one, tempo in zip(stems.split(1), mix.split(1), tempo_bpm.tolist(), strict=True):
            decks = [
                {stem: x for stem, x in deck.items() if x.any()} or dict(deck) for deck in decks_of(item)
            ]
            found.append(fit(*decks, one, mixer, start, steps, tempo_bpm=tempo))
    return torch.cat(found)


def decks_of(stems: Tensor) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    """[B, 2, 4, C, T] -> both decks as the mixer takes them."""
    return tuple({stem: deck[:, s] for s, stem in enumerate(STEM_NAMES)} for deck in stems.unbind(1))
