from __future__ import annotations

import math

import pytest
import torch

from difffx.losses import Estimate, Mel, MultiScale
from difffx.metrics import audio_metrics

RATE = 44_100


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sine(frequency: float, seconds: float = 1.0) -> torch.Tensor:
    t = torch.arange(round(seconds * RATE), dtype=torch.float64) / RATE
    return torch.sin(2 * math.pi * frequency * t).reshape(1, 1, -1)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_sound_at_another_level_is_perfect(channels):
    x = noise(2, channels, RATE)
    found = audio_metrics(0.3 * x, x, RATE)
    assert found["si_sdr"].min() == pytest.approx(100, abs=5)
    for name in ("mel", "mrstft", "third_octave_db", "envelope_db"):
        assert found[name].shape == (2,)
        assert found[name].max() < 1e-3


def test_items_do_not_hear_each_other():
    x, y = noise(3, 2, RATE), noise(3, 2, RATE, seed=1)
    y = y * torch.tensor([0.1, 1.0, 5.0]).reshape(3, 1, 1) + x
    together = audio_metrics(y, x, RATE)
    for k in range(3):
        alone = audio_metrics(y[k : k + 1], x[k : k + 1], RATE)
        for name, value in alone.items():
            assert together[name][k].item() == pytest.approx(value.item(), rel=1e-4), name


def test_one_item_has_the_value_of_the_loss():
    x, y = noise(1, 2, RATE), noise(1, 2, RATE, seed=1).cumsum(-1)
    found = audio_metrics(y, x, RATE)
    pair = Estimate(y), Estimate(x)
    assert found["mel"].item() == pytest.approx(Mel(RATE)(*pair)["mel"].item(), rel=1e-5)
    assert found["mrstft"].item() == pytest.approx(MultiScale()(*pair)["multi_scale"].item(), rel=1e-5)


def test_si_sdr_of_orthogonal_noise_is_the_ratio_of_the_powers():
    x, y = sine(441.0), sine(882.0)
    assert audio_metrics(x + 0.1 * y, x, RATE)["si_sdr"].item() == pytest.approx(20.0, abs=1e-3)
    assert audio_metrics(-5 * (x + 0.1 * y), x, RATE)["si_sdr"].item() == pytest.approx(20.0, abs=1e-3)


def test_a_band_raised_by_six_decibels_is_six_decibels_off():
    tones = [63.0, 250.0, 1000.0, 4000.0]
    quiet = [100.0, 160.0]
    x = sum(sine(f) for f in tones)
    faint = 1e-3 * sum(sine(f) for f in quiet)
    # the two faint bands carry next to nothing, so that raising them leaves the level alone
    found = audio_metrics(x + 2 * faint, x + faint, RATE)["third_octave_db"].item()
    assert found == pytest.approx(20 * math.log10(2) * 2 / 6, abs=0.01)


def test_bands_far_below_the_strongest_do_not_count():
    x = sine(1000.0) + 1e-5 * sine(250.0)
    y = sine(1000.0) + 1e-7 * sine(250.0)
    assert audio_metrics(y, x, RATE)["third_octave_db"].item() < 0.01


def test_the_envelope_error_of_a_gain_step_is_its_distance_from_the_equal_level():
    x = noise(1, 1, 2 * RATE)
    y = x.clone()
    y[..., RATE:] *= 0.5
    level = 10 * math.log10((1 + 0.25) / 2)
    want = (abs(level) + abs(20 * math.log10(0.5) - level)) / 2
    assert audio_metrics(y, x, RATE)["envelope_db"].item() == pytest.approx(want, abs=0.02)


def test_silence_is_finite_on_either_side():
    x = noise(1, 1, RATE)
    for pair in ((x, 0 * x), (0 * x, x), (0 * x, 0 * x)):
        assert all(torch.isfinite(value).all() for value in audio_metrics(*pair, RATE).values())


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        audio_metrics(noise(1, 1, RATE), noise(1, 2, RATE), RATE)
