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
from difffx.data.segments import SPLITS
from difffx.data.stem_music import Pair, Piece, finished
from difffx.data.stems import stem_files
from difffx.dj.layout import STEM_NAMES

log = logging.getLogger(__name__)

MANIFEST = "manifest.jsonl"
PER_SPLIT = 2  # songs that a pair needs
FASTEST_BPM = 400.0


@dataclass(frozen=True)
class StemTrack:
    """A song as stems, under the name that items show; tempo_bpm 0: not known."""

    name: str
    files: Mapping[str, Path]
    seconds: float
    tempo_bpm: float = 0.0


def scan_stems(root: Path) -> list[StemTrack]:
    """Every folder below root, itself included, that holds stems; those that cannot be used are named.

    A stem is a file named drums, bass, vocals or other, of any format. Hidden folders are passed over, and
    a song that manifest.jsonl knows by its contents counts once. Raises ValueError in one line where there
    is none.
    """
    if not root.is_dir():
        raise ValueError(
            f"data.root={root}: {'is a file, not a folder' if root.exists() else 'no such folder'}"
        )
    known, heard, tracks, refused = read_manifest(root), set(), [], []
    for place in sorted({path.parent.relative_to(root) for path in root.rglob("*") if is_stem(path)}):
        about = known.get(place.as_posix(), {})
        if any(part.startswith(".") for part in place.parts) or about.get("sha256") in heard:
            continue
        try:
            files = stem_files(root / place)
            seconds = min(audio_io.info(file).seconds for file in files.values())
            if seconds < SHORTEST_SECONDS:
                raise AudioError(f"{root / place}: {seconds:.2f} s, shorter than {SHORTEST_SECONDS:g} s")
        except AudioError as error:
            refused.append(str(error).removeprefix(f"{root}/"))
            continue
        heard |= {about["sha256"]} if "sha256" in about else set()
        name = place.as_posix() if place.parts else root.resolve().name
        tracks.append(StemTrack(name, files, seconds, about.get("tempo_bpm", 0.0)))
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
    """Folder of a song, relative to root -> its tempo_bpm and sha256, where manifest.jsonl says them.

    A line is an object as `scripts/separate_stems.py` writes it; tempo_bpm may be added. Raises ValueError
    naming the line that is none.
    """
    path = root / MANIFEST
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = {}
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            tempo, place = float(line.get("tempo_bpm") or 0.0), str(line["name"])
            digest = line.get("source", {}).get("sha256")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: line {number} is damaged; repair or remove it") from error
        if not 0.0 <= tempo <= FASTEST_BPM:
            raise ValueError(f"{path}: line {number}: tempo_bpm must lie within 0..{FASTEST_BPM:g}")
        known[place] = {"tempo_bpm": tempo} | ({"sha256": digest} if digest else {})
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

    def pair(self, rng: np.random.Generator) -> Pair:
        first, second = (int(number) for number in rng.choice(len(self.tracks), 2, replace=False))
        (a, name_a), (b, name_b) = (self.segment(rng, number) for number in (first, second))
        return Pair(a, b, f"{name_a} + {name_b}", self.tracks[first].tempo_bpm)

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
