from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from difffx.data import audio_io
from difffx.data.audio_io import AudioError


def tone(sample_rate: int, seconds: float, channels: int = 1, hz: float = 1000.0) -> np.ndarray:
    """[T, C] sine at 0.5, each channel an octave above the one before."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    return np.stack([0.5 * np.sin(2 * np.pi * hz * 2**c * time) for c in range(channels)], 1)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_24", 1e-6),
        ("wav", "FLOAT", 1e-7),
        ("flac", "PCM_16", 1e-4),
        ("aiff", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 0.1),
    ],
)
def test_every_format_comes_back_as_it_was_written(tmp_path, suffix, subtype, tolerance):
    path = tmp_path / f"Größe 音.{suffix}"
    written = tone(44_100, 1.0, 2)
    soundfile.write(path, written, 44_100, subtype=subtype)
    audio, rate = audio_io.load(path)
    assert rate == 44_100 and audio.shape == (2, 44_100) and audio.dtype == torch.float32
    assert np.abs(audio.numpy().T - written).max() < tolerance


@pytest.mark.parametrize("rate", [22_050, 32_000, 48_000, 96_000])
def test_a_part_equals_the_same_samples_of_the_whole_file_resampled(tmp_path, rate):
    path = tmp_path / "noise.wav"
    noise = 0.1 * np.random.default_rng(0).standard_normal((2 * rate, 1))
    soundfile.write(path, noise, rate, subtype="FLOAT")
    whole, _ = audio_io.load(path, 44_100)
    start = 30_011 / 44_100
    part, _ = audio_io.load(path, 44_100, start=start, seconds=0.5)
    assert part.shape == (1, 22_050)
    assert (part - whole[:, 30_011 : 30_011 + 22_050]).abs().max() < 1e-5


@pytest.mark.parametrize("rate", [22_050, 48_000])
def test_resampling_keeps_a_tone(tmp_path, rate):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(rate, 2.0), rate, subtype="FLOAT")
    audio, _ = audio_io.load(path, 44_100, start=0.5, seconds=1.0)
    expected = tone(44_100, 2.0)[22_050:66_150, 0]
    assert np.abs(audio[0].numpy() - expected).max() < 1e-4


def test_channels_are_averaged_or_repeated(tmp_path):
    stereo, mono = tmp_path / "stereo.wav", tmp_path / "mono.wav"
    soundfile.write(stereo, np.tile([[0.25, 0.75]], (1000, 1)), 44_100, subtype="FLOAT")
    soundfile.write(mono, np.full((1000, 1), 0.5), 44_100, subtype="FLOAT")
    assert torch.allclose(audio_io.load(stereo, channels=1)[0], torch.full((1, 1000), 0.5))
    assert torch.allclose(audio_io.load(mono, channels=2)[0], torch.full((2, 1000), 0.5))


def test_a_part_beyond_the_end_is_shorter(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, tone(44_100, 1.0), 44_100)
    assert audio_io.load(path, start=0.75, seconds=1.0)[0].shape == (1, 11_025)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_what_is_saved_can_be_loaded(tmp_path, suffix):
    path = tmp_path / "new folder" / f"saved{suffix}"
    audio = torch.from_numpy(tone(44_100, 0.5, 2).T.copy()).float()
    audio_io.save(path, audio, 44_100)
    back, rate = audio_io.load(path)
    assert rate == 44_100
    length = min(back.shape[1], audio.shape[1])
    assert (back[:, :length] - audio[:, :length]).abs().mean() < 0.02
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
def test_a_minute_of_ogg_does_not_crash(tmp_path):
    audio = 0.1 * torch.randn(2, 70 * 44_100, generator=torch.Generator().manual_seed(0))
    audio_io.save(tmp_path / "long.ogg", audio, 44_100)
    assert audio_io.info(tmp_path / "long.ogg").num_samples == 70 * 44_100


def broken_files(folder):
    """Name -> path of files that cannot be used, and what the error must say."""
    noise = 0.1 * np.random.default_rng(0).standard_normal((44_100, 2))
    (folder / "text.wav").write_text("these are words\n" * 100)
    (folder / "nothing.wav").write_bytes(b"")
    soundfile.write(folder / "empty.wav", noise[:0], 44_100)
    for suffix in ("wav", "flac"):
        soundfile.write(folder / f"cut.{suffix}", noise, 44_100)
        whole = (folder / f"cut.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    noise[100, 1] = np.nan
    soundfile.write(folder / "nan.wav", noise, 44_100, subtype="FLOAT")
    (folder / "sub.wav").mkdir()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("missing.wav", "no such file"),
        ("sub.wav", "is a folder"),
        ("text.wav", "not an audio file"),
        ("nothing.wav", "not an audio file"),
        ("empty.wav", "empty"),
        ("cut.wav", "truncated"),
        ("cut.flac", "damaged"),
        ("nan.wav", "1 samples that are NaN"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, says):
    broken_files(tmp_path)
    with pytest.raises(AudioError, match=says) as caught:
        audio_io.load(tmp_path / name)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / name)) and "\n" not in message
    assert message.count(name) == 1


def test_a_file_that_is_too_short_says_how_long_it_is(tmp_path):
    path = tmp_path / "click.wav"
    soundfile.write(path, tone(44_100, 0.1), 44_100)
    with pytest.raises(AudioError, match=r"too short: 0\.10 s, expected at least 1 s"):
        audio_io.load(path, minimum_seconds=1.0)


def test_saving_under_an_unknown_extension_names_the_known_ones(tmp_path):
    with pytest.raises(AudioError, match=r"cannot write \.xyz.*\.flac"):
        audio_io.save(tmp_path / "a.xyz", torch.zeros(1, 10), 44_100)
