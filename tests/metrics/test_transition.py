import math

import pytest
import torch

from difffx.dj.handover import by_rule, hand_over
from difffx.dj.meeting import Meeting
from difffx.metrics.transition import (
    clash,
    level_step_db,
    loudness_range,
    transition_measures,
    true_peak_db,
)

RATE = 44_100
LOW_RATE = 8_000  # where a whole mixer works
BEAT_S = 0.5
BAR = round(4 * BEAT_S * LOW_RATE)


def tone(hz, seconds, amplitude=0.5, rate=RATE, phase=0.0):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return (amplitude * torch.sin(2 * math.pi * hz * time + phase)).float().expand(2, -1)


def noise(seconds, seed, amplitude=0.1, rate=RATE):
    generator = torch.Generator().manual_seed(seed)
    return amplitude * torch.randn(2, round(seconds * rate), generator=generator)


def meeting(a, b, bars=4, before=2):
    first = before * BAR
    return Meeting(a, b, LOW_RATE, first, first + bars * BAR, 0, bars, 120.0)


def test_the_low_end_clashes_for_as_long_as_both_basses_are_up():
    bass = tone(60.0, 8.0)
    up = torch.zeros(bass.shape[1])
    up[: 3 * RATE] = 1.0  # of 8 s
    found = clash((bass, up * bass), (bass, bass), RATE, BEAT_S)
    assert found == pytest.approx(3 / 8, abs=0.05)
    assert clash((bass, bass), (bass, bass), RATE, BEAT_S) == 1.0
    assert clash((bass, 0.0 * bass), (bass, bass), RATE, BEAT_S) == 0.0


@pytest.mark.parametrize(("lower_db", "share"), [(5.0, 1.0), (7.0, 0.0)])
def test_full_level_is_within_six_decibels(lower_db, share):
    bass = tone(60.0, 4.0)
    quieter = bass * 10 ** (-lower_db / 20)
    assert clash((bass, quieter), (bass, bass), RATE, BEAT_S) == share


def test_only_what_lies_below_the_limit_is_a_bass():
    treble, bass = tone(2000.0, 4.0), tone(60.0, 4.0)
    assert clash((bass, treble), (bass, bass + treble), RATE, BEAT_S) == 0.0
    assert clash((bass, treble), (bass, treble), RATE, BEAT_S, below_hz=None) == 1.0


def test_silence_clashes_with_nothing():
    nothing = torch.zeros(2, 2 * RATE)
    assert clash((nothing, nothing), (nothing, nothing), RATE, BEAT_S) == 0.0


def test_a_true_peak_lies_between_the_samples():
    sine = tone(RATE / 4, 0.5, 1.0, phase=math.pi / 4)  # every sample at 0.707
    sine = sine * torch.hann_window(sine.shape[1])
    assert sine.abs().max() < 0.7072
    assert true_peak_db(sine) == pytest.approx(0.0, abs=0.05)


def test_a_true_peak_is_found_where_blocks_meet(monkeypatch):
    sound = noise(1.0, 0)
    whole = true_peak_db(sound)
    monkeypatch.setattr("difffx.metrics.transition.PEAK_BLOCK", 1000)
    assert true_peak_db(sound) == pytest.approx(whole, abs=1e-6)


def test_loudness_range_is_what_a_fade_of_ten_decibels_moves():
    sound = torch.cat([tone(997.0, 5.0, 0.5), tone(997.0, 5.0, 0.5 * 10**-0.5)], 1)
    assert loudness_range(sound, RATE) == pytest.approx(10.0, abs=0.05)
    assert loudness_range(sound[:, : 2 * RATE], RATE) is None


def test_a_step_is_what_is_added_to_the_song():
    song = noise(0.4, 1)
    assert level_step_db(song, song, RATE) == 0.0
    assert level_step_db(2.0 * song, song, RATE) == pytest.approx(6.02, abs=0.01)


def test_rules_are_told_apart():
    def deck(bass_hz, seed):
        bass, rest = tone(bass_hz, 16.0, 0.3, LOW_RATE), noise(16.0, seed, 0.02, LOW_RATE)
        return {"bass": bass, "other": rest, "vocals": noise(16.0, seed + 9, 0.05, LOW_RATE)}

    both = meeting(deck(50.0, 0), deck(70.0, 1))
    found = {
        name: transition_measures(hand_over(both, by_rule(name, **options)))
        for name, options in {
            "cut": {},
            "crossfade": {"fade_type": "equal_power"},
            "bass_swap": {},
            "vocal_safe": {},
        }.items()
    }
    assert found["cut"]["low_end_clash"] <= 0.06 and found["bass_swap"]["low_end_clash"] <= 0.12
    assert 0.3 < found["crossfade"]["low_end_clash"] < 0.45  # both above half: a third of a quarter wave
    assert found["vocal_safe"]["vocal_clash"] <= 0.06 < 0.3 < found["crossfade"]["vocal_clash"]
    for measures in found.values():
        assert measures["loudness_range_lu"] < 6.0
        assert abs(measures["step_in_db"]) < 0.5 and abs(measures["step_out_db"]) < 0.5
        assert measures["true_peak_dbtp"] < 0.0
        assert measures["loudness_range_a_lu"] < 0.2 and measures["loudness_range_b_lu"] < 0.2


def test_without_stems_of_voices_their_clash_is_not_known():
    other, more, voice = (noise(16.0, seed, rate=LOW_RATE) for seed in range(3))
    both = meeting({"other": other}, {"other": more, "vocals": voice})
    assert transition_measures(hand_over(both, by_rule("cut")))["vocal_clash"] is None
