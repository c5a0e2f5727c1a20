"""Songs as stems, drums, bass, vocals and other: opened from folders."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.dj.layout import STEM_NAMES

ROUNDING = 1  # samples by which stems of one length and several rates may differ once resampled


def open_deck(path: str | Path, sample_rate: int) -> dict[str, Tensor]:
    """What a DJ puts on a deck: a folder of stems, or a song as it is, {stem: [C, T]}, C 1 or 2.

    path         a folder with drums.*, bass.*, vocals.*, other.*, of which some may be missing, in any format
                 and rate; or a file, which comes back as {"other": audio}
    sample_rate  Hz, of everything that comes back

    Raises AudioError naming the file where two stand for one stem, where stems are of unequal length, or with
    more than two channels, and for what `audio_io.load` refuses.
    """
    path = Path(path)
    files = stem_files(path) if path.is_dir() else {"other": path}
    stems = {}
    for stem, file in files.items():
        if audio_io.info(file).channels > 2:
            raise AudioError(f"{file}: {audio_io.info(file).channels} channels, expected mono or stereo")
        stems[stem], _ = audio_io.load(file, sample_rate)
    lengths = {stem: audio.shape[1] for stem, audio in stems.items()}
    first, shortest = next(iter(lengths)), min(lengths.values())
    for stem, length in lengths.items():
        if abs(length - lengths[first]) > ROUNDING:
            raise AudioError(
                f"{files[stem]}: {length} samples at {sample_rate} Hz, {files[first].name} has "
                f"{lengths[first]}; stems of a song must be equally long"
            )
    return {stem: audio[:, :shortest] for stem, audio in stems.items()}


def stem_files(folder: Path) -> dict[str, Path]:
    """The files of a folder of stems, in the order of the mixer; AudioError where there are none, or two."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and audio_io.is_audio(file))
    found: dict[str, Path] = {}
    for stem in STEM_NAMES:
        same = [file for file in files if file.stem.lower() == stem]
        if len(same) > 1:
            names = " and ".join(file.name for file in same)
            raise AudioError(f"{folder}: {names} are both {stem}; keep one of them")
        if same:
            found[stem] = same[0]
    if not found:
        others = f"; there are {', '.join(file.name for file in files[:4])}" if files else ""
        expected = ", ".join(f"{stem}.*" for stem in STEM_NAMES)
        raise AudioError(f"{folder}: no stems in it, expected some of {expected}{others}")
    return found
