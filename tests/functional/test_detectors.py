from __future__ import annotations

import math

import pytest
import torch

from difffx.functional import detectors

SAMPLE_RATE = 44_100


def curve(items: int = 2, samples: int = 1000, seed: int = 0) -> torch.Tensor:
    """Spikes of all sizes, silence between."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(items, 2, samples, generator=generator, dtype=torch.float64) ** 6
    return u * (torch.rand(items, 2, samples, generator=generator) > 0.3)


def knob(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


@pytest.mark.parametrize("window", [1, 2, 3, 7, 64, 100, 999, 1000, 5000])
def test_the_sliding_maximum_is_the_maximum_of_every_window_and_so_is_its_gradient(window):
    u = curve().requires_grad_()
    y = detectors.sliding_max(u, window)
    expected = torch.stack([u[..., max(0, n - window + 1) : n + 1].amax(-1) for n in range(1000)], -1)
    torch.testing.assert_close(y, expected, rtol=0.0, atol=0.0)
    weight = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weight = weight * (y > 0)  # where all is silent, all samples of a window win
    gradients = [torch.autograd.grad((z * weight).sum(), u)[0] for z in (y, expected)]
    torch.testing.assert_close(*gradients)


def test_a_window_of_no_samples_is_refused():
    with pytest.raises(ValueError, match="at least 1 sample"):
        detectors.sliding_max(curve(), 0)


@pytest.mark.parametrize("pole", [0.0, 0.5, 0.99, 0.999999])
def test_the_decaying_peak_is_the_loop(pole):
    u = curve(samples=2000)
    now, expected = torch.zeros(2, 2), []
    for sample in u.unbind(-1):
        now = torch.maximum(sample, pole * now)
        expected.append(now)
    y = detectors.decaying_peak(u, knob(pole))
    torch.testing.assert_close(y, torch.stack(expected, -1), rtol=1e-12, atol=1e-300)


def test_the_decaying_peak_falls_by_the_right_factor_after_thirty_seconds():
    u = torch.zeros(1, 1, 30 * SAMPLE_RATE)
    u[..., 0] = 1.0
    pole = torch.exp(knob(-1.0 / SAMPLE_RATE))
    assert detectors.decaying_peak(u, pole)[0, 0, -1].item() == pytest.approx(math.exp(-30.0), rel=1e-4)


def test_the_decaying_peak_has_the_gradients_of_finite_differences():
    u, pole = (curve(2, 12) + 1e-3).requires_grad_(), knob(0.9, 0.4).requires_grad_()
    assert torch.autograd.gradcheck(detectors.decaying_peak, (u, pole))


def test_silence_has_finite_gradients():
    u, pole = torch.zeros(1, 1, 100, requires_grad=True), knob(0.0).requires_grad_()
    for y in (detectors.decaying_peak(u, pole), detectors.sliding_max(u, 9)):
        y.sum().backward()
        assert u.grad.isfinite().all() and pole.grad.isfinite().all()


def test_hysteresis_is_the_loop():
    u = (curve(3, 3000) - 0.2).cumsum(-1)
    width = knob(0.0, 0.3, 30.0)
    now, expected = u[..., 0], []
    for sample in u.unbind(-1):
        now = torch.maximum(sample, torch.minimum(sample + width[..., 0], now))
        expected.append(now)
    y = detectors.hysteresis(u, width)
    torch.testing.assert_close(y, torch.stack(expected, -1), rtol=0.0, atol=0.0)
    torch.testing.assert_close(y[0], u[0], rtol=0.0, atol=0.0)


def test_hysteresis_has_the_gradients_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(2, 1, 20, generator=generator, dtype=torch.float64).requires_grad_()
    width = knob(0.05, 0.3).requires_grad_()
    assert torch.autograd.gradcheck(detectors.hysteresis, (u, width))


def test_a_threshold_is_crossed_downwards_lower_by_the_width():
    u = torch.tensor([[[-30.0, -19.0, -21.0, -23.9, -24.1, -30.0, -21.0, -19.0]]])
    above = detectors.hysteresis(u, torch.tensor([[[4.0]]])) > -20.0
    assert above[0, 0].tolist() == [False, True, True, True, False, False, False, True]


def test_the_rms_of_a_sine_is_three_decibels_below_its_peak_and_the_loudest_channel_counts():
    time = torch.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    sine = 0.5 * torch.sin(2 * math.pi * 1000 * time).view(1, 1, -1)
    pole = torch.exp(knob(-1.0 / (0.05 * SAMPLE_RATE)))
    level = detectors.rms(torch.cat((0.1 * sine, sine), 1), pole, -80.0)
    assert level.shape == (1, 1, SAMPLE_RATE // 2)
    assert level[0, 0, -1].item() == pytest.approx(0.5 * math.sqrt(0.5), rel=3e-3)


def test_ahead_brings_the_future_and_silence_after_the_end():
    x = torch.arange(5.0).view(1, 1, 5)
    assert detectors.ahead(x, 2)[0, 0].tolist() == [2.0, 3.0, 4.0, 0.0, 0.0]
    assert detectors.ahead(x, 9)[0, 0].tolist() == [0.0] * 5
    assert detectors.ahead(x, 0) is x


def test_the_moving_average_is_the_mean_of_the_window_with_silence_before():
    u = curve(1, 50)
    expected = torch.stack([u[..., max(0, n - 6) : n + 1].sum(-1) / 7 for n in range(50)], -1)
    torch.testing.assert_close(detectors.moving_average(u, 7), expected)


def test_a_nan_stays_in_its_row():
    u = curve(2, 300)
    u[0, 0, 100] = torch.nan
    for y in (
        detectors.decaying_peak(u, knob(0.9)),
        detectors.sliding_max(u, 9),
        detectors.hysteresis(u, knob(0.1)),
    ):
        assert y[1].isfinite().all() and y[0, 1].isfinite().all() and y[0, 0, 100].isnan()


@pytest.mark.parametrize("window", [2, 7, 49, 50, 51, 90])
def test_the_moving_average_has_the_gradient_of_its_transpose(window):
    u = curve(1, 50).requires_grad_()
    weight = torch.randn(u.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (detectors.moving_average(u, window) * weight).sum().backward()
    expected = torch.stack([weight[..., k : k + window].sum(-1) / window for k in range(50)], -1)
    torch.testing.assert_close(u.grad, expected)
