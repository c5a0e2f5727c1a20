"""Metrics: what a person wants to know about an estimate, item by item."""

from __future__ import annotations

from difffx.metrics.audio import audio_metrics
from difffx.metrics.params import knob_errors, knob_units
from difffx.metrics.transition import transition_measures

__all__ = ["audio_metrics", "knob_errors", "knob_units", "transition_measures"]
