"""Equalizers: parametric, linear-phase, graphic, dynamic, and the tone stacks of amplifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from difffx.functional import cascade, dynamic_eq, filters, fir, svf, tonestack
from difffx.params import Controls, Param, unknown
from difffx.processors.base import Processor

LOW_SHELF_HZ = (30.0, 160.0)
THREE_PEAKS_HZ = ((100.0, 2_000.0), (500.0, 6_000.0), (2_000.0, 16_000.0))
HIGH_SHELF_HZ = (5_000.0, 20_000.0)
OCTAVES_HZ = (31.25, 62.5, 125.0, 250.0, 500.0, 1_000.0, 2_000.0, 4_000.0, 8_000.0, 16_000.0)

DYNAMIC_KNOBS = ("hz", "q", "gain_db", "threshold_db", "ratio", "attack_ms", "release_ms")


class ParametricEQ(Processor):
    """A low shelf, any number of bells, a high shelf, one after the other; each with frequency, gain and Q.

    num_peaks   bells between the shelves; 3 makes the five-band equalizer of blind estimation

    Frequencies above 0.49 of the sample rate are held there, without gradient. Static knobs run as one exact
    cascade, curves in any of them as state-variable filters one after the other, which are the same filters.

    Cost: 2.5 ns a sample, 10 ns with all gradients; 6.5 bytes of each are kept.
    """

    moves = True

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
            replace(param, dynamic=self.moves)
            for band, span in zip(self.bands, spans, strict=True)
            for param in _band_params(band, *span)
        )
        self.neutral = {f"{band}_gain_db": 0.0 for band in self.bands}
        super().__init__(sample_rate, ranges)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        if all(knob.shape[-1] == 1 for knob in controls.values()):
            return cascade.sosfilt(x, self._sos(controls))
        for band in self.bands:
            hz, gain_db, q = (controls[f"{band}_{knob}"] for knob in ("hz", "gain_db", "q"))
            kind = "peak" if band.startswith("peak") else band
            x = svf.svf(x, self.sample_rate, kind=kind, frequency_hz=hz, gain_db=gain_db, q=q)
        return x

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of static settings as `from_unit` gives them, at frequencies_hz [N]."""
        return filters.magnitude_db(self._sos(controls), frequencies_hz, self.sample_rate)

    def _sos(self, controls: Controls) -> Tensor:
        """{knob: [B or 1, 1, 1]} -> [B, S, 6]."""
        knobs = torch.broadcast_tensors(
            *(controls[f"{band}_{knob}"] for knob in ("hz", "gain_db", "q") for band in self.bands)
        )
        return _shelves_and_peaks(*torch.cat(knobs, 1).squeeze(2).chunk(3, 1), self.sample_rate)


