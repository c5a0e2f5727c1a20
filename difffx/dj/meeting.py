"""Two songs in time with each other, and the bars in which one hands over to the other."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.dj.alignment import MAX_STRETCH, Aligned, align
from difffx.dj.analysis import Analysis
from difffx.dj.tracks import Track
from difffx.dj.transitions import BEATS_PER_BAR

SLACK_BARS = 0.02  # by which a song may be short of its last bar: silence then


@dataclass(frozen=True)
class Song:
    """What lies on a deck: a name, stems {stem: [C, T]} as they were opened, what is known of them."""

    name: str
    stems: Track
    analysis: Analysis


@dataclass(frozen=True)
class Meeting:
    """Two songs on one time line, that of deck A, and where one hands over to the other.

    deck_a, deck_b   stems {stem: [C, T]} at the rate, tempo and level they are played at
    sample_rate      Hz
    first, last      samples between which the transition lies, both on downbeats
    offset           the sample on which B's first lies; below 0 where B's beginning is not heard
    bars, tempo_bpm  of the transition
    """

    deck_a: Track
    deck_b: Track
    sample_rate: int
    first: int
    last: int
    offset: int
    bars: int
    tempo_bpm: float

    @property
    def samples(self) -> int:
        """Of the whole mix: until B ends."""
        return self.offset + length(self.deck_b)

    @property
    def seconds(self) -> float:
        """Of the transition."""
        return (self.last - self.first) / self.sample_rate

    def frames(self, per_beat: int) -> int:
        """Points of curves, one on the last beat too."""
        return self.bars * BEATS_PER_BAR * per_beat + 1

    def times_s(self, frames: int) -> Tensor:
        """Where they lie in the mix, [frames], float64."""
        return torch.linspace(self.first, self.last, frames, dtype=torch.float64) / self.sample_rate

    def part(self, deck: str, start: int, stop: int) -> dict[str, Tensor]:
        """What plays on a deck, "a" or "b", from one sample of the mix to another; silence around it."""
        stems, shift = (self.deck_a, 0) if deck == "a" else (self.deck_b, self.offset)
        return {stem: cut(x, start - shift, stop - shift) for stem, x in stems.items()}

    def song(self, deck: str) -> Tensor:
        """All of a deck's stems together, from its first sample to its last, [2, T]."""
        return together(self.deck_a if deck == "a" else self.deck_b)


def meet(
    song_a: Song,
    song_b: Song,
    sample_rate: int,
    bars: int,
    *,
    tempo_bpm: float | str | None = None,
    start_a_s: float | None = None,
    start_b_s: float | None = None,
    stretching: bool = True,
    match_loudness: bool = True,
    max_stretch: float = MAX_STRETCH,
) -> tuple[Meeting, Aligned, list[str]]:
    """Two songs brought together for a transition of some bars; how `align` did it; notes in words.

    bars         whole; as many as fit before A or B ends
    tempo_bpm, start_a_s, start_b_s, match_loudness, max_stretch   as for `align`
    start_a_s    None: A's cue, or earlier in its second half where else it ended within the transition
    stretching   False: every song keeps its own tempo, and the beats drift apart; bars are A's

    Raises ValueError in one line where not one bar fits.
    """
    if bars < 1 or bars != int(bars):
        raise ValueError(f"a transition takes 1 bar or more, in whole bars, got {bars:g}")
    analysis_a, analysis_b = song_a.analysis, song_b.analysis
    notes = []
    if not stretching and abs(analysis_b.tempo_bpm - analysis_a.tempo_bpm) > 0.01:
        tempos = f"{analysis_a.tempo_bpm:.2f} and {analysis_b.tempo_bpm:.2f} bpm"
        notes.append(f"every song keeps its tempo, {tempos}: their beats drift apart")
    aligned = align(
        song_a.stems,
        analysis_a,
        song_b.stems,
        analysis_b if stretching else replace(analysis_b, tempo_bpm=analysis_a.tempo_bpm),
        sample_rate,
        tempo_bpm=tempo_bpm if stretching else None,
        start_a_s=way_out_s(analysis_a, bars) if start_a_s is None else start_a_s,
        start_b_s=start_b_s,
        match_loudness=match_loudness,
        fine=stretching,
        max_stretch=max_stretch,
    )
    meeting, shortened = _on_deck_a(aligned, analysis_a, analysis_b, int(bars))
    return meeting, aligned, [*notes, *aligned.notes, *shortened]


def way_out_s(analysis: Analysis, bars: int) -> float:
    """Where in a song to begin a transition out of it: its cue, or the last downbeat with all bars left."""
    latest_s = analysis.seconds - bars * 60.0 * BEATS_PER_BAR / analysis.tempo_bpm
    earlier = [downbeat for downbeat in analysis.downbeats_s if downbeat <= latest_s]
    if analysis.cue_out_s <= latest_s or not earlier or earlier[-1] < 0.5 * analysis.seconds:
        return analysis.cue_out_s
    return earlier[-1]


def _on_deck_a(
    aligned: Aligned, analysis_a: Analysis, analysis_b: Analysis, bars: int
) -> tuple[Meeting, list[str]]:
    """The time line from A's first sample on, each deck as long as it plays and stereo; the bars that fit."""
    rate = aligned.sample_rate
    begins = [round(begin_s * rate) for begin_s in aligned.begins_s]
    ends = [
        begin + round(analysis.seconds / speed * rate)
        for begin, analysis, speed in zip(begins, (analysis_a, analysis_b), aligned.speeds, strict=True)
    ]
    bar = 60.0 * BEATS_PER_BAR / aligned.tempo_bpm * rate
    start = aligned.start_s * rate
    left = [int((end - start) / bar + SLACK_BARS) for end in ends]
    fitting, notes = min(bars, *left), []
    if fitting < 1:
        short = "A" if left[0] < 1 else "B"
        raise ValueError(
            f"song {short} ends less than a bar ({bar / rate:.2f} s) after the transition begins: "
            f"begin earlier with --start-{short.lower()}, or take a longer song"
        )
    if fitting < bars:
        short = " and ".join(name for name, count in zip("AB", left, strict=True) if count == fitting)
        notes.append(f"{bars} bars do not fit before {short} ends: the transition takes {fitting}")
    decks = [
        {stem: x[:, begin:end].expand(2, -1) for stem, x in stems.items()}
        for stems, begin, end in zip((aligned.a, aligned.b), begins, ends, strict=True)
    ]
    first, last = (round(start + count * bar) - begins[0] for count in (0, fitting))
    offset = begins[1] - begins[0]
    return Meeting(*decks, rate, first, last, offset, fitting, aligned.tempo_bpm), notes


def together(stems: Track) -> Tensor:
    """Stems {stem: [C, T]} as one stereo sound, [2, T]."""
    return functools.reduce(torch.add, stems.values()).expand(2, -1)


def cut(x: Tensor, start: int, stop: int) -> Tensor:
    """[C, T] from one sample to another, which may lie outside: silence there. A copy."""
    total = x.shape[-1]
    inside = x[:, min(max(start, 0), total) : min(max(stop, 0), total)]
    lead = min(max(-start, 0), max(stop - start, 0))
    return pad(inside, (lead, max(stop - start, 0) - lead - inside.shape[-1]))


def length(stems: Track) -> int:
    """Samples of a deck."""
    return next(iter(stems.values())).shape[-1]
