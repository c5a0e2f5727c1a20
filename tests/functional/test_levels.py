from __future__ import annotations

import math

import pytest
import torch

from difffx.functional import levels
from difffx.functional.control import at_audio_rate
from difffx.functional.units import amplitude_to_db, db_to_amplitude, ms_to_pole

NORMALIZERS = (levels.normalize_peak, levels.normalize_rms)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_six_decibels_are_about_a_factor_of_two_and_back():
    level_db = torch.tensor([-60.0, 0.0, 20 * math.log10(2)])
    torch.testing.assert_close(db_to_amplitude(level_db), torch.tensor([0.001, 1.0, 2.0]))
    torch.testing.assert_close(amplitude_to_db(db_to_amplitude(level_db)), level_db, rtol=0, atol=1e-4)


def test_the_level_of_silence_is_the_floor_with_a_finite_gradient():
    x = torch.tensor([0.0, -1.0, 1e-9], requires_grad=True)
    level_db = amplitude_to_db(x, floor_db=-80.0)
    torch.testing.assert_close(level_db, torch.tensor([-80.0, 0.0, -80.0]))
    (gradient,) = torch.autograd.grad(level_db.sum(), x)
    assert gradient.isfinite().all()
    assert gradient[0] == gradient[2] == 0


def test_a_time_constant_covers_63_percent_of_a_step():
    pole = ms_to_pole(torch.tensor(10.0, dtype=torch.float64), 44_100)
    assert float(1 - pole**441) == pytest.approx(1 - math.exp(-1))


def test_a_curve_is_straight_between_its_ends():
    curve = torch.tensor([[[0.0, 1.0, -1.0]]])
    expected = torch.tensor([[[0.0, 0.5, 1.0, 0.0, -1.0]]])
    torch.testing.assert_close(at_audio_rate(curve, 5), expected)


def test_a_static_control_is_not_copied():
    control = noise(2, 3, 1)
    assert at_audio_rate(control, 1000) is control


def test_a_constant_gain_curve_equals_the_static_gain():
    x = noise(2, 2, 1000)
    static = levels.gain(x, gain_db=torch.full((2, 1, 1), -7.0))
    torch.testing.assert_close(levels.gain(x, gain_db=torch.full((2, 1, 13), -7.0)), static)
    torch.testing.assert_close(static, x * 10 ** (-7 / 20))


def test_peak_normalization_reaches_full_scale_and_keeps_the_balance():
    x = noise(3, 2, 500) * torch.tensor([[[1.0], [0.1]], [[0.01], [3.0]], [[1e-3], [1e-4]]]) + 0.25
    y = levels.normalize_peak(x)
    torch.testing.assert_close(y.abs().amax((1, 2)), torch.ones(3))
    assert y.mean(-1).abs().max() < 1e-5
    spread = x.std(-1)[:, 0] / x.std(-1)[:, 1]
    torch.testing.assert_close(y.std(-1)[:, 0] / y.std(-1)[:, 1], spread, rtol=1e-3, atol=0)


def test_rms_normalization_reaches_an_rms_of_one():
    y = levels.normalize_rms(0.02 * noise(3, 2, 500) - 0.4)
    torch.testing.assert_close(y.square().mean((1, 2)), torch.ones(3))


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_level_and_offset_before_normalization_cannot_be_heard(normalize):
    x = noise(1, 2, 500, dtype=torch.float64)
    torch.testing.assert_close(normalize(0.03 * x + 0.2), normalize(x))


@pytest.mark.parametrize("normalize", NORMALIZERS)
@pytest.mark.parametrize("offset", [0.0, 0.5, -1.0])
def test_silence_and_offset_alone_stay_silent_with_finite_gradients(normalize, offset):
    x = torch.full((2, 1, 3001), offset, requires_grad=True)
    y = normalize(x)
    assert y.abs().max() < 1e-6
    (gradient,) = torch.autograd.grad(y.sum() + y.square().sum(), x)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("normalize", NORMALIZERS)