class LinearPhaseEQ(ParametricEQ):
    """The parametric equalizer without its phase: every frequency is delayed alike, so transients keep shape.

    num_taps     odd. At 44.1 kHz 2047 follow the ranges of the table to 0.05 dB above 200 Hz, to 1.2 dB at
                 100 Hz, and round off narrow bands of the deepest bass; 8191 follow all to 0.25 dB
    zero_phase   False: causal, all is heard `latency` samples late. True: nothing is late, and what is to
                 come within that time rings ahead

    A finite response drawn from the magnitude of the recursive filters, tapered to its length (see
    `fir.linear_phase_taps`); narrower detail in the bass is smeared, which `response` shows.

    Cost: 17 ns a sample, 40 ns with all gradients; 16.4 bytes of each are kept.
    """

    moves = False

    def __init__(
        self,
        sample_rate: int,
        num_peaks: int = 3,
        num_taps: int = 2047,
        zero_phase: bool = False,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, num_peaks, ranges)
        if num_taps != int(num_taps) or num_taps < 3 or num_taps % 2 == 0:
            raise ValueError(f"LinearPhaseEQ: num_taps must be odd, 3 or more, got {num_taps!r}")
        self.num_taps, self.zero_phase = int(num_taps), bool(zero_phase)
        if not zero_phase:
            self.neutral = None

    @property
    def latency(self) -> int:
        """Samples by which the sound is late."""
        return 0 if self.zero_phase else self.num_taps // 2

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        taps = self._taps(controls).unsqueeze(1)
        return fir.zero_phase_filter(x, taps) if self.zero_phase else fir.fir_filter(x, taps)

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], as the taps draw it, of settings as `from_unit` gives them."""
        return fir.magnitude_db(self._taps(controls), frequencies_hz, self.sample_rate)

    def _taps(self, controls: Controls) -> Tensor:
        """{knob: [B or 1, 1, 1]} -> [B, num_taps]."""
        points = 2 << self.num_taps.bit_length()  # four times as fine as the taps can draw
        sos = self._sos(controls)
        frequencies_hz = torch.linspace(
            0, 0.5 * self.sample_rate, points + 1, dtype=torch.float64, device=sos.device
        )
        magnitude = filters.frequency_response(sos, frequencies_hz, self.sample_rate).abs()
        return fir.linear_phase_taps(magnitude, self.num_taps)


class GraphicEQ(Processor):
    """Ten sliders an octave apart, 31.25 Hz to 16 kHz: low shelf, eight bells two octaves wide, high shelf.

    Wide bells overlap: 500 Hz, 1 and 2 kHz at +5 dB each make +10 dB at 1 kHz. Bands above 0.49 of the sample
    rate are held there, with a Q no lower than 0.1. Exact: static sliders run as one cascade, moving ones as
    state-variable filters one after the other.

    Cost: 3 ns a sample, 13 ns with all gradients; 9 bytes of each are kept.
    """

    params = (Param("gain_db", -15.0, 15.0, default=0.0, size=len(OCTAVES_HZ), dynamic=True),)
    neutral: ClassVar = {"gain_db": 0.0}

    def __init__(self, sample_rate: int, ranges: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__(sample_rate, ranges)
        self.q = tuple(_bandwidth_q(hz, 2.0, self.sample_rate) for hz in OCTAVES_HZ)

    def process(self, x: Tensor, gain_db: Tensor) -> Tensor:
        if gain_db.shape[-1] == 1:
            return cascade.sosfilt(x, self._sos(gain_db))
        kinds = ("low_shelf", *(len(OCTAVES_HZ) - 2) * ("peak",), "high_shelf")
        for kind, hz, q, slider_db in zip(kinds, OCTAVES_HZ, self.q, gain_db.split(1, 1), strict=True):
            hz, q = (gain_db.new_full((1, 1, 1), number, dtype=torch.float64) for number in (hz, q))
            x = svf.svf(x, self.sample_rate, kind=kind, frequency_hz=hz, gain_db=slider_db, q=q)
        return x

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        return filters.magnitude_db(self._sos(controls["gain_db"]), frequencies_hz, self.sample_rate)

    def _sos(self, gain_db: Tensor) -> Tensor:
        """[B or 1, 10, 1] -> [B or 1, 10, 6]."""
        gain_db = gain_db.squeeze(2).double()
        frequency_hz, q = gain_db.new_tensor([OCTAVES_HZ]), gain_db.new_tensor([self.q])
        return _shelves_and_peaks(frequency_hz, gain_db, q, self.sample_rate)


class DynamicEQ(Processor):
    """Bells that sink while their own band is louder than a threshold: a resonance tamed only when it rings.

    num_bands   bells, one after the other
    sidechain   True: a second input, `key`, is listened to, and the first is filtered

    Each bell: frequency, Q, gain at rest and threshold, which may move, and ratio, attack and release of its
    compressor; the knee is common. All recursions are exact.

    Cost: 20 ns a sample, 77 ns with all gradients; 40 bytes of each are kept.
    """

    def __init__(
        self,
        sample_rate: int,
        num_bands: int = 3,
        sidechain: bool = False,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        if num_bands < 1:
            raise ValueError(f"DynamicEQ: num_bands must be 1 or more, got {num_bands}")
        self.bands = tuple(f"band_{i + 1}" for i in range(num_bands))
        spans = _peak_ranges_hz(num_bands)
        knobs = (_dynamic_params(*band) for band in zip(self.bands, spans, strict=True))
        knee = Param("knee_db", 0.0, 12.0, default=6.0)
        self.params = (*(param for band in knobs for param in band), knee)
        self.neutral = {f"{band}_gain_db": 0.0 for band in self.bands}
        self.neutral |= {f"{band}_ratio": 1.0 for band in self.bands}
        if sidechain:
            self.inputs = ("audio", "key")
        super().__init__(sample_rate, ranges)

    def process(self, audio: Tensor, key: Tensor | None = None, **controls: Tensor) -> Tensor:
        knee_db = controls.pop("knee_db")
        knobs = {name: self._bands(controls, name) for name in DYNAMIC_KNOBS}
        return dynamic_eq.dynamic_eq(
            audio, self.sample_rate, frequency_hz=knobs.pop("hz"), knee_db=knee_db, key=key, **knobs
        )

    def _bands(self, controls: Controls, name: str) -> Tensor:
        """One knob of all bands, [B or 1, K, F], a static one stretched where another band's moves."""
        knobs = [controls[f"{band}_{name}"] for band in self.bands]
        rows, frames = (max(knob.shape[axis] for knob in knobs) for axis in (0, 2))
        return torch.cat([knob.expand(rows, 1, frames) for knob in knobs], 1)


class ToneStack(Processor):
    """Bass, middle and treble of a guitar amplifier, as its passive network of pots and capacitors does it.

    amp   a name in `functional.tonestack.AMPS`

    Quieter than the input by 5 to 20 dB: there is no setting that passes all. The recursion is exact.

    Cost: 1.8 ns a sample, 4 ns with all gradients; 5 bytes of each are kept.
    """

    params = (
        Param("bass", 0.0, 1.0, default=0.5),
        Param("middle", 0.0, 1.0, default=0.5),
        Param("treble", 0.0, 1.0, default=0.5),
    )

    def __init__(
        self,
        sample_rate: int,
        amp: str = "fender_bassman",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if amp not in tonestack.AMPS:
            raise ValueError(f"ToneStack: no amp {unknown(amp, tonestack.AMPS)}")
        self.circuit = tonestack.AMPS[amp]

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return tonestack.tone_stack(x, self.sample_rate, **knobs, circuit=self.circuit)

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        knobs = (controls[param.name][:, 0, 0] for param in self.params)
        sos = tonestack.tone_stack_sos(*knobs, self.sample_rate, self.circuit)
        return filters.magnitude_db(sos, frequencies_hz, self.sample_rate)


def _dynamic_params(band: str, span_hz: tuple[float, float]) -> tuple[Param, ...]:
    middle_hz = math.sqrt(span_hz[0] * span_hz[1])
    return (
        Param(f"{band}_hz", *span_hz, default=middle_hz, scale="log", dynamic=True),
        Param(f"{band}_q", 0.3, 10.0, default=1.0, scale="log", dynamic=True),
        Param(f"{band}_gain_db", -12.0, 12.0, default=0.0, dynamic=True),
        Param(f"{band}_threshold_db", -60.0, 0.0, default=-30.0, dynamic=True),
        Param(f"{band}_ratio", 1.0, 10.0, default=2.0, scale="log"),
        Param(f"{band}_attack_ms", 1.0, 100.0, default=10.0, scale="log"),
        Param(f"{band}_release_ms", 10.0, 1_000.0, default=100.0, scale="log"),
    )


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
