"""Any tree of audio files, heard in segments."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.segments import SPLITS, SegmentData, generator

log = logging.getLogger(__name__)

SHORTEST_SECONDS = 1.0  # shorter files are not used; files shorter than a segment are repeated
SILENCE = 1e-3  # a segment whose peak stays below -60 dBFS is not used
TRIES = 40


@dataclass(frozen=True)
class Track:
    """A file that can be used, under the name that items show."""

    name: str
    path: Path
    seconds: float


@dataclass(frozen=True)
class Cut:
    """How segments are cut: their rate, length in samples, and channels."""

    sample_rate: int
    num_samples: int
    channels: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate

    def read(self, track: Track, start: float) -> Tensor:
        """The segment that begins at `start` seconds, [C, T]; a shorter file is repeated."""
        start = max(0.0, min(start, track.seconds - self.seconds - 0.05))
        audio, _ = audio_io.load(track.path, self.sample_rate, start, self.seconds, self.channels)
        repeats = -(-self.num_samples // audio.shape[1])
        return audio.repeat(1, repeats)[:, : self.num_samples]


def usable(tracks: Sequence[Track], cut: Cut, rng: np.random.Generator, first: tuple[Track, float]) -> dict:
    """The segment asked for, or where that is silent or damaged, another, of the same file if it can be."""
    track, start = first
    problem = "silent"
    for attempt in range(TRIES):
        try:
            audio = cut.read(track, start)
            peak = audio.abs().max()
            if peak >= SILENCE:
                return {"dry": audio / max(1.0, peak.item()), "name": f"{track.name}@{start:.2f}s"}
        except AudioError as error:
            problem = str(error)
        if attempt >= TRIES // 4:
            track = tracks[rng.integers(len(tracks))]
        start = rng.uniform(0.0, max(0.0, track.seconds - cut.seconds))
    raise AudioError(f"{TRIES} tries found no segment with sound in {len(tracks)} files; the last: {problem}")


class RandomSegments(Dataset):
    """Item `index` is a random place of a random file; every second of music is as likely as any other."""

    def __init__(self, tracks: Sequence[Track], cut: Cut, seed: int, split: str, items: int) -> None:
        self.tracks, self.cut, self.seed, self.split, self.items = list(tracks), cut, seed, split, items
        self.ends = np.cumsum([track.seconds for track in tracks])

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        rng = generator(self.seed, self.split, index)
        track = self.tracks[int(np.searchsorted(self.ends, rng.uniform(0.0, self.ends[-1])))]
        start = rng.uniform(0.0, max(0.0, track.seconds - self.cut.seconds))
        return usable(self.tracks, self.cut, rng, (track, start))


class FixedSegments(Dataset):
    """The same number of evenly spaced places in every file, at most `items` in all, none twice."""

    def __init__(self, tracks: Sequence[Track], cut: Cut, seed: int, split: str, items: int) -> None:
        self.tracks, self.cut, self.seed, self.split = list(tracks), cut, seed, split
        chosen = [tracks[round(i)] for i in np.linspace(0, len(tracks) - 1, min(items, len(tracks)))]
        each = max(1, items // len(chosen))
        self.places = [
            (track, (j + 0.5) / n * max(0.0, track.seconds - cut.seconds))
            for track in chosen
            for n in [max(1, min(each, int(track.seconds / cut.seconds)))]
            for j in range(n)
        ]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        return usable(self.tracks, self.cut, generator(self.seed, self.split, index), self.places[index])


def scan(root: Path) -> list[Track]:
    """Every usable audio file below a folder; the others are named in one warning.

    A file is opened and its first and last quarter of a second decoded, which finds text named .wav and
    files that end too early. Raises ValueError in one line where nothing usable is found.
    """
    if not root.is_dir():
        raise ValueError(
            f"data.root={root}: {'is a file, not a folder' if root.exists() else 'no such folder'}"
        )
    files = sorted(path for path in root.rglob("*") if path.is_file())
    candidates = [path for path in files if audio_io.is_audio(path)]
    if not candidates:
        kinds = Counter(path.suffix.lower() or "no extension" for path in files).most_common(5)
        found = ", ".join(f"{count} {kind}" for kind, count in kinds) or "no files at all"
        raise ValueError(f"data.root={root}: no audio files in it; found {found}")
    tracks, refused = [], []
    for path in candidates:
        try:
            seconds = audio_io.info(path).seconds
            audio_io.load(path, seconds=0.25)
            audio_io.load(path, start=max(0.0, seconds - 0.5), seconds=0.25)
            if seconds < SHORTEST_SECONDS:
                raise AudioError(f"{path}: {seconds:.2f} s, shorter than {SHORTEST_SECONDS:g} s")
            tracks.append(Track(path.relative_to(root).as_posix(), path, seconds))
        except AudioError as error:
            refused.append(str(error).removeprefix(f"{root}/"))
    if not tracks:
        raise ValueError(
            f"data.root={root}: none of its {len(candidates)} audio files can be used; {refused[0]}"
        )
    if refused:
        more = f"; and {len(refused) - 5} more" if len(refused) > 5 else ""
        log.warning(
            "data.root=%s: %d of %d files left out: %s%s",
            root,
            len(refused),
            len(candidates),
            "; ".join(refused[:5]),
            more,
        )
    return tracks


def split_tracks(
    tracks: Sequence[Track], fractions: Sequence[float], seed: int, root: Path
) -> dict[str, list[Track]]:
    """Whole files to train, val and test, by seed and name alone; each gets one at least."""
    if len(tracks) < 3:
        raise ValueError(
            f"data.root={root}: training splits by file and needs 3 files at least, found {len(tracks)}"
        )
    order = sorted(tracks, key=lambda t: hashlib.sha256(f"{seed}/{t.name}".encode()).digest())
    val = max(1, round(len(order) * fractions[1]))
    test = min(max(1, round(len(order) * fractions[2])), len(order) - 2)
    val = min(val, len(order) - test - 1)
    parts = {"val": order[:val], "test": order[val : val + test], "train": order[val + test :]}
    return {split: sorted(parts[split], key=lambda t: t.name) for split in SPLITS}


class Folder(SegmentData):
    """Segments of all the audio files below a folder, whatever their format, rate and number of channels.

    root       the folder; nothing is read before the first loader is made
    fractions  of the files, for train, val and test
    test       "split": test on the files held out; "all": on every file; "auto": on every file, unless this
               object has been set up for training, then on those held out. So a folder that a network never
               saw is used whole. An evaluation of a network on the folder that it was trained on needs
               "split"

    Training takes random places, by seek, without decoding whole files; validation and test take fixed ones,
    evenly spaced. Silence (peak below -60 dBFS) and places that cannot be decoded are passed over for
    another place that the item's own seed names. A file of 1 s or more that is shorter than a segment is
    repeated to its length; a shorter one is left out. Mono becomes two equal channels, several become the
    mean. A segment that exceeds full scale is turned down to it.
    """

    def __init__(
        self,
        sample_rate: int,
        root: str | None = None,
        seconds: float = 3.0,
        channels: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        train_items: int = 1024,
        val_items: int = 64,
        test_items: int = 64,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        test: str = "auto",
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )
        if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1.0) > 1e-6:
            raise ValueError(f"Folder: fractions are three numbers that sum to 1, got {list(fractions)}")
        if test not in ("auto", "all", "split"):
            raise ValueError(f"Folder: test must be auto, all or split, got {test!r}")
        self.root, self.fractions, self.test = root, tuple(fractions), test
        self.trained = False

    @property
    def cut(self) -> Cut:
        return Cut(self.sample_rate, self.num_samples, self.channels)

    @cached_property
    def tracks(self) -> list[Track]:
        """The files that can be used; looked for once."""
        if self.root is None:
            raise ValueError(
                "where is the audio? add data.root=<folder>, or for data=blend "
                "data.parts.folder.root=<folder>"
            )
        return scan(Path(self.root).expanduser())

    def setup(self, stage: str) -> None:
        """Look at the files, so that a wrong folder is known before the first step."""
        self.trained |= stage == "fit"
        if stage == "fit":
            self.of_split("train")
        _ = self.tracks

    def of_split(self, split: str) -> list[Track]:
        """The files of a split."""
        if split == "test" and (self.test == "all" or (self.test == "auto" and not self.trained)):
            return self.tracks
        return split_tracks(self.tracks, self.fractions, self.seed, Path(self.root))[split]

    def dataset(self, split: str) -> Dataset:
        kind = RandomSegments if split == "train" else FixedSegments
        return kind(self.of_split(split), self.cut, self.seed, split, self.items[split])
