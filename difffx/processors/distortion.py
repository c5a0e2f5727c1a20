"""Distortion: curves that bend every sample on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from difffx.functional import levels, series, waveshapers
from difffx.params import Param
from difffx.processors.base import Processor

DRIVE = Param("drive_db", -12.0, 36.0, default=12.0, dynamic=True)
BIAS = Param("bias", 0.0, 1.0, default=0.0, dynamic=True)
CEILING = Param("ceiling_db", -24.0, 0.0, default=0.0, dynamic=True)
MIX = Param("mix", 0.0, 1.0, default=1.0, dynamic=True)


class _Curve(Processor):
    """What the curves of `waveshapers` have in common."""

    curve: Callable[..., Tensor]
    neutral: ClassVar = {"mix": 0.0}

    def __init__(
        self,
        sample_rate: int,
        ranges: Mapping[str, Sequence[float]] | None = None,
        oversample: int = 1,
        dc_block: bool = False,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if oversample not in (1, 2, 4, 8):
            raise ValueError(f"{type(self).__name__}: oversample must be 1, 2, 4 or 8, got {oversample!r}")
        self.oversample, self.dc_block = oversample, dc_block
        if dc_block:
            self.neutral = None

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        y = type(self).curve(audio, oversample=self.oversample, **controls)
        return levels.without_dc(y, self.sample_rate) if self.dc_block else y


class Tanh(_Curve):
    """Warm saturation, as of tubes and tape; a bias adds even harmonics, and DC.

    oversample  2, 4 or 8 against aliasing; looks 63 samples ahead
    dc_block    True: a high-pass at 5 Hz after it

    Oversampled 2, 4 or 8 times it costs 9, 21 or 44 ns with all gradients, and no more memory.

    Cost: 1.6 ns a sample, 3 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.tanh)
    params = (DRIVE, BIAS, MIX)


class HardClip(_Curve):
    """Harsh: what stands above the ceiling is cut off. Options as in `Tanh`; oversampled, it overshoots.

    Cost: 1 ns a sample, 2.5 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.hard_clip)
    params = (DRIVE, CEILING, MIX)


class SoftClip(_Curve):
    """A hard clip with its corner rounded, more so with more knee. Options as in `Tanh`.

    Cost: 1.0 ns a sample, 3 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.soft_clip)
    params = (DRIVE, CEILING, Param("knee", 0.05, 1.0, default=1.0 / 3.0), MIX)


class DoubleSoftClip(_Curve):
    """One soft clip for each half wave; the gap between them thins quiet sounds. Options as in `Tanh`.

    Cost: 1.1 ns a sample, 2.6 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.double_soft_clip)
    params = (DRIVE, Param("gap", 0.0, 2.5, default=1.0), BIAS, MIX)


class Cubic(_Curve):
    """Little but a third harmonic until it clips. Options as in `Tanh`.

    Cost: 1.1 ns a sample, 2.8 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.cubic)
    params = (DRIVE, BIAS, MIX)


class ArcTan(_Curve):
    """Saturation that comes sooner and ends later than tanh. Options as in `Tanh`.

    Cost: 1.5 ns a sample, 4 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.arctan)
    params = (DRIVE, BIAS, MIX)


class ArcSinh(_Curve):
    """Saturation without a ceiling. Options as in `Tanh`.

    Cost: 2.2 ns a sample, 6 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.arcsinh)
    params = (DRIVE, BIAS, MIX)


class ArcTanh(_Curve):
    """Sharpens peaks, the inverse of tanh, up to a ceiling of +6 dBFS. Options as in `Tanh`.

    Cost: 1.0 ns a sample, 2.1 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.arctanh)
    params = (DRIVE.with_range(-12.0, 12.0), MIX)


class Exponential(_Curve):
    """Diodes, one for each half wave; unlike ones add even harmonics, and DC. Options as in `Tanh`.

    Cost: 1.4 ns a sample, 4 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.exponential)
    params = (DRIVE, Param("asymmetry", 0.25, 4.0, default=1.0, scale="log"), MIX)


class Rectifier(_Curve):
    """Octave up: the lower half wave vanishes, then turns around; leaves DC. Options as in `Tanh`.

    Cost: 1.1 ns a sample, 2.7 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.rectifier)
    params = (Param("amount", 0.0, 1.0, default=0.5, dynamic=True),)
    neutral: ClassVar = {"amount": 0.0}


class BitCrusher(_Curve):
    """Grit of early samplers: values snap to a grid. The gradient goes straight through. Options: `Tanh`.

    Cost: 1 ns a sample, 2.7 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.bit_crusher)
    params = (Param("bits", 1.0, 16.0, default=8.0, dynamic=True), MIX)


class TableShaper(_Curve):
    """Any curve, drawn through points: the output at inputs from -1 to 1, by default the input.

    points   how many; odd, so that one of them is silence

    Cost: 1.6 ns a sample, 5 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.table_shaper)

    def __init__(
        self,
        sample_rate: int,
        points: int = 33,
        ranges: Mapping[str, Sequence[float]] | None = None,
        oversample: int = 1,
        dc_block: bool = False,
    ) -> None:
        if points < 3 or points % 2 == 0:
            raise ValueError(f"TableShaper: points must be odd and at least 3, got {points}")
        straight = tuple(2.0 * k / (points - 1) - 1.0 for k in range(points))
        table = Param("table", -1.0, 1.0, default=straight, size=points)
        self.params = (Param("drive_db", -24.0, 24.0, default=0.0, dynamic=True), table, MIX)
        super().__init__(sample_rate, ranges, oversample, dc_block)


class ParametricClipper(_Curve):
    """Overdrive from tanh over cubic to hard clipping; an offset adds even harmonics, and leaves DC.

    Options as in `Tanh`.

    Cost: 1.5 ns a sample, 2.8 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(waveshapers.parametric_clipper)
    params = (
        Param("drive_db", -10.0, 20.0, default=0.0),
        Param("offset", 0.0, 1.0, default=0.0),
        Param("shape", 0.0, 2.0, default=0.0),
    )
    neutral: ClassVar = None


class TaylorShaper(_Curve):
    """Distortion by a power series, x to x^24; the offset of the input is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive.
    Options as in `Tanh`.

    Cost: 3 ns a sample, 14 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(series.taylor_shaper)
    params = (Param("coefficients", -1.0, 1.0, default=(1.0,) + (0.0,) * 23, size=24),)
    neutral: ClassVar = None


class ChebyshevShaper(_Curve):
    """Distortion by a series of Chebyshev polynomials, T[0] to T[23]; the input's offset is removed first.

    The curve may turn the sound upside down: a negative set of coefficients sounds like its positive. Even
    coefficients put DC into the output, in silence too. Options as in `Tanh`.

    Cost: 11 ns a sample, 44 ns with all gradients; 4 bytes of each are kept.
    """

    curve = staticmethod(series.chebyshev_shaper)
    params = (Param("coefficients", -1.0, 1.0, default=(0.0, 1.0) + (0.0,) * 22, size=24),)
    neutral: ClassVar = None
