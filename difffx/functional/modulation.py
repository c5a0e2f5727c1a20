"""Effects that a slow oscillator moves: delays that swing, levels that swing, a carrier; and the auto-wah.

Every moving delay runs from delay_ms, its shortest, to delay_ms + depth_ms, its longest: it is never
negative, so nothing is heard before it is played. `phase`, in cycles, says where in its swing the sound
begins: at 0 the delay is in the middle and grows. Shapes: sine, triangle, saw, square, see `lfo`.

Where all knobs stand still and a compiler is found (`compiled`), an effect is one kernel on the CPU, its
oscillator or follower included, and keeps little for the way back but the sound. Costs are for 8 x 1 x 131072
samples in float32, two threads, a setting for each item, without and with all gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.functional.ballistics import attack_release
from difffx.functional.compiled import auto_wah as fused
from difffx.functional.compiled import swing
from difffx.functional.control import at_audio_rate
from difffx.functional.delays import blend, fractional_delay, ms_to_samples
from difffx.functional.feedback_delays import moving_feedback_line
from difffx.functional.lfo import lfo
from difffx.functional.svf import svf
from difffx.functional.units import db_to_amplitude, ms_to_pole


def chorus(
    x: Tensor,
    sample_rate: int,
    *,
    rate_hz: Tensor,
    delay_ms: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    mix: Tensor,
    spread: Tensor | None = None,
    voices: int = 1,
    shape: str = "sine",
) -> Tensor:
    """Several players of one part: copies a little late and a little out of tune.

    x                             [B, C, T]
    rate_hz, delay_ms, depth_ms   [B, 1, F]  swings in a second; shortest delay; how much longer it gets
    phase                         [B, 1, 1]  cycles
    mix                           [B, 1, F]  0: dry; 1: the copies alone
    spread                        [B, 1, 1]  cycles by which the second channel of two is ahead of the first
    voices                        copies, at equal distances in the cycle; their mean is heard
    returns                       [B, C, T]  all controls may be [1, 1, F]

    Exact but for the reading between samples (`interpolation`). Compiled 2 and 7 ms, of three voices 4 and
    15 ms, and only the sound is kept; with curves, an oscillator and a `fractional_delay` for each voice.
    """
    if swing.serves(x, rate_hz, delay_ms, depth_ms, phase, mix, *_given(spread)):
        return _swinging_delay(x, sample_rate, rate_hz, delay_ms, depth_ms, phase, spread, mix, shape, voices)
    wet = torch.zeros_like(x)
    for voice in range(voices):
        samples = _swing(
            x, sample_rate, rate_hz, delay_ms, depth_ms, phase.double() + voice / voices, spread, shape
        )
        wet = wet + fractional_delay(x, samples)
    return blend(x, wet / voices, mix)


def flanger(
    x: Tensor,
    sample_rate: int,
    *,
    rate_hz: Tensor,
    delay_ms: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    mix: Tensor,
    feedback: Tensor | None = None,
    spread: Tensor | None = None,
    shape: str = "sine",
) -> Tensor:
    """A comb of notches that sweeps up and down: the jet plane.

    x                             [B, C, T]
    rate_hz, delay_ms, depth_ms   [B, 1, F]  as in `chorus`, shorter
    phase                         [B, 1, 1]  cycles
    mix                           [B, 1, F]  0.5: the deepest notches
    feedback                      [B, 1, 1]  -1 to 1, exclusive: how sharply the comb rings; None: not at all
    spread                        [B, 1, 1]  as in `chorus`
    returns                       [B, C, T]  all controls may be [1, 1, F]

    With feedback the delay is held at 2 samples or more; cost and exactness: `moving_feedback_line`. Without,
    exactness and cost are those of a `chorus` of one voice.
    """
    if feedback is None and swing.serves(x, rate_hz, delay_ms, depth_ms, phase, mix, *_given(spread)):
        return _swinging_delay(x, sample_rate, rate_hz, delay_ms, depth_ms, phase, spread, mix, shape, 1)
    samples = _swing(x, sample_rate, rate_hz, delay_ms, depth_ms, phase, spread, shape)
    if feedback is None:
        return blend(x, fractional_delay(x, samples), mix)
    return blend(x, moving_feedback_line(x, samples, feedback), mix)


def vibrato(
    x: Tensor,
    sample_rate: int,
    *,
    rate_hz: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    shape: str = "sine",
) -> Tensor:
    """The pitch goes up and down.

    x                  [B, C, T]
    rate_hz, depth_ms  [B, 1, F]  swings in a second; the delay runs from 0 to depth_ms
    phase              [B, 1, 1]  cycles
    returns            [B, C, T]  all controls may be [1, 1, F]

    A sine bends the pitch by pi rate depth at most: 5 Hz and 1 ms make 1.6 %, 27 cents. Exactness and cost
    are those of a `chorus` of one voice.
    """
    nothing = torch.zeros_like(depth_ms)
    if swing.serves(x, rate_hz, depth_ms, phase):
        all_wet = torch.ones_like(depth_ms)
        return _swinging_delay(x, sample_rate, rate_hz, nothing, depth_ms, phase, None, all_wet, shape, 1)
    return fractional_delay(x, _swing(x, sample_rate, rate_hz, nothing, depth_ms, phase, None, shape))


def tremolo(
    x: Tensor,
    sample_rate: int,
    *,
    rate_hz: Tensor,
    depth: Tensor,
    phase: Tensor,
    spread: Tensor | None = None,
    shape: str = "sine",
) -> Tensor:
    """The level goes up and down.

    x        [B, C, T]
    rate_hz  [B, 1, F]  swings in a second
    depth    [B, 1, F]  1: down to silence; 0: not at all
    phase    [B, 1, 1]  cycles; at 0 the level is in the middle and grows
    spread   [B, 1, 1]  cycles by which the second channel of two is ahead of the first
    returns  [B, C, T]  all controls may be [1, 1, F]

    Exact: the gain is 1 - depth (1 - lfo) / 2, between 1 and 1 - depth. Compiled 0.5 and 2 ms; only the sound
    is kept.
    """
    if swing.serves(x, rate_hz, depth, phase, *_given(spread)):
        half = 0.5 * depth.double()
        step = rate_hz.double() / sample_rate
        return swing.swinging_gain(x, shape, step, _phases(phase, spread), 1.0 - half, half)
    wave = lfo(x.shape[-1], sample_rate, rate_hz=rate_hz, phase=_phases(phase, spread), shape=shape)
    depth = at_audio_rate(depth, x.shape[-1]).to(x.dtype)
    return x * (1.0 - 0.5 * depth * (1.0 - wave.to(x.dtype)))


def ring_modulator(
    x: Tensor,
    sample_rate: int,
    *,
    frequency_hz: Tensor,
    phase: Tensor,
    mix: Tensor,
    shape: str = "sine",
) -> Tensor:
    """Bells and robots: every tone becomes two, above and below the carrier's frequency by its own.

    x             [B, C, T]
    frequency_hz  [B, 1, F]  of the carrier; a curve is integrated
    phase         [B, 1, 1]  cycles
    mix           [B, 1, F]  0: dry; 1: the product with the carrier alone
    returns       [B, C, T]  all controls may be [1, 1, F]

    The product is exact. A sum of two tones above half the sample rate folds back, and the corners of the
    other shapes are not limited in bandwidth. Cost: `tremolo`.
    """
    if swing.serves(x, frequency_hz, phase, mix):
        mix = mix.double()
        return swing.swinging_gain(x, shape, frequency_hz.double() / sample_rate, phase, 1.0 - mix, mix)
    carrier = lfo(x.shape[-1], sample_rate, rate_hz=frequency_hz, phase=phase, shape=shape)
    return blend(x, x * carrier.to(x.dtype), mix)


def auto_wah(
    x: Tensor,
    sample_rate: int,
    *,
    frequency_hz: Tensor,
    range_octaves: Tensor,
    sensitivity_db: Tensor,
    attack_ms: Tensor,
    release_ms: Tensor,
    q: Tensor,
    mix: Tensor,
) -> Tensor:
    """A resonance that opens as you play louder.

    x                      [B, C, T]
    frequency_hz           [B, 1, F]  where the resonance rests while it is quiet
    range_octaves          [B, 1, F]  how far it opens; below 0 it closes
    sensitivity_db         [B, 1, 1]  gain before the follower: level 1 after it is wide open
    attack_ms, release_ms  [B, 1, 1]  63 % of the way up, and back
    q                      [B, 1, F]  how sharply it rings
    mix                    [B, 1, F]  0: dry; 1: the resonance alone
    returns                [B, C, T]  all controls may be [1, 1, F]

    One follower for all channels, of the loudest of them, with branching attack and release; what it says
    above 1 is 1. The band-pass is 0 dB at its center, held below 0.49 of the sample rate, and moves each
    sample. Both recursions are exact: `attack_release`, `svf`. Compiled 4 and 11 ms, and 0.8 bytes per sample
    are kept beside the sound.
    """
    attack, release = (ms_to_pole(time_ms.double(), sample_rate) for time_ms in (attack_ms, release_ms))
    sensitivity = db_to_amplitude(sensitivity_db.double())
    if swing.serves(x, frequency_hz, range_octaves, sensitivity_db, attack_ms, release_ms, q, mix):
        mix = mix.double()
        ends = 1.0 / q.double(), 1.0 - mix, mix
        return fused.auto_wah(
            x, sample_rate, frequency_hz, range_octaves, sensitivity, attack, release, *ends
        )
    level = x.abs().amax(1, keepdim=True).double() * sensitivity
    opened = attack_release(level, attack, release).clamp(max=1.0)
    rest_hz, octaves = (at_audio_rate(k.double(), x.shape[-1]) for k in (frequency_hz, range_octaves))
    center_hz = rest_hz * torch.exp2(octaves * opened)
    return blend(x, svf(x, sample_rate, kind="band_pass", frequency_hz=center_hz, q=q), mix)


def _swinging_delay(
    x: Tensor,
    sample_rate: int,
    rate_hz: Tensor,
    delay_ms: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    spread: Tensor | None,
    mix: Tensor,
    shape: str,
    voices: int,
) -> Tensor:
    """`chorus` of knobs that stand still, as one kernel."""
    mix, course = mix.double(), _course(sample_rate, rate_hz, delay_ms, depth_ms, phase, spread)
    return swing.swinging_delay(x, shape, voices, *course, 1.0 - mix, mix / voices)


def _course(
    sample_rate: int,
    rate_hz: Tensor,
    delay_ms: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    spread: Tensor | None,
) -> tuple[Tensor, ...]:
    """Cycles per sample, phases, middle and half width in samples, of a swing whose knobs stand still."""
    half = ms_to_samples(0.5 * depth_ms.double(), sample_rate)
    middle = ms_to_samples(delay_ms, sample_rate) + half
    return rate_hz.double() / sample_rate, _phases(phase, spread), middle, half


def _swing(
    x: Tensor,
    sample_rate: int,
    rate_hz: Tensor,
    delay_ms: Tensor,
    depth_ms: Tensor,
    phase: Tensor,
    spread: Tensor | None,
    shape: str,
) -> Tensor:
    """Samples of delay, [B, 1 or 2, T] in float64."""
    if swing.serves(x, rate_hz, delay_ms, depth_ms, phase, *_given(spread)):
        sides = 1 if spread is None else 2
        one = x.new_ones(1, 1, 1, dtype=torch.float64).expand(x.shape[0], sides, x.shape[-1])
        return swing.swinging_gain(
            one, shape, *_course(sample_rate, rate_hz, delay_ms, depth_ms, phase, spread)
        )
    wave = lfo(x.shape[-1], sample_rate, rate_hz=rate_hz, phase=_phases(phase, spread), shape=shape)
    delay_ms, depth_ms = (at_audio_rate(knob.double(), x.shape[-1]) for knob in (delay_ms, depth_ms))
    half = ms_to_samples(0.5 * depth_ms, sample_rate)
    return torch.addcmul(ms_to_samples(delay_ms, sample_rate) + half, half, wave)


def _phases(phase: Tensor, spread: Tensor | None) -> Tensor:
    """One phase for all channels, or one for each of two."""
    if spread is None:
        return phase
    phase = phase.double()
    return torch.cat(torch.broadcast_tensors(phase, phase + spread), 1)


def _given(knob: Tensor | None) -> tuple[Tensor, ...]:
    return () if knob is None else (knob,)
