"""Delays: one echo, many, echoes of echoes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import delays, feedback_delays
from difffx.params import Param
from difffx.processors.base import Processor

DIVISIONS = {"1/1": 4.0, "1/2": 2.0, "1/4": 1.0, "1/8": 0.5, "1/16": 0.25, "1/32": 0.125}
DIVISIONS |= {f"{name}.": 1.5 * beats for name, beats in DIVISIONS.items()}
DIVISIONS |= {f"{name}t": beats / 1.5 for name, beats in DIVISIONS.items() if not name.endswith(".")}
"""Beats of each note value; 1/8. is dotted, 1/8t a triplet."""

FEEDBACK = Param("feedback", 0.0, 0.95, default=0.4)
DAMPING = Param("damping_hz", 500.0, 20_000.0, default=5_000.0, scale="log")
MIX = Param("mix", 0.0, 1.0, default=0.3, dynamic=True)
DELAY = Param("delay_ms", 1.0, 1_000.0, default=250.0, scale="log")


class Delay(Processor):
    """One echo; a moving time bends its pitch.

    Cost: 1.8 ns a sample, 6 ns with all gradients; 8 bytes of each are kept.
    """

    params = (Param("delay_ms", 1.0, 1_000.0, default=250.0, scale="log", dynamic=True), MIX)
    neutral: ClassVar = {"mix": 0.0}

    def process(self, x: Tensor, delay_ms: Tensor, mix: Tensor) -> Tensor:
        return delays.delay(x, self.sample_rate, delay_ms=delay_ms, mix=mix)


class SlapbackDelay(Delay):
    """One echo so soon and so loud that it thickens: the sound of rock and roll vocals.

    Cost: 2 ns a sample, 7 ns with all gradients; 8 bytes of each are kept.
    """

    params = (
        Param("delay_ms", 40.0, 120.0, default=80.0, dynamic=True),
        Param("mix", 0.0, 1.0, default=0.4, dynamic=True),
    )


class MultiTapDelay(Processor):
    """Several echoes, each with its own time and level.

    num_taps   echoes; their default times lie 125 ms apart, each half as loud as the one before

    Cost: 4 ns a sample, 15 ns with all gradients; 8 bytes of each are kept.
    """

    neutral: ClassVar = {"mix": 0.0}

    def __init__(
        self, sample_rate: int, num_taps: int = 4, ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        if num_taps < 1:
            raise ValueError(f"MultiTapDelay: num_taps must be at least 1, got {num_taps}")
        times_ms = tuple(min(125.0 * (k + 1), 1_000.0) for k in range(num_taps))
        levels = tuple(0.5**k for k in range(num_taps))
        self.params = (
            Param("delay_ms", 1.0, 1_000.0, default=times_ms, scale="log", size=num_taps),
            Param("level", 0.0, 1.0, default=levels, size=num_taps),
            MIX,
        )
        super().__init__(sample_rate, ranges)

    def process(self, x: Tensor, delay_ms: Tensor, level: Tensor, mix: Tensor) -> Tensor:
        return delays.multi_tap_delay(x, self.sample_rate, delay_ms=delay_ms, level=level, mix=mix)


class FeedbackDelay(Processor):
    """Echoes of echoes, all as bright as the first.

    Cost: 1.9 ns a sample, 7 ns with all gradients; 12 bytes of each are kept.
    """

    params = (DELAY, FEEDBACK, MIX)
    neutral: ClassVar = {"mix": 0.0}

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return feedback_delays.feedback_delay(x, self.sample_rate, **knobs)


class DampedDelay(FeedbackDelay):
    """Echoes of echoes, each darker than the one before, as from tape or in a canyon.

    Cost: 1.9 ns a sample, 8 ns with all gradients; 12 bytes of each are kept.
    """

    params = (DELAY, FEEDBACK, DAMPING, MIX)


class PingPongDelay(Processor):
    """Echoes that jump from left to right and back, each darker than the one before.

    Cost: 6 ns a sample, 22 ns with all gradients; 20 bytes of each are kept.
    """

    params = (DELAY, FEEDBACK, DAMPING, Param("width", 0.0, 1.0, default=1.0, dynamic=True), MIX)
    stereo = True
    neutral: ClassVar = {"mix": 0.0}

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        return feedback_delays.ping_pong_delay(x, self.sample_rate, **knobs)


class TempoDelay(Processor):
    """Echoes of echoes on the beat, each darker than the one before.

    division   the note from one echo to the next: 1/1, 1/2, 1/4, 1/8, 1/16 or 1/32; "1/8." is dotted,
               "1/8t" a triplet

    Cost: 1.9 ns a sample, 8 ns with all gradients; 12 bytes of each are kept.
    """

    params = (Param("tempo_bpm", 60.0, 200.0, default=120.0), FEEDBACK, DAMPING, MIX)
    neutral: ClassVar = {"mix": 0.0}

    def __init__(
        self, sample_rate: int, division: str = "1/8", ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        super().__init__(sample_rate, ranges)
        if division not in DIVISIONS:
            raise ValueError(f"TempoDelay: division must be one of {', '.join(DIVISIONS)}, got {division!r}")
        self.division = division

    def process(self, x: Tensor, tempo_bpm: Tensor, **knobs: Tensor) -> Tensor:
        delay_ms = delays.beats_to_ms(DIVISIONS[self.division], tempo_bpm)
        return feedback_delays.feedback_delay(x, self.sample_rate, delay_ms=delay_ms, **knobs)
