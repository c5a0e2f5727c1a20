"""Songs as stems, drums, bass, vocals and other: taken apart by demucs, and opened from folders.

Weights are files of others: a `.th` file is unpickled, which can run any code, so open those you trust
only. Of a `.safetensors` the numbers are read, and none but demucs' own classes are made.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import soxr
import torch
from torch import Tensor, nn

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.stem_models import StemError, load_network
from difffx.dj.layout import STEM_NAMES

WHOLE = "none"  # the model that takes nothing apart
ROUNDING = 1  # samples by which stems of one length and several rates may differ once resampled


@dataclass(frozen=True)
class Separator:
    """A model that takes songs apart, made by `load_separator`.

    weights  the first 16 digits of the SHA-256 of all its weights, whatever file they came from
    """

    name: str
    network: nn.Module | None
    device: torch.device
    weights: str


def load_separator(
    name: str = "htdemucs", weights: str | Path | None = None, device: str = "auto"
) -> Separator:
    """A model of demucs, ready to work.

    name     htdemucs, htdemucs_ft, hdemucs_mmi, mdx_extra, ..., or what a folder of weights holds, one model
             or a bag; hf://NAMESPACE/NAME; none: the whole song is other, without demucs
    weights  a folder with NAME.yaml, if it is no published model, and each of its models as SIGNATURE.th,
             SIGNATURE-HASH.th or SIGNATURE.safetensors; None: the caches of Hugging Face and of torch, then
             a download
    device   auto, cpu, cuda, ...

    Raises StemError where demucs, the weights or the device is missing, damaged or foreign, and for a model
    without drums, bass and vocals: what else a model hears, guitar or piano, becomes part of other.
    """
    place = _device(device)
    if name == WHOLE:
        if weights is not None:
            raise StemError(f"weights={weights}: the model {WHOLE} has none")
        return Separator(WHOLE, None, place, WHOLE)
    network = load_network(name, None if weights is None else Path(weights))
    if not {_stem_of(source) for source in network.sources} - {"other"} or network.audio_channels > 2:
        raise StemError(
            f"{name}: takes {network.audio_channels} channels apart into {', '.join(network.sources)}; "
            "expected one or two, and drums, bass or vocals among the sources"
        )
    return Separator(name, network, place, _fingerprint(network))


def separate(
    audio: Tensor,
    sample_rate: int,
    separator: Separator,
    *,
    overlap: float = 0.25,
    shifts: int = 0,
    segment: float | None = None,
    exact: bool = False,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Tensor]:
    """The stems of a song, each as long and with as many channels as the song, at its rate.

    audio     [C, T], C 1 or 2; mono is heard as two equal channels
    overlap   of the segments that the model hears one by one, 0 to 0.95 of a segment
    shifts    the mean over so many copies shifted at random by up to 0.5 s, the same ones for every song: a
              little cleaner, so many times as long; 0: the song as it is
    segment   seconds; None: what the model was made for
    exact     what the stems together lack of the song is added to other, so that they sum to the song: the
              model's mistakes, and of a song of more than 44.1 kHz what lies above the model's hearing
    progress  called after each segment with the part that is done, 0 to 1
    returns   {stem: [C, T]} in the order of the mixer, on the CPU

    The song is brought to the model's rate and back by soxr VHQ. Raises StemError for a number out of range,
    AudioError where the answer is not finite.
    """
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or not audio.shape[1]:
        raise AudioError(f"expected audio [C, T] of one or two channels, got {tuple(audio.shape)}")
    audio = audio.detach().cpu().float()
    network = separator.network
    if network is None:
        return {"other": audio.clone()}
    _check_settings(network, overlap, shifts, segment)
    heard = _resampled(audio, sample_rate, network.samplerate)
    if len(audio) == network.audio_channels:
        mix = heard[None]
    else:  # mono is both channels of one item; of stereo, a mono model hears one channel an item
        mix = heard.expand(1, 2, -1) if len(audio) == 1 else heard[:, None]
    sources = _applied(separator, mix, overlap, shifts, segment, progress)
    stems = _gathered(sources, network, audio, sample_rate)
    if exact:
        rest = audio - sum(stems.values())
        stems["other"] = stems["other"] + rest if "other" in stems else rest
    if not all(part.isfinite().all() for part in stems.values()):
        raise AudioError(f"what {separator.name} makes of it is not finite")
    return {stem: stems[stem] for stem in STEM_NAMES if stem in stems}


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


def _stem_of(source: str) -> str:
    return source if source in STEM_NAMES else "other"


def _device(name: str) -> torch.device:
    name = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise StemError(f"device={name}: cannot be used here ({reason}); try device=cpu") from error


def _check_settings(network: nn.Module, overlap: float, shifts: int, segment: float | None) -> None:
    if not 0.0 <= overlap <= 0.95:
        raise StemError(f"overlap must be 0 to 0.95 of a segment, got {overlap:g}")
    if shifts < 0:
        raise StemError(f"shifts must be 0 or more, got {shifts}")
    longest = _longest(network)
    if segment is not None and not 1.0 <= segment <= longest:
        raise StemError(f"segment must be 1 to {longest:g} seconds for this model, got {segment:g}")


def _longest(network: nn.Module) -> float:
    """Seconds of a segment: a transformer hears no more than it was trained on."""
    from demucs.htdemucs import HTDemucs

    models = getattr(network, "models", [network])
    return min((float(model.segment) for model in models if isinstance(model, HTDemucs)), default=math.inf)


def _applied(
    separator: Separator,
    mix: Tensor,
    overlap: float,
    shifts: int,
    segment: float | None,
    progress: Callable[[float], None] | None,
) -> Tensor:
    """mix [N, C, T] at the model's rate -> sources [N, S, C, T], by demucs, on songs of mean 0 and RMS 1."""
    from demucs.apply import apply_model

    network, samples, rounds = separator.network, mix.shape[-1], max(1, shifts)
    models = getattr(network, "models", [network])

    def segment_done(place: dict) -> None:
        if progress is not None and place["state"] == "end":
            number = place["model_idx_in_bag"]
            step = (1.0 - overlap) * float(segment or models[number].segment) * network.samplerate
            within = min(1.0, (place["segment_offset"] + step) / samples)
            progress((number * rounds + place["shift_idx"] + within) / (len(models) * rounds))

    mean, level = mix.mean(), mix.mean(1).std() + 1e-8
    drawn_before = random.getstate()
    random.seed(0)  # of the shifts
    try:
        sources = apply_model(
            network,
            (mix - mean) / level,
            shifts=shifts,
            overlap=overlap,
            segment=segment,
            device=separator.device,
            callback=segment_done,
        )
    except torch.OutOfMemoryError as error:
        raise StemError(f"{separator.name}: not enough memory on {separator.device}; try cpu") from error
    finally:
        random.setstate(drawn_before)
    sources = sources.cpu().mul_(level)
    sources[:, network.sources.index("other") if "other" in network.sources else -1] += mean
    return sources


def _gathered(sources: Tensor, network: nn.Module, song: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """sources [N, S, C, T] at the model's rate -> {stem: [C, T]} of the shape and rate of the song."""
    stems: dict[str, Tensor] = {}
    for number, source in enumerate(network.sources):
        part = sources[:, number]
        part = part[0].mean(0, keepdim=True) if len(song) < part.shape[1] else part.flatten(0, 1)
        part = _fitted(_resampled(part, network.samplerate, sample_rate), song.shape[1])
        stem = _stem_of(source)
        stems[stem] = stems[stem] + part if stem in stems else part
    return stems


def _resampled(audio: Tensor, source: int, target: int) -> Tensor:
    if source == target:
        return audio
    return torch.from_numpy(soxr.resample(audio.T.numpy(), source, target, quality="VHQ")).T


def _fitted(audio: Tensor, samples: int) -> Tensor:
    missing = samples - audio.shape[1]
    return nn.functional.pad(audio, (0, missing)) if missing > 0 else audio[:, :samples]


def _fingerprint(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(repr(getattr(network, "weights", None)).encode())
    return digest.hexdigest()[:16]
