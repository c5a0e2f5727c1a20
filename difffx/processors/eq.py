"""Equalizers: parametric and graphic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from difffx.functional import cascade, filters
from difffx.params import Controls, Param
from difffx.processors.base import Processor

LOW_SHELF_HZ = (30.0, 160.0)
THREE_PEAKS_HZ = ((100.0, 2_000.0), (500.0, 6_000.0), (2_000.0, 16_000.0))
HIGH_SHELF_HZ = (5_000.0, 20_000.0)
OCTAVES_HZ = (31.25, 62.5, 125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0)


class ParametricEQ(Processor):
    """A low shelf, any number of bells, a high shelf, one after the other; each with frequency, gain and Q.

    num_peaks   bells between the shelves; 3 makes the five-band equalizer of blind estimation

    Frequencies above 0.49 of the sample rate are held there, without gradient. The recursion is exact.
    """

    def __init__(
        self,
        sample_rate: int,
        num_peaks: int = 3,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        if num_peaks < 0:
            raise ValueError(f"ParametricEQ: num_peaks must be 0 or more, got {num_peaks}")
        bells = [f"peak_{i + 1}" for i in range(num_peaks)]
        self.bands = ("low_shelf", *bells, "high_shelf")
        spans = (LOW_SHELF_HZ, *_peak_ranges_hz(num_peaks), HIGH_SHELF_HZ)
        self.params = tuple(
            param for band, span in zip(self.bands, spans, strict=True) for param in _band_params(band, *span)
        )
        self.neutral = {f"{band}_gain_db": 0.0 for band in self.bands}
        super().__init__(sample_rate, ranges)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        return cascade.sosfilt(x, self._sos(controls))

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        return _magnitude_db(self._sos(controls), frequencies_hz, self.sample_rate)

    def _sos(self, controls: Controls) -> Tensor:
        """{knob: [B or 1, 1, 1]} -> [B, S, 6]."""
        knobs = torch.broadcast_tensors(
            *(controls[f"{band}_{knob}"] for knob in ("hz", "gain_db", "q") for band in self.bands)
        )
        return _shelves_and_peaks(*torch.cat(knobs, 1).squeeze(2).chunk(3, 1), self.sample_rate)


class GraphicEQ(Processor):
    """Ten sliders an octave apart, 31.25 Hz to 16 kHz: low shelf, eight bells two octaves wide, high shelf.

    Wide bells overlap: 500 Hz, 1 and 2 kHz at +5 dB each make +10 dB at 1 kHz. Bands above 0.49 of the sample
    rate are held there, with a Q no lower than 0.1. The recursion is exact.
    """

    params = (Param("gain_db", -15.0, 15.0, default=0.0, size=len(OCTAVES_HZ)),)
    neutral: ClassVar = {"gain_db": 0.0}

    def __init__(self, sample_rate: int, ranges: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(sample_rate, ranges)
        self.q = tuple(_bandwidth_q(hz, 2.0, self.sample_rate) for hz in OCTAVES_HZ)

    def process(self, x: Tensor, gain_db: Tensor) -> Tensor:
        return cascade.sosfilt(x, self._sos(gain_db))

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        return _magnitude_db(self._sos(controls["gain_db"]), frequencies_hz, self.sample_rate)

    def _sos(self, gain_db: Tensor) -> Tensor:
        """[B or 1, 10, 1] -> [B or 1, 10, 6]."""
        gain_db = gain_db.squeeze(2).double()
        frequency_hz, q = gain_db.new_tensor([OCTAVES_HZ]), gain_db.new_tensor([self.q])
        return _shelves_and_peaks(frequency_hz, gain_db, q, self.sample_rate)


def _band_params(band: str, low_hz: float, high_hz: float) -> tuple[Param, ...]:
    return (
        Param(f"{band}_hz", low_hz, high_hz, default=math.sqrt(low_hz * high_hz), scale="log"),
        Param(f"{band}_gain_db", -15.0, 15.0, default=0.0),
        Param(f"{band}_q", 0.1, 2.0, default=math.sqrt(0.5)),
    )


def _peak_ranges_hz(num_peaks: int) -> Sequence[tuple[float, float]]:
    """The published three, else 100 Hz to 16 kHz in equal steps of pitch, each range two steps wide."""
    if num_peaks == 3:
        return THREE_PEAKS_HZ
    low_hz, high_hz = THREE_PEAKS_HZ[0][0], THREE_PEAKS_HZ[-1][1]
    edges = [low_hz * (high_hz / low_hz) ** (i / (num_peaks + 1)) for i in range(num_peaks + 2)]
    return [(edges[i], edges[i + 2]) for i in range(num_peaks)]


def _bandwidth_q(frequency_hz: float, octaves: float, sample_rate: int) -> float:
    """The Q of a bell so many octaves wide between its half-gain points, after the bilinear transform.

    An analog bell spans `octaves` at 1 / Q = 2 sinh(octaves ln 2 / 2). The transform squeezes octaves by
    sin(w) / w toward Nyquist, so the formula asks for more of them (Audio EQ Cookbook). Not below 0.1, for at
    Nyquist it reaches 0.
    """
    omega = 2 * math.pi * min(frequency_hz / sample_rate, filters.HIGHEST)
    return max(0.1, 0.5 / math.sinh(math.log(2) / 2 * octaves * omega / math.sin(omega)))


def _shelves_and_peaks(frequency_hz: Tensor, gain_db: Tensor, q: Tensor, sample_rate: int) -> Tensor:
    """First band a low shelf, last a high shelf, bells between: three times [B or 1, S] -> [B, S, 6]."""
    spans = (slice(0, 1), slice(1, -1), slice(-1, None))
    low, middle, high = ([knob[:, span] for knob in (frequency_hz, gain_db, q)] for span in spans)
    return torch.cat(
        (
            filters.low_shelf(*low, sample_rate),
            filters.peak(*middle, sample_rate),
            filters.high_shelf(*high, sample_rate),
        ),
        1,
    )


def _magnitude_db(sos: Tensor, frequencies_hz: Tensor, sample_rate: int) -> Tensor:
    return 20 * filters.frequency_response(sos, frequencies_hz, sample_rate).abs().log10()
