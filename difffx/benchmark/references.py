"""Effects as a textbook writes them: numpy in float64, a sample at a time where the effect is recursive.

Every function takes the processor, audio [B, C, T] and {knob: [B, K]} and returns audio. They are written
from the published definitions and share no line with the package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.signal import sosfilt

from difffx.processors import Processor

Knobs = Mapping[str, np.ndarray]
Reference = Callable[[Any, np.ndarray, Knobs], np.ndarray]


def parametric_eq(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    return _filtered(x, parametric_sos(processor, knobs))


def graphic_eq(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    return _filtered(x, graphic_sos(processor, knobs))


def parametric_sos(processor: Processor, knobs: Knobs) -> np.ndarray:
    """[B, S, 6]"""
    rows = []
    for band in processor.bands:
        kind = band if band.endswith("shelf") else "peak"
        hz, gain_db, q = (knobs[f"{band}_{knob}"][:, 0] for knob in ("hz", "gain_db", "q"))
        rows.append(cookbook(kind, hz, gain_db, q, processor.sample_rate))
    return np.stack(rows, 1)


def graphic_sos(processor: Processor, knobs: Knobs) -> np.ndarray:
    """[B, 10, 6]"""
    gain_db = knobs["gain_db"]
    octaves = 1000.0 * 2.0 ** np.arange(-5, 5)
    kinds = ["low_shelf", *["peak"] * 8, "high_shelf"]
    return np.stack(
        [
            cookbook(
                kind, np.full(len(gain_db), octaves[k]), gain_db[:, k], processor.q[k], processor.sample_rate
            )
            for k, kind in enumerate(kinds)
        ],
        1,
    )


def cookbook(
    kind: str, hz: np.ndarray, gain_db: np.ndarray, q: np.ndarray | float, sample_rate: int
) -> np.ndarray:
    """Audio EQ Cookbook (R. Bristow-Johnson); [B] each -> [B, 6]."""
    w = 2.0 * np.pi * np.minimum(hz, 0.49 * sample_rate) / sample_rate
    a, alpha, cos = 10.0 ** (gain_db / 40.0), np.sin(w) / (2.0 * q), np.cos(w)
    plain = {
        "low_pass": [(1 - cos) / 2, 1 - cos, (1 - cos) / 2],
        "high_pass": [(1 + cos) / 2, -1 - cos, (1 + cos) / 2],
        "band_pass": [alpha, 0.0 * cos, -alpha],
        "notch": [1.0 + 0.0 * cos, -2 * cos, 1.0 + 0.0 * cos],
        "all_pass": [1 - alpha, -2 * cos, 1 + alpha],
    }
    if kind in plain:
        b, d = plain[kind], [1 + alpha, -2 * cos, 1 - alpha]
    elif kind == "peak":
        b = [1 + alpha * a, -2 * cos, 1 - alpha * a]
        d = [1 + alpha / a, -2 * cos, 1 - alpha / a]
    else:
        s = 1.0 if kind == "low_shelf" else -1.0
        slope = 2.0 * np.sqrt(a) * alpha
        b = [
            a * ((a + 1) - s * (a - 1) * cos + slope),
            s * 2 * a * ((a - 1) - s * (a + 1) * cos),
            a * ((a + 1) - s * (a - 1) * cos - slope),
        ]
        d = [
            (a + 1) + s * (a - 1) * cos + slope,
            s * -2 * ((a - 1) + s * (a + 1) * cos),
            (a + 1) + s * (a - 1) * cos - slope,
        ]
    return np.stack([*b, *d], -1) / d[0][:, None]


def single_filter(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    """The eight sections of the cookbook, by the name that the processor has for its kind."""
    hz = knobs["cutoff_hz"] if "cutoff_hz" in knobs else knobs["frequency_hz"]
    gain_db = knobs["gain_db"][:, 0] if "gain_db" in knobs else np.zeros(len(hz))
    sos = cookbook(processor.kind, hz[:, 0], gain_db, knobs["q"][:, 0], processor.sample_rate)
    return _filtered(x, sos[:, None])


def tanh(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    drive, bias, mix = (knobs[name][:, :, None] for name in ("drive_db", "bias", "mix"))
    return (1.0 - mix) * x + mix * (np.tanh(10.0 ** (drive / 20.0) * x + bias) - np.tanh(bias))


def widener(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    middle, side = x.mean(1), 0.5 * knobs["width"] * (x[:, 0] - x[:, 1])
    return np.stack([middle + side, middle - side], 1)


def compressor(processor: Processor, x: np.ndarray, knobs: Knobs) -> np.ndarray:
    """Giannoulis, Massberg, Reiss (2012): feed-forward, quadratic knee, branching smoother, all in dB."""
    level_db = 20.0 * np.log10(np.maximum(np.abs(x).max(1), 1e-4))
    over, width = level_db - knobs["threshold_db"], np.maximum(knobs["knee_db"], 1e-12)
    bend = np.clip(over + width / 2, 0.0, width) ** 2 / (2 * width)
    counted = np.where(over > width / 2, over, bend)
    reduction = _attack_release(
        (1.0 - 1.0 / knobs["ratio"]) * counted,
        *(
            np.exp(-1.0 / (1e-3 * knobs[knob][:, 0] * processor.sample_rate))
            for knob in ("attack_ms", "release_ms")
        ),
    )
    return x * 10.0 ** ((knobs["makeup_db"] - reduction) / 20.0)[:, None]


def _attack_release(u: np.ndarray, attack: np.ndarray, release: np.ndarray) -> np.ndarray:
    state, out = np.zeros(len(u)), np.empty_like(u)
    for n, value in enumerate(u.T):
        pole = np.where(value > state, attack, release)
        state = pole * state + (1.0 - pole) * value
        out[:, n] = state
    return out


def _filtered(x: np.ndarray, sos: np.ndarray) -> np.ndarray:
    return np.stack([sosfilt(rows, item) for rows, item in zip(sos, x, strict=True)])


SINGLE = ("LowPass", "HighPass", "BandPass", "Notch", "AllPass", "Peak", "LowShelf", "HighShelf")
REFERENCES: dict[str, Reference] = {
    "ParametricEQ": parametric_eq,
    "GraphicEQ": graphic_eq,
    "Compressor": compressor,
    "Tanh": tanh,
    "StereoWidener": widener,
    **dict.fromkeys(SINGLE, single_filter),
}
