from dataclasses import replace

import pytest
import torch

from difffx.dj.analysis import Analysis
from difffx.dj.meeting import Song, cut, meet, together, way_out_s

RATE = 11_025


def song(tempo_bpm=120.0, bars=8, first_s=0.0, cue_bar=4, stems=("drums", "other"), name="song"):
    """Kicks of 5 ms on every beat from first_s on, the first of each bar louder."""
    beat_s = 60.0 / tempo_bpm
    seconds = first_s + bars * 4 * beat_s
    beats_s = [first_s + n * beat_s for n in range(bars * 4)]
    audio = torch.zeros(2, round(seconds * RATE))
    for number, time_s in enumerate(beats_s):
        at = round(time_s * RATE)
        audio[:, at : at + 55] += 0.8 if number % 4 == 0 else 0.5
    downbeats = tuple(beats_s[::4])
    analysis = Analysis(
        seconds,
        tempo_bpm,
        tuple(beats_s),
        downbeats,
        "A minor",
        -12.0,
        downbeats[0],
        downbeats[min(cue_bar, bars - 1)],
    )
    silence = torch.zeros_like(audio)
    return Song(name, {stem: audio if stem == "drums" else silence for stem in stems}, analysis)


def kicks(x):
    """The samples where kicks begin."""
    return ((x[0, 1:] > 0.3) & (x[0, :-1] <= 0.3)).nonzero().flatten() + 1


def test_the_transition_begins_at_the_cue_of_a_with_the_cue_of_b():
    meeting, aligned, notes = meet(song(bars=8), song(bars=10, first_s=0.4), RATE, 4)
    assert not notes and aligned.speeds == (1.0, 1.0)
    assert meeting.first == round(8.0 * RATE) and meeting.last == round(16.0 * RATE) and meeting.bars == 4
    assert meeting.offset == pytest.approx((8.0 - 0.4) * RATE, abs=2)
    assert meeting.samples == meeting.offset + round(20.4 * RATE)


@pytest.mark.parametrize("first_s", [0.0, 0.37])
@pytest.mark.parametrize("start_b_s", [None, 12.3])
def test_kicks_of_both_decks_coincide_within_five_milliseconds(first_s, start_b_s):
    a, b = song(bars=8), song(tempo_bpm=126.0, bars=14, first_s=first_s)
    meeting, aligned, _ = meet(a, b, RATE, 4, start_b_s=start_b_s)
    assert aligned.speeds[1] == pytest.approx(120.0 / 126.0)
    found = [kicks(together(meeting.part(deck, meeting.first - 50, meeting.last))) for deck in "ab"]
    assert len(found[0]) == 16
    for at in found[0]:
        assert (found[1] - at).abs().min() <= 0.005 * RATE


def test_a_beginning_of_b_before_the_first_of_a_is_not_played():
    meeting, _, _ = meet(song(bars=8), song(bars=16), RATE, 4, start_b_s=12.0)
    assert meeting.offset == pytest.approx(-4.0 * RATE, abs=2)
    assert meeting.samples == pytest.approx(28.0 * RATE, abs=2)


@pytest.mark.parametrize(
    ("bars_a", "bars_b", "fits", "says"), [(8, 20, 4, "before A ends"), (32, 3, 3, "before B ends")]
)
def test_a_transition_is_shortened_to_the_bars_that_fit(bars_a, bars_b, fits, says):
    meeting, _, notes = meet(song(bars=bars_a), song(bars=bars_b), RATE, 6)
    assert meeting.bars == fits and says in notes[0] and f"takes {fits}" in notes[0]


@pytest.mark.parametrize(
    ("start", "says"), [({"start_a_s": 14.8}, "song A"), ({"start_b_s": 15.9}, "song B")]
)
def test_less_than_a_bar_is_refused(start, says):
    short = song(bars=7)
    stub = Song("stub", short.stems, Analysis(**{**vars(short.analysis), "seconds": 13.5}))
    decks = (stub, song()) if "start_a_s" in start else (song(), stub)
    start = dict.fromkeys(start, 13.0)
    with pytest.raises(ValueError, match=f"{says} ends less than a bar"):
        meet(*decks, RATE, 4, **start)


@pytest.mark.parametrize("bars", [0, 2.5])
def test_bars_are_whole(bars):
    with pytest.raises(ValueError, match="whole bars"):
        meet(song(), song(), RATE, bars)


@pytest.mark.parametrize(("bars", "begins"), [(4, 12), (6, 10), (8, 8), (9, 12)])
def test_a_long_transition_begins_before_the_cue_but_not_in_the_first_half(bars, begins):
    analysis = song(bars=16, cue_bar=12).analysis
    assert way_out_s(analysis, bars) == analysis.downbeats_s[begins]


def test_without_stretching_both_keep_their_tempo():
    a, b = song(), song(tempo_bpm=126.0)
    meeting, aligned, notes = meet(a, b, RATE, 2, stretching=False)
    assert aligned.speeds == (1.0, 1.0) and "drift apart" in notes[0]
    assert torch.equal(meeting.song("b"), together(b.stems)) and meeting.tempo_bpm == 120.0


def test_the_louder_song_is_turned_down():
    loud = song()
    quiet = Song("quiet", loud.stems, replace(loud.analysis, loudness_lufs=-18.0))
    meeting, aligned, _ = meet(loud, quiet, RATE, 2)
    assert aligned.gain_db == (-6.0, 0.0)
    assert torch.allclose(meeting.song("a"), together(loud.stems) * 10**-0.3)
    assert torch.equal(meet(loud, quiet, RATE, 2, match_loudness=False)[0].song("a"), together(loud.stems))


def test_mono_and_stereo_stems_meet():
    x = torch.ones(1, 4), torch.tensor([[1.0] * 4, [2.0] * 4])
    assert together({"bass": x[0], "other": x[1]}).tolist() == [[2.0] * 4, [3.0] * 4]
    assert together({"bass": x[0]}).tolist() == [[1.0] * 4] * 2


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (1, 3, [2, 3]),
        (-2, 2, [0, 0, 1, 2]),
        (3, 6, [4, 0, 0]),
        (-3, -1, [0, 0]),
        (6, 8, [0, 0]),
        (3, 1, []),
        (-1, 5, [0, 1, 2, 3, 4, 0]),
    ],
)
def test_what_lies_outside_of_a_sound_is_silence(start, stop, expected):
    assert cut(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), start, stop).tolist() == [expected]
