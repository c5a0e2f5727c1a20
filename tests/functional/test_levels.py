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
