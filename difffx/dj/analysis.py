"""What a DJ must know of a song: tempo, beats, key, loudness, and where to come in and go out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from difffx.dj import rhythm, tonality
from difffx.dj.loudness import integrated_lufs
from difffx.dj.structure import cue_points

RATE = 22_050
SHORTEST_S = 4.0


@dataclass(frozen=True)
class Analysis:
    """A song in numbers.

    seconds        its length
    tempo_bpm      one tempo for the whole song
    beats_s        when each beat is, from the first to the last in the song
    downbeats_s    when each bar begins; four beats a bar are assumed
    key            such as "A minor" or "F# major"
    loudness_lufs  of the whole, ITU-R BS.1770
    cue_in_s       a downbeat: where a transition into the song should begin
    cue_out_s      a downbeat: where a transition out of the song should begin
    confidence     0..1: how much of what begins, begins on sixteenths of this grid; below 0.15 distrust it
    """

    seconds: float
    tempo_bpm: float
    beats_s: tuple[float, ...]
    downbeats_s: tuple[float, ...]
    key: str
    loudness_lufs: float
    cue_in_s: float
    cue_out_s: float
    confidence: float = 1.0


def analyze(
    audio: Tensor,
    sample_rate: int,
    stems: Mapping[str, Tensor] | None = None,
    *,
    tempo_bpm: float | None = None,
    downbeat_s: float | None = None,
) -> Analysis:
    """Tempo, beats, bars, key, loudness and cue points of a song.

    audio         [C, T], any rate, at least 4 s
    stems         {"drums": [C, T], ...} of the same song, or None; drums and bass then tell the beat, the
                  other stems the key
    tempo_bpm     where it is known, or found wrong; None: found
    downbeat_s    any downbeat, where it is known; None: found

    Assumes one tempo from the first beat to the last and four beats a bar, as in dance music: the grid is
    straight. Where a song drifts or has another meter, the grid fits on the whole only; `confidence` is low
    where it fits nowhere.

    On 160 synthetic bands of 60 s, 62 to 180 bpm, on which its weights were chosen: 86 % have the right tempo
    (92 % of those from 70 bpm up), 99 % the right, half or double one, to 0.02 %; the beats of 158 are within
    5 ms; of 138 with four beats a bar, 85 % have their downbeats within 20 ms, the others a beat or two off.
    `scripts/score_analysis.py` measures again. Raises ValueError in one line for silence, NaN or what is too
    short.
    """
    _check(audio, sample_rate, tempo_bpm, downbeat_s)
    mono = _mono(audio, sample_rate)
    stems = {} if stems is None else {name: _mono(x, sample_rate) for name, x in stems.items()}
    beat_sound = sum((stems[name] for name in ("drums", "bass") if name in stems), np.float32(0.0))
    key_sound = sum((stems[name] for name in ("bass", "vocals", "other") if name in stems), np.float32(0.0))
    pitch_classes = tonality.chroma(key_sound if _audible(key_sound, mono) else mono)
    curves = rhythm.onsets(beat_sound if _audible(beat_sound, mono) else mono)
    grid = rhythm.find_grid(curves, pitch_classes, tempo_bpm, downbeat_s)
    seconds = audio.shape[-1] / sample_rate
    beats, downbeats = grid.times(seconds)
    levels, novelty = _bars(mono, pitch_classes, downbeats, 4.0 * grid.beat_s)
    cue_in_s, cue_out_s = cue_points(levels, novelty, downbeats)
    return Analysis(
        seconds,
        grid.tempo_bpm,
        beats,
        downbeats,
        tonality.find_key(pitch_classes)[0],
        integrated_lufs(audio, sample_rate),
        cue_in_s,
        cue_out_s,
        grid.confidence,
    )


def _check(audio: Tensor, sample_rate: int, tempo_bpm: float | None, downbeat_s: float | None) -> None:
    if not isinstance(audio, Tensor) or audio.ndim != 2 or not audio.is_floating_point():
        shape = (
            f"{tuple(audio.shape)} of {audio.dtype}" if isinstance(audio, Tensor) else type(audio).__name__
        )
        raise ValueError(f"analyze: expected audio [C, T] of floats, got {shape}")
    seconds = audio.shape[1] / sample_rate
    if seconds < SHORTEST_S:
        raise ValueError(f"analyze: the audio lasts {seconds:.2f} s, at least {SHORTEST_S:g} s are needed")
    if not torch.isfinite(audio).all():
        raise ValueError("analyze: the audio has samples that are NaN or infinite")
    if not audio.abs().max() > 1e-5:
        raise ValueError("analyze: the audio is silent")
    if tempo_bpm is not None and not 20.0 <= tempo_bpm <= 400.0:
        raise ValueError(f"analyze: tempo_bpm must lie within 20..400, got {tempo_bpm!r}")
    if tempo_bpm is not None and seconds < 240.0 / tempo_bpm:
        raise ValueError(f"analyze: {seconds:.2f} s are less than a bar at {tempo_bpm:g} bpm")
    if downbeat_s is not None and not math.isfinite(downbeat_s):
        raise ValueError(f"analyze: downbeat_s must be a time in seconds, got {downbeat_s!r}")


def _mono(audio: Tensor, sample_rate: int) -> np.ndarray:
    """[C, T] -> [T] at RATE; where the channels cancel, the first one."""
    audio = audio.detach().cpu().float()
    mono = audio.mean(0)
    mono = mono if mono.square().mean() > 1e-4 * audio.square().mean() else audio[0]
    return soxr.resample(mono.numpy(), sample_rate, RATE, quality="HQ")


def _audible(part: np.ndarray | np.float32, whole: np.ndarray) -> bool:
    """Whether these stems are there and not 40 dB below the song."""
    return bool(np.mean(np.square(part)) > 1e-4 * np.mean(np.square(whole)))


def _bars(
    mono: np.ndarray, pitch_classes: np.ndarray, downbeats: tuple[float, ...], bar_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Level in dB of each bar, and how new it is against the one before, in harmony and level."""
    levels, harmonies = [], []
    for start in downbeats:
        part = mono[int(start * RATE) : int((start + bar_s) * RATE)]
        levels.append(10.0 * np.log10(np.mean(np.square(part)) + 1e-12) if len(part) else -120.0)
        first, last = (int(t * tonality.FRAMES_PER_S) for t in (start, start + bar_s))
        mean = pitch_classes[:, first : last + 1].mean(1)
        harmonies.append(mean / (np.linalg.norm(mean) + 1e-9))
    levels, harmonies = np.array(levels), np.array(harmonies)
    turned = np.linalg.norm(np.diff(harmonies, axis=0, prepend=harmonies[:1]), axis=1)
    return levels, turned + np.abs(np.diff(levels, prepend=levels[:1])) / 6.0
