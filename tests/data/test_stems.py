from __future__ import annotations

import random
import shutil
import sys
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from difffx.data import stems
from difffx.data.audio_io import AudioError
from difffx.data.stem_models import StemError
from difffx.dj import STEM_NAMES

RATE = 44_100
SOURCES = ("drums", "bass", "other", "vocals")  # the order of demucs


class Shares(nn.Module):
    """A model with known answers: each source is a share of the song."""

    def __init__(self, shares, channels=2, samplerate=RATE, segment=1.0):
        super().__init__()
        self.sources, self.audio_channels = list(shares), channels
        self.samplerate, self.segment = samplerate, segment
        self.register_buffer("shares", torch.tensor(list(shares.values())))
        self.scale = nn.Parameter(torch.ones(()))
        self.lengths = []

    def forward(self, mix):
        assert mix.shape[1] == self.audio_channels
        self.lengths.append(mix.shape[-1])
        return self.scale * self.shares[None, :, None, None] * mix[:, None]


def separator(shares, **more):
    return stems.Separator("shares", Shares(shares, **more).eval(), torch.device("cpu"), "none")


QUARTERS = {"drums": 0.1, "bass": 0.2, "other": 0.3, "vocals": 0.4}


def tone(rate, seconds=2.5, channels=2):
    """[C, T]: tones an octave apart in the channels, fading in and out."""
    time = torch.arange(round(rate * seconds), dtype=torch.float64) / rate
    fade = 0.3 * (np.pi * time / seconds).sin().square()
    return torch.stack([fade * (2 * np.pi * 220 * (c + 1) * time).sin() for c in range(channels)]).float()


def noise(samples: int, channels: int = 2, seed: int = 0) -> np.ndarray:
    """[T, C] at 0.1 RMS."""
    return 0.1 * np.random.default_rng(seed).standard_normal((samples, channels))


