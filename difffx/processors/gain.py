"""Level: faders, polarity, fades, and the normalization that stands before effects in blind estimation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import levels
from difffx.params import Param, unknown
from difffx.processors.base import Processor


class Gain(Processor):
    """A fader in dB; a curve of frames moves it smoothly.

    Cost: 0.4 ns a sample, 1.2 ns with all gradients; 4 bytes of each are kept.
    """

    params = (Param("gain_db", -24.0, 24.0, default=0.0, dynamic=True),)
    neutral: ClassVar = {"gain_db": 0.0}

    def process(self, x: Tensor, gain_db: Tensor) -> Tensor:
        return levels.gain(x, gain_db=gain_db)


class LinearGain(Processor):
    """A fader that goes down to nothing: a plain factor.

    Cost: 0.5 ns a sample, 1.4 ns with all gradients; 4 bytes of each are kept.
    """

    params = (Param("gain", 0.0, 4.0, default=1.0, dynamic=True),)
    neutral: ClassVar = {"gain": 1.0}

    def process(self, x: Tensor, gain: Tensor) -> Tensor:
        return levels.linear_gain(x, gain=gain)


class Polarity(Processor):
    """Upside down, the phase switch of a desk; between its two ends the sound fades through silence.

    channel   "both", "left" or "right"

    Cost: 0.4 ns a sample, 1.2 ns with all gradients; 4 bytes of each are kept.
    """

    params = (Param("invert", 0.0, 1.0, default=1.0),)
    neutral: ClassVar = {"invert": 0.0}

    def __init__(
        self,
        sample_rate: int,
        channel: str = "both",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if channel not in ("both", "left", "right"):
            raise ValueError(f"Polarity: channel must be 'both', 'left' or 'right', got {channel!r}")
        self.channel, self.stereo = channel, channel != "both"

    def process(self, x: Tensor, invert: Tensor) -> Tensor:
        return levels.polarity(x, invert=invert, channel=self.channel)


class FadeIn(Processor):
    """From silence to full level at the beginning.

    shape   "linear", "equal_power", "s_curve" or "exponential"

    Cost: 2 ns a sample, 7 ns with all gradients; 17 bytes of each are kept.
    """

    params = (Param("fade_ms", 1.0, 10_000.0, default=1000.0, scale="log"),)

    def __init__(
        self,
        sample_rate: int,
        shape: str = "linear",
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if shape not in levels.FADES:
            raise ValueError(f"{type(self).__name__}: no shape {unknown(shape, levels.FADES)}")
        self.shape = shape

    def process(self, x: Tensor, fade_ms: Tensor) -> Tensor:
        return levels.fade_in(x, self.sample_rate, fade_ms=fade_ms, shape=self.shape)


class FadeOut(FadeIn):
    """From full level to silence at the end of what it is given; shapes as in `FadeIn`.

    Cost: 2.3 ns a sample, 8 ns with all gradients; 17 bytes of each are kept.
    """

    def process(self, x: Tensor, fade_ms: Tensor) -> Tensor:
        return levels.fade_out(x, self.sample_rate, fade_ms=fade_ms, shape=self.shape)


class Normalize(Processor):
    """Every item at one level: offset removed, then peak at 0 dBFS or RMS at 1; silence stays silence.

    mode   "peak" or "rms", measured over all channels and the whole length

    What follows sees thresholds and drives relative to that level, and no gain before it can be heard.

    Cost: 1.4 ns a sample, 8 ns with all gradients; 8 bytes of each are kept.
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
