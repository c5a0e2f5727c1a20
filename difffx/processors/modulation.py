"""Modulation: a slow oscillator moves a delay, a level, a filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import lfo, modulation, phaser
from difffx.params import Param
from difffx.processors.base import Processor

PHASE = Param("phase", 0.0, 1.0, default=0.0)
SPREAD = Param("spread", 0.0, 0.5, default=0.25)


class _Modulated(Processor):
    """What an oscillator moves. Static knobs run as one kernel on the CPU, oscillator included.

    shape   of the oscillator: sine, triangle, saw or square
    """

    neutral: ClassVar = {"mix": 0.0}

    def __init__(
        self, sample_rate: int, shape: str = "sine", ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        super().__init__(sample_rate, ranges)
        if shape not in lfo.SHAPES:
            raise ValueError(
                f"{type(self).__name__}: shape must be one of {', '.join(lfo.SHAPES)}, got {shape!r}"
            )
        self.shape = shape


class Chorus(_Modulated):
    """Several players of one part.

    voices   copies, at equal distances in the oscillator's cycle
    shape    of the oscillator: sine, triangle, saw or square

    Cost: 2.5 ns a sample, 6 ns with all gradients; 4 bytes of each are kept.
    """

    params = (
        Param("rate_hz", 0.1, 5.0, default=0.8, scale="log", dynamic=True),
        Param("delay_ms", 5.0, 40.0, default=15.0, scale="log", dynamic=True),
        Param("depth_ms", 0.0, 10.0, default=4.0, dynamic=True),
        PHASE,
        Param("mix", 0.0, 1.0, default=0.5, dynamic=True),
    )

    def __init__(
        self,
        sample_rate: int,
        voices: int = 1,
        shape: str = "sine",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, shape, ranges)
        if voices < 1:
            raise ValueError(f"{type(self).__name__}: voices must be at least 1, got {voices}")
        self.voices = voices

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.chorus(x, self.sample_rate, voices=self.voices, shape=self.shape, **knobs)


class StereoChorus(Chorus):
    """Several players from left to right: the oscillators of the two channels stand `spread` cycles apart.

    voices   copies in each channel
    shape    of the oscillator: sine, triangle, saw or square

    Cost: 4 ns a sample, 12 ns with all gradients; 4 bytes of each are kept.
    """

    params = (*Chorus.params[:-1], SPREAD, Chorus.params[-1])
    stereo = True


class Flanger(_Modulated):
    """A comb of notches that sweeps: the jet plane.

    shape   of the oscillator: sine, triangle, saw or square

    Cost: 2 ns a sample, 5 ns with all gradients; 4 bytes of each are kept.
    """

    params = (
        Param("rate_hz", 0.05, 5.0, default=0.3, scale="log", dynamic=True),
        Param("delay_ms", 0.1, 10.0, default=1.0, scale="log", dynamic=True),
        Param("depth_ms", 0.0, 10.0, default=3.0, dynamic=True),
        PHASE,
        Param("mix", 0.0, 1.0, default=0.5, dynamic=True),
    )

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.flanger(x, self.sample_rate, shape=self.shape, **knobs)


class StereoFlanger(Flanger):
    """A flanger for each side: their oscillators stand `spread` cycles apart.

    shape   of the oscillator: sine, triangle, saw or square

    Cost: 4 ns a sample, 12 ns with all gradients; 4 bytes of each are kept.
    """

    params = (*Flanger.params[:-1], SPREAD, Flanger.params[-1])
    stereo = True


class FeedbackFlanger(Flanger):
    """A flanger that rings; negative feedback rings an octave lower, and hollow.

    shape   of the oscillator: sine, triangle, saw or square

    Cost: 5 ns a sample, 17 ns with all gradients; 20 bytes of each are kept.
    """

    params = (
        *(
            param.with_range(1.0, 10.0) if param.name == "delay_ms" else param
            for param in Flanger.params[:-1]
        ),
        Param("feedback", -0.9, 0.9, default=0.6),
        Flanger.params[-1],
    )


class Vibrato(_Modulated):
    """The pitch goes up and down.

    shape   of the oscillator: sine, triangle, saw or square

    Cost: 2.4 ns a sample, 7 ns with all gradients; 4 bytes of each are kept.
    """

    params = (
        Param("rate_hz", 0.5, 12.0, default=5.0, scale="log", dynamic=True),
        Param("depth_ms", 0.0, 5.0, default=1.0, dynamic=True),
        PHASE,
    )
    neutral: ClassVar = {"depth_ms": 0.0}

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.vibrato(x, self.sample_rate, shape=self.shape, **knobs)


class Tremolo(_Modulated):
    """The level goes up and down.

    shape   of the oscillator: sine, triangle, saw or square

    Cost: 1.0 ns a sample, 2.1 ns with all gradients; 4 bytes of each are kept.
    """

    params = (
        Param("rate_hz", 0.1, 20.0, default=5.0, scale="log", dynamic=True),
        Param("depth", 0.0, 1.0, default=0.6, dynamic=True),
        PHASE,
    )
    neutral: ClassVar = {"depth": 0.0}

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.tremolo(x, self.sample_rate, shape=self.shape, **knobs)


class RingModulator(_Modulated):
    """The sound times a carrier: bells and robots.

    shape   of the carrier: sine, triangle, saw or square

    Cost: 1.2 ns a sample, 2.7 ns with all gradients; 4 bytes of each are kept.
    """

    params = (
        Param("frequency_hz", 1.0, 5_000.0, default=440.0, scale="log", dynamic=True),
        PHASE,
        Param("mix", 0.0, 1.0, default=0.5, dynamic=True),
    )

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.ring_modulator(x, self.sample_rate, shape=self.shape, **knobs)


class Phaser(_Modulated):
    """A few notches that wander.

    stages   all-pass filters, two for each notch
    shape    of the oscillator: sine, triangle, saw or square

    Cost: 3 ns a sample, 11 ns with all gradients; 5.2 bytes of each are kept.
    """

    params = (
        Param("rate_hz", 0.05, 5.0, default=0.4, scale="log", dynamic=True),
        Param("frequency_hz", 200.0, 3_000.0, default=800.0, scale="log", dynamic=True),
        Param("depth_octaves", 0.0, 3.0, default=1.5, dynamic=True),
        PHASE,
        Param("feedback", -0.9, 0.9, default=0.3),
        Param("mix", 0.0, 1.0, default=0.5, dynamic=True),
    )

    def __init__(
        self,
        sample_rate: int,
        stages: int = 4,
        shape: str = "sine",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, shape, ranges)
        if stages < 1:
            raise ValueError(f"Phaser: stages must be at least 1, got {stages}")
        self.stages = stages

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return phaser.phaser(x, self.sample_rate, stages=self.stages, shape=self.shape, **knobs)


class AutoWah(Processor):
    """A resonance that opens as you play louder.

    Cost: 4 ns a sample, 13 ns with all gradients; 4.8 bytes of each are kept.
    """

    params = (
        Param("frequency_hz", 100.0, 1_000.0, default=350.0, scale="log", dynamic=True),
        Param("range_octaves", -2.0, 4.0, default=2.5, dynamic=True),
        Param("sensitivity_db", 0.0, 30.0, default=9.0),
        Param("attack_ms", 1.0, 50.0, default=5.0, scale="log"),
        Param("release_ms", 20.0, 1_000.0, default=150.0, scale="log"),
        Param("q", 0.7, 12.0, default=4.0, scale="log", dynamic=True),
        Param("mix", 0.0, 1.0, default=1.0, dynamic=True),
    )
    neutral: ClassVar = {"mix": 0.0}

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return modulation.auto_wah(x, self.sample_rate, **knobs)
