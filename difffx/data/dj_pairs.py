"""Two decks and how a DJ goes from one to the other: pairs of songs as stems, with the 54 curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from difffx.data.instruments import studio
from difffx.data.score import Grid, draw_grid, draw_key
from difffx.data.segments import SPLITS, SegmentData, generator
from difffx.data.stem_folders import StemTrack, TrackSource, scan_stems, split_stems
from difffx.data.stem_music import Pair, Piece, draw_related_key, make_piece
from difffx.data.synthetic import acoustics
from difffx.dj.drawing import CHANCES, Beats, checked_chances, draw_curves
from difffx.dj.transitions import BEATS_PER_BAR

LOUDNESS = -20.0, -14.0  # LUFS, of both decks of a pair
UNMATCHED_DB = 1.0, 2.5  # standard deviation and limit of what they differ by
GROUP = 8  # pieces of a pool that share a tempo and can be paired
RELATED = 0.8  # chance that a piece's key is related to the home key of its group
SLOWEST, FASTEST = 80.0, 180.0  # beats per minute
SIXTEENTHS = 4  # in a beat


class Source(Protocol):
    """Where pairs come from."""

    def pair(self, rng: np.random.Generator) -> Pair:
        """Two decks, drawn."""


class SyntheticSource:
    """Pairs of pieces made of seeds, on one grid; with a pool, pieces are kept and paired again."""

    def __init__(self, sample_rate: int, num_samples: int, channels: int, seed: int, split: str) -> None:
        self.sample_rate, self.num_samples, self.channels = sample_rate, num_samples, channels
        self.seed, self.split = seed, split

    def pair(self, rng: np.random.Generator) -> Pair:
        grid, home = self.draw_group(rng)
        return self.on_grid(self.piece(rng, grid, home), self.piece(rng, grid, home), grid)

    def on_grid(self, a: Piece, b: Piece, grid: Grid) -> Pair:
        """Two pieces, with the tempo of their grid and its first downbeat at or after the first sample."""
        place = float(grid.place(np.zeros(1), self.sample_rate)[0])
        start_s = -place % grid.per_bar * grid.step / self.sample_rate
        return Pair(a, b, "", 60.0 * self.sample_rate / (SIXTEENTHS * grid.step), start_s)

    def draw_group(self, rng: np.random.Generator) -> tuple[Grid, tuple[int, int]]:
        """Four beats a bar, at a tempo that is danced to, and a home key."""
        drawn = draw_grid(rng, self.sample_rate)
        tempo = np.exp(rng.uniform(np.log(SLOWEST), np.log(FASTEST)))
        step = 60.0 / tempo / SIXTEENTHS * self.sample_rate
        first = int(rng.integers(SIXTEENTHS * BEATS_PER_BAR))
        swing = drawn.swing / drawn.step * step
        return Grid(step, SIXTEENTHS * BEATS_PER_BAR, first, drawn.late, swing), draw_key(rng)

    def piece(self, rng: np.random.Generator, grid: Grid, home: tuple[int, int]) -> Piece:
        key = draw_related_key(rng, home, RELATED)
        return make_piece(rng, self.sample_rate, self.num_samples, self.channels, grid, key)


class SyntheticPool(SyntheticSource):
    """The same out of a number of pieces, kept in 16 bits; every eight of them share a grid."""

    def __init__(
        self, sample_rate: int, num_samples: int, channels: int, seed: int, split: str, pool: int
    ) -> None:
        super().__init__(sample_rate, num_samples, channels, seed, split)
        self.pool, self.groups = pool, max(1, pool // GROUP)
        self.kept: dict[int, Piece] = {}

    def pair(self, rng: np.random.Generator) -> Pair:
        group = int(rng.integers(self.groups))
        members = np.arange(group, self.pool, self.groups)
        grid, home = self.draw_group(self.generator(group, 1))
        a, b = (self.recalled(int(p), grid, home) for p in rng.choice(members, 2, replace=False))
        return self.on_grid(a, b, grid)

    def generator(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, SPLITS.index(self.split), number, stream])

    def recalled(self, number: int, grid: Grid, home: tuple[int, int]) -> Piece:
        if number not in self.kept:
            self.kept[number] = self.piece(self.generator(number, 2), grid, home).packed()
        return self.kept[number].unpacked()


class Pairs(Dataset):
    """Item `index`: two decks at one loudness, the curves between them, and the beat under both."""

    def __init__(
        self,
        source: Source,
        sample_rate: int,
        frames: int,
        seed: int,
        split: str,
        items: int,
        chances: Mapping[str, float],
    ) -> None:
        self.source, self.sample_rate, self.frames = source, sample_rate, frames
        self.seed, self.split, self.items, self.chances = seed, split, items, chances

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        rng = generator(self.seed, self.split, index)
        pair = self.source.pair(rng)
        gain_a, gain_b = matched(rng, pair.a, pair.b)
        seconds = (pair.a.stems.shape[-1] - 1) / self.sample_rate
        beats = None if pair.start_s is None else Beats(pair.tempo_bpm, pair.start_s)
        params, rule = draw_curves(rng, self.frames, seconds, beats, self.chances)
        return {
            "a": torch.from_numpy(pair.a.stems * gain_a),
            "b": torch.from_numpy(pair.b.stems * gain_b),
            "params": params,
            "tempo_bpm": torch.tensor(pair.tempo_bpm, dtype=torch.float32),
            "beats": phases(beats, self.frames, seconds),
            "keys": torch.tensor([pair.a.key, pair.b.key]),
            "rule": rule,
            "name": pair.name or f"{self.split}-{index}",
        }


def matched(rng: np.random.Generator, a: Piece, b: Piece) -> tuple[np.float32, np.float32]:
    """Factors that bring two decks near one loudness, neither above full scale."""
    spread, limit = UNMATCHED_DB
    level = rng.uniform(*LOUDNESS)
    apart = np.clip(spread * rng.standard_normal(), -limit, limit)
    gains_db = np.array([level + 0.5 * apart - a.loudness, level - 0.5 * apart - b.loudness])
    return tuple(np.float32(10.0 ** ((gain_db - max(0.0, gains_db.max())) / 20.0)) for gain_db in gains_db)


def phases(beats: Beats | None, frames: int, seconds: float) -> Tensor:
    """Of the beat and of the bar at every frame, 0..1, [F, 2]; zeros where the tempo is not known."""
    if beats is None:
        return torch.zeros(frames, 2)
    bars = beats.bars(np.linspace(0.0, seconds, frames))
    found = np.stack([bars * BEATS_PER_BAR, bars], -1) % 1.0
    return torch.from_numpy(found.astype(np.float32)) % 1.0


class DJPairs(SegmentData):
    """Pairs of songs as stems, and curves that lead from one to the other: what DJs' tasks learn from.

    root        null: endless synthetic music, two bands at one tempo, bar on bar, each mostly in a key
                near a common one; or a folder: every folder below it that holds some of drums.*, bass.*,
                vocals.*, other.* is a song
    frames      points of the curves, the first at the first sample, the last at the last
    chances     of the kinds of curves, see `difffx.dj.drawing.CHANCES`; null: those
    pool        of training: so many pieces are kept in the memory of each worker, 16 bits a sample, and
                paired again and again, with new curves; null: no music comes twice
    fractions   of the songs of a folder, for train, val and test
    test        of a folder: "split", "all" or "auto", as in Folder

    Batches, instead of {"dry", "name"}:

    a, b        float32 [B, 4, C, T]   stems, drums, bass, vocals, other; silent where there is none
    params      float32 [B, F, 54]     see `difffx.dj.layout`
    tempo_bpm   float32 [B]            of both decks; 0 where it is not known
    beats       float32 [B, F, 2]      phase of the beat and of the bar, 0..1; 0 where it is not known
    keys        int64   [B, 2]         of A and B: 0..11 major, C first, 12..23 minor; -1 not known
    rule        list of B strings      what the curves are, such as "bass_swap"
    name        list of B strings

    The mix is left to the task, which renders it where it trains. Both decks are equally loud within 2.5 dB,
    each below full scale. Synthetic players are up to some ms off the grid, as people are, on average not at
    all; kicks of both decks meet within it. Songs of a folder are cut at random and not aligned: tempo_bpm
    comes from `tempo_bpm` in the manifest, of deck A, where somebody wrote it there. Splits need two songs
    each, so a folder to train on needs six; one to evaluate on, two.

    Cost on one core, 8 s in stereo, in items of Synthetic of 3 s made at the same time, 10 ms each on a core
    to itself: 8.4; out of a pool 0.7; eight FLAC files of a folder 4.5. A piece of a pool takes 5.6 MB.
    """

    def __init__(
        self,
        sample_rate: int,
        root: str | None = None,
        seconds: float = 8.0,
        channels: int = 2,
        frames: int = 32,
        batch_size: int = 8,
        num_workers: int = 0,
        seed: int = 0,
        train_items: int = 1024,
        val_items: int = 64,
        test_items: int = 64,
        chances: Mapping[str, float] | None = None,
        pool: int | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        test: str = "auto",
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )
        if frames < 2:
            raise ValueError(f"DJPairs: frames must be at least 2, got {frames}")
        if pool is not None and pool < 2:
            raise ValueError(f"DJPairs: pool must be at least 2, got {pool}")
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6:
            raise ValueError(f"DJPairs: fractions are three numbers that sum to 1, got {list(fractions)}")
        if test not in ("auto", "all", "split"):
            raise ValueError(f"DJPairs: test must be auto, all or split, got {test!r}")
        self.chances = checked_chances(CHANCES if chances is None else chances)
        self.root, self.frames, self.pool = root, frames, pool
        self.fractions, self.test, self.trained = tuple(fractions), test, False

    @cached_property
    def tracks(self) -> list[StemTrack]:
        """The songs of the folder; looked for once."""
        return scan_stems(Path(self.root).expanduser())

    def setup(self, stage: str) -> None:
        """Make the tables before the workers fork, or look at the songs before the first step."""
        self.trained |= stage == "fit"
        if self.root is None:
            studio(self.sample_rate)
            acoustics(self.sample_rate, self.num_samples)
        else:
            self.of_split("train" if stage == "fit" else "test")

    def of_split(self, split: str) -> list[StemTrack]:
        """The songs of a split of the folder."""
        whole = self.test == "all" or (self.test == "auto" and not self.trained)
        parts = split_stems(self.tracks, self.fractions, self.seed, self.root, split == "test" and whole)
        return parts[split]

    def source(self, split: str) -> Source:
        pool = self.pool if split == "train" else None
        if self.root is not None:
            cut = self.sample_rate, self.num_samples, self.channels
            return TrackSource(self.of_split(split), *cut, self.seed, split, pool)
        made = self.sample_rate, self.num_samples, self.channels, self.seed, split
        return SyntheticSource(*made) if pool is None else SyntheticPool(*made, pool)

    def dataset(self, split: str) -> Pairs:
        source = self.source(split)
        return Pairs(source, self.sample_rate, self.frames, self.seed, split, self.items[split], self.chances)
