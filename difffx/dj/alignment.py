"""Two songs on one time line: one tempo, beat on beat, bar on bar, equally loud."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from difffx.dj import rhythm
from difffx.dj.analysis import Analysis
from difffx.dj.rhythm import BEATS_PER_BAR
from difffx.dj.stretching import stretch
from difffx.dj.tracks import checked_track

MAX_STRETCH = 0.25
AROUND_BARS = 16
LEAST_LIKENESS = 0.3


@dataclass(frozen=True)
class Aligned:
    """Two decks as they run side by side.

    sample_rate           Hz
    a, b                  stems of each deck, [C, T], all equally long, silent where a deck has no sound
    tempo_bpm             of both
    start_s               where the transition begins: a downbeat of both
    beats_s, downbeats_s  the common grid, over the whole time line
    begins_s              where each deck's first sample lies on the time line, (a, b)
    speeds                what each deck's playing was multiplied with, (a, b): 1.05 is five percent faster
    loudness_lufs         of each song before its gain
    gain_db               what each deck was turned down by, at most 0
    lag_ms                how much later than the grids said deck B was moved, to meet the strokes of A
    notes                 in words: what was assumed or could not be done
    """

    sample_rate: int
    a: dict[str, Tensor]
    b: dict[str, Tensor]
    tempo_bpm: float
    start_s: float
    beats_s: tuple[float, ...]
    downbeats_s: tuple[float, ...]
    begins_s: tuple[float, float]
    speeds: tuple[float, float]
    loudness_lufs: tuple[float, float]
    gain_db: tuple[float, float]
    lag_ms: float
    notes: tuple[str, ...]


def align(
    deck_a: Mapping[str, Tensor],
    analysis_a: Analysis,
    deck_b: Mapping[str, Tensor],
    analysis_b: Analysis,
    sample_rate: int,
    *,
    tempo_bpm: float | str | None = None,
    start_a_s: float | None = None,
    start_b_s: float | None = None,
    match_loudness: bool = True,
    fine: bool = True,
    max_stretch: float = MAX_STRETCH,
) -> Aligned:
    """Both decks at one tempo, B's way in on A's way out.

    deck_a, deck_b   stems by name, [C, T] or [1, C, T], some may be missing
    analysis_a, _b   of the two songs
    tempo_bpm        None or "a": A's; "b": B's; or a number. A song of half or double that tempo plays at
                     its own
    start_a_s        in A's own time, where the transition begins; None: its cue_out_s. Moved to the nearest
                     downbeat, as is
    start_b_s        in B's own time, what meets it; None: its cue_in_s
    match_loudness   the louder song is turned down
    fine             what is left of the distance between the strokes of both, up to a sixteenth, is removed
    max_stretch      a song that would have to be faster or slower by more than this share is refused

    Raises ValueError in one line for songs whose tempos are too far apart, or a start outside of a song.
    """
    names, sounds = zip(_stacked("deck_a", deck_a), _stacked("deck_b", deck_b), strict=True)
    tempo = _target(tempo_bpm, analysis_a, analysis_b)
    speed_a, note_a = _speed("A", analysis_a, tempo, max_stretch)
    speed_b, note_b = _speed("B", analysis_b, tempo, max_stretch)
    cues = (
        _start("start_a_s", analysis_a, start_a_s, analysis_a.cue_out_s) / speed_a,
        _start("start_b_s", analysis_b, start_b_s, analysis_b.cue_in_s) / speed_b,
    )
    loudness = analysis_a.loudness_lufs, analysis_b.loudness_lufs
    gains = _gains(*loudness) if match_loudness else (0.0, 0.0)
    sounds = [
        stretch(sound, sample_rate, speed) * 10.0 ** (gain / 20.0)
        for sound, speed, gain in zip(sounds, (speed_a, speed_b), gains, strict=True)
    ]
    lag_s, note = _lag(sounds, cues, tempo, sample_rate) if fine else (0.0, "")
    (a, b), begins = _on_one_line(sounds, round((cues[0] - cues[1] + lag_s) * sample_rate))
    start_s = cues[0] + begins[0] / sample_rate
    beats, downbeats = _grid(start_s, tempo, a.shape[-1] / sample_rate)
    return Aligned(
        sample_rate=sample_rate,
        a=_by_stem(names[0], a),
        b=_by_stem(names[1], b),
        tempo_bpm=tempo,
        start_s=start_s,
        beats_s=beats,
        downbeats_s=downbeats,
        begins_s=(begins[0] / sample_rate, begins[1] / sample_rate),
        speeds=(speed_a, speed_b),
        loudness_lufs=loudness,
        gain_db=gains,
        lag_ms=1000.0 * lag_s,
        notes=tuple(text for text in (note_a, note_b, note) if text),
    )


def _stacked(name: str, deck: Mapping[str, Tensor]) -> tuple[list[str], Tensor]:
    """Stem names, and all stems as channels of one signal, [S * C, T]."""
    lifted = {stem: x[None] if getattr(x, "ndim", 3) == 2 else x for stem, x in dict(deck).items()}
    stems = checked_track(name, lifted)
    if any(x.shape[0] != 1 for x in stems.values()):
        raise ValueError(
            f"{name}: expected one song, stems [C, T], got {next(iter(stems.values())).shape[0]}"
        )
    channels = max(x.shape[1] for x in stems.values())
    return list(stems), torch.cat([x[0].expand(channels, -1) for x in stems.values()])


def _by_stem(names: list[str], audio: Tensor) -> dict[str, Tensor]:
    """The inverse of `_stacked`."""
    return dict(zip(names, audio.reshape(len(names), -1, audio.shape[-1]), strict=True))


def _target(tempo_bpm: float | str | None, a: Analysis, b: Analysis) -> float:
    if tempo_bpm in (None, "a"):
        return a.tempo_bpm
    if tempo_bpm == "b":
        return b.tempo_bpm
    if isinstance(tempo_bpm, str) or not 20.0 <= tempo_bpm <= 400.0:
        raise ValueError(f"align: tempo_bpm must be 'a', 'b' or a number within 20..400, got {tempo_bpm!r}")
    return float(tempo_bpm)


def _speed(name: str, song: Analysis, tempo: float, max_stretch: float) -> tuple[float, str]:
    """How fast a song must play, and a note where its beat counts as half or two of them."""
    factor = min((1.0, 2.0, 0.5), key=lambda f: abs(math.log(tempo / (song.tempo_bpm * f))))
    speed = tempo / (song.tempo_bpm * factor)
    if abs(speed - 1.0) > max_stretch:
        raise ValueError(
            f"align: song {name} has {song.tempo_bpm:.2f} bpm: {tempo:.2f} bpm is"
            f" {100.0 * (speed - 1.0):+.0f} % from the nearest of its tempo, its half and its double; at most"
            f" {100.0 * max_stretch:.0f} % is allowed: choose a tempo between, or raise max_stretch"
        )
    speed = 1.0 if abs(speed - 1.0) < 1e-6 else speed
    word = {1.0: "", 2.0: "twice", 0.5: "half"}[factor]
    return speed, f"song {name} has {song.tempo_bpm:.2f} bpm, taken as {word} that" if word else ""


def _start(name: str, song: Analysis, wanted: float | None, usual: float) -> float:
    """The downbeat nearest to the start that is wanted."""
    start = usual if wanted is None else wanted
    if not 0.0 <= start < song.seconds:
        raise ValueError(f"align: {name} must lie within the song, 0..{song.seconds:.2f} s, got {start!r}")
    return min(song.downbeats_s, key=lambda downbeat: abs(downbeat - start))


def _gains(lufs_a: float, lufs_b: float) -> tuple[float, float]:
    """Of the louder one as much as it is louder; none where one is too soft to have a loudness."""
    if not math.isfinite(lufs_a - lufs_b):
        return 0.0, 0.0
    return min(0.0, lufs_b - lufs_a), min(0.0, lufs_a - lufs_b)


def _lag(
    sounds: list[Tensor], cues: tuple[float, float], tempo: float, sample_rate: int
) -> tuple[float, str]:
    """Seconds by which B must be later for its strokes to meet A's; 0 and a note where they are unlike."""
    beats_per_s = tempo / 60.0
    bins = 2 * round(500.0 / beats_per_s)
    a, b = (
        _strokes(sound, cue, beats_per_s, sample_rate, bins) for sound, cue in zip(sounds, cues, strict=True)
    )
    likeness = np.fft.irfft(a * np.conj(b), bins)
    lags = np.arange(-(bins // 16), bins // 16 + 1)
    best = int(lags[np.argmax(likeness[lags])])
    if likeness[best] < LEAST_LIKENESS:
        return 0.0, "the strokes of the two songs are too unlike to align them finer than their grids"
    return best / bins / beats_per_s, ""


def _strokes(sound: Tensor, cue: float, beats_per_s: float, sample_rate: int, bins: int) -> np.ndarray:
    """Spectrum of what begins, bass drum before all, in a mean beat of the bars around the cue; norm 1."""
    around = AROUND_BARS * BEATS_PER_BAR / beats_per_s
    first = max(0, round((cue - around) * sample_rate))
    part = sound[:, first : round((cue + around) * sample_rate)]
    mono = soxr.resample(part.mean(0).cpu().float().numpy(), sample_rate, rhythm.RATE, quality="HQ")
    full, low, _ = rhythm.parts(rhythm.onsets(mono))
    beat = rhythm.fold(low + 0.3 * full, beats_per_s, 1, bins)
    spectrum = np.fft.rfft((beat - beat.mean()) / (np.linalg.norm(beat - beat.mean()) + 1e-9))
    turns = (cue - first / sample_rate) * beats_per_s
    return spectrum * np.exp(2j * np.pi * turns * np.arange(len(spectrum)))


def _on_one_line(sounds: list[Tensor], place: int) -> tuple[list[Tensor], tuple[int, int]]:
    """Both padded to one length, B beginning `place` samples after A; where each begins."""
    begins = max(0, -place), max(0, place)
    length = max(begin + x.shape[-1] for begin, x in zip(begins, sounds, strict=True))
    padded = [
        torch.nn.functional.pad(x, (begin, length - begin - x.shape[-1]))
        for begin, x in zip(begins, sounds, strict=True)
    ]
    return padded, begins


def _grid(start_s: float, tempo: float, seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Beats and downbeats of the whole time line, one of them at start_s."""
    beat = 60.0 / tempo
    before = int(start_s / beat + 1e-9)
    count = max(1, math.ceil((seconds - start_s) / beat - 1e-9))
    beats = [max(0.0, start_s + n * beat) for n in range(-before, count)]
    return tuple(beats), tuple(beats[before % BEATS_PER_BAR :: BEATS_PER_BAR])
