"""Encoders, audio to features, and heads, features to settings."""

from __future__ import annotations

from difffx.encoders.base import Encoder
from difffx.encoders.heads import StaticHead
from difffx.encoders.time_frequency import TimeFrequencyEncoder

__all__ = ["Encoder", "StaticHead", "TimeFrequencyEncoder"]
