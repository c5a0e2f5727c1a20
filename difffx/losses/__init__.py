"""Losses: a guess and the truth in, named scalars out."""

from __future__ import annotations

from difffx.losses.base import Loss
from difffx.losses.dj import Curves, Transition, TransitionLoss
from difffx.losses.estimate import Estimate
from difffx.losses.params import Params
from difffx.losses.response import Response
from difffx.losses.spectral import Mel, MultiScale
from difffx.losses.weighted import Weighted

__all__ = [
    "Curves",
    "Estimate",
    "Loss",
    "Mel",
    "MultiScale",
    "Params",
    "Response",
    "Transition",
    "TransitionLoss",
    "Weighted",
]
