"""Where signals meet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import levels
from difffx.functional.units import db_to_amplitude
from difffx.params import Param
from difffx.processors.base import Processor


class Sum(Processor):
    """Everything it hears, added. Mono and stereo may meet: mono goes to every channel.

    Cost: 0.5 ns a sample, 0.9 ns with all gradients; 0 bytes of each are kept.
    """

    inputs = ()
    variadic = True

    def process(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total


class Mix(Processor):
    """Its inputs added, each at its own level: gain_db holds one value an input.

    Cost: 1.5 ns a sample, 4 ns with all gradients; 4 bytes of each are kept.
    """

    def __init__(
        self, sample_rate: int, num_inputs: int = 2, ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        if num_inputs < 1:
            raise ValueError(f"Mix: num_inputs must be at least 1, got {num_inputs}")
        self.params = (Param("gain_db", -60.0, 12.0, default=0.0, size=num_inputs),)
        self.inputs = tuple(f"input_{i + 1}" for i in range(num_inputs))
        super().__init__(sample_rate, ranges)

    def process(self, *inputs: Tensor, gain_db: Tensor) -> Tensor:
        gains = db_to_amplitude(gain_db)  # [B, K, 1]
        return Sum.process(self, *(x * gains[:, k : k + 1] for k, x in enumerate(inputs)))


class Crossfade(Processor):
    """From one sound to another, the DJ's horizontal fader.

    law   "equal_power", as loud in the middle for unlike sounds, or "linear", for sounds that are alike

    Cost: 1.7 ns a sample, 4 ns with all gradients; 4 bytes of each are kept.
    """

    inputs = ("a", "b")
    params = (Param("position", 0.0, 1.0, default=0.5, dynamic=True),)
    neutral: ClassVar = {"position": 0.0}

    def __init__(
        self,
        sample_rate: int,
        law: str = "equal_power",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if law not in ("equal_power", "linear"):
            raise ValueError(f"Crossfade: law must be 'equal_power' or 'linear', got {law!r}")
        self.law = law

    def process(self, a: Tensor, b: Tensor, position: Tensor) -> Tensor:
        return levels.crossfade(a, b, position=position, law=self.law)
