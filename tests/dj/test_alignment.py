"""Decks of clicks and kicks, whose every stroke has a place to the sample."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from difffx.dj.alignment import align
from difffx.dj.analysis import Analysis
from difffx.dj.loudness import integrated_lufs
from difffx.dj.stretching import stretch, varispeed

RATE = 22_050


def clicks(times_s, seconds, rate=RATE):
    audio = torch.zeros(1, round(seconds * rate))
    audio[0, (torch.as_tensor(times_s, dtype=torch.float64) * rate).round().long()] = 1.0
    return audio


def loudest_ms(audio, near_s, within_s=0.06, rate=RATE):
    """From a time to the loudest sample around it, in ms."""
    first = max(0, round((near_s - within_s) * rate))
    part = audio.abs().amax(0)[first : round((near_s + within_s) * rate)]
    return 1000.0 * ((first + int(part.argmax())) / rate - near_s)


def kicks(bpm, downbeat_s, seconds, rate=RATE):
    """A bass drum a beat, the first of a bar twice as loud: [2, T]."""
    t = np.arange(int(0.2 * rate)) / rate
    shot = np.sin(2 * np.pi * 60.0 * t) * np.exp(-t / 0.05)
    out = np.zeros(int(seconds * rate) + len(shot))
    for n in range(-math.floor(downbeat_s * bpm / 60.0), math.ceil((seconds - downbeat_s) * bpm / 60.0)):
        begin = round((downbeat_s + n * 60.0 / bpm) * rate)
        out[begin : begin + len(shot)] += shot * (1.0 if n % 4 == 0 else 0.5)
    return torch.from_numpy(out[: int(seconds * rate)]).float().expand(2, -1).clone()


def song(bpm, downbeat_s, seconds, lufs=-20.0, cue_in_s=None, cue_out_s=None):
    """What a perfect analysis would say of `kicks`."""
    beat = 60.0 / bpm
    downbeats = tuple(np.arange(downbeat_s % (4 * beat), seconds, 4 * beat).tolist())
    beats = tuple(np.arange(downbeat_s % beat, seconds, beat).tolist())
    ins, outs = cue_in_s or downbeats[1], cue_out_s or downbeats[len(downbeats) // 2]
    return Analysis(seconds, bpm, beats, downbeats, "C major", lufs, ins, outs)


@pytest.mark.parametrize("ratio", [0.8, 0.97, 1.06, 1.25])
@pytest.mark.parametrize("change", [stretch, varispeed], ids=["stretch", "varispeed"])
def test_what_begins_at_t_begins_at_t_over_the_ratio(change, ratio):
    times = np.arange(0.5, 5.8, 0.5)
    audio = clicks(times, 6.0)
    moved = change(audio, RATE, ratio) if change is stretch else change(audio, ratio)
    assert moved.shape == (1, round(audio.shape[1] / ratio))
    assert max(abs(loudest_ms(moved, t / ratio)) for t in times) < 2.0


def pitch_hz(audio, rate=RATE):
    middle = audio[0, rate // 2 : -rate // 2].double()
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle), dtype=torch.float64), 2**20)
    return float(spectrum.abs().argmax()) * rate / 2**20


@pytest.mark.parametrize("hz", [110.0, 1000.0])
def test_stretching_keeps_the_pitch_and_a_turntable_does_not(hz):
    sine = torch.sin(2 * math.pi * hz * torch.arange(4 * RATE, dtype=torch.float64) / RATE)[None].float()
    assert pitch_hz(stretch(sine, RATE, 1.1)) == pytest.approx(hz, rel=5e-4)
    assert pitch_hz(varispeed(sine, 1.1)) == pytest.approx(1.1 * hz, rel=5e-4)
    assert stretch(sine, RATE, 1.1)[0, RATE : 2 * RATE].square().mean() == pytest.approx(0.5, rel=0.02)


def ratio_db(expected, got):
    return float(10.0 * torch.log10(expected.square().sum() / (expected - got).square().sum()))


def test_stems_stretched_together_still_add_up_and_apart_they_do_not():
    noise = torch.randn(3, 3 * RATE, generator=torch.Generator().manual_seed(0))
    t = torch.arange(3 * RATE) / RATE
    stems = torch.stack([0.1 * noise[0], torch.sin(2 * math.pi * 220.0 * t), kicks(120.0, 0.0, 3.0)[0]])
    together = stretch(torch.cat([stems, stems.sum(0, keepdim=True)]), RATE, 1.05)
    assert ratio_db(together[3], together[:3].sum(0)) > 50.0
    apart = sum(stretch(stem[None], RATE, 1.05)[0] for stem in stems)
    assert ratio_db(together[3], apart) < 20.0


def test_a_batch_is_its_items_and_a_ratio_of_one_is_the_audio_itself():
    audio = torch.randn(2, 2, RATE, generator=torch.Generator().manual_seed(1))
    both = stretch(audio, RATE, 0.9)
    assert torch.equal(both[1], stretch(audio[1], RATE, 0.9))
    assert torch.equal(stretch(audio, RATE, 1.0), audio) and torch.equal(varispeed(audio, 1.0), audio)


def decks(bpm_a=120.0, bpm_b=126.0, seconds=20.0):
    a, b = kicks(bpm_a, 0.3, seconds), kicks(bpm_b, 0.8, seconds)
    return {"drums": a}, song(bpm_a, 0.3, seconds), {"drums": b, "bass": 0.0 * b}, song(bpm_b, 0.8, seconds)


@pytest.mark.parametrize("tempo, expected", [(None, 120.0), ("b", 126.0), (123.0, 123.0)])
def test_both_decks_strike_together_on_one_grid(tempo, expected):
    found = align(*decks(), RATE, tempo_bpm=tempo)
    assert found.tempo_bpm == expected and found.start_s in found.downbeats_s
    assert found.speeds == pytest.approx((expected / 120.0, expected / 126.0))
    first, last = found.begins_s[1] + 1.0, found.begins_s[0] + 20.0 / found.speeds[0] - 1.0
    strokes = [beat for beat in found.beats_s if first < beat < last]
    assert len(strokes) > 10
    for name, deck in (("a", found.a), ("b", found.b)):
        late = np.array([loudest_ms(deck["drums"], beat + 0.004) for beat in strokes])
        assert np.abs(late).max() < 5.0, name
    assert np.diff(found.downbeats_s) == pytest.approx(240.0 / expected)


def test_downbeats_of_both_meet_where_the_transition_begins():
    deck_a, song_a, deck_b, song_b = decks()
    found = align(deck_a, song_a, deck_b, song_b, RATE, fine=False)
    assert found.start_s == pytest.approx(song_a.cue_out_s)
    assert found.begins_s[1] == pytest.approx(song_a.cue_out_s - song_b.cue_in_s * 126.0 / 120.0, abs=1e-3)
    other = align(deck_a, song_a, deck_b, song_b, RATE, start_a_s=7.0, start_b_s=5.0, fine=False)
    assert other.start_s == pytest.approx(min(song_a.downbeats_s, key=lambda t: abs(t - 7.0)))


def test_decks_are_as_long_as_each_other_and_silent_where_they_do_not_play():
    found = align(*decks(), RATE)
    sizes = {x.shape for x in (*found.a.values(), *found.b.values())}
    assert len(sizes) == 1 and list(found.b) == ["drums", "bass"]
    begin = round(found.begins_s[1] * RATE)
    assert begin > 0 and found.b["drums"][:, :begin].abs().max() == 0.0
    assert found.a["drums"][:, 20 * RATE :].abs().max() == 0.0
    assert found.beats_s[0] < 0.5 and found.beats_s[-1] > sizes.pop()[1] / RATE - 0.5


def test_a_long_way_in_begins_before_the_other_song():
    deck_a, song_a, deck_b, song_b = decks(bpm_b=120.0)
    found = align(deck_a, song_a, deck_b, song_b, RATE, start_a_s=0.3, start_b_s=8.8)
    assert found.begins_s == pytest.approx((8.5, 0.0), abs=0.003)
    assert found.start_s == pytest.approx(8.8, abs=0.003)


def test_the_louder_song_is_turned_down_to_the_other():
    deck_a, song_a, deck_b, song_b = decks(120.0, 120.0)
    deck_b = {name: 0.25 * x for name, x in deck_b.items()}
    lufs = [integrated_lufs(sum(deck.values()), RATE) for deck in (deck_a, deck_b)]
    songs = [replace(song, loudness_lufs=level) for song, level in zip((song_a, song_b), lufs, strict=True)]
    found = align(deck_a, songs[0], deck_b, songs[1], RATE)
    assert found.gain_db == pytest.approx((-12.04, 0.0), abs=0.01)
    levels = [integrated_lufs(sum(deck.values()), RATE) for deck in (found.a, found.b)]
    assert levels[0] == pytest.approx(levels[1], abs=0.1)
    assert align(deck_a, songs[0], deck_b, songs[1], RATE, match_loudness=False).gain_db == (0.0, 0.0)


@pytest.mark.parametrize("bpm_b, word", [(62.0, "twice"), (236.0, "half")])
def test_half_and_double_tempo_are_taken_when_they_are_nearer(bpm_b, word):
    found = align(*decks(bpm_b=bpm_b), RATE)
    assert abs(found.speeds[1] - 1.0) < 0.05
    assert any(f"taken as {word}" in note for note in found.notes)


@pytest.mark.parametrize("late_ms", [-18.0, 12.0])
def test_what_the_grids_leave_between_the_strokes_is_removed(late_ms):
    deck_a, song_a, deck_b, _ = decks()
    wrong = song(126.0, 0.8 + 0.001 * late_ms, 20.0)
    rough = align(deck_a, song_a, deck_b, wrong, RATE, fine=False)
    fine = align(deck_a, song_a, deck_b, wrong, RATE)
    beat = next(beat for beat in fine.beats_s if beat > fine.start_s + 1.0)
    assert abs(loudest_ms(rough.b["drums"], beat + 0.004)) > 9.0
    assert abs(loudest_ms(fine.b["drums"], beat + 0.004)) < 5.0
    assert fine.lag_ms == pytest.approx(late_ms * 126.0 / 120.0, abs=3.0)


def test_songs_without_common_strokes_stay_on_their_grids():
    deck_a, song_a, deck_b, song_b = decks(120.0, 120.0)
    hiss = torch.randn(2, deck_b["drums"].shape[1], generator=torch.Generator().manual_seed(3))
    found = align(deck_a, song_a, {"other": 0.1 * hiss}, song_b, RATE)
    assert found.lag_ms == 0.0
    assert any("too unlike" in note for note in found.notes)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tempo_bpm": 85.0}, r"song A has 120.00 bpm: 85.00 bpm is -29 %"),
        ({"max_stretch": 0.01}, "song B has 126.00 bpm"),
        ({"tempo_bpm": "c"}, "must be 'a', 'b' or a number"),
        ({"start_a_s": 21.0}, r"start_a_s must lie within the song, 0..20.00 s"),
        ({"start_b_s": -1.0}, "start_b_s"),
    ],
)
def test_what_cannot_be_aligned_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as raised:
        align(*decks(), RATE, **options)
    assert "\n" not in str(raised.value)


def test_decks_are_checked_by_name():
    deck_a, song_a, deck_b, song_b = decks()
    with pytest.raises(ValueError, match="deck_a: no stem 'drum'"):
        align({"drum": deck_a["drums"]}, song_a, deck_b, song_b, RATE)
    with pytest.raises(ValueError, match=r"deck_b: expected one song"):
        align(deck_a, song_a, {"drums": torch.zeros(2, 2, 100)}, song_b, RATE)
    with pytest.raises(ValueError, match="ratio must lie within"):
        stretch(deck_a["drums"], RATE, 0.0)


def test_without_python_stretch_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "python_stretch", None)
    with pytest.raises(ImportError, match=r"pip install 'difffx\[dj\]'"):
        stretch(torch.zeros(1, RATE), RATE, 1.1)
