"""A folder of songs taken apart: one folder of stems a song, and manifest.jsonl with what there is to know.

A line of the manifest: name, source (path, bytes, mtime_ns, sha256), stems (name -> file below the folder),
sample_rate, samples, seconds, channels, settings (model, weights, overlap, ...), sum_error_db (what the stems
together lack of the song, relative to it), difffx (version). A song without a line is not done.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import difffx
from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.folder import SHORTEST_SECONDS, SILENCE
from difffx.data.stems import Separator, separate
from difffx.dj.layout import STEM_NAMES

MANIFEST, LOCK, PARTIAL = "manifest.jsonl", ".lock", ".partial"
FORMATS = ("flac", "wav")
FOREIGN = frozenset([".m4a", ".mp4", ".aac", ".wma", ".ape", ".wv", ".alac", ".mp2", ".webm", ".mka"])
"""Music that cannot be opened here; named where a folder holds some."""


class LibraryError(ValueError):
    """A folder of stems that cannot be read, written or gone on with, in one line."""


@dataclass(frozen=True)
class Song:
    """A file and the name its stems get: its path below the folder that was asked for, without suffix."""

    name: str
    path: Path


def find_songs(places: Sequence[Path], out: Path) -> tuple[list[Song], list[str]]:
    """Every audio file in files and folders, none twice, none below `out`; and in words what was left out."""
    songs: dict[Path, Song] = {}
    left_out: Counter[str] = Counter()
    for place in places:
        if not place.exists():
            raise LibraryError(f"{place}: no such file or folder")
        for path in _files(place):
            suffix = path.suffix.lower()
            if not _is_utf_8(path):
                left_out["whose name is no UTF-8 (rename it)"] += 1
            elif place.is_dir() and not audio_io.is_audio(path):
                left_out[f"{suffix} (convert it to FLAC or WAV)"] += suffix in FOREIGN
            elif not path.resolve().is_relative_to(out.resolve()):
                name = path.relative_to(place) if place.is_dir() else Path(path.name)
                songs.setdefault(path.resolve(), Song(name.with_suffix("").as_posix(), path.resolve()))
    notes = [f"left out: {count} {what}" for what, count in left_out.most_common() if count]
    if not songs:
        raise LibraryError("; ".join([f"no songs in {', '.join(map(str, places))}", *notes]))
    return list(songs.values()), notes


class Library:
    """Stems of songs in a folder, written whole or not at all; one process at a time.

    folder    made if need be; a context: leaving it removes what is half done and lets others in
    settings  model, weights, overlap, ...: what stems depend on besides the song
    restart   do anew what is done
    """

    def __init__(self, folder: Path, settings: dict[str, object], restart: bool = False) -> None:
        self.folder, self.settings, self.restart = folder, settings, restart
        self.lines: dict[str, dict] = {}
        self._lock = None

    def __enter__(self) -> Library:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / LOCK).open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._clear()
        except BlockingIOError as error:
            self._lock.close()
            raise LibraryError(f"{self.folder}: another run is writing there; wait for it to end") from error
        except OSError as error:
            raise LibraryError(f"{self.folder}: cannot be written ({error.strerror})") from error
        self.lines = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._clear()
        self._lock.close()

    def plan(self, songs: Iterable[Song]) -> tuple[list[Song], list[Song]]:
        """Songs still to do, under names of their own, and those that are done.

        Raises LibraryError where stems of a song were made with other settings.
        """
        to_do, done = [], []
        taken = {_folded(MANIFEST), *(_folded(line["name"]) for line in self.lines.values())}
        by_source = {line["source"]["path"]: line for line in self.lines.values()}
        for song in songs:
            line = by_source.get(str(song.path)) or self._moved(song)
            if line is None:
                song = Song(_unlike(song.name, taken), song.path)
                taken.add(_folded(song.name))
            else:
                song = Song(line["name"], song.path)
            whole = line is not None and not self.restart and self._is_whole(song, line)
            if whole and line["settings"] != self.settings:
                raise LibraryError(self._unlike_settings(line))
            (done if whole else to_do).append(song)
        return to_do, done

    def add(self, song: Song, separator: Separator, progress: Callable[[float], None] | None = None) -> dict:
        """Takes a song apart and writes its stems, then its line, which comes back.

        Raises AudioError where it is the song's fault, StemError or LibraryError where going on is in vain.
        """
        source = _source(song.path)
        audio, rate = open_song(song.path, self.settings["limit_seconds"])
        options = {name: self.settings[name] for name in ("overlap", "shifts", "segment", "exact")}
        stems = separate(audio, rate, separator, **options, progress=progress)
        with self._writing(song.name):
            files = self._write(song.name, stems, rate)
        line = {
            "name": song.name,
            "source": source,
            "stems": {stem: file.relative_to(self.folder).as_posix() for stem, file in files.items()},
            "sample_rate": rate,
            "samples": audio.shape[1],
            "seconds": round(audio.shape[1] / rate, 3),
            "channels": len(audio),
            "settings": self.settings,
            "sum_error_db": _ratio_db(audio - sum(stems.values()), audio),
            "difffx": difffx.__version__,
        }
        with self._writing(song.name):
            self._save({**self.lines, song.name: line})
        return line

    def _write(self, name: str, stems: dict[str, Tensor], rate: int) -> dict[str, Path]:
        """All stems under other names first; then the old line goes, and the files come into their place."""
        loudest = max(stem.abs().max().item() for stem in stems.values())
        suffix = "wav" if loudest > 1.0 else self.settings["format"]
        folder, partial = self.folder / name, self.folder / PARTIAL
        for stem, audio in stems.items():
            audio_io.save(partial / f"new {stem}.{suffix}", audio, rate)
            _check_written(partial / f"new {stem}.{suffix}", audio)
        self._save({other: line for other, line in self.lines.items() if other != name})
        folder.mkdir(parents=True, exist_ok=True)
        for old in [folder / f"{stem}.{kind}" for stem in STEM_NAMES for kind in FORMATS]:
            old.unlink(missing_ok=True)
        for stem in stems:
            os.replace(partial / f"new {stem}.{suffix}", folder / f"{stem}.{suffix}")
        return {stem: folder / f"{stem}.{suffix}" for stem in stems}

    @contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        """Where the disk is full or away, no other song can be written either."""
        try:
            yield
        except (AudioError, OSError) as error:
            free = shutil.disk_usage(self.folder).free / 1e9
            raise LibraryError(
                f"{self.folder / name}: cannot be written ({error}); {free:.1f} GB are free there"
            ) from error

    def _is_whole(self, song: Song, line: dict) -> bool:
        """The song is still the one that was taken apart, and all its stems are there."""
        if not _is_same(line["source"], song.path):
            return False
        for file in line["stems"].values():
            try:
                info = audio_io.info(self.folder / file)
            except AudioError:
                return False
            if (info.num_samples, info.sample_rate) != (line["samples"], line["sample_rate"]):
                return False
        return True

    def _moved(self, song: Song) -> dict | None:
        """The line of this very song, taken apart when it was elsewhere."""
        line = self.lines.get(song.name)
        gone = line is not None and not Path(line["source"]["path"]).exists()
        return line if gone and _is_same(line["source"], song.path) else None

    def _unlike_settings(self, line: dict) -> str:
        names = [name for name in self.settings if line["settings"].get(name) != self.settings[name]]
        unlike = ", ".join(
            f"{name} {line['settings'].get(name)}, not {self.settings[name]}" for name in names
        )
        return (
            f"{self.folder}: the stems of {line['name']} were made with {unlike}; "
            "write to another folder, or --restart to make them anew"
        )

    def _read(self) -> dict[str, dict]:
        path = self.folder / MANIFEST
        if not path.exists():
            return {}
        lines = {}
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            try:
                line = json.loads(text)
                _ = line["source"]["path"], line["stems"], line["samples"], line["sample_rate"]
                _ = line["source"]["sha256"], line["settings"]
                lines[line["name"]] = line
            except (ValueError, KeyError, TypeError) as error:
                raise LibraryError(
                    f"{path}: line {number} is damaged; remove it, and that song is done anew"
                ) from error
        return lines

    def _save(self, lines: dict[str, dict]) -> None:
        text = "".join(json.dumps(lines[name]) + "\n" for name in sorted(lines))
        part = self.folder / f".{MANIFEST}.part"
        part.write_text(text, encoding="utf-8")
        os.replace(part, self.folder / MANIFEST)
        self.lines = lines

    def _clear(self) -> None:
        shutil.rmtree(self.folder / PARTIAL, ignore_errors=True)


def open_song(path: Path, limit_seconds: float | None = None) -> tuple[Tensor, int]:
    """A song [C, T] and its rate; AudioError for more than two channels, under 1 s, NaN or silence."""
    channels = audio_io.info(path).channels
    if channels > 2:
        raise AudioError(f"{path}: {channels} channels, expected mono or stereo; mix it down first")
    audio, rate = audio_io.load(path, seconds=limit_seconds, minimum_seconds=SHORTEST_SECONDS)
    if audio.abs().max() < SILENCE:
        raise AudioError(f"{path}: is silent")
    return audio, rate


def _files(place: Path) -> list[Path]:
    """A file, or all files of a folder but those in hidden ones, in order."""
    if place.is_file():
        return [place]
    files = (path for path in place.rglob("*") if path.is_file())
    return sorted(f for f in files if not any(part.startswith(".") for part in f.relative_to(place).parts))


def _is_utf_8(path: Path) -> bool:
    """libsndfile is given names in UTF-8."""
    try:
        return bool(str(path.resolve()).encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _folded(name: str) -> str:
    """Equal for names that some file systems take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _unlike(name: str, taken: set[str]) -> str:
    """name, or where it is taken name-2, name-3, ..."""
    names = [name, *(f"{name}-{number}" for number in range(2, len(taken) + 2))]
    return next(each for each in names if _folded(each) not in taken)


def _source(path: Path) -> dict[str, object]:
    about = path.stat()
    return {
        "path": str(path),
        "bytes": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "sha256": _sha256(path),
    }


def _is_same(source: dict, path: Path) -> bool:
    """By size and time; where the time alone differs, by content."""
    about = path.stat()
    if about.st_size != source["bytes"]:
        return False
    return about.st_mtime_ns == source["mtime_ns"] or _sha256(path) == source["sha256"]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_written(path: Path, audio: Tensor) -> None:
    """A disk that fills up at the last bytes of a FLAC goes unnoticed by libsndfile."""
    info = audio_io.info(path)
    if info.num_samples != audio.shape[1]:
        raise AudioError(f"{path.name} came out with {info.num_samples} samples of {audio.shape[1]}")
    audio_io.load(path, start=max(0.0, info.seconds - 1.0))


def _ratio_db(error: Tensor, reference: Tensor) -> float:
    """Energy of one sound relative to another, at least -200 dB."""
    ratio = error.double().square().sum() / reference.double().square().sum()
    return round(max(-200.0, 10.0 * torch.log10(ratio.clamp_min(1e-20)).item()), 2)
