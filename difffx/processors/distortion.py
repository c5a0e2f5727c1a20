"""Distortion: curves that bend every sample on its own."""

from __future__ import annotations

from torch import Tensor

from difffx.functional import series, waveshapers
from difffx.params import Param
from difffx.processors.base import Processor


class ParametricClipper(Processor):
    """Overdrive from tanh over cubic to hard clipping; an offset adds even harmonics, and leaves DC."""

    params = (
        Param("drive_db", -10.0, 20.0, default=0.0),
        Param("offset", 0.0, 1.0, default=0.0),
        Param("shape", 0.0, 2.0, default=0.0),
    )

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return waveshapers.parametric_clipper(audio, **controls)


class TaylorShaper(Processor):
    """Distortion by a power series, x to x^24; the offset of the input is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive.
    """

    params = (Param("coefficients", -1.0, 1.0, default=(1.0,) + (0.0,) * 23, size=24),)

    def process(self, audio: Tensor, coefficients: Tensor) -> Tensor:
        return series.taylor_shaper(audio, coefficients=coefficients)


class ChebyshevShaper(Processor):
    """Distortion by a series of Chebyshev polynomials, T[0] to T[23]; the input's offset is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive. Even
    coefficients put DC into the output, in silence too.
    """

    params = (Param("coefficients", -1.0, 1.0, default=(0.0, 1.0) + (0.0,) * 22, size=24),)

    def process(self, audio: Tensor, coefficients: Tensor) -> Tensor:
        return series.chebyshev_shaper(audio, coefficients=coefficients)
