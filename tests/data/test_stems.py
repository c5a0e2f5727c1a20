from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from difffx.data import stems
from difffx.data.audio_io import AudioError
from difffx.dj import STEM_NAMES

RATE = 44_100


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