def write(folder, **files):
    """name=[T, C] -> folder/name.wav, at 44.1 kHz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, audio in files.items():
        soundfile.write(folder / f"{name}.wav", audio, RATE, subtype="FLOAT")
    return folder


def test_a_folder_of_stems_opens_in_the_order_of_the_mixer(tmp_path):
    sounds = {name: noise(3000, seed=i) for i, name in enumerate(("vocals", "other", "drums", "bass"))}
    deck = stems.open_deck(write(tmp_path / "mein Lied 音", **sounds), RATE)
    assert tuple(deck) == STEM_NAMES
    for name, audio in deck.items():
        assert audio.shape == (2, 3000) and audio.dtype == torch.float32
        assert np.abs(audio.numpy().T - sounds[name]).max() < 1e-7


def test_stems_may_be_missing_mono_and_of_any_format(tmp_path):
    write(tmp_path, vocals=noise(4410, 1))
    soundfile.write(tmp_path / "Drums.FLAC", noise(4410), RATE, format="FLAC")
    (tmp_path / "notes.txt").write_text("not a stem")
    soundfile.write(tmp_path / "mixture.wav", noise(99), RATE)
    deck = stems.open_deck(tmp_path, RATE)
    assert {name: tuple(audio.shape) for name, audio in deck.items()} == {
        "drums": (2, 4410),
        "vocals": (1, 4410),
    }


def test_stems_of_several_rates_come_at_one_rate_and_length(tmp_path):
    time = {rate: np.arange(rate // 2 + rate // 1000) / rate for rate in (44_100, 48_000, 32_000)}
    for name, (rate, t) in zip(STEM_NAMES, time.items(), strict=False):
        soundfile.write(tmp_path / f"{name}.wav", 0.5 * np.sin(2 * np.pi * 500 * t), rate, subtype="FLOAT")
    deck = stems.open_deck(tmp_path, RATE)
    assert len({audio.shape for audio in deck.values()}) == 1
    inner = slice(2000, 20_000)
    for name in ("bass", "vocals"):
        assert (deck[name] - deck["drums"])[:, inner].abs().max() < 1e-4


def test_a_single_song_is_all_other(tmp_path):
    song = noise(5000)
    soundfile.write(tmp_path / "song.wav", song, RATE, subtype="FLOAT")
    deck = stems.open_deck(tmp_path / "song.wav", RATE)
    assert list(deck) == ["other"]
    assert np.abs(deck["other"].numpy().T - song).max() < 1e-7


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("unequal", r"bass\.wav: 2990 samples at 44100 Hz, drums\.wav has 3000"),
        ("two files", r"drums\.flac and drums\.wav are both drums"),
        ("none", r"no stems in it, expected some of drums\.\*.*there are song\.wav"),
        ("empty", r"no stems in it"),
        ("surround", r"other\.wav: 6 channels, expected mono or stereo"),
        ("missing", r"no such file"),
    ],
)
def test_a_deck_that_cannot_be_played_is_refused_by_name(tmp_path, case, says):
    folder = write(tmp_path / "deck")
    if case == "unequal":
        write(folder, drums=noise(3000), bass=noise(2990))
    elif case == "two files":
        soundfile.write(write(folder, drums=noise(3000)) / "drums.flac", noise(3000), RATE)
    elif case == "none":
        write(folder, song=noise(3000))
    elif case == "surround":
        write(folder, other=noise(3000, 6))
    elif case == "missing":
        folder = tmp_path / "nowhere"
    with pytest.raises(AudioError, match=says) as error:
        stems.open_deck(folder, RATE)
    assert "\n" not in str(error.value) and folder.name in str(error.value)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (48_000, 1), (22_050, 2), (96_000, 2)])
def test_stems_keep_rate_length_channels_and_sum_to_the_song(rate, channels):
    song = tone(rate, channels=channels)
    found = stems.separate(song, rate, separator(QUARTERS))
    assert tuple(found) == STEM_NAMES
    for stem, audio in found.items():
        assert audio.shape == song.shape and audio.dtype == torch.float32
        assert (audio - QUARTERS[stem] * song).abs().max() < 1e-6
    assert (sum(found.values()) - song).abs().max() < 1e-6


def test_a_constant_offset_stays_in_other_alone():
    song = tone(RATE) + 0.25
    found = stems.separate(song, RATE, separator(QUARTERS))
    assert (sum(found.values()) - song).abs().max() < 1e-5
    assert found["other"].mean() == pytest.approx(0.25, abs=1e-3)


def test_channels_of_stereo_go_one_by_one_through_a_mono_model():
    song = tone(RATE)
    found = stems.separate(song, RATE, separator(QUARTERS, channels=1))
    assert all((audio - QUARTERS[stem] * song).abs().max() < 1e-5 for stem, audio in found.items())


def test_what_else_a_model_hears_becomes_part_of_other():
    song = tone(RATE)
    found = stems.separate(song, RATE, separator({**QUARTERS, "guitar": 0.5, "piano": 0.25}))
    assert tuple(found) == STEM_NAMES
    assert (found["other"] - 1.05 * song).abs().max() < 1e-5
    pair = stems.separate(song, RATE, separator({"vocals": 0.4, "no_vocals": 0.6}))
    assert tuple(pair) == ("vocals", "other")
    assert (pair["other"] - 0.6 * song).abs().max() < 1e-5


def test_exact_stems_sum_to_the_song_whatever_the_model_says(demucs_repo):
    song = torch.from_numpy(noise(48_000).T.copy()).float()
    model = stems.load_separator("tiny", demucs_repo)
    loose = stems.separate(song, 48_000, model)
    found = stems.separate(song, 48_000, model, exact=True)
    assert (sum(loose.values()) - song).abs().max() > 0.01
    assert (sum(found.values()) - song).abs().max() < 1e-6
    assert all(torch.equal(found[stem], loose[stem]) for stem in ("drums", "bass", "vocals"))
    alone = stems.separate(song, 48_000, separator({"vocals": 0.4}), exact=True)
    assert (sum(alone.values()) - song).abs().max() < 1e-6


def test_segments_and_overlap_reach_the_model():
    quarter, half = separator(QUARTERS), separator(QUARTERS)
    stems.separate(tone(RATE), RATE, quarter, segment=1.0, overlap=0.0)
    stems.separate(tone(RATE), RATE, half, segment=2.0, overlap=0.5)
    assert quarter.network.lengths == [44_100, 44_100, 22_050]
    assert half.network.lengths == [88_200, 66_150, 22_050]


def test_shifts_are_the_same_each_time_and_leave_the_random_numbers_alone(demucs_repo):
    model, song = stems.load_separator("tiny", demucs_repo), tone(8000, 1.5)
    random.seed(3)
    before = random.getstate()
    first = stems.separate(song, 8000, model, shifts=2)
    assert random.getstate() == before
    random.seed(4)
    again = stems.separate(song, 8000, model, shifts=2)
    plain = stems.separate(song, 8000, model)
    assert all(torch.equal(first[stem], again[stem]) for stem in STEM_NAMES)
    assert not torch.allclose(first["drums"], plain["drums"], atol=1e-4)


def test_progress_climbs_to_one_through_bag_and_shifts(tmp_path, demucs_repo):
    (shutil.copytree(demucs_repo, tmp_path / "repo") / "pair.yaml").write_text("models: [tiny, tiny]")
    seen = []
    model = stems.load_separator("pair", tmp_path / "repo")
    stems.separate(tone(8000), 8000, model, shifts=2, progress=seen.append)
    assert len(seen) >= 8 and seen == sorted(seen)
    assert seen[0] == pytest.approx(0.6 / 4, abs=0.01) and seen[-1] == 1.0


def test_the_model_none_makes_all_of_a_song_other_without_demucs(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs.hf", None)
    song = tone(32_000)
    found = stems.separate(song, 32_000, stems.load_separator("none"))
    assert list(found) == ["other"] and torch.equal(found["other"], song)
    with pytest.raises(StemError, match="the model none has none"):
        stems.load_separator("none", "somewhere")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"overlap": 1.0}, "overlap must be 0 to 0.95"),
        ({"shifts": -1}, "shifts must be 0 or more"),
        ({"segment": 0.5}, "segment must be 1 to"),
        ({"segment": float("nan")}, "segment must be 1 to"),
    ],
)
def test_settings_out_of_range_are_refused(setting, says):
    with pytest.raises(StemError, match=says):
        stems.separate(tone(RATE), RATE, separator(QUARTERS), **setting)


def test_a_transformer_hears_no_longer_segments_than_it_was_made_for(tmp_path, save_demucs):
    from demucs.htdemucs import HTDemucs

    small = {"nfft": 4096, "depth": 4, "channels": 8, "growth": 1, "t_layers": 1, "t_heads": 2}
    model = HTDemucs(list(SOURCES), bottom_channels=8, segment=Fraction(3, 2), samplerate=8000, **small)
    save_demucs(model, tmp_path, "small")
    loaded = stems.load_separator("small", tmp_path)
    with pytest.raises(StemError, match=r"segment must be 1 to 1\.5 seconds for this model, got 2"):
        stems.separate(tone(8000), 8000, loaded, segment=2.0)
    for segment in (None, 1.25):
        found = stems.separate(tone(8000), 8000, loaded, segment=segment)
        assert all(audio.shape == (2, 20_000) and audio.abs().max() > 0 for audio in found.values())


@pytest.mark.parametrize("shape", [(1000,), (3, 1000), (2, 0)])
def test_audio_of_another_shape_is_refused(shape):
    with pytest.raises(AudioError, match=r"expected audio \[C, T\]"):
        stems.separate(torch.zeros(shape), RATE, separator(QUARTERS))


def test_an_answer_that_is_not_finite_is_refused():
    with pytest.raises(AudioError, match="what shares makes of it is not finite"):
        stems.separate(tone(RATE), RATE, separator({"drums": float("nan")}))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_stems_of_the_cpu(demucs_repo):
    song = tone(RATE)
    made = [
        stems.separate(song, RATE, stems.load_separator("tiny", demucs_repo, device))
        for device in ("cpu", "cuda")
    ]
    for stem in STEM_NAMES:
        assert made[1][stem].device.type == "cpu"
        assert (made[0][stem] - made[1][stem]).abs().max() < 1e-3
