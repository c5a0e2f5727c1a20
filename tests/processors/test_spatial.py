from __future__ import annotations

import math

import pytest
import torch

from difffx.processors.gain import LinearGain
from difffx.processors.spatial import MultibandImager, Panner, StereoEnhancer, StereoWidener

RATE = 44_100


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(hz: float, samples: int = 8000) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(samples) / RATE).view(1, 1, -1)


@pytest.mark.parametrize(
    ("law", "level"), [("-3dB", 0.5**0.5), ("-4.5dB", 0.5**0.75), ("-6dB", 0.5), ("linear", 0.5)]
)
def test_a_mono_sound_in_the_middle_has_the_level_of_the_law(law, level):
    x = noise(2, 1, 50)
    torch.testing.assert_close(Panner(RATE, law=law)(x), level * x.expand(-1, 2, -1))


def test_a_stereo_sound_in_the_middle_stays_and_goes_to_the_sides():
    x = noise(2, 2, 50)
    torch.testing.assert_close(Panner(RATE)(x), x)
    right = Panner(RATE)(x, pan=1.0)
    torch.testing.assert_close(right[:, 1], x[:, 1])
    assert right[:, 0].abs().max() < 1e-6


def test_a_sound_walks_from_left_to_right():
    y = Panner(RATE)(torch.ones(1, 1, 101), pan=torch.tensor([[[-1.0, 1.0]]]))
    assert (y[0, 0].diff() < 0).all() and (y[0, 1].diff() > 0).all()


def test_an_unknown_law_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="Panner: no law '-5dB'"):
        Panner(RATE, law="-5dB")


def test_width_zero_is_mono_and_two_doubles_the_sides():
    x = noise(2, 2, 50)
    mono = StereoWidener(RATE)(x, width=0.0)
    torch.testing.assert_close(mono, x.mean(1, keepdim=True).expand(-1, 2, -1))
    wide = StereoWidener(RATE)(x, width=2.0)
    torch.testing.assert_close(wide[:, 0] - wide[:, 1], 2 * (x[:, 0] - x[:, 1]))


def test_the_haas_effect_makes_mono_wide_and_keeps_the_level():
    x = noise(1, 1, 20_000)
    y = StereoEnhancer(RATE)(x, delay_ms=10.0)
    torch.testing.assert_close(y[:, :1], x)
    correlation = torch.corrcoef(y[0])[0, 1]
    assert correlation.abs() < 0.05
    assert y[:, 1].std().item() == pytest.approx(x.std().item(), rel=0.05)


def test_the_imager_narrows_the_bass_and_leaves_the_treble_wide():
    bass, treble = tone(50.0), tone(9000.0)
    x = torch.cat((bass + treble, -bass - treble), 1)
    narrow = MultibandImager(RATE)(x, band_1_width=0.0)[..., 4000:]
    both = torch.fft.rfft((narrow[0, 0] - narrow[0, 1]) / 2 * torch.hann_window(4000)).abs()
    low, high = both[round(50 * 4000 / RATE)], both[round(9000 * 4000 / RATE)]
    assert 20 * torch.log10(low / high) < -25


def test_the_imager_at_rest_keeps_the_level_of_every_tone():
    imager = MultibandImager(RATE, num_bands=4)
    for hz in (100.0, 700.0, 3000.0):
        x = torch.cat((tone(hz), 0.5 * tone(hz)), 1)
        level = imager(x)[..., 4000:].std(-1) / x[..., 4000:].std(-1)
        assert (20 * torch.log10(level)).abs().max() < 0.05


def test_in_a_narrower_sound_the_mono_sum_is_the_same():
    x = noise(1, 2, 500)
    torch.testing.assert_close(StereoWidener(RATE)(x, width=0.3).sum(1), LinearGain(RATE)(x).sum(1))
