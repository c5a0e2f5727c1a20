"""Where a DJ would come in and go out: downbeats on which eight bars begin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

PHRASE_BARS = 8
TAIL_BARS = 16
QUIET_DB, LIVELY_DB = -30.0, -12.0


def cue_points(
    bar_levels_db: np.ndarray, novelty: np.ndarray, downbeats_s: Sequence[float]
) -> tuple[float, float]:
    """(cue_in_s, cue_out_s): downbeats where a transition into this song and one out of it should begin.

    bar_levels_db  [N] loudness of each bar, the one that begins at each downbeat
    novelty        [N] how new each bar is against the one before
    downbeats_s    [N] at least one

    In: the first downbeat from which it sounds, moved on by at most four bars to where eight bars begin. Out:
    of the phrases that have 16 bars behind them, in the second half of the song, the one where most goes
    away. Of short excerpts: the first downbeat, and the one with at least a third of the bars behind it.
    """
    sounding = np.flatnonzero(bar_levels_db > np.max(bar_levels_db) + QUIET_DB)
    first, last = int(sounding[0]), int(sounding[-1])
    bars = last + 1 - first
    if bars < PHRASE_BARS + TAIL_BARS:
        return downbeats_s[first], downbeats_s[first + _short_cue(bars)]
    phase = _phrase_phase(novelty[first : last + 1])
    phrases = np.arange(first + phase, last + 1, PHRASE_BARS)
    into = int(phrases[0]) if phase <= PHRASE_BARS // 2 else first
    choices = [bar for bar in phrases if first + bars // 2 <= bar <= last + 1 - TAIL_BARS]
    choices = choices or [max(bar for bar in phrases if bar <= last + 1 - TAIL_BARS)]
    drops = [_drop(bar_levels_db, bar, last) for bar in choices]
    best = max(range(len(choices)), key=lambda i: (drops[i] if max(drops) > 3.0 else 0.0, choices[i]))
    return downbeats_s[into], downbeats_s[int(choices[best])]


def _short_cue(bars: int) -> int:
    """Bars from the first to the way out of an excerpt: half of it, in whole fours where that is possible."""
    half = bars // 2
    return half // 4 * 4 if half >= 4 else half


def _phrase_phase(novelty: np.ndarray) -> int:
    """At which of the first eight bars a phrase begins; an even number where nothing else speaks."""
    novelty = np.append(0.0, novelty[1:])  # the first bar is new in any case
    scores = [novelty[phase::PHRASE_BARS].mean() for phase in range(PHRASE_BARS)]
    prior = [0.25 * float(np.std(novelty)) * (phase == 0) for phase in range(PHRASE_BARS)]
    return int(np.argmax(np.add(scores, prior)))


def _drop(levels_db: np.ndarray, bar: int, last: int) -> float:
    """How much quieter the eight bars from here are than the eight before, in dB."""
    before, after = (
        levels_db[max(bar - PHRASE_BARS, 0) : bar],
        levels_db[bar : min(bar + PHRASE_BARS, last + 1)],
    )
    return float(np.mean(before) - np.mean(after)) if len(before) and len(after) else 0.0
