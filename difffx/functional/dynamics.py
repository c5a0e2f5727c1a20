"""Compressors, a de-esser, a transient shaper: a sound is turned down, or up, by how loud it is."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional.ballistics import attack_release, one_pole
from difffx.functional.compiled import dynamics as fused
from difffx.functional.compiled import transients as fused_transients
from difffx.functional.control import at_audio_rate
from difffx.functional.crossover import linkwitz_riley
from difffx.functional.curves import knee
from difffx.functional.detectors import ahead, decaying_peak, loudest, rms, sliding_max
from difffx.functional.feedback import feedback_reduction_db
from difffx.functional.units import amplitude_to_db, db_to_amplitude, ms_to_pole

COMPRESSOR_FLOOR_DB = -80.0
SIMPLE_FLOOR_DB = -120.0
TRANSIENT_FLOOR_DB = -80.0
HOLD_MS, FALL_MS, RISE_MS = 10.0, 20.0, 1.0
"""The fast envelope of the transient shaper: ripple-free down to 50 Hz, and how it falls and rises."""
TRANSIENT_DB = 10.0
"""Two envelopes so far apart make 63 % of the gain."""


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
    rms_ms: Tensor | None = None,
    feedback: bool = False,
    lookahead: int = 0,
) -> Tensor:
    """Turn down what is louder than a threshold.

    x             [B, C, T]
    threshold_db  [B, 1, F]  dBFS, where the knee is centered
    ratio         [B, 1, 1]  4.0: 4 dB more in, 1 dB more out; 1.0 does nothing
    attack_ms     [B, 1, 1]  63 % of the way down
    release_ms    [B, 1, 1]  63 % of the way back
    knee_db       [B, 1, 1]  width of the bend; 0 is a corner
    makeup_db     [B, 1, F]  after everything
    key           [B, C', T] the signal whose level counts, if not x
    rms_ms        [B, 1, 1]  if given, the level is that of the mean square under this time constant
    feedback      True: it listens to what leaves it, a sample ago, instead of what enters
    lookahead     samples by which the gain is early; the sound itself is not delayed
    returns       [B, C, T]

    One gain for all channels, from the loudest of them. The level of each sample in dB, not below -80 dB,
    passes the static curve, and the reduction in dB follows with branching attack and release. The recursion
    is exact, its gradient too (see `attack_release`, `feedback_reduction_db`); all controls may be [1, 1, F].
    Feeding back shortens attack and release up to `ratio` times; the static curve is the same.
    Giannoulis, Massberg, Reiss (2012): the feed-forward design with its smoother in the log domain.
    """
    heard = _heard(x if key is None else key, sample_rate, rms_ms, lookahead)
    if not feedback:
        y = fused.compress(
            x,
            sample_rate,
            threshold_db=threshold_db,
            ratio=ratio,
            attack_ms=attack_ms,
            release_ms=release_ms,
            knee_db=knee_db,
            makeup_db=makeup_db,
            floor_db=COMPRESSOR_FLOOR_DB,
            key=None if heard is x else heard,
        )
        if y is not None:
            return y
    gain_db = compressor_gain_db(
        heard,
        sample_rate,
        threshold_db=threshold_db,
        ratio=ratio,
        attack_ms=attack_ms,
        release_ms=release_ms,
        knee_db=knee_db,
        feedback=feedback,
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
    feedback: bool = False,
) -> Tensor:
    """What `compressor` does to what it hears, without makeup: [B, C, T] -> [B, 1, T], 0 dB or less."""
    if not feedback:
        reduction_db = fused.reduction_db(
            x,
            sample_rate,
            threshold_db=threshold_db,
            ratio=ratio,
            attack_ms=attack_ms,
            release_ms=release_ms,
            knee_db=knee_db,
            floor_db=COMPRESSOR_FLOOR_DB,
        )
        if reduction_db is not None:
            return -reduction_db
    attack, release = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in (attack_ms, release_ms))
    over_db = amplitude_to_db(loudest(x), COMPRESSOR_FLOOR_DB) - at_audio_rate(threshold_db, x.shape[-1])
    if feedback:
        return -feedback_reduction_db(over_db, attack, release, ratio=ratio, knee_db=knee_db)
    return -attack_release((1.0 - 1.0 / ratio) * knee(over_db, knee_db), attack, release)


def _heard(x: Tensor, sample_rate: int, rms_ms: Tensor | None, lookahead: int) -> Tensor:
    """What a compressor listens to."""
    x = ahead(x, lookahead)
    return x if rms_ms is None else rms(x, ms_to_pole(rms_ms.double(), sample_rate), COMPRESSOR_FLOOR_DB)


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
    threshold_db  [B, 1, F]  dBFS, where the knee is centered
    ratio         [B, 1, 1]  1.0 does nothing
    time_ms       [B, 1, 1]  63 % of the way, down and back
    knee_db       [B, 1, 1]  width of the bend; 0 is a corner
    makeup_db     [B, 1, F]
    returns       [B, C, T]

    `compressor` with one time constant: the smoother is linear, exact at any setting. The level is not
    taken below -120 dB.
    """
    y = fused.compress(
        x,
        sample_rate,
        threshold_db=threshold_db,
        ratio=ratio,
        attack_ms=time_ms,
        release_ms=time_ms,
        knee_db=knee_db,
        makeup_db=makeup_db,
        floor_db=SIMPLE_FLOOR_DB,
    )
    if y is not None:
        return y
    gain_db = simple_compressor_gain_db(
        x, sample_rate, threshold_db=threshold_db, ratio=ratio, time_ms=time_ms, knee_db=knee_db
    )
    return x * db_to_amplitude(gain_db + at_audio_rate(makeup_db, x.shape[-1]))


def simple_compressor_gain_db(
    x: Tensor, sample_rate: int, *, threshold_db: Tensor, ratio: Tensor, time_ms: Tensor, knee_db: Tensor
) -> Tensor:
    """What `simple_compressor` does to the level, without makeup: [B, C, T] -> [B, 1, T], 0 dB or less."""
    over_db = amplitude_to_db(loudest(x), SIMPLE_FLOOR_DB) - at_audio_rate(threshold_db, x.shape[-1])
    return -one_pole((1.0 - 1.0 / ratio) * knee(over_db, knee_db), ms_to_pole(time_ms.double(), sample_rate))


def static_curve(level_db: Tensor, threshold_db: Tensor, ratio: Tensor, knee_db: Tensor) -> Tensor:
    """The level a steady sound leaves with: the diagonal up to the threshold, then 1 dB for each `ratio` dB.

    level_db  [B, 1, N]; threshold_db, ratio, knee_db [B, 1, 1] -> [B, 1, N] dB

    Across the knee, `knee_db` wide around the threshold, a parabola joins the two; finite with finite
    gradients for a knee of 0 and a ratio of 1.
    """
    return level_db - (1.0 - 1.0 / ratio) * knee(level_db - threshold_db, knee_db)


def de_esser(
    x: Tensor,
    sample_rate: int,
    *,
    frequency_hz: Tensor,
    threshold_db: Tensor,
    ratio: Tensor,
    range_db: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    wide: bool = False,
) -> Tensor:
    """Turn down sharp s and t when what lies above a frequency gets too loud.

    x             [B, C, T]
    frequency_hz  [B, 1, 1]  a Linkwitz-Riley crossover; what is above it is listened to
    threshold_db  [B, 1, F]  dBFS of the loudest channel above frequency_hz
    ratio         [B, 1, 1]  4.0: 4 dB more in, 1 dB more out; 1.0 does nothing
    range_db      [B, 1, 1]  how far it turns down at most
    attack_ms     [B, 1, 1]  63 % of the way down
    release_ms    [B, 1, 1]  63 % of the way back
    wide          True: the whole sound is turned down; False: what lies above the crossover
    returns       [B, C, T]; not wide and at rest, x with its phase turned by the crossover

    The ballistics of `compressor`, in the log domain, exact; a corner for a knee.
    """
    low, high = linkwitz_riley(x, sample_rate, frequency_hz=frequency_hz)
    threshold_db = at_audio_rate(threshold_db, x.shape[-1])
    over_db = (amplitude_to_db(loudest(high), COMPRESSOR_FLOOR_DB) - threshold_db).clamp(min=0.0)
    reduction_db = torch.minimum((1.0 - 1.0 / ratio) * over_db, range_db)
    attack, release = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in (attack_ms, release_ms))
    gain = db_to_amplitude(-attack_release(reduction_db, attack, release))
    return x * gain if wide else low + high * gain


