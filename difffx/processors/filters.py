"""Single filters, most of them with knobs that may move."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import cascade, filters, fir, svf
from difffx.params import Controls, Param
from difffx.processors.base import Processor

FLAT_Q = math.sqrt(0.5)
FREQUENCY = Param("frequency_hz", 20.0, 20_000.0, default=1_000.0, scale="log", dynamic=True)
Q = Param("q", 0.1, 10.0, default=FLAT_Q, scale="log", dynamic=True)
GAIN = Param("gain_db", -24.0, 24.0, default=0.0, dynamic=True)


class _Filter(Processor):
    """One section of the cookbook: `kind` is its name in functional, and `params` are its arguments.

    Static knobs run as `cascade.sosfilt`; a curve in any of them makes it a state-variable filter, the same
    one where the knobs stand still. Both are exact. Cost, of curves: 3 ns a sample, 12 ns with all gradients;
    half a byte a sample is kept beside the sound.
    """

    kind: str

    def process(self, x: Tensor, q: Tensor, gain_db: Tensor | None = None, **frequency: Tensor) -> Tensor:
        (frequency_hz,) = frequency.values()  # frequency_hz or cutoff_hz
        return svf.svf(x, self.sample_rate, kind=self.kind, frequency_hz=frequency_hz, q=q, gain_db=gain_db)

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of static settings as `from_unit` gives them, at frequencies_hz [N]."""
        knobs = (controls[param.name][..., 0] for param in self.params)
        sos = svf.SECTIONS[self.kind](*knobs, self.sample_rate)
        return filters.magnitude_db(sos, frequencies_hz, self.sample_rate)


class LowPass(_Filter):
    """Takes the treble away, 12 dB an octave; q is the level at the cutoff, above 0.71 a bump.

    Cost: 1.8 ns a sample, 7 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "low_pass"
    params = (Param("cutoff_hz", 20.0, 20_000.0, default=5_000.0, scale="log", dynamic=True), Q)


class HighPass(_Filter):
    """Takes the bass away, 12 dB an octave; q is the level at the cutoff, above 0.71 a bump.

    Cost: 1.7 ns a sample, 6 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "high_pass"
    params = (Param("cutoff_hz", 20.0, 20_000.0, default=100.0, scale="log", dynamic=True), Q)


class BandPass(_Filter):
    """Leaves what is near one frequency, 0 dB there, and takes 6 dB an octave away on both sides.

    Cost: 1.2 ns a sample, 3 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "band_pass"
    params = (FREQUENCY, Q)


class Notch(_Filter):
    """Takes one frequency away altogether; its neighborhood, frequency / q wide, in part.

    Cost: 1.8 ns a sample, 8 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "notch"
    params = (FREQUENCY, Q)


class AllPass(_Filter):
    """Leaves all levels and turns phases: half a turn at one frequency, a whole turn above.

    Cost: 1.5 ns a sample, 5 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "all_pass"
    params = (FREQUENCY, Q)


class Peak(_Filter):
    """A bell: one frequency and its neighborhood louder or quieter.

    Cost: 1.4 ns a sample, 5 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "peak"
    params = (FREQUENCY, GAIN, Q)
    neutral: ClassVar = {"gain_db": 0.0}


class LowShelf(_Filter):
    """The bass louder or quieter; half of it, in dB, is reached at the frequency.

    Cost: 1.6 ns a sample, 6 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "low_shelf"
    params = (Param("frequency_hz", 20.0, 20_000.0, default=200.0, scale="log", dynamic=True), GAIN, Q)
    neutral: ClassVar = {"gain_db": 0.0}


class HighShelf(_Filter):
    """The treble louder or quieter; half of it, in dB, is reached at the frequency.

    Cost: 1.9 ns a sample, 8 ns with all gradients; 4.5 bytes of each are kept.
    """

    kind = "high_shelf"
    params = (Param("frequency_hz", 20.0, 20_000.0, default=5_000.0, scale="log", dynamic=True), GAIN, Q)
    neutral: ClassVar = {"gain_db": 0.0}


class StateVariable(Processor):
    """Low-pass, band-pass and high-pass of one resonant filter, each at its own level; all at 1: the input.

    Static knobs run as `cascade.sosfilt`, curves in any of them as `svf.state_variable`, at the cost of the
    other filters.

    Cost: 1.3 ns a sample, 5 ns with all gradients; 4.5 bytes of each are kept.
    """

    params = (
        Param("cutoff_hz", 20.0, 20_000.0, default=1_000.0, scale="log", dynamic=True),
        Q,
        Param("low", -1.0, 1.0, default=1.0, dynamic=True),
        Param("band", -1.0, 1.0, default=0.0, dynamic=True),
        Param("high", -1.0, 1.0, default=0.0, dynamic=True),
    )
    neutral: ClassVar = {"low": 1.0, "band": 1.0, "high": 1.0}

    def process(self, x: Tensor, cutoff_hz: Tensor, **knobs: Tensor) -> Tensor:
        return svf.state_variable(x, self.sample_rate, frequency_hz=cutoff_hz, **knobs)

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of static settings as `from_unit` gives them, at frequencies_hz [N]."""
        knobs = (controls[param.name][..., 0] for param in self.params)
        sos = filters.state_variable(*knobs, self.sample_rate)
        return filters.magnitude_db(sos, frequencies_hz, self.sample_rate)


