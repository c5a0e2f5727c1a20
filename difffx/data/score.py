"""Scores: tempo, meter, key, chords and tunes of a segment, all drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 2, 4, 5, 7, 9, 10))
# degrees of the scale, one a bar
PROGRESSIONS = ("0453", "0534", "5304", "0343", "0034", "1400", "0654", "0231", "0000")
LONGEST = 1.8  # seconds that a note of a tune may last
LEAD_IN = 1.5  # seconds of music before the segment, whose tails are heard in it


@dataclass(frozen=True)
class Score:
    """What is common to all players of a segment.

    step     samples of a sixteenth, before swing
    steps    [N] sample at which each sixteenth begins; the first ones are negative
    places   [N] its number within the bar
    bars     [N] the number of its bar
    chords   pitch classes of the chord of each bar, root first
    scale    pitch classes of the key
    """

    sample_rate: int
    length: int
    step: float
    steps: np.ndarray
    places: np.ndarray
    bars: np.ndarray
    per_bar: int
    chords: list[list[int]]
    scale: list[int]

    def bar_starts(self) -> list[tuple[int, list[int]]]:
        """Start and chord of every bar, the one that has already begun included."""
        first = self.steps[0] - self.places[0] * self.step
        return [(int(first + n * self.per_bar * self.step), chord) for n, chord in enumerate(self.chords)]


@dataclass(frozen=True)
class Grid:
    """Where the sixteenths of a segment lie; players who share it play together.

    step     samples of a sixteenth, before swing
    per_bar  sixteenths
    first    number within its bar of the one before which the music begins, LEAD_IN before the segment
    late     share of a step by which that one has begun already
    swing    samples by which every second one comes late
    """

    step: float
    per_bar: int
    first: int
    late: float
    swing: float

    def place(self, samples: np.ndarray, sample_rate: int) -> np.ndarray:
        """Samples of the segment -> sixteenths since the beginning of a bar, before swing."""
        return self.first + self.late + (samples + LEAD_IN * sample_rate) / self.step


def draw_grid(rng: np.random.Generator, sample_rate: int) -> Grid:
    """Tempo, meter and a swing, at a random place of a bar."""
    step = 60.0 / float(np.exp(rng.uniform(np.log(62.0), np.log(180.0)))) / 4.0 * sample_rate
    per_bar = 12 if rng.random() < 0.15 else 16
    first = int(rng.integers(per_bar))
    swing = rng.uniform(0.0, 0.3) * step if rng.random() < 0.3 else 0.0
    return Grid(step, per_bar, first, rng.random(), swing)


def draw_key(rng: np.random.Generator) -> tuple[int, int]:
    """Its root, 0: C, and the number of its scale in `SCALES`."""
    return int(rng.integers(12)), int(rng.integers(len(SCALES)))


def write_score(
    rng: np.random.Generator,
    length: int,
    sample_rate: int,
    grid: Grid | None = None,
    key: tuple[int, int] | None = None,
) -> Score:
    """Chords and tunes, on a grid and in a key that are given or drawn."""
    grid = draw_grid(rng, sample_rate) if grid is None else grid
    step, per_bar = grid.step, grid.per_bar
    count = int((length + LEAD_IN * sample_rate) / step) + 2
    number = grid.first + np.arange(count)
    steps = -LEAD_IN * sample_rate + (np.arange(count) - grid.late) * step + grid.swing * (number % 2)
    root, mode = draw_key(rng) if key is None else key
    scale = SCALES[mode]
    progression = [int(d) for d in PROGRESSIONS[rng.integers(len(PROGRESSIONS))]]
    shape = ((0, 2, 4), (0, 2, 4), (0, 2, 4, 6), (0, 4), (0, 3, 4))[rng.integers(5)]
    turn = int(rng.integers(len(progression)))
    degrees = [progression[(turn + bar) % len(progression)] for bar in range(int(number[-1]) // per_bar + 1)]
    chords = [[(root + scale[(d + s) % 7]) % 12 for s in shape] for d in degrees]
    return Score(
        sample_rate,
        length,
        step,
        steps.astype(np.int64),
        number % per_bar,
        number // per_bar,
        per_bar,
        chords,
        [(root + s) % 12 for s in scale],
    )


def near(pitch_class: int, midi: float) -> int:
    """The note of that class closest to a pitch."""
    return round(midi + (pitch_class - midi + 6) % 12 - 6)


def rhythm(rng: np.random.Generator, score: Score, density: float) -> np.ndarray:
    """Indices of the steps at which something begins: one pattern a bar, repeated with changes."""
    weight = np.where(
        np.arange(score.per_bar) % 4 == 0, 1.6, np.where(np.arange(score.per_bar) % 2 == 0, 1.0, 0.45)
    )
    pattern = rng.random(score.per_bar) < density * weight
    pattern[0] |= rng.random() < 0.7
    change = rng.random(len(score.steps)) < 0.06
    hits = np.flatnonzero(pattern[score.places] ^ change)
    return hits if len(hits) else np.array([0])


def lengths(hits: np.ndarray, score: Score) -> np.ndarray:
    """Samples from each hit to the next."""
    return np.diff(score.steps[hits], append=score.steps[-1] + int(score.step))


def melody(
    rng: np.random.Generator, score: Score, center: float, density: float
) -> list[tuple[int, int, float]]:
    """(start, samples, midi) of the notes of a tune that walks through the scale, with rests."""
    hits = rhythm(rng, score, density)
    degree, notes = 0, []
    for i, room in zip(hits, lengths(hits, score), strict=True):
        degree = int(np.clip(degree + rng.integers(-3, 4), -6, 6))
        midi = near(score.scale[degree % 7], center + 12.0 * (degree / 7.0))
        if rng.random() > 0.12:
            notes.append((int(score.steps[i]), int(min(room, LONGEST * score.sample_rate)), float(midi)))
    return notes or [(0, score.length, center)]
