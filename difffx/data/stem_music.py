"""Music made of seeds, stem by stem: what two decks play when there are no songs.

The players of the synthetic music, each stem in a room of its own, without what a master does to a sum: the
stems add up to the song. Against the stems of three recordings, medians or means over 48 decks:

            level dB       sides dB        20-300, 300-4000, 4000-20000 Hz, dB of the stem
    drums   -3.0 (-5.4)    -26 (-20)       -0.6 -14.6 -17.8  (-0.4 -19.4 -14.3)
    bass    -9.3 (-7.9)    none (-28)      -0.2 -20.4 -53.8  ( 0.0 -24.3 -52.3)
    vocals  -9.6 (-8.7)    -18 (-11)      -12.5  -1.2 -19.9  (-13.7 -1.9 -13.4)
    other   -6.2 (-7.9)     -7 ( -2)       -5.5  -2.4 -26.6  (-4.7  -2.8 -23.2)

Levels are relative to the sum, sides to the middle; recordings in brackets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import fft

from difffx.data.instruments import Studio, db, studio
from difffx.data.players import play
from difffx.data.score import SCALES, Grid, Score, draw_key, write_score
from difffx.data.segments import FULL_SCALE
from difffx.data.synthetic import COSINES, LEVELS_DB, ROOMS, Acoustics, acoustics
from difffx.dj.layout import STEM_NAMES

# who stands behind a stem, and how often
VOCALS = ((6, ("sung",)), (2, ("spoken",)), (2, ("lead",)))
OTHERS = (
    (3, ("strummed",)),
    (3, ("sustained",)),
    (2, ("distorted",)),
    (3, ("strummed", "sustained")),
    (1, ("strummed", "distorted")),
    (2, ("sustained", "lead")),
    (1, ("strummed", "strummed")),
)
WET_DB = {"drums": (-32.0, -10.0), "vocals": (-26.0, -6.0), "other": (-30.0, -3.0)}  # the bass stays dry
TREBLE = {"drums": 1.5, "bass": -0.6, "vocals": 2.5, "other": 0.0}  # dB an octave above 3 kHz, on average
APART = 0.6  # how far players of a stem stand from the middle, of half the base
RESTS = {"drums": 0.05, "bass": 0.08, "vocals": 0.2, "other": 0.05}  # silent all the time
MOVES = 0.3  # a stem comes in, goes out or pauses at a downbeat
RAMP_S = 0.004
RELATED = (0, 0, 0, 7, 5)  # semitones to the root of a related key: the same, a fifth up, a fifth down
LOUDNESS_BLOCK = 4096


@dataclass(frozen=True)
class Piece:
    """One deck's music.

    stems      [4, C, T] float32, in the order of STEM_NAMES; neither one of them nor their sum exceeds 1
    loudness   of the sum, LUFS, not gated
    key        0..11 major, C first, 12..23 minor; -1 unknown
    """

    stems: np.ndarray
    loudness: float
    key: int

    def packed(self) -> Piece:
        """In 16 bits, to be kept."""
        return replace(self, stems=np.round(self.stems * FULL_SCALE).astype(np.int16))

    def unpacked(self) -> Piece:
        return replace(self, stems=self.stems.astype(np.float32) * np.float32(1.0 / FULL_SCALE))


@dataclass(frozen=True)
class Pair:
    """Two decks before they are brought to one loudness.

    name        of the item; empty: by its number
    tempo_bpm   of deck A, 0: not known
    start_s     of the first downbeat of both, None: not known
    """

    a: Piece
    b: Piece
    name: str = ""
    tempo_bpm: float = 0.0
    start_s: float | None = None


def draw_related_key(rng: np.random.Generator, home: tuple[int, int], chance: float) -> tuple[int, int]:
    """With a chance the key itself, one a fifth away, or the relative one, of the same notes; else any."""
    if rng.random() >= chance:
        return draw_key(rng)
    root, mode = home
    minor = mode in (1, 2)
    if rng.random() < 0.2:
        return (root + (3 if minor else -3)) % 12, 0 if minor else 1
    return (root + RELATED[rng.integers(len(RELATED))]) % 12, mode


def key_number(key: tuple[int, int]) -> int:
    """Root and scale -> 0..23; scales with a minor third count as minor."""
    root, mode = key
    return root + 12 * (3 in SCALES[mode])


def make_piece(
    rng: np.random.Generator,
    sample_rate: int,
    num_samples: int,
    channels: int,
    grid: Grid,
    key: tuple[int, int],
) -> Piece:
    """A band on a grid and in a key: stems in their rooms, each with its tone, silent at times."""
    score = write_score(rng, num_samples, sample_rate, grid, key)
    stems = arrange_stems(rng, score, channels)
    while stems.max() < 1e-4:  # everybody rests: play something else
        stems = arrange_stems(rng, score, channels)
    return finished(stems, sample_rate, key_number(key))


def arrange_stems(rng: np.random.Generator, score: Score, channels: int) -> np.ndarray:
    """The four stems of a band, [4, C, T]."""
    here, room = studio(score.sample_rate), acoustics(score.sample_rate, score.length)
    steady = ("drums", "other")[rng.integers(2)]  # somebody always plays
    deck_db = rng.standard_normal(COSINES) * 0.35
    stems = np.zeros((len(STEM_NAMES), channels, score.length), np.float32)
    for stem, out in zip(STEM_NAMES, stems, strict=True):
        if stem != steady and rng.random() < RESTS[stem]:
            continue
        dry = perform(rng, stem, score, here, channels)
        if stem != steady and rng.random() < MOVES:
            dry = dry * presence(rng, score)
        out[:] = placed(rng, stem, dry, room, deck_db, channels)
    return stems


def perform(rng: np.random.Generator, stem: str, score: Score, here: Studio, channels: int) -> np.ndarray:
    """The players of a stem at their levels, [1, T], or [2, T] where they stand apart."""
    names = (stem,)
    if stem in ("vocals", "other"):
        ensembles = VOCALS if stem == "vocals" else OTHERS
        weights = np.array([weight for weight, _ in ensembles], float)
        names = ensembles[rng.choice(len(ensembles), p=weights / weights.sum())][1]
    apart = channels == 2 and stem == "other"
    out = np.zeros((1 + apart, score.length), np.float32)
    for name in names:
        gain = db(LEVELS_DB[name] + rng.normal(0.0, 2.0))
        angle = np.pi / 4.0 * (1.0 + np.clip(rng.normal(0.0, APART), -1.0, 1.0))
        places = [np.sqrt(2.0) * np.cos(angle), np.sqrt(2.0) * np.sin(angle)] if apart else [1.0]
        track = play(name, rng, score, here)
        for channel, place in zip(out, places, strict=True):
            channel += np.float32(gain * place) * track
    return out


def presence(rng: np.random.Generator, score: Score) -> np.ndarray:
    """1 while a stem plays, 0 while it does not, [T]; it changes on one or two downbeats."""
    starts = [start for start, _ in score.bar_starts() if 0 < start < score.length]
    ramp = int(RAMP_S * score.sample_rate)
    playing = rng.random() < 0.5
    changes = sorted(rng.choice(starts, min(len(starts), int(rng.integers(1, 3))), replace=False))
    out, before = np.empty(score.length, np.float32), 0
    for change in (*changes, score.length):
        out[before:change] = playing
        playing, before = not playing, change
    for change in changes:
        begin = max(change - ramp, 0)
        out[begin:change] = np.linspace(out[begin], out[change], change - begin, endpoint=False)
    return out


def placed(
    rng: np.random.Generator,
    stem: str,
    dry: np.ndarray,
    room: Acoustics,
    deck_db: np.ndarray,
    channels: int,
) -> np.ndarray:
    """A stem through its microphones, equalizers and room, [C or 1, T]; tails go round the end."""
    cosines = (rng.standard_normal(COSINES) * 0.4 + deck_db) / np.arange(1, COSINES + 1) ** 0.7
    weights = np.array([*cosines, rng.normal(TREBLE[stem], 0.6), 1.0], np.float32)
    gain = np.exp((weights @ room.curves) * np.float32(np.log(10.0) / 20.0))
    spectrum = fft.rfft(dry, room.length) * gain
    if stem in WET_DB and rng.random() < 0.8:
        wet = np.float32(db(rng.uniform(*WET_DB[stem])))
        spectrum = spectrum * (1.0 + wet * room.rooms[rng.integers(ROOMS), :channels])
    return fft.irfft(spectrum, room.length)[:, : dry.shape[1]]


def finished(stems: np.ndarray, sample_rate: int, key: int) -> Piece:
    """Turned up or down until the loudest of the stems and of their sum is just below full scale."""
    mix = stems.sum(0)
    peak = max(stems.max(), -stems.min(), mix.max(), -mix.min(), 1e-9)
    return Piece(stems * np.float32(0.999 / peak), loudness(mix, sample_rate) - 20.0 * np.log10(peak), key)


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """LUFS of [C, T], not gated: K-weighted in blocks of 4096 samples; -120 for silence. ITU-R BS.1770."""
    blocks = max(1, audio.shape[1] // LOUDNESS_BLOCK)
    length = min(LOUDNESS_BLOCK, audio.shape[1])
    spectrum = fft.rfft(audio[:, : blocks * length].reshape(len(audio), blocks, length))
    power = np.square(np.abs(spectrum)).sum((0, 1)) @ k_weights(sample_rate, length)
    return float(-0.691 + 10.0 * np.log10(2.0 * power / (blocks * length**2) + 10.0**-11.93))


@lru_cache(maxsize=4)
def k_weights(sample_rate: int, length: int) -> np.ndarray:
    """The power by which the two analog filters behind BS.1770 weigh each bin, [N]."""
    s = 2j * np.pi * fft.rfftfreq(length, 1.0 / sample_rate)
    w, high = 2.0 * np.pi * 1681.974450955533, db(3.999843853973347)
    shelf_q, pass_q = 0.7071752369554196, 0.5003270373238773
    shelf = (high * s**2 + high**0.4996667741545416 * w / shelf_q * s + w**2) / (
        s**2 + w / shelf_q * s + w**2
    )
    w = 2.0 * np.pi * 38.13547087602444
    return np.square(np.abs(shelf * s**2 / (s**2 + w / pass_q * s + w**2)))
