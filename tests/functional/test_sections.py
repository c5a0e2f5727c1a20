"""Coefficients of single filters; the recursion they run on is tested in test_filters.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from difffx.functional import filters
from difffx.functional.cascade import sosfilt

FS = 44_100
ANALOG = {
    "low_pass": [0, 0, 1],
    "high_pass": [1, 0, 0],
    "band_pass": [0, "1/q", 0],
    "notch": [1, 0, 1],
    "all_pass": [1, "-1/q", 1],
}


def number(value: float) -> Tensor:
    return torch.tensor([[float(value)]], dtype=torch.float64)


def analog(kind: str, q: float) -> list[float]:
    return [{"1/q": 1 / q, "-1/q": -1 / q}.get(c, c) for c in ANALOG[kind]]


def level_db(sos: Tensor, at_hz: float) -> float:
    return float(filters.magnitude_db(sos, torch.tensor([at_hz]), FS))


def error_db(y: Tensor, reference: np.ndarray) -> float:
    reference = torch.from_numpy(reference)
    return 20 * math.log10(float((y.double() - reference).norm() / reference.norm()) + 1e-20)


@pytest.mark.parametrize("kind", ANALOG)
@pytest.mark.parametrize("frequency_hz", [20, 1000, 20_000])
@pytest.mark.parametrize("q", [0.1, 0.7, 100])
def test_sections_are_the_bilinear_transform_of_their_analog_prototypes(kind, frequency_hz, q):
    fs = 0.5 / math.tan(math.pi * frequency_hz / FS)
    b, a = scipy.signal.bilinear(analog(kind, q), [1, 1 / q, 1], fs=fs)
    sos = getattr(filters, kind)(number(frequency_hz), number(q), FS)
    torch.testing.assert_close(sos[0, 0], torch.from_numpy(np.concatenate((b, a))), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", ANALOG)
@pytest.mark.parametrize(("frequency_hz", "q"), [(20, 100), (20, 0.7), (1000, 10), (18_000, 0.1)])
def test_a_second_of_single_precision_noise_equals_a_double_precision_loop(kind, frequency_hz, q):
    x = torch.randn(1, 1, FS, generator=torch.Generator().manual_seed(0))
    sos = getattr(filters, kind)(number(frequency_hz), number(q), FS)
    reference = scipy.signal.sosfilt(sos[0].numpy(), x.double().numpy())
    assert error_db(sosfilt(x, sos), reference) < -140


def test_levels_stand_where_musicians_expect_them():
    q, center = number(2), number(1000)
    low, high, band, notch, all_pass = (getattr(filters, kind)(center, q, FS) for kind in ANALOG)
    assert level_db(low, 1000) == pytest.approx(20 * math.log10(2), abs=1e-6)
    assert level_db(high, 1000) == pytest.approx(20 * math.log10(2), abs=1e-6)
    assert level_db(low, 20) == pytest.approx(0, abs=0.01)
    assert level_db(low, 8000) < -36
    assert level_db(high, 20_000) == pytest.approx(0, abs=0.01)
    assert level_db(high, 125) < -36
    assert level_db(band, 1000) == pytest.approx(0, abs=1e-9)
    assert level_db(band, 781) == pytest.approx(-3, abs=0.1)
    assert level_db(notch, 1000) < -200
    assert level_db(notch, 20) == pytest.approx(0, abs=0.01)
    assert all(abs(level_db(all_pass, hz)) < 1e-9 for hz in (20, 900, 1000, 15_000))


def test_an_all_pass_turns_the_phase_by_half_at_its_frequency():
    response = filters.frequency_response(
        filters.all_pass(number(900), number(3), FS), torch.tensor([900.0]), FS
    )
    assert complex(response) == pytest.approx(-1, abs=1e-9)


@pytest.mark.parametrize("order", range(1, 10))
@pytest.mark.parametrize("kind", ["lowpass", "highpass"])
@pytest.mark.parametrize("frequency_hz", [20, 1000, 20_000])
def test_butterworth_filters_are_those_of_scipy(order, kind, frequency_hz):
    design = filters.butterworth_low_pass if kind == "lowpass" else filters.butterworth_high_pass
    sos = design(number(frequency_hz)[0], order, FS)
    assert sos.shape == (1, (order + 1) // 2, 6)
    hz = torch.tensor([10.0, 100, 900, 5000, 19_000, 21_500], dtype=torch.float64)
    wanted = scipy.signal.butter(order, frequency_hz, kind, fs=FS, output="sos")
    expected = torch.from_numpy(scipy.signal.sosfreqz(wanted, hz.numpy(), fs=FS)[1])
    torch.testing.assert_close(filters.frequency_response(sos, hz, FS)[0], expected, rtol=1e-6, atol=0)
    assert level_db(sos, frequency_hz) == pytest.approx(10 * math.log10(0.5), abs=1e-6)


@pytest.mark.parametrize("order", [0, -1, 2.5])
def test_an_order_that_is_no_count_is_refused(order):
    with pytest.raises(ValueError, match="order must be a whole number"):
        filters.butterworth_low_pass(number(100), order, FS)


def test_a_first_order_high_pass_takes_an_offset_away():
    x = torch.full((1, 1, FS), 0.5)
    y = sosfilt(x, filters.first_order_high_pass(number(20), FS))
    assert y[0, 0, 0] == pytest.approx(0.5, abs=0.01)
    assert y[..., -100:].abs().max() < 1e-6


def test_the_three_outputs_of_a_state_variable_filter_add_up_to_the_input():
    sos = filters.state_variable(number(700), number(5), 1.0, 1.0, 1.0, FS)
    torch.testing.assert_close(sos[..., :3], sos[..., 3:], rtol=1e-12, atol=0)
    half = filters.state_variable(number(700), number(5), 0.5, 0.0, 0.0, FS)
    torch.testing.assert_close(2 * half[..., :3], filters.low_pass(number(700), number(5), FS)[..., :3])