class Butterworth(Processor):
    """A low-pass or high-pass as flat as can be, 6 dB an octave for each order, -3 dB at the cutoff.

    order   1 or more; 4 is 24 dB an octave
    kind    "low_pass" or "high_pass"

    A static cutoff runs as `cascade.sosfilt`, a curve as state-variable sections one after the other, each at
    the cost of a filter whose knobs move; the sound between two of them is kept.

    Cost: 2 ns a sample, 8 ns with all gradients; 5 bytes of each are kept.
    """

    params = (Param("cutoff_hz", 20.0, 20_000.0, default=1_000.0, scale="log", dynamic=True),)

    def __init__(
        self,
        sample_rate: int,
        order: int = 4,
        kind: str = "low_pass",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if kind not in ("low_pass", "high_pass"):
            raise ValueError(f"Butterworth: kind must be 'low_pass' or 'high_pass', got {kind!r}")
        if order != int(order) or order < 1:
            raise ValueError(f"Butterworth: order must be a whole number, 1 or more, got {order!r}")
        self.order, self.kind = int(order), kind

    def process(self, x: Tensor, cutoff_hz: Tensor) -> Tensor:
        return svf.butterworth(
            x, self.sample_rate, frequency_hz=cutoff_hz, order=self.order, high=self.kind == "high_pass"
        )

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of static settings as `from_unit` gives them, at frequencies_hz [N]."""
        high = self.kind == "high_pass"
        design = filters.butterworth_high_pass if high else filters.butterworth_low_pass
        sos = design(controls["cutoff_hz"][:, 0, 0], self.order, self.sample_rate)
        return filters.magnitude_db(sos, frequencies_hz, self.sample_rate)


class DCBlocker(Processor):
    """Takes an offset away, and with it the lowest bass: 6 dB an octave below a few hertz.

    Cost: 1.5 ns a sample, 7 ns with all gradients; 4.5 bytes of each are kept.
    """

    params = (Param("cutoff_hz", 1.0, 40.0, default=5.0, scale="log"),)

    def process(self, x: Tensor, cutoff_hz: Tensor) -> Tensor:
        return cascade.sosfilt(x, filters.first_order_high_pass(cutoff_hz[..., 0], self.sample_rate))

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        sos = filters.first_order_high_pass(controls["cutoff_hz"][..., 0], self.sample_rate)
        return filters.magnitude_db(sos, frequencies_hz, self.sample_rate)


class FIRFilter(Processor):
    """Any filter of finite length: the knobs are its taps, the first one heard at once.

    num_taps   how many; by default the first is 1 and the others 0, which is the input

    Cost: 9 ns a sample, 21 ns with all gradients; 7.6 bytes of each are kept.
    """

    def __init__(
        self, sample_rate: int, num_taps: int = 63, ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        if num_taps < 1:
            raise ValueError(f"FIRFilter: num_taps must be 1 or more, got {num_taps}")
        default = (1.0,) + (0.0,) * (num_taps - 1)
        self.params = (Param("taps", -1.0, 1.0, default=default, size=num_taps),)
        super().__init__(sample_rate, ranges)

    def process(self, x: Tensor, taps: Tensor) -> Tensor:
        return fir.fir_filter(x, taps.mT)

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Magnitude in dB, [B, N], of settings as `from_unit` gives them, at frequencies_hz [N]."""
        return fir.magnitude_db(controls["taps"][..., 0], frequencies_hz, self.sample_rate)
