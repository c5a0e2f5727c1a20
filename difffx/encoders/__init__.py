"""Encoders, audio to features, and heads, features to settings."""

from __future__ import annotations

from difffx.encoders.base import Encoder
from difffx.encoders.cqt import TimbreEncoder
from difffx.encoders.heads import StaticHead
from difffx.encoders.mee import MusicalEffectsEncoder
from difffx.encoders.posteriors import (
    FlowHead,
    Mixture,
    MixtureHead,
    Posterior,
    PosteriorHead,
    distinct,
    to_normal,
)
from difffx.encoders.stem_pair import StemPair
from difffx.encoders.time_frequency import TimeFrequencyEncoder

__all__ = [
    "Encoder",
    "FlowHead",
    "Mixture",
    "MixtureHead",
    "MusicalEffectsEncoder",
    "Posterior",
    "PosteriorHead",
    "StaticHead",
    "StemPair",
    "TimbreEncoder",
    "TimeFrequencyEncoder",
    "distinct",
    "to_normal",
]
