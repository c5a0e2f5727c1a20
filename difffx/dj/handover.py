"""From the first note of one song to the last of another: curves played over two decks in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from difffx.dj.config import MixerConfig
from difffx.dj.layout import (
    DECK_NAMES,
    GLOBAL_PARAM_NAMES,
    STEM_NAMES,
    STEM_PARAM_NAMES,
    get_default_params,
    index_of,
)
from difffx.dj.meeting import Meeting, cut, length, together
from difffx.dj.mixer import DJMixer
from difffx.dj.tracks import Track
from difffx.dj.transitions import BEATS_PER_BAR, transition
from difffx.processors import Limiter

FRAMES_PER_BEAT = 16
QUIET_DB = 100.0  # how far a tail is followed

Curves = Callable[[Meeting, int], Tensor]
"""What draws a transition: a meeting and how many frames -> [frames, 54], from A alone to B alone."""


def by_rule(name: str, **options: object) -> Curves:
    """A rule of `difffx.dj.TRANSITIONS`; raises ValueError for options it does not have or cannot take."""
    try:
        transition(name, 2, 1.0, **options)
    except TypeError as error:
        values = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise ValueError(f"transition {name}: cannot take {values} ({error})") from None
    return lambda meeting, frames: transition(name, frames, float(meeting.bars), **options)


def eased(curves: Curves, beats: float = 1.0) -> Curves:
    """The same, led from A alone within the first beats and to B alone within the last: what a network draws
    comes near to both without reaching them."""

    def led(meeting: Meeting, frames: int) -> Tensor:
        drawn = curves(meeting, frames).detach().float().cpu()
        ends = pinned(drawn)[[0, -1]]
        share = beats / (meeting.bars * BEATS_PER_BAR)
        place = torch.linspace(0.0, 1.0, frames)[:, None]
        for end, away in zip(ends, (place, 1.0 - place), strict=True):
            drawn = torch.lerp(end.expand_as(drawn), drawn, (away / share).clamp(max=1.0))
        return drawn

    return led


@dataclass(frozen=True)
class HandOver:
    """A rendered hand-over.

    meeting         what was played
    mix             [2, T]   from the first sample of A to the last of B
    curves, times_s [F, 54], [F]   of the transition; s of the mix
    start           the sample at which the mixer's work begins; before it there is nothing but A
    deck_a, deck_b  [2, W]   what comes out of each deck from there on until nothing is left but B
    """

    meeting: Meeting
    mix: Tensor
    curves: Tensor
    times_s: Tensor
    start: int
    deck_a: Tensor
    deck_b: Tensor

    def heard(self, deck: str, first: int, last: int) -> Tensor:
        """What comes out of a deck, "a" or "b", from one sample of the mix to another, [2, last - first]."""
        worked = self.deck_a if deck == "a" else self.deck_b
        stop = self.start + worked.shape[-1]
        alone = (first, min(self.start, last)) if deck == "a" else (max(stop, first), last)
        sound = cut(worked, first - self.start, last - self.start)
        if alone[0] < alone[1]:
            song = together(self.meeting.part(deck, *alone))
            sound[:, alone[0] - first : alone[1] - first] = song
        return sound


@torch.no_grad()
def hand_over(
    meeting: Meeting,
    curves: Curves,
    frames_per_beat: int = FRAMES_PER_BEAT,
    config: MixerConfig | None = None,
) -> HandOver:
    """The whole mix: A as it is, the transition, what rings on over B, B as it is until it ends.

    Only the transition and its tails go through the mixer, which changes nothing before and after: the first
    point of the curves is held to A alone, the last to B alone. Sends close there, and ring until they are
    100 dB down; the feedback of the last point stays.
    """
    config = config or mixer_config(meeting)
    drawn = pinned(curves(meeting, meeting.frames(frames_per_beat)))
    step = (meeting.last - meeting.first) / (len(drawn) - 1)
    margin = config.n_fft + 2 * step
    before = int(min(margin, meeting.first) / step)
    after = math.ceil(max(margin, tail_samples(drawn, config)) / step)
    points = torch.cat([drawn[:1].expand(before, -1), drawn, drawn[-1:].expand(after, -1)])
    start, stop = round(meeting.first - before * step), round(meeting.last + after * step)
    mixer = DJMixer(config)
    sounds = [_played(mixer, meeting.part(deck, start, stop), points, deck) for deck in DECK_NAMES]
    deck_a, deck_b = (sound[:, : meeting.samples - start] for sound in sounds)
    left = cut(meeting.song("a"), 0, start)
    right = cut(meeting.song("b"), stop - meeting.offset, length(meeting.deck_b))
    mix = torch.cat([left, deck_a + deck_b, right], 1)
    return HandOver(meeting, mix, drawn, meeting.times_s(len(drawn)), start, deck_a, deck_b)


STEMS_APART = {"drum_swap": "drums", "vocal_safe": "vocals"}
"""Rules that move one stem against the others, and which."""


def not_heard(name: str | None, meeting: Meeting) -> str | None:
    """In words, what of a rule cannot be heard since a deck does not have that stem by itself; or None."""
    stem = STEMS_APART.get(name)
    decks = zip("AB", (meeting.deck_a, meeting.deck_b), strict=True)
    without = [deck for deck, stems in decks if stem is not None and stem not in stems]
    if not without:
        return None
    return (
        f"{name} moves the {stem} by themselves, but {' and '.join(without)} came without a stem of {stem}: "
        "what is there crossfades as a whole; scripts/separate_stems.py makes stems of a song"
    )


def limited(handed: HandOver, ceiling_db: float = -1.0) -> HandOver:
    """The same with a limiter over the mix, true peaks included; what comes out of the decks stays."""
    limiter = Limiter(handed.meeting.sample_rate, true_peak=True)
    with torch.no_grad():
        return replace(handed, mix=limiter(handed.mix[None], ceiling_db=ceiling_db)[0])


def trimmed(handed: HandOver, lead_s: float) -> HandOver:
    """The same with no more than some seconds of A before the transition and of B after it."""
    meeting = handed.meeting
    lead = round(lead_s * meeting.sample_rate)
    away = max(meeting.first - lead, 0)
    stop = min(meeting.last + lead, meeting.samples)
    return replace(
        handed,
        meeting=replace(
            meeting,
            deck_a={stem: x[:, away:] for stem, x in meeting.deck_a.items()},
            deck_b={stem: x[:, : stop - meeting.offset] for stem, x in meeting.deck_b.items()},
            first=meeting.first - away,
            last=meeting.last - away,
            offset=meeting.offset - away,
        ),
        mix=handed.mix[:, away:stop],
        times_s=handed.times_s - away / meeting.sample_rate,
        start=handed.start - away,
    )


def mixer_config(meeting: Meeting, **options: object) -> MixerConfig:
    """A mixer at the rate and in time with the tempo of a meeting; options are fields of `MixerConfig`."""
    config = MixerConfig(meeting.sample_rate, **options)
    longest_ms = 60_000.0 * config.beats / meeting.tempo_bpm
    return replace(config, tempo_bpm=meeting.tempo_bpm, delay_max_ms=max(config.delay_max_ms, longest_ms))


def pinned(curves: Tensor) -> Tensor:
    """Curves [F, 54] that begin with A alone and end with B alone, whatever was drawn there.

    The deck that is heard is neutral, the other's faders are down, the rest of it stays as drawn; sends are
    shut. The echo's feedback keeps its value, so that what was thrown into it rings on.
    """
    curves = curves.detach().float().cpu().clone()
    neutral = get_default_params(1)[0, 0]
    for row, heard, silent in ((0, "a", "b"), (-1, "b", "a")):
        for stem in STEM_NAMES:
            for name in STEM_PARAM_NAMES:
                curves[row, index_of(heard, stem, name)] = neutral[index_of("a", stem, name)]
            curves[row, index_of(silent, stem, "gain")] = 0.0
        for deck in DECK_NAMES:
            for name in ("reverb_send", "delay_send"):
                curves[row, index_of(deck, "sends", name)] = 0.0
    return curves


def tail_samples(curves: Tensor, config: MixerConfig) -> float:
    """How long halls and echoes ring after the last point of curves [F, 54] before they are 100 dB down."""
    sends = {
        name: torch.stack([curves[:, index_of(deck, "sends", name)] for deck in DECK_NAMES])
        for name in GLOBAL_PARAM_NAMES
    }
    seconds = 0.0
    if sends["reverb_send"].any():
        seconds = 1.2 * config.reverb_decay_time + 0.001 * config.reverb_pre_delay_ms
    if sends["delay_send"].any():
        kept = config.delay_max_feedback * sends["delay_feedback"][:, -1].max().item()
        echoes = 1 if kept <= 0.0 else 1 + math.ceil(QUIET_DB / (-20.0 * math.log10(kept)))
        seconds = max(seconds, 0.001 * echoes * config.echo_ms())
    return seconds * config.sample_rate


def _played(mixer: DJMixer, stems: Track, points: Tensor, deck: str) -> Tensor:
    """One deck through the mixer, the other empty: [2, T]."""
    stems = {stem: x[None] for stem, x in stems.items()}
    empty = {"other": torch.zeros_like(next(iter(stems.values()))[:, :1])}
    decks = (stems, empty) if deck == "a" else (empty, stems)
    return mixer(*decks, points)[0][0]