def transient_shaper(
    x: Tensor,
    sample_rate: int,
    *,
    attack_db: Tensor,
    sustain_db: Tensor,
    attack_ms: Tensor,
    sustain_ms: Tensor,
) -> Tensor:
    """Sharpen or soften how notes begin, lengthen or shorten how they ring, at any level.

    x           [B, C, T]
    attack_db   [B, 1, F]  gain of a strong onset
    sustain_db  [B, 1, F]  gain of a tail that has died away
    attack_ms   [B, 1, 1]  after a step, 63 % of the onset is over
    sustain_ms  [B, 1, 1]  what dies away more slowly than by 1/e in this time has no tail
    returns     [B, C, T]

    Three envelopes of the loudest channel in dB, not below -80 dB: a fast one; a slow one that takes
    attack_ms to rise; a long one that takes sustain_ms to fall. Their differences, onset = fast - slow where
    positive and tail = long - fast, count neither level nor makeup. The gain in dB is

        attack_db (1 - exp(-onset / 10 dB)) + sustain_db (1 - exp(-tail / 10 dB)),

    so it is bounded by the knobs. Exact recursions; one gain for all channels. 8 x 131072 samples, mono:
    compiled, on one core, 9 ms, and 23 ms with all gradients, and one and a quarter bytes per sample are kept
    beside the inputs; in pure torch many times as much of both, some 350 bytes per sample.
    """
    window = max(1, round(HOLD_MS * sample_rate / 1000.0))
    fall_ms, rise_ms = torch.full_like(sustain_ms, FALL_MS), torch.full_like(attack_ms, RISE_MS)
    times_ms = fall_ms, sustain_ms, rise_ms, attack_ms
    fall, long_fall, rise, slow_rise = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in times_ms)
    y = fused_transients.shape_transients(
        x,
        attack_db=attack_db,
        sustain_db=sustain_db,
        poles=(fall, long_fall, rise, slow_rise),
        window=window,
        floor_db=TRANSIENT_FLOOR_DB,
        depth_db=TRANSIENT_DB,
    )
    if y is not None:
        return y
    peaks = decaying_peak(sliding_max(loudest(x).abs(), window), torch.cat((fall, long_fall), 1))
    above_db = amplitude_to_db(peaks, TRANSIENT_FLOOR_DB) - TRANSIENT_FLOOR_DB  # 0 in silence, and before
    fast, long = one_pole(above_db, rise).split(1, 1)
    slow = one_pole(above_db[:, :1], slow_rise)
    onset, tail = (-torch.expm1(apart.clamp(min=0.0) / -TRANSIENT_DB) for apart in (fast - slow, long - fast))
    attack_db, sustain_db = (at_audio_rate(gain_db, x.shape[-1]) for gain_db in (attack_db, sustain_db))
    return x * db_to_amplitude(attack_db * onset + sustain_db * tail)
