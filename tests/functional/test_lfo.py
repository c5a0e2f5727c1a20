"""Low-frequency oscillators: where each shape stands in its cycle, for an hour, and along curves of rate."""

import math

import pytest
import torch

from difffx.functional.lfo import EDGE, SHAPES, cycles, lfo, wave

EVERY = pytest.mark.parametrize("shape", SHAPES)
RATE = 44_100


def knob(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("sine", [0, math.sqrt(0.5), 1, math.sqrt(0.5), 0, -math.sqrt(0.5), -1, -math.sqrt(0.5)]),
        ("triangle", [0, 0.5, 1, 0.5, 0, -0.5, -1, -0.5]),
        ("saw", [0, 0.25 / 0.98, 0.5 / 0.98, 0.75 / 0.98, 0, -0.75 / 0.98, -0.5 / 0.98, -0.25 / 0.98]),
        ("square", [0, 1, 1, 1, 0, -1, -1, -1]),
    ],
)
def test_each_shape_stands_where_it_should(shape, expected):
    y = lfo(16, 8, rate_hz=knob(1.0), shape=shape)
    assert torch.allclose(y, torch.tensor(expected * 2, dtype=torch.float64), atol=1e-12)


@EVERY
def test_a_shape_keeps_between_its_ends_reaches_them_and_never_jumps(shape):
    y = wave(torch.linspace(0, 1, 10_001, dtype=torch.float64), shape)
    assert y.max() <= 1 and y.min() >= -1 and y.max() > 0.999 and y.min() < -0.999
    assert abs(y.mean()) < 1e-3
    assert y.diff().abs().max() <= 2.0 / EDGE / 10_000 + 1e-9
    assert abs(y[0] - y[-1]) < 1e-12


@EVERY
def test_a_phase_is_a_start_later_in_the_cycle(shape):
    whole = lfo(400, 400, rate_hz=knob(1.0), shape=shape)
    late = lfo(200, 400, rate_hz=knob(1.0), phase=knob(0.25, 0.5).view(1, 2, 1), shape=shape)
    assert late.shape == (1, 2, 200)
    assert torch.allclose(late[0, 0], whole[0, 0, 100:300], atol=1e-9)
    assert torch.allclose(late[0, 1], whole[0, 0, 200:400], atol=1e-9)


@EVERY
def test_a_steady_curve_is_a_steady_rate(shape):
    rate_hz = knob(0.1, 3.7, 20.0)
    curve = lfo(5000, RATE, rate_hz=rate_hz.expand(-1, -1, 7), phase=0.3, shape=shape)
    assert torch.allclose(curve, lfo(5000, RATE, rate_hz=rate_hz, phase=0.3, shape=shape), atol=1e-7)


def test_the_phase_is_right_after_ten_minutes():
    samples, rate_hz = 600 * 1000, 7.3
    y = lfo(samples, 1000, rate_hz=torch.tensor([[[rate_hz]]]))[0, 0, -1000:]
    turns = float(torch.tensor(rate_hz)) / 1000 * torch.arange(samples - 1000, samples, dtype=torch.float64)
    assert torch.allclose(y, (2 * math.pi * turns).sin(), atol=1e-9)
    curve = lfo(samples, 1000, rate_hz=torch.full((1, 1, 2), rate_hz))[0, 0, -1000:]
    assert torch.allclose(curve, y, atol=1e-7)


def test_a_rising_rate_is_integrated():
    samples = 4 * RATE
    curve = torch.tensor([[[0.0, 4.0]]], dtype=torch.float64)
    turned = cycles(samples, RATE, rate_hz=curve)[0, 0]
    seconds = torch.arange(samples, dtype=torch.float64) / RATE
    expected = 0.5 * seconds.square()  # the rate is t Hz after t seconds
    gap = turned - expected
    assert ((gap - gap.round()).abs() < 1e-4).all()
    assert (turned >= 0).all() and (turned < 1).all()


@EVERY
def test_gradients_equal_finite_differences(shape):
    rate_hz, phase = knob(3.1, 11.7).requires_grad_(), knob(0.1313, 0.2171).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda r, p: lfo(70, 100, rate_hz=r, phase=p, shape=shape), (rate_hz, phase))
    curve = torch.tensor([[[3.1, 8.3, 0.7, 4.9]]], dtype=torch.float64).requires_grad_()
    assert check(lambda r, p: lfo(70, 100, rate_hz=r, phase=p, shape=shape), (curve, phase))


@EVERY
def test_the_very_first_sample_has_a_gradient_to_the_phase(shape):
    phase = knob(0.0).requires_grad_()
    lfo(1, RATE, rate_hz=knob(1.0), phase=phase, shape=shape).sum().backward()
    assert phase.grad > 1


def test_an_unknown_shape_is_refused():
    with pytest.raises(ValueError, match="sine, triangle, saw, square, got 'random'"):
        lfo(10, 100, rate_hz=knob(1.0), shape="random")
