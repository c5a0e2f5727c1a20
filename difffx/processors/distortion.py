"""Distortion: curves that bend every sample on its own."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional import waveshapers
from difffx.params import Controls, Param
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


class _SeriesShaper(Processor):
    """A curve given by 24 coefficients. Not given at all, they are those of the identity."""

    identity: int  # the index of the coefficient that is 1

    params = (Param("coefficients", -1.0, 1.0, default=0.0, size=24),)

    def forward(self, *inputs: Tensor, controls: Controls | None = None, **knobs: float | Tensor) -> Tensor:
        given = {**(controls or {}), **knobs}
        if "coefficients" not in given and inputs:
            coefficients = torch.zeros(1, self.params[0].size, 1, device=inputs[0].device)
            coefficients[:, self.identity] = 1.0
            given["coefficients"] = coefficients
        return super().forward(*inputs, controls=given)


class TaylorShaper(_SeriesShaper):
    """Distortion by a power series, x to x^24; the offset of the input is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive.
    """

    identity = 0

    def process(self, audio: Tensor, coefficients: Tensor) -> Tensor:
        return waveshapers.taylor_shaper(audio, coefficients=coefficients)


class ChebyshevShaper(_SeriesShaper):
    """Distortion by a series of Chebyshev polynomials, T[0] to T[23]; the input's offset is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive. Even
    coefficients put DC into the output, in silence too.
    """

    identity = 1

    def process(self, audio: Tensor, coefficients: Tensor) -> Tensor:
        return waveshapers.chebyshev_shaper(audio, coefficients=coefficients)
