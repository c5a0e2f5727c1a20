"""The only file that opens audio files: every format of libsndfile in, WAV, FLAC, OGG or MP3 out."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

EXTENSIONS = frozenset(
    [
        "aif",
        "aifc",
        "aiff",
        "au",
        "caf",
        "flac",
        "mp3",
        "oga",
        "ogg",
        "opus",
        "rf64",
        "snd",
        "w64",
        "wav",
        "wave",
    ]
)
RESAMPLING_MARGIN = 2048  # source samples read on both sides of a segment; soxr's HQ filter is shorter
SLACK_SECONDS = 0.1  # an MP3's header may count its padding
STREAMED = 0x7FFF0000  # a WAV that was written to a pipe promises this much or more
BLOCK = 44_100  # libsndfile crashes when one call writes a minute of OGG
SUBTYPES = {".wav": "FLOAT", ".flac": "PCM_24", ".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}


class AudioError(ValueError):
    """A file that cannot be used: one line with its name, what is wrong, and the way out if any."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says; `num_samples` is per channel."""

    sample_rate: int
    channels: int
    num_samples: int

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate


def is_audio(path: Path) -> bool:
    """By its extension, and not one of the hidden `._x.wav` that macOS leaves on foreign disks."""
    return path.suffix.lower().lstrip(".") in EXTENSIONS and not path.name.startswith(".")


def open_audio(path: str | Path) -> soundfile.SoundFile:
    """An open file, or AudioError: missing, a folder, not audio, empty."""
    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, expected an audio file")
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise AudioError(f"{path}: not an audio file that can be read ({_reason(error)})") from error
    promised = re.search(r"(?:data|SSND) *: (\d+) \(should be (\d+)\)", file.extra_info)
    if file.frames < 1:
        file.close()
        raise AudioError(f"{path}: is empty, it has a header and no samples")
    if promised and int(promised[2]) < int(promised[1]) < STREAMED:
        file.close()
        raise AudioError(
            f"{path}: truncated: its header promises {promised[1]} bytes of audio, {promised[2]} are there"
        )
    return file


def info(path: str | Path) -> AudioInfo:
    """Rate, channels and length without decoding; AudioError as `open_audio`."""
    with open_audio(path) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def load(
    path: str | Path,
    sample_rate: int | None = None,
    start: float | None = None,
    seconds: float | None = None,
    channels: int | None = None,
    minimum_seconds: float = 0.0,
) -> tuple[Tensor, int]:
    """A file or a part of it, [C, T] float32, and its rate.

    sample_rate      Hz wanted, None: the file's own; soxr HQ resamples
    start, seconds   the part wanted; None: from the beginning, to the end. A part that passes the end is
                     shorter
    channels         1: mean of all; 2: the first two, mono twice; None: as in the file
    minimum_seconds  AudioError for less than this

    A part is decoded alone, by seek, with enough around it that resampling leaves no trace at its ends: it
    equals the same samples of the whole file, resampled. AudioError where the file ends over 0.1 s before
    its header says so, and for NaN or infinity.
    """
    with open_audio(path) as file:
        rate = sample_rate or file.samplerate
        first = round((start or 0.0) * rate)
        total = -(-file.frames * rate // file.samplerate)
        count = total - first if seconds is None else min(round(seconds * rate), total - first)
        if count < 1 or count < round(minimum_seconds * rate):
            have = max(count, 0) / rate
            wanted = f", expected at least {minimum_seconds:g} s" if minimum_seconds else ""
            where = f" after {start:g} s" if start else ""
            raise AudioError(f"{path}: too short: {have:.2f} s{where}{wanted}")
        audio = _read(file, path, rate, first, count)
    if not np.isfinite(audio).all():
        bad = int(np.size(audio) - np.isfinite(audio).sum())
        raise AudioError(f"{path}: has {bad} samples that are NaN or infinite; repair or remove the file")
    return torch.from_numpy(np.ascontiguousarray(with_channels(audio, channels).T)), rate


def save(path: str | Path, audio: Tensor, sample_rate: int) -> None:
    """Write [C, T] by the extension: .wav (32-bit float), .flac (24 bit), .ogg, .mp3.

    The file appears under its name only when it is whole. All but .wav clip what exceeds full scale.
    """
    path = Path(path)
    subtype = SUBTYPES.get(path.suffix.lower())
    if subtype is None:
        raise AudioError(
            f"{path}: cannot write {path.suffix or 'a file without extension'}, use one of {list(SUBTYPES)}"
        )
    if audio.ndim != 2:
        raise AudioError(f"{path}: expected audio [C, T], got {tuple(audio.shape)}")
    samples = audio.detach().cpu().float().numpy().T
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with soundfile.SoundFile(partial, "w", int(sample_rate), samples.shape[1], subtype) as file:
            for begin in range(0, len(samples), BLOCK):
                file.write(samples[begin : begin + BLOCK])
        os.replace(partial, path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written ({_reason(error)})") from error
    finally:
        partial.unlink(missing_ok=True)


def with_channels(audio: np.ndarray, channels: int | None) -> np.ndarray:
    """[T, C] to the number of channels wanted; None leaves it."""
    if channels is None or audio.shape[1] == channels:
        return audio
    if channels == 1:
        return audio.mean(1, keepdims=True)
    return np.repeat(audio, channels, 1) if audio.shape[1] == 1 else audio[:, :channels]


def _read(file: soundfile.SoundFile, path: str | Path, rate: int, first: int, count: int) -> np.ndarray:
    """Samples first..first+count at the wanted rate, [T, C]."""
    source = file.samplerate
    if rate == source:
        begin, end = first, first + count
    else:
        grid = source // math.gcd(source, rate)  # source samples that fall onto samples of the wanted rate
        begin = max(0, first * source // rate - RESAMPLING_MARGIN) // grid * grid
        end = min(file.frames, -(-(first + count) * source // rate) + RESAMPLING_MARGIN)
    try:
        file.seek(begin)
        audio = file.read(end - begin, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            f"{path}: damaged, it cannot be decoded at {begin / source:.2f} s ({_reason(error)})"
        ) from error
    if end - begin - len(audio) > SLACK_SECONDS * source:
        raise AudioError(
            f"{path}: truncated: it ends at {(begin + len(audio)) / source:.2f} s, "
            f"its header says {file.frames / source:.2f} s"
        )
    if rate != source:
        skip = first - begin * rate // source
        audio = soxr.resample(audio, source, rate, quality="HQ")[skip : skip + count]
    return audio


def _reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return text.splitlines()[0].rstrip(".") if text.strip() else "its data are damaged"
