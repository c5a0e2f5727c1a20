"""Level: a fader, and the normalization that stands before each effect of a blind-estimation chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import levels
from difffx.params import Param
from difffx.processors.base import Processor


class Gain(Processor):
    """A fader in dB; a curve of frames moves it smoothly."""

    params = (Param("gain_db", -24.0, 24.0, default=0.0, dynamic=True),)
    neutral: ClassVar = {"gain_db": 0.0}

    def process(self, x: Tensor, gain_db: Tensor) -> Tensor:
        return levels.gain(x, gain_db=gain_db)


class Normalize(Processor):
    """Every item at one level: offset removed, then peak at 0 dBFS or RMS at 1; silence stays silence.

    mode   "peak" or "rms", measured over all channels and the whole length

    What follows sees thresholds and drives relative to that level, and no gain before it can be heard.
    """

    def __init__(
        self,
        sample_rate: int,
        mode: str = "peak",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if mode not in ("peak", "rms"):
            raise ValueError(f"Normalize: mode must be 'peak' or 'rms', got {mode!r}")
        self.mode = mode

    def process(self, x: Tensor) -> Tensor:
        return levels.normalize_peak(x) if self.mode == "peak" else levels.normalize_rms(x)