def test_gradients_of_normalization_equal_finite_differences(normalize):
    assert torch.autograd.gradcheck(normalize, (noise(2, 2, 9, dtype=torch.float64).requires_grad_(),))


def test_gradients_of_a_gain_curve_equal_finite_differences():
    x = noise(2, 2, 9, dtype=torch.float64).requires_grad_()
    gain_db = (6 * noise(2, 1, 4, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, g: levels.gain(x, gain_db=g), (x, gain_db))


def test_polarity_turns_the_chosen_channels_upside_down():
    x = noise(1, 2, 50)
    upside = torch.ones(1, 1, 1)
    torch.testing.assert_close(levels.polarity(x, invert=upside), -x)
    left = levels.polarity(x, invert=upside, channel="left")
    torch.testing.assert_close(left, torch.cat((-x[:, :1], x[:, 1:]), 1))
    right = levels.polarity(x, invert=upside, channel="right")
    torch.testing.assert_close(right, torch.cat((x[:, :1], -x[:, 1:]), 1))
    assert levels.polarity(x, invert=upside / 2).abs().max() == 0


SHAPES = {
    "linear": lambda u: u,
    "equal_power": lambda u: math.sin(math.pi * u / 2),
    "s_curve": lambda u: (1 - math.cos(math.pi * u)) / 2,
    "exponential": lambda u: (10 ** (3 * u) - 1) / 999,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fade_is_silent_first_and_full_after_its_time(shape):
    ones = torch.ones(2, 1, 500, dtype=torch.float64)
    fade_ms = torch.tensor([100.0, 300.0], dtype=torch.float64).view(2, 1, 1)
    y = levels.fade_in(ones, 1000, fade_ms=fade_ms, shape=shape)
    for item, samples in enumerate((100, 300)):
        expected = [SHAPES[shape](min(n / samples, 1.0)) for n in range(500)]
        torch.testing.assert_close(y[item, 0], torch.tensor(expected, dtype=torch.float64))
    backwards = levels.fade_out(ones, 1000, fade_ms=fade_ms, shape=shape)
    torch.testing.assert_close(backwards, y.flip(-1))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_gradient_to_the_length_of_a_fade_is_exact(shape):
    x = noise(2, 1, 9, dtype=torch.float64).requires_grad_()
    fade_ms = torch.tensor([5.3, 30.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, fade_ms: levels.fade_out(x, 1000, fade_ms=fade_ms, shape=shape), (x, fade_ms)
    )


def test_an_equal_power_fade_out_and_in_keep_the_power():
    ones, fade_ms = torch.ones(1, 1, 101, dtype=torch.float64), torch.full((1, 1, 1), 100.0)
    out = levels.fade_out(ones, 1000, fade_ms=fade_ms, shape="equal_power")
    into = levels.fade_in(ones, 1000, fade_ms=fade_ms, shape="equal_power")
    torch.testing.assert_close(out.square() + into.square(), ones)


@pytest.mark.parametrize("law", ["linear", "equal_power"])
def test_a_crossfade_begins_with_one_sound_and_ends_with_the_other(law):
    a, b = noise(1, 2, 101), noise(1, 1, 101).roll(7)
    y = levels.crossfade(a, b, position=torch.tensor([[[0.0, 1.0]]]), law=law)
    torch.testing.assert_close(y[..., 0], a[..., 0])
    torch.testing.assert_close(y[..., -1], b[..., -1].expand(1, 2))
    share = 0.5 if law == "linear" else 0.5**0.5
    torch.testing.assert_close(y[..., 50], share * (a + b)[..., 50])


def test_the_offset_dies_away_and_the_sound_stays():
    tone = torch.sin(2 * math.pi * 1000 * torch.arange(44_100, dtype=torch.float64) / 44_100).view(1, 1, -1)
    y = levels.without_dc(tone + 0.5, 44_100)[..., -4410:]
    assert y.mean().abs() < 1e-4
    torch.testing.assert_close(y.square().mean().sqrt().item(), 0.5**0.5, rtol=1e-3, atol=0)
