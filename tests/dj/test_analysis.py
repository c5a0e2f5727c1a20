"""Songs whose tempo, bars, key and loudness are known to the sample."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from difffx.dj import rhythm
from difffx.dj.analysis import analyze
from difffx.dj.loudness import integrated_lufs, k_weighted, loudness_curve
from difffx.dj.structure import cue_points
from difffx.dj.tonality import camelot, chroma, find_key, key_distance

RATE = 22_050


def add(out, shot, start_s, rate=RATE):
    """Put a sound at a time, sample by sample, whatever of it fits."""
    begin = round(start_s * rate)
    skip = max(0, -begin)
    end = min(len(out), begin + len(shot))
    if begin + skip < end:
        out[begin + skip : end] += shot[skip : end - begin]


def kick(rate=RATE):
    t = np.arange(int(0.25 * rate)) / rate
    return np.sin(2 * np.pi * (50 * t - 6.0 * np.exp(-t / 0.03))) * np.exp(-t / 0.08)


def noise_hit(seconds, level, rate=RATE):
    t = np.arange(int(6 * seconds * rate)) / rate
    return level * np.random.default_rng(1).standard_normal(len(t)) * np.exp(-t / seconds)


def tone(midi, seconds, rate=RATE):
    t = np.arange(int(seconds * rate)) / rate
    hz = 440.0 * 2 ** ((midi - 69) / 12)
    return sum(np.sin(2 * np.pi * n * hz * t) / n for n in (1, 2, 3)) * np.minimum(1, 50 * (seconds - t))


def groove(bpm, downbeat_s, seconds=16.0, rate=RATE, hats=0.15, roots=(45, 41, 48, 43)):
    """Bass drum on 1 and 3, snare on 2 and 4, hats between, a bass note a bar: [1, T]."""
    out, beat = np.zeros(int(seconds * rate)), 60.0 / bpm
    first = -4 * math.ceil(downbeat_s / beat / 4)
    for n in range(first, int((seconds - downbeat_s) / beat) + 1):
        at = downbeat_s + n * beat
        add(out, kick(rate) if n % 2 == 0 else noise_hit(0.05, 0.5, rate), at, rate)
        add(out, noise_hit(0.01, hats, rate), at + 0.5 * beat, rate)
        if n % 4 == 0:
            add(out, 0.2 * tone(roots[n // 4 % len(roots)], 3.9 * beat, rate), at, rate)
    return torch.from_numpy(out)[None].float()


def distance_ms(found, bpm, downbeat_s, beats=4):
    """From each time found to the nearest true one, in ms."""
    span = beats * 60.0 / bpm
    off = (np.array(found) - downbeat_s + 0.5 * span) % span - 0.5 * span
    return 1000.0 * off


@pytest.mark.parametrize(
    "bpm, downbeat_s, rate",
    [(90.0, 0.7, 22_050), (100.0, 0.0, 48_000), (123.45, 1.9, 44_100), (128.0, 0.31, 22_050)],
)
def test_tempo_and_bars_of_a_groove_are_found(bpm, downbeat_s, rate):
    found = analyze(groove(bpm, downbeat_s, rate=rate), rate)
    assert found.tempo_bpm == pytest.approx(bpm, rel=2e-4)
    assert np.abs(distance_ms(found.beats_s, bpm, downbeat_s, beats=1)).max() < 8.0
    assert np.abs(distance_ms(found.downbeats_s, bpm, downbeat_s)).max() < 8.0
    assert found.downbeats_s[0] < 240.0 / bpm and found.downbeats_s[-1] > found.seconds - 240.0 / bpm
    assert found.confidence > 0.5


def test_hats_between_the_beats_do_not_move_the_grid_by_half_a_beat():
    found = analyze(groove(124.0, 0.4, hats=0.8), RATE)
    assert np.abs(distance_ms(found.beats_s, 124.0, 0.4, beats=1)).max() < 15.0


def test_a_gain_changes_the_loudness_and_nothing_else():
    audio = groove(118.0, 0.2, seconds=8.0)
    loud, soft = analyze(audio, RATE), analyze(0.1 * audio, RATE)
    assert soft.loudness_lufs == pytest.approx(loud.loudness_lufs - 20.0, abs=1e-3)
    assert soft.tempo_bpm == pytest.approx(loud.tempo_bpm, rel=1e-6) and soft.key == loud.key
    assert soft.downbeats_s == pytest.approx(loud.downbeats_s, abs=1e-4)


def test_channels_that_cancel_are_heard():
    audio = groove(118.0, 0.2, seconds=8.0)
    assert analyze(torch.cat([audio, -audio]), RATE).tempo_bpm == pytest.approx(118.0, rel=1e-3)


def test_stems_tell_the_beat_through_a_melody_in_another_meter():
    drums = groove(112.0, 0.5)
    other = np.zeros(drums.shape[1])
    for n in range(60):
        add(other, 3.0 * tone(60 + 7 * n % 12, 0.2), 0.29 * n)
    other = torch.from_numpy(other)[None].float()
    found = analyze(drums + other, RATE, {"drums": drums, "other": other})
    assert found.tempo_bpm == pytest.approx(112.0, rel=1e-3)
    assert np.abs(distance_ms(found.downbeats_s, 112.0, 0.5)).max() < 20.0


def test_tempo_and_downbeat_given_by_hand_are_kept():
    audio = groove(100.0, 0.3)
    found = analyze(audio, RATE, tempo_bpm=50.0, downbeat_s=1.5)
    assert found.tempo_bpm == 50.0
    assert found.downbeats_s[0] == pytest.approx(1.5)
    assert np.diff(found.downbeats_s) == pytest.approx(4.8)
    assert analyze(audio, RATE, tempo_bpm=100.0).downbeats_s[0] == pytest.approx(0.3, abs=0.008)


def test_noise_has_no_beat_to_be_confident_of():
    hiss = torch.randn(1, 12 * RATE, generator=torch.Generator().manual_seed(0))
    assert analyze(hiss, RATE).confidence < 0.1


def test_a_grid_covers_the_song_and_nothing_else():
    beats, downbeats = rhythm.Grid(120.0, 1.2, 1.0).times(5.0)
    assert beats == pytest.approx([0.2, 0.7, 1.2, 1.7, 2.2, 2.7, 3.2, 3.7, 4.2, 4.7])
    assert downbeats == pytest.approx([1.2, 3.2])


@pytest.mark.parametrize(
    "key, chords",
    [
        ("C major", ((60, 64, 67), (65, 69, 72), (67, 71, 74), (60, 64, 67))),
        ("A minor", ((57, 60, 64), (62, 65, 69), (64, 68, 71), (57, 60, 64))),
        ("F# major", ((66, 70, 73), (71, 75, 78), (73, 77, 80), (66, 70, 73))),
        ("D# minor", ((63, 66, 70), (68, 71, 75), (70, 74, 77), (63, 66, 70))),
    ],
)
def test_a_cadence_tells_its_key(key, chords):
    audio = np.concatenate([sum(tone(midi, 1.5) for midi in chord) for chord in chords])
    assert find_key(chroma(audio))[0] == key


@pytest.mark.parametrize(
    "key, place",
    [("A minor", "8A"), ("C major", "8B"), ("E minor", "9A"), ("Db major", "3B"), ("F minor", "4A")],
)
def test_keys_have_their_places_on_the_wheel(key, place):
    assert camelot(key) == place


def test_fifths_and_relative_keys_are_neighbors():
    assert key_distance("C major", "C major") == 0
    assert key_distance("C major", "G major") == key_distance("F major", "C major") == 1
    assert key_distance("C major", "A minor") == 1
    assert key_distance("C major", "F# major") == 6
    assert key_distance("A minor", "C minor") == 3
    with pytest.raises(ValueError, match="no key 'H minor'"):
        key_distance("H minor", "C major")


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_a_full_scale_tone_in_one_channel_has_the_loudness_of_the_standard(rate):
    sine = torch.sin(2 * math.pi * 997.0 * torch.arange(5 * rate, dtype=torch.float64) / rate)
    assert integrated_lufs(torch.stack([sine, 0 * sine]), rate) == pytest.approx(-3.01, abs=0.02)
    assert integrated_lufs(torch.stack([sine, sine]), rate) == pytest.approx(0.0, abs=0.02)
    assert integrated_lufs(0.01 * sine[None], rate) == pytest.approx(-43.01, abs=0.02)


def test_the_ear_is_the_filter_of_the_standard():
    scipy_signal = pytest.importorskip("scipy.signal")
    sections = [
        [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
        [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
    ]
    noise = torch.randn(2, 24_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = scipy_signal.sosfilt(sections, noise.numpy())
    assert np.abs(k_weighted(noise, 48_000).numpy() - expected).max() < 1e-9


def test_pauses_and_quiet_parts_do_not_count():
    sine = torch.sin(2 * math.pi * 997.0 * torch.arange(16_000 * 30, dtype=torch.float64) / 16_000)[None]
    loud, soft = 10 ** (-20 / 20) * sine, 10 ** (-35 / 20) * sine
    whole = integrated_lufs(loud, 16_000)
    mixed = integrated_lufs(torch.cat([soft, loud, soft, 0 * loud], 1), 16_000)
    assert mixed == pytest.approx(whole, abs=0.1)
    assert integrated_lufs(0 * sine, 16_000) == -math.inf


def test_loudness_over_time_shows_a_step_where_it_is():
    sine = torch.sin(2 * math.pi * 997.0 * torch.arange(8_000 * 10, dtype=torch.float64) / 8_000)[None]
    sine[:, 40_000:] *= 0.1
    times, lufs = loudness_curve(sine, 8_000, seconds=1.0)
    assert times[0] == 0.5 and times[-1] == pytest.approx(9.5)
    assert lufs[times < 4.45].mean() - lufs[times > 5.55].mean() == pytest.approx(20.0, abs=0.05)
    assert (lufs.diff()[(times[1:] > 4.6) & (times[1:] < 5.4)] < 0).all()


def bar_levels(*spans):
    return np.concatenate([np.full(bars, level) for bars, level in spans])


def test_a_song_is_left_where_its_outro_begins():
    levels = bar_levels((16, -20.0), (32, -10.0), (24, -18.0))
    novelty = np.abs(np.diff(levels, prepend=levels[:1]))
    downbeats = np.arange(len(levels)) * 2.0
    assert cue_points(levels, novelty, downbeats) == (0.0, 96.0)


def test_phrases_are_counted_from_where_the_music_changes():
    levels = bar_levels((3, -90.0), (2, -12.0), (16, -10.0), (16, -14.0), (16, -10.0), (16, -13.0))
    novelty = np.abs(np.diff(levels, prepend=levels[:1]))
    cue_in, cue_out = cue_points(levels, novelty, np.arange(len(levels)) * 2.0)
    assert cue_in == 10.0 and cue_out == 106.0


@pytest.mark.parametrize("bars, out", [(1, 0), (2, 1), (5, 2), (8, 4), (10, 4), (20, 8)])
def test_an_excerpt_is_left_about_half_way(bars, out):
    assert cue_points(np.zeros(bars), np.zeros(bars), list(range(bars))) == (0, out)


def with_nan(audio):
    audio[0, 5] = math.nan
    return audio


@pytest.mark.parametrize(
    "audio, options, message",
    [
        (torch.zeros(1, 5 * RATE), {}, "silent"),
        (with_nan(torch.ones(1, 5 * RATE)), {}, "NaN"),
        (torch.ones(1, RATE), {}, "lasts 1.00 s, at least 4 s are needed"),
        (torch.ones(5 * RATE), {}, r"expected audio \[C, T\] of floats"),
        (torch.ones(1, 5 * RATE, dtype=torch.int16), {}, "int16"),
        (torch.ones(1, 5 * RATE), {"tempo_bpm": 0.0}, "within 20..400"),
        (torch.ones(1, 5 * RATE), {"tempo_bpm": 40.0}, "less than a bar at 40 bpm"),
        (torch.ones(1, 5 * RATE), {"downbeat_s": math.inf}, "downbeat_s"),
    ],
)
def test_what_cannot_be_analyzed_is_refused_in_one_line(audio, options, message):
    with pytest.raises(ValueError, match=message) as raised:
        analyze(audio, RATE, **options)
    assert "\n" not in str(raised.value)


def test_without_librosa_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ImportError, match=r"pip install 'difffx\[dj\]'"):
        chroma(np.zeros(RATE))


def score(*options):
    root = Path(__file__).parents[2]
    command = [sys.executable, "scripts/score_analysis.py", *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_score_of_synthetic_songs_is_printed():
    done = score("--songs", "1", "--seconds", "12")
    assert done.returncode == 0, done.stderr
    assert "beats within 20 ms" in done.stdout and "of 1" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "options, message", [(("--songs", "0"), "--songs must be 1"), (("--clips", "nowhere"), "no such folder")]
)
def test_a_score_of_nothing_is_refused_in_one_line(options, message):
    done = score(*options)
    assert done.returncode == 1 and message in done.stderr and len(done.stderr.splitlines()) == 1
