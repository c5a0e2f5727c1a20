"""What is decided once about a DJ's mixer, and not by its 54 numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

FRAME_S = 2048 / 44_100


@dataclass(frozen=True)
class MixerConfig:
    """Rates, filters, effects and output of a mixer.

    sample_rate                 Hz
    n_fft, hop_length           of the short spectra in which strips work; None: 2048 and 512 at 44.1 and 48
                                kHz, as many milliseconds, in powers of two, elsewhere
    reverb_decay_time           seconds until the reverberation is 60 dB down, below 1 kHz
    reverb_damping              0: so for all pitches; 1: at 16 kHz it is down in a tenth of the time
    reverb_pre_delay_ms         from a sound to its reverberation
    tempo_bpm, beats            an echo comes so many beats after its sound; without a tempo after
    delay_default_ms            375 ms, a dotted eighth at 120 bpm
    delay_max_ms                a longer echo is refused
    delay_max_feedback          what a feedback of 1 means: each echo by this factor quieter than the last
    lpf_min, lpf_max            Hz of the low-pass at 0 and 1, and so on in equal steps of pitch
    hpf_min, hpf_max            of the high-pass
    filter_transition_octaves   width of all slopes: 0.5 is 69.5 dB an octave, 1.44 is 24 dB
    eq_low_hz, eq_high_hz       where bass, mid and treble meet
    seed                        of the noise that makes the reverberation
    limiter, limiter_ceiling_db difffx's limiter at the output; nothing is limited without it
    compat                      the published formulas instead, as they are: see `difffx.dj.compat`
    delay_n_taps                echoes of `compat`; otherwise the feedback says how many there are
    """

    sample_rate: int = 44_100
    n_fft: int | None = None
    hop_length: int | None = None
    reverb_decay_time: float = 1.5
    reverb_damping: float = 0.5
    reverb_pre_delay_ms: float = 20.0
    delay_max_ms: float = 1000.0
    delay_default_ms: float = 375.0
    delay_max_feedback: float = 0.7
    delay_n_taps: int = 4
    lpf_min: float = 20.0
    lpf_max: float = 20_000.0
    hpf_min: float = 20.0
    hpf_max: float = 20_000.0
    filter_transition_octaves: float = 0.5
    eq_low_hz: float = 300.0
    eq_high_hz: float = 4_000.0
    tempo_bpm: float | None = None
    beats: float = 0.75
    seed: int = 0
    limiter: bool = False
    limiter_ceiling_db: float = -1.0
    compat: bool = False

    def __post_init__(self) -> None:
        if self.sample_rate != int(self.sample_rate) or self.sample_rate <= 0:
            raise ValueError(
                f"MixerConfig: sample_rate must be a positive whole number, got {self.sample_rate!r}"
            )
        if self.n_fft is None:
            object.__setattr__(self, "n_fft", max(16, 2 ** round(math.log2(FRAME_S * self.sample_rate))))
        if self.hop_length is None:
            object.__setattr__(self, "hop_length", self.n_fft // 4)
        if self.n_fft < 2 or self.n_fft % 2 or not 1 <= self.hop_length <= self.n_fft // 2:
            raise ValueError(
                f"MixerConfig: n_fft must be even and hop_length at most half of it, "
                f"got {self.n_fft} and {self.hop_length}"
            )
        for name in POSITIVE:
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"MixerConfig: {name} must be above 0, got {getattr(self, name)!r}")
        for name, (low, high) in WITHIN.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(
                    f"MixerConfig: {name} must be {low:g} to {high:g}, got {getattr(self, name)!r}"
                )
        for below, above in (("lpf_min", "lpf_max"), ("hpf_min", "hpf_max"), ("eq_low_hz", "eq_high_hz")):
            if not getattr(self, below) < getattr(self, above):
                raise ValueError(f"MixerConfig: {below} must be below {above}")
        self.echo_ms(self.tempo_bpm)

    def echo_ms(self, tempo_bpm: float | None = None) -> float:
        """From a sound to its echo, at this tempo or the mixer's own. Raises ValueError if it is too long."""
        tempo_bpm = self.tempo_bpm if tempo_bpm is None else tempo_bpm
        if tempo_bpm is not None and not 0.0 < tempo_bpm < math.inf:
            raise ValueError(f"tempo_bpm must be above 0, got {tempo_bpm!r}")
        time_ms = self.delay_default_ms if tempo_bpm is None else 60_000.0 * self.beats / tempo_bpm
        if time_ms > self.delay_max_ms:
            raise ValueError(
                f"an echo after {time_ms:g} ms is longer than delay_max_ms, {self.delay_max_ms:g}; "
                "choose fewer beats or raise it"
            )
        return time_ms

    def echo_samples(self, tempo_bpm: float | None = None) -> int:
        """The same in whole samples."""
        return max(1, round(self.echo_ms(tempo_bpm) * self.sample_rate / 1000.0))

    @classmethod
    def names(cls) -> list[str]:
        return [field.name for field in fields(cls)]


POSITIVE = (
    *("reverb_decay_time", "delay_max_ms", "delay_default_ms", "lpf_min", "hpf_min", "lpf_max", "hpf_max"),
    *("filter_transition_octaves", "eq_low_hz", "eq_high_hz", "beats"),
)
WITHIN = {
    "reverb_damping": (0.0, 1.0),
    "reverb_pre_delay_ms": (0.0, 1000.0),
    "delay_max_feedback": (0.0, 0.99),
    "delay_n_taps": (0, 64),
    "limiter_ceiling_db": (-24.0, 0.0),
}
