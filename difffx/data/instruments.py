"""Instruments made of tables and noise: what the synthetic music is played on.

Everything here is [T] float32 at one sample rate, cut into blocks of HOP samples: pitches and envelopes are
drawn once a block and run in straight lines between. Sounds come from three sources, all cheap: a wavetable
made for its pitch and timbre by one small FFT, a loop made of any partials by one larger FFT, and slices of
noise and drum hits that are made once for each sample rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import fft
from scipy.signal import butter, lfilter

HOP = 64
TABLE = 8192
RAMP = (np.arange(HOP, dtype=np.float32) / HOP)[None, :]
SHOTS = 32  # variants of each drum
DRUMS = ("kick", "snare", "hat", "open_hat", "clap", "tom", "perc", "shaker", "cymbal")
# formants of vowels in Hz, a man's; rounded from Peterson and Barney (1952)
VOWELS_HZ = np.array(
    [
        (270, 2290, 3010),
        (390, 1990, 2550),
        (530, 1840, 2480),
        (660, 1720, 2410),
        (730, 1090, 2440),
        (570, 840, 2410),
        (440, 1020, 2240),
        (300, 870, 2240),
        (640, 1190, 2390),
        (490, 1350, 1690),
    ],
    dtype=np.float64,
)


@dataclass(frozen=True)
class Studio:
    """What is made once for a sample rate: noises and drum hits."""

    sample_rate: int
    loop_length: int
    noise: dict[str, np.ndarray]
    drums: dict[str, list[np.ndarray]]

    def slice_of(self, noise: str, rng: np.random.Generator, length: int) -> np.ndarray:
        """A stretch of a noise, from a random place."""
        source = self.noise[noise]
        if length >= len(source):
            return np.resize(source, length)
        begin = rng.integers(len(source) - length)
        return source[begin : begin + length]


@cache
def studio(sample_rate: int) -> Studio:
    """The same for everybody: 0.9 s of work and 38 MB, once in a process."""
    rng = np.random.default_rng(20_240_501)
    noise = {
        name: shaped_noise(rng, sample_rate, *shape)
        for name, shape in {
            "white": (20.0, 30_000.0, 0.0),
            "pink": (20.0, 30_000.0, -3.0),
            "brown": (20.0, 8_000.0, -6.0),
            "rumble": (25.0, 70.0, 0.0),
            "s": (5_000.0, 9_500.0, 0.0),
            "sh": (2_200.0, 5_500.0, -2.0),
            "f": (1_200.0, 11_000.0, -1.0),
            "h": (500.0, 3_500.0, -3.0),
            "hat": (6_500.0, 14_000.0, -2.0),
            "cymbal": (3_000.0, 13_000.0, -3.0),
        }.items()
    }
    empty = Studio(sample_rate, 2 ** round(np.log2(1.5 * sample_rate)), noise, {})
    drums = {kind: [drum(kind, rng, empty) for _ in range(SHOTS)] for kind in DRUMS}
    return Studio(sample_rate, empty.loop_length, noise, drums)


def shaped_noise(
    rng: np.random.Generator, sample_rate: int, low_hz: float, high_hz: float, slope_db: float
) -> np.ndarray:
    """Six seconds of noise between two frequencies, falling by slope_db an octave, RMS 1; it loops."""
    length = fft.next_fast_len(6 * sample_rate)
    hz = fft.rfftfreq(length, 1.0 / sample_rate) + 1e-3
    gain = hz ** (slope_db / 6.02) / np.sqrt((1.0 + (low_hz / hz) ** 4) * (1.0 + (hz / high_hz) ** 8))
    spectrum = gain * np.exp(2j * np.pi * rng.random(len(hz)))
    spectrum[0] = 0.0
    return unit_rms(fft.irfft(spectrum, length).astype(np.float32))


def unit_rms(audio: np.ndarray) -> np.ndarray:
    return audio / (np.sqrt(np.mean(np.square(audio))) + np.float32(1e-9))


def db(level_db: float) -> float:
    return 10.0 ** (level_db / 20.0)


def at_audio_rate(curve: np.ndarray) -> np.ndarray:
    """[N + 1] points -> [N * HOP] samples, in straight lines."""
    curve = curve.astype(np.float32)
    return (curve[:-1, None] + np.diff(curve)[:, None] * RAMP).reshape(-1)


def envelope(seconds: np.ndarray, attack: float, decay: float, length: float, release: float) -> np.ndarray:
    """Rise, exponential fall, and an end; all in seconds, at the points given."""
    end = np.clip((length + release - seconds) / release, 0.0, 1.0)
    return (1.0 - np.exp(-seconds / attack)) * np.exp(-seconds / decay) * end


def phase_steps(hz: np.ndarray, sample_rate: int) -> np.ndarray:
    """Pitch of every block [N] -> place in a wavetable for every sample [N * HOP]."""
    step = hz * (TABLE / sample_rate)
    start = np.mod(np.cumsum(step * HOP) - step * HOP, TABLE)
    place = start.astype(np.float32)[:, None] + step.astype(np.float32)[:, None] * (RAMP * HOP)
    return (place.astype(np.int32) & (TABLE - 1)).reshape(-1)


def wavetable(harmonics: np.ndarray) -> np.ndarray:
    """Complex harmonics, the fundamental first -> one period, RMS 1."""
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    spectrum[1 : len(harmonics) + 1] = harmonics[: TABLE // 2]
    return unit_rms(fft.irfft(spectrum, TABLE))


def harmonic_count(hz: float, sample_rate: int) -> int:
    return max(1, min(TABLE // 2, int(0.45 * sample_rate / hz)))


@dataclass(frozen=True)
class Timbre:
    """The partials of an instrument at any pitch: a slope, even harmonics, a plucking point, a body, a
    darkness.

    slope       amplitude of partial k is k ** -slope
    even        amplitude of the even ones, 0: a clarinet
    pluck       0..0.5, where the string is plucked
    body_hz     resonances, with body_db gain each
    cutoff_hz   where the low-pass stands
    poles       6 dB an octave each
    stretch     inharmonicity of a stiff string, 0 for most
    """

    slope: float
    even: float
    pluck: float
    body_hz: np.ndarray
    body_db: np.ndarray
    cutoff_hz: float
    poles: float
    stretch: float

    def amplitudes(self, hz: float, k: np.ndarray, darker: float = 1.0) -> np.ndarray:
        """Of partials k of a note; `darker` moves the low-pass down by that factor."""
        partial_hz = k * hz
        amp = k**-self.slope * np.where(k % 2 == 0, self.even, 1.0)
        if self.pluck:
            amp = amp * (0.05 + np.abs(np.sin(np.pi * k * self.pluck)))
        octaves = np.log2(partial_hz[:, None] / self.body_hz)
        amp = amp * 10.0 ** ((self.body_db * np.exp(-8.0 * octaves**2)).sum(1) / 20.0)
        cutoff = max(self.cutoff_hz / darker, 1.2 * hz)
        return amp / (1.0 + (partial_hz / cutoff) ** 2) ** (self.poles / 2.0)


def timbre(
    rng: np.random.Generator, slope: tuple[float, float], cutoff_hz: tuple[float, float], **more: float
) -> Timbre:
    """One instrument out of a family."""
    bodies = rng.integers(1, 5)
    return Timbre(
        slope=rng.uniform(*slope),
        even=more.get("even", rng.uniform(0.5, 1.2)),
        pluck=more.get("pluck", 0.0),
        body_hz=np.exp(rng.uniform(np.log(120.0), np.log(5000.0), bodies)),
        body_db=rng.uniform(-8.0, 9.0, bodies),
        cutoff_hz=float(np.exp(rng.uniform(*np.log(cutoff_hz)))),
        poles=rng.uniform(1.0, 3.5),
        stretch=more.get("stretch", 0.0),
    )


def note_hz(midi: float) -> float:
    return 440.0 * 2.0 ** ((midi - 69.0) / 12.0)


def tables(
    rng: np.random.Generator, tone: Timbre, hz: float, sample_rate: int, darker: float
) -> list[np.ndarray]:
    """A bright and a dark wavetable of one note; they share their phases, so they fade into each other."""
    k = np.arange(1.0, harmonic_count(hz, sample_rate) + 1.0)
    phases = np.exp(2j * np.pi * rng.random(len(k)))
    return [wavetable(tone.amplitudes(hz, k, d) * phases) for d in (1.0, darker)]


def loop(
    rng: np.random.Generator,
    tone: Timbre,
    midi: list[float],
    here: Studio,
    players: int,
    spread: float,
    darker: float = 1.0,
) -> np.ndarray:
    """A chord held for ever, RMS 1; `players` on each note, out of tune by `spread` (relative)."""
    spectrum = np.zeros(here.loop_length // 2 + 1, np.complex64)
    for pitch in midi:
        hz = note_hz(pitch)
        k = np.arange(1.0, min(80, harmonic_count(hz, here.sample_rate)) + 1.0)
        partial_hz = hz * k * np.sqrt(1.0 + tone.stretch * k * k)
        tuned = partial_hz[:, None] * (1.0 + spread * rng.standard_normal((1, players)))
        bins = np.round(tuned * (here.loop_length / here.sample_rate)).astype(np.int64)
        amp = tone.amplitudes(hz, k, darker)[:, None] * np.exp(2j * np.pi * rng.random(bins.shape))
        inside = bins < 0.46 * here.loop_length
        np.add.at(spectrum, bins[inside], amp[inside].astype(np.complex64))
    return unit_rms(fft.irfft(spectrum, here.loop_length))


def add(out: np.ndarray, sound: np.ndarray, start: int, gain: float) -> None:
    """Put a sound into a track; what lies before its beginning or after its end is cut. Changes `out`."""
    begin, end = max(start, 0), min(start + len(sound), len(out))
    if begin < end:
        out[begin:end] += np.float32(gain) * sound[begin - start : end - start]


def block_times(length: int, sample_rate: int) -> np.ndarray:
    """Seconds of the block borders that cover `length` samples."""
    return np.arange(length // HOP + 2) * (HOP / sample_rate)


def voice_tables(
    rng: np.random.Generator, hz: float, tract: float, effort: float, sample_rate: int
) -> list[np.ndarray]:
    """Two vowels at one pitch: glottal pulses through formants; tract 1.0 is a man's, 1.17 a woman's."""
    k = np.arange(1.0, harmonic_count(hz, sample_rate) + 1.0)
    partial_hz = k * hz
    made = []
    for vowel in VOWELS_HZ[rng.integers(len(VOWELS_HZ), size=2)]:
        formants = np.array([*vowel, 3300.0, 4300.0, 5500.0]) * tract * rng.normal(1.0, 0.04, 6)
        widths = np.array([70.0, 90.0, 130.0, 180.0, 260.0, 400.0]) * rng.uniform(0.8, 1.8)
        ratio = partial_hz[:, None] / formants
        response = np.prod(1.0 / (1.0 - ratio**2 + 1j * ratio * widths / formants), axis=1)
        higher = 1.0 + (partial_hz / (7000.0 * tract)) ** 2  # what the poles above the sixth would lift
        source = k**-effort * partial_hz / (partial_hz + 60.0)
        made.append(wavetable(source * response * (1.0 + (partial_hz / 2600.0) ** 4) ** 0.5 * higher**-1.0))
    return made


def drum(kind: str, rng: np.random.Generator, here: Studio) -> np.ndarray:
    """One hit of one drum, peak 1."""
    rate = here.sample_rate
    seconds = {"kick": 0.45, "snare": 0.4, "hat": 0.12, "open_hat": 0.5, "clap": 0.3, "tom": 0.6}.get(
        kind, 0.3
    )
    seconds = 1.8 if kind == "cymbal" else seconds
    length = int(seconds * rate)
    t = np.arange(length) / rate

    def fall(tau: float, attack: float = 0.0005) -> np.ndarray:
        return (1.0 - np.exp(-t / attack)) * np.exp(-t / tau)

    def sweep(low_hz: float, over_hz: float, tau: float) -> np.ndarray:
        return np.sin(
            2.0 * np.pi * (low_hz * t + over_hz * tau * (1.0 - np.exp(-t / tau))) + rng.uniform(0, 1)
        )

    def hiss(name: str) -> np.ndarray:
        return here.slice_of(name, rng, length)

    if kind == "kick":
        hit = sweep(rng.uniform(30, 62), rng.uniform(40, 300), rng.uniform(0.012, 0.06)) * fall(
            rng.uniform(0.03, 0.2)
        )
        hit = np.tanh(rng.uniform(0.7, 3.0) * hit)
        hit += (
            db(rng.uniform(-40, -12))
            * hiss(("white", "f", "sh")[rng.integers(3)])
            * fall(rng.uniform(0.002, 0.012))
        )
        hit += db(rng.uniform(-45, -25)) * hiss("brown") * fall(0.06)
    elif kind == "snare":
        hz = rng.uniform(140, 260)
        hit = sweep(hz, rng.uniform(10, 120), 0.02) * fall(rng.uniform(0.03, 0.12))
        hit += (
            rng.uniform(0.2, 0.8)
            * sweep(hz * rng.uniform(1.4, 1.9), 20, 0.02)
            * fall(rng.uniform(0.02, 0.08))
        )
        wires = rng.dirichlet([1.0, 1.0, 1.0, 1.0]) @ np.stack(
            [hiss(n) for n in ("pink", "f", "sh", "white")]
        )
        hit += rng.uniform(0.15, 0.8) * wires * fall(rng.uniform(0.03, 0.16), 0.001)
    elif kind in ("hat", "open_hat"):
        metal = sum(
            np.sign(sweep(hz * rng.uniform(0.7, 1.5), 0, 1)) for hz in (2050, 2610, 3100, 3690, 5220, 6250)
        )
        metal = lfilter(*butter(2, 0.3, "high"), metal)
        hit = (
            rng.uniform(0.2, 1.0) * hiss("hat")
            + rng.uniform(0, 0.25) * metal
            + rng.uniform(0, 0.2) * hiss("sh")
        )
        hit *= fall(rng.uniform(0.012, 0.05) if kind == "hat" else rng.uniform(0.08, 0.3))
    elif kind == "clap":
        bursts = sum(
            np.where(t > d, np.exp(-(t - d) / 0.006), 0.0) for d in np.cumsum(rng.uniform(0.005, 0.014, 3))
        )
        hit = (hiss("sh") + rng.uniform(0, 1) * hiss("h")) * (bursts + 0.6 * fall(rng.uniform(0.03, 0.1)))
    elif kind == "tom":
        hit = sweep(rng.uniform(65, 190), rng.uniform(10, 60), 0.05) * fall(rng.uniform(0.1, 0.3))
        hit += db(rng.uniform(-40, -22)) * hiss("pink") * fall(0.03)
    elif kind == "perc":
        hz = np.exp(rng.uniform(np.log(250), np.log(3500)))
        hit = sweep(hz, 0, 1) * fall(rng.uniform(0.008, 0.12)) + rng.uniform(0, 1) * sweep(
            hz * rng.uniform(1.3, 2.8), 0, 1
        ) * fall(rng.uniform(0.005, 0.06))
        hit += rng.uniform(0, 0.2) * hiss("f") * fall(0.006)
    elif kind == "shaker":
        hit = hiss(("hat", "s", "f")[rng.integers(3)]) * fall(
            rng.uniform(0.015, 0.05), rng.uniform(0.004, 0.03)
        )
    else:
        partials = sum(sweep(hz, 0, 1) for hz in np.exp(rng.uniform(np.log(600), np.log(9000), 14))) / 4.0
        hit = (rng.uniform(0.2, 1.0) * hiss("cymbal") + rng.uniform(0.0, 0.8) * partials) * fall(
            rng.uniform(0.25, 0.9), 0.002
        )
    return (hit / np.abs(hit).max()).astype(np.float32)
