"""Folders of stems, as separation leaves them: songs that two decks can play."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.folder import SHORTEST_SECONDS, SILENCE, TRIES
from difffx.data.score import Grid
from difffx.data.segments import SPLITS
from difffx.data.stem_music import Piece, finished
from difffx.data.stems import stem_files
from difffx.dj.layout import STEM_NAMES

log = logging.getLogger(__name__)

MANIFEST = "manifest.jsonl"
PER_SPLIT = 2  # songs that a pair needs


@dataclass(frozen=True)
class StemTrack:
    """A song as stems, under the name that items show; tempo_bpm 0: not known."""

    name: str
    files: Mapping[str, Path]
    seconds: float
    tempo_bpm: float = 0.0


def scan_stems(root: Path) -> list[StemTrack]:
    """Every folder below root, itself included, that holds stems; those that cannot be used are named.

    A stem is a file named drums, bass, vocals or other, of any format. Raises ValueError in one line where
    there is none.
    """
    if not root.is_dir():
        raise ValueError(
            f"data.root={root}: {'is a file, not a folder' if root.exists() else 'no such folder'}"
        )
    known, tracks, refused = read_manifest(root), [], []
    folders = sorted({path.parent for path in root.rglob("*") if is_stem(path)})
    for folder in folders:
        place = folder.relative_to(root).as_posix()
        about = known.get(place, {})
        try:
            files = stem_files(folder)
            seconds = min(audio_io.info(file).seconds for file in files.values())
            if seconds < SHORTEST_SECONDS:
                raise AudioError(f"{folder}: {seconds:.2f} s, shorter than {SHORTEST_SECONDS:g} s")
            tempo = about.get("tempo_bpm")
            tempo = float(tempo) if isinstance(tempo, (int, float)) and 0.0 < tempo < 1000.0 else 0.0
            tracks.append(StemTrack(str(about.get("name", place)), files, seconds, tempo))
        except AudioError as error:
            refused.append(str(error).removeprefix(f"{root}/"))
    if not tracks:
        found = f"; {refused[0]}" if refused else ""
        raise ValueError(
            f"data.root={root}: no folders with {', '.join(f'{stem}.*' for stem in STEM_NAMES)} in it{found}"
        )
    if refused:
        log.warning("data.root=%s: %d songs left out: %s", root, len(refused), "; ".join(refused[:5]))
    return tracks


def is_stem(path: Path) -> bool:
    return path.stem.lower() in STEM_NAMES and audio_io.is_audio(path) and path.is_file()


def read_manifest(root: Path) -> dict[str, dict]:
    """Folder, relative to root -> what manifest.jsonl says about it; empty where there is none."""
    path, known = root / MANIFEST, {}
    if not path.is_file():
        return known
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            about = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}: line {number} is not JSON ({error.msg})") from None
        if not isinstance(about, dict):
            raise ValueError(f"{path}: line {number} is not a JSON object")
        place = about.get("folder", about.get("name"))
        if isinstance(place, str):
            known[place.strip("/")] = about
    return known


def split_stems(
    tracks: Sequence[StemTrack], fractions: Sequence[float], seed: int, root: str, whole_test: bool
) -> dict[str, list[StemTrack]]:
    """Whole songs to train, val and test, by seed and name alone; each gets two at least.

    whole_test   test on all of them: nothing was trained on any
    """
    if whole_test:
        if len(tracks) < PER_SPLIT:
            raise ValueError(f"data.root={root}: a pair needs two songs, found {len(tracks)}")
        return {"test": list(tracks)}
    needed = PER_SPLIT * len(SPLITS)
    if len(tracks) < needed:
        raise ValueError(
            f"data.root={root}: training splits by song, two at least to train, to validate and to test: "
            f"needs {needed}, found {len(tracks)}"
        )
    order = sorted(tracks, key=lambda t: hashlib.sha256(f"{seed}/{t.name}".encode()).digest())
    val = max(PER_SPLIT, round(len(order) * fractions[1]))
    test = min(max(PER_SPLIT, round(len(order) * fractions[2])), len(order) - 2 * PER_SPLIT)
    val = min(val, len(order) - test - PER_SPLIT)
    parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {split: sorted(parts[split], key=lambda t: t.name) for split in SPLITS}


class TrackSource:
    """Pairs of segments of two different songs; with a pool, so many segments are kept and paired again."""

    def __init__(
        self,
        tracks: Sequence[StemTrack],
        sample_rate: int,
        num_samples: int,
        channels: int,
        seed: int,
        split: str,
        pool: int | None = None,
    ) -> None:
        self.tracks, self.sample_rate, self.num_samples = list(tracks), sample_rate, num_samples
        self.channels, self.seed, self.split, self.pool = channels, seed, split, pool
        self.kept: dict[int, tuple[Piece, str]] = {}

    def pair(self, rng: np.random.Generator) -> tuple[Piece, Piece, Grid | None, str]:
        first, second = rng.choice(len(self.tracks), 2, replace=False)
        (a, name_a), (b, name_b) = (self.segment(rng, int(n)) for n in (first, second))
        return a, b, None, f"{name_a} + {name_b}"

    def segment(self, rng: np.random.Generator, number: int) -> tuple[Piece, str]:
        """A random place of a song where something is heard, and its name."""
        if self.pool is None:
            return self.read(rng, self.tracks[number])
        each = max(1, self.pool // len(self.tracks))
        place = number * each + int(rng.integers(each))
        if place not in self.kept:
            own = np.random.default_rng([self.seed, SPLITS.index(self.split), place, 2])
            piece, name = self.read(own, self.tracks[number])
            self.kept[place] = piece.packed(), name
        piece, name = self.kept[place]
        return piece.unpacked(), name

    def read(self, rng: np.random.Generator, track: StemTrack) -> tuple[Piece, str]:
        seconds, problem = self.num_samples / self.sample_rate, "silent"
        for _ in range(TRIES):
            start = rng.uniform(0.0, max(0.0, track.seconds - seconds - 0.05))
            try:
                stems = self.stems(track, start, seconds)
            except AudioError as error:
                problem = str(error)
                continue
            if np.abs(stems.sum(0)).max() >= SILENCE:
                return finished(stems, self.sample_rate, -1), f"{track.name}@{start:.2f}s"
        raise AudioError(
            f"{track.name}: {TRIES} tries found no segment with sound in it; the last: {problem}"
        )

    def stems(self, track: StemTrack, start: float, seconds: float) -> np.ndarray:
        """[4, C, T]; a song shorter than a segment is repeated."""
        out = np.zeros((len(STEM_NAMES), self.channels, self.num_samples), np.float32)
        for stem, file in track.files.items():
            audio, _ = audio_io.load(file, self.sample_rate, start, seconds, self.channels)
            repeats = -(-self.num_samples // audio.shape[1])
            out[STEM_NAMES.index(stem)] = audio.repeat(1, repeats)[:, : self.num_samples].numpy()
        return out
