"""Effects that turn a sound down by how loud it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional.ballistics import attack_release, one_pole
from difffx.functional.control import at_audio_rate
from difffx.functional.units import amplitude_to_db, db_to_amplitude, ms_to_pole

COMPRESSOR_FLOOR_DB = -80.0
SIMPLE_FLOOR_DB = -120.0


def compressor(
    x: Tensor,
    sample_rate: int,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    knee_db: Tensor,
    makeup_db: Tensor,
    key: Tensor | None = None,
) -> Tensor:
    """Turn down what is louder than a threshold.

    x             [B, C, T]
    threshold_db  [B, 1, 1]  dBFS, where the knee is centered
    ratio         [B, 1, 1]  4.0: 4 dB more in, 1 dB more out; 1.0 does nothing
    attack_ms     [B, 1, 1]  63 % of the way down
    release_ms    [B, 1, 1]  63 % of the way back
    knee_db       [B, 1, 1]  width of the bend; 0 is a corner
    makeup_db     [B, 1, F]  after everything
    key           [B, C', T] the signal whose level counts, if not x
    returns       [B, C, T]

    One gain for all channels, from the loudest of them. Feed-forward, no look-ahead: the level of each
    sample in dB, not below -80 dB, passes the static curve, and the reduction in dB follows with branching
    attack and release. The recursion is exact, its gradient too (see `attack_release`); all controls may be
    [1, 1, 1].
    Giannoulis, Massberg, Reiss (2012): the feed-forward design with its smoother in the log domain.
    """
    gain_db = compressor_gain_db(
        x if key is None else key,
        sample_rate,
        threshold_db=threshold_db,
        ratio=ratio,
        attack_ms=attack_ms,
        release_ms=release_ms,
        knee_db=knee_db,
    )
    return x * db_to_amplitude(gain_db + at_audio_rate(makeup_db, x.shape[-1]))


def compressor_gain_db(
    x: Tensor,
    sample_rate: int,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    knee_db: Tensor,
) -> Tensor:
    """What `compressor` does to the level, without makeup: [B, C, T] -> [B, 1, T], 0 dB or less."""
    reduction_db = _reduction_db(_loudest(x), threshold_db, ratio, knee_db, COMPRESSOR_FLOOR_DB)
    attack, release = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in (attack_ms, release_ms))
    return -attack_release(reduction_db, attack, release)


def simple_compressor(
    x: Tensor,
    sample_rate: int,
    *,
    threshold_db: Tensor,
    ratio: Tensor,
    time_ms: Tensor,
    knee_db: Tensor,
    makeup_db: Tensor,
) -> Tensor:
    """Turn down what is louder than a threshold, as quickly as it lets go again.

    x             [B, C, T]
    threshold_db  [B, 1, 1]  dBFS, where the knee is centered
    ratio         [B, 1, 1]  1.0 does nothing
    time_ms       [B, 1, 1]  63 % of the way, down and back
    knee_db       [B, 1, 1]  width of the bend; 0 is a corner
    makeup_db     [B, 1, F]
    returns       [B, C, T]

    `compressor` with one time constant: the smoother is linear, exact at any setting. The level is not
    taken below -120 dB.
    """
    gain_db = simple_compressor_gain_db(
        x, sample_rate, threshold_db=threshold_db, ratio=ratio, time_ms=time_ms, knee_db=knee_db
    )
    return x * db_to_amplitude(gain_db + at_audio_rate(makeup_db, x.shape[-1]))


def simple_compressor_gain_db(
    x: Tensor, sample_rate: int, *, threshold_db: Tensor, ratio: Tensor, time_ms: Tensor, knee_db: Tensor
) -> Tensor:
    """What `simple_compressor` does to the level, without makeup: [B, C, T] -> [B, 1, T], 0 dB or less."""
    reduction_db = _reduction_db(_loudest(x), threshold_db, ratio, knee_db, SIMPLE_FLOOR_DB)
    return -one_pole(reduction_db, ms_to_pole(time_ms.double(), sample_rate))


def static_curve(level_db: Tensor, threshold_db: Tensor, ratio: Tensor, knee_db: Tensor) -> Tensor:
    """The level a steady sound leaves with: the diagonal up to the threshold, then 1 dB for each `ratio` dB.

    level_db  [B, 1, N]; threshold_db, ratio, knee_db [B, 1, 1] -> [B, 1, N] dB

    Across the knee, `knee_db` wide around the threshold, a parabola joins the two; finite with finite
    gradients for a knee of 0 and a ratio of 1.
    """
    return level_db - (1.0 - 1.0 / ratio) * _Knee.apply(level_db - threshold_db, knee_db)


def _reduction_db(
    peak: Tensor, threshold_db: Tensor, ratio: Tensor, knee_db: Tensor, floor_db: float
) -> Tensor:
    return (1.0 - 1.0 / ratio) * _Knee.apply(amplitude_to_db(peak, floor_db) - threshold_db, knee_db)


def _loudest(x: Tensor) -> Tensor:
    """[B, C, T] -> [B, 1, T]: the magnitude of the loudest channel; mono stays as it is, sign and all."""
    return x if x.shape[1] == 1 else x.abs().amax(1, keepdim=True)


class _Knee(torch.autograd.Function):
    """Decibels above the threshold [B, 1, N], knee [B, 1, 1] -> decibels that count.

    r goes from 0 to 1 across the knee and is the slope; knee r^2 / 2 is the parabola up to there. With r in
    hand both derivatives are polynomials, r and (r - r^2) / 2, so a knee of 0 divides nothing by nothing.
    """

    @staticmethod
    def forward(ctx, over_db: Tensor, knee_db: Tensor) -> Tensor:
        half = 0.5 * knee_db
        r = ((over_db + half) / knee_db.clamp(min=torch.finfo(knee_db.dtype).tiny)).clamp_(0.0, 1.0)
        ctx.save_for_backward(r)
        ctx.shapes = over_db.shape, knee_db.shape
        return torch.addcmul((over_db - half).clamp_(min=0.0), half * r, r)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (r,) = ctx.saved_tensors
        by_over = grad * r
        by_knee = 0.5 * (by_over - by_over * r)
        return by_over.sum_to_size(ctx.shapes[0]), by_knee.sum_to_size(ctx.shapes[1])
