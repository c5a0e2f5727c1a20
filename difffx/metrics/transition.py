"""What a DJ listens for where two songs meet: basses and voices at once, loudness, peaks, seams."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.dj.handover import HandOver, hand_over
from difffx.dj.loudness import loudness_curve
from difffx.dj.meeting import together
from difffx.functional.cascade import sosfilt
from difffx.functional.filters import butterworth_low_pass
from difffx.functional.limiting import interpolated_peak

LOW_HZ = 180.0
NEAR_DB = 6.0
FULL_SHARE = 0.9  # the level of the windows of which nine in ten are quieter
SHORT_TERM_S, MOMENTARY_S = 3.0, 0.4
SILENT_DB = -70.0
PEAK_BLOCK, PEAK_REACH = 2**20, 24


@torch.no_grad()
def clash(
    decks: tuple[Tensor, Tensor],
    songs: tuple[Tensor, Tensor],
    sample_rate: int,
    window_s: float = MOMENTARY_S,
    below_hz: float | None = LOW_HZ,
) -> float:
    """Share of the time, 0..1, in which both decks are there at full level: two basses, or two voices.

    decks      [C, T] each  what comes out of deck A and out of deck B during the transition
    songs      [C, T] each  the songs as they are, of any length
    window_s   as long as a beat: else kicks count and the gaps between them do not
    below_hz   the part that is listened to; None: all of it

    A deck is at full level within 6 dB of its song's, which nine windows in ten of the song do not exceed.
    What is silent never clashes. After "time both lows within 6 dB of full" of the field's low-end clash.
    """
    near = []
    for deck, song in zip(decks, songs, strict=True):
        full, now = (_levels(x, sample_rate, window_s, below_hz) for x in (song, deck))
        top = torch.quantile(full, FULL_SHARE).item()
        near.append((now > top - NEAR_DB) & (top > SILENT_DB))
    return (near[0] & near[1]).double().mean().item()


def _levels(x: Tensor, sample_rate: int, window_s: float, below_hz: float | None) -> Tensor:
    """Power of overlapping windows, channels added, in dB: [C, T] -> [N]."""
    if below_hz is not None:
        x = sosfilt(x[None], butterworth_low_pass(torch.tensor([below_hz]), 4, sample_rate))[0]
    window = min(round(window_s * sample_rate), x.shape[-1])
    total = pad(x.double().square().sum(0).cumsum(0), (1, 0))
    first = torch.arange(0, x.shape[-1] - window + 1, max(1, window // 4))
    return 10.0 * torch.log10(((total[first + window] - total[first]) / window).clamp(min=1e-12))


@torch.no_grad()
def true_peak_db(audio: Tensor) -> float:
    """The largest value that a converter makes of [C, T], dBTP: interpolated 8 times, BS.1770-4 annex 2."""
    highest = 0.0
    for first in range(0, audio.shape[-1], PEAK_BLOCK):
        before = min(first, PEAK_REACH)
        part = audio[None, :, first - before : first + PEAK_BLOCK + PEAK_REACH]
        peaks = interpolated_peak(part)[..., before : before + PEAK_BLOCK]
        highest = max(highest, peaks.max().item())
    return 20.0 * math.log10(max(highest, 1e-9))


def loudness_range(audio: Tensor, sample_rate: int) -> float | None:
    """How far the short-term loudness of [C, T] moves, highest less lowest, LU; None for less than 3 s.

    EBU Tech 3341, windows of 3 s; what is below -70 LUFS counts as -70. Not the percentiles of Tech 3342.
    """
    if audio.shape[-1] < SHORT_TERM_S * sample_rate:
        return None
    lufs = loudness_curve(audio, sample_rate, SHORT_TERM_S)[1].clamp(min=SILENT_DB)
    return (lufs.max() - lufs.min()).item()


def level_step_db(mix: Tensor, song: Tensor, sample_rate: int) -> float:
    """How much the mix differs in level from the song alone, both [C, T], just beyond a seam; dB.

    The first or last 0.4 s, momentary loudness: 0 where nothing is heard but the song, as before the seam.
    """
    seconds = mix.shape[-1] / sample_rate
    levels = [loudness_curve(x, sample_rate, seconds)[1][0].clamp(min=SILENT_DB) for x in (mix, song)]
    return (levels[0] - levels[1]).item()


@torch.no_grad()
def transition_measures(handed: HandOver) -> dict[str, float | None]:
    """What a rendered hand-over is judged by; None where a song is too short or has no stem of vocals.

    low_end_clash           share of the transition in which both basses, below 180 Hz, are at full level
    vocal_clash             the same of both voices, where both decks have a stem of them
    loudness_range_lu       of the windows of 3 s whose middles lie in the transition
    loudness_range_a_lu     of as much of A before it
    loudness_range_b_lu     of as much of B after it
    step_in_db, step_out_db how much louder its first 0.4 s are than A alone, its last than B alone
    true_peak_dbtp          of the whole mix
    """
    meeting, rate, mix = handed.meeting, handed.meeting.sample_rate, handed.mix
    first, last = meeting.first, meeting.last
    length = last - first
    beat_s = 60.0 / meeting.tempo_bpm
    decks = tuple(handed.heard(deck, first, last) for deck in "ab")
    near = round(MOMENTARY_S * rate)
    alone = [
        together(meeting.part(*place)) for place in (("a", first, first + near), ("b", last - near, last))
    ]
    reach = round(0.5 * SHORT_TERM_S * rate)
    return {
        "low_end_clash": clash(decks, tuple(meeting.song(deck) for deck in "ab"), rate, beat_s),
        "vocal_clash": _vocal_clash(handed, beat_s),
        "loudness_range_lu": loudness_range(mix[:, max(first - reach, 0) : last + reach], rate),
        "loudness_range_a_lu": loudness_range(mix[:, max(first - length, 0) : first], rate),
        "loudness_range_b_lu": loudness_range(mix[:, last : last + length], rate),
        "step_in_db": level_step_db(mix[:, first : first + near], alone[0], rate),
        "step_out_db": level_step_db(mix[:, last - near : last], alone[1], rate),
        "true_peak_dbtp": true_peak_db(mix),
    }


def _vocal_clash(handed: HandOver, window_s: float) -> float | None:
    meeting = handed.meeting
    voices = [{"vocals": stems.get("vocals")} for stems in (meeting.deck_a, meeting.deck_b)]
    if any(voice["vocals"] is None for voice in voices):
        return None
    sung = replace(meeting, deck_a=voices[0], deck_b=voices[1])
    alone = hand_over(sung, lambda *_: handed.curves)
    return clash(
        tuple(alone.heard(deck, meeting.first, meeting.last) for deck in "ab"),
        tuple(sung.song(deck) for deck in "ab"),
        meeting.sample_rate,
        window_s,
        below_hz=None,
    )
