from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal

from difffx.functional.crossover import linkwitz_riley

SAMPLE_RATE = 44_100


def hertz(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def responses(*frequencies_hz: float, samples: int = 1 << 16) -> torch.Tensor:
    """Impulse in, the spectrum of each band out, [N, samples / 2 + 1]."""
    x = torch.zeros(1, 1, samples, dtype=torch.float64)
    x[..., 0] = 1.0
    return torch.fft.rfft(linkwitz_riley(x, SAMPLE_RATE, frequency_hz=hertz(*frequencies_hz)))[:, 0, 0]


def level_db(response: torch.Tensor, hz: float) -> float:
    bins = 2 * (response.shape[-1] - 1)
    return 20.0 * math.log10(response[round(hz / SAMPLE_RATE * bins)].abs().item())


@pytest.mark.parametrize(
    "frequencies_hz",
    [
        (1000.0,),
        (200.0, 2000.0),
        (800.0, 1000.0),
        (2000.0, 500.0, 500.0, 15_000.0),
        (30.0, 40.0, 50.0, 21_600.0),
    ],
)
def test_the_bands_add_up_flat_wherever_they_meet(frequencies_hz):
    total = responses(*frequencies_hz).sum(0)
    assert (20.0 * total.abs().log10()).abs().max() < 1e-6


def test_neighbors_meet_six_decibels_down_and_in_phase():
    low, high = responses(1000.0)
    assert level_db(low, 1000.0) == pytest.approx(-6.02, abs=0.02)
    assert level_db(high, 1000.0) == pytest.approx(-6.02, abs=0.02)
    angle = (low / high).angle().abs()
    assert angle[10:20_000].max() < 1e-4


def test_a_band_dies_by_24_db_an_octave_on_both_sides():
    _, middle, _ = responses(1000.0, 3000.0)
    assert level_db(middle, 62.5) - level_db(middle, 125.0) == pytest.approx(-24.0, abs=0.2)
    assert level_db(middle, 125.0) < -70.0
    assert level_db(middle, 12_000.0) < -48.0
    assert level_db(middle, 1732.0) == pytest.approx(-1.83, abs=0.1)


def test_two_bands_are_butterworth_filters_twice():
    x = np.random.default_rng(0).standard_normal(2000)
    bands = linkwitz_riley(torch.tensor(x).view(1, 1, -1), SAMPLE_RATE, frequency_hz=hertz(700.0))
    for band, kind in zip(bands, ("low", "high"), strict=True):
        sos = signal.butter(2, 700.0, kind, fs=SAMPLE_RATE, output="sos")
        expected = signal.sosfilt(np.concatenate([sos, sos]), x)
        np.testing.assert_allclose(band[0, 0].numpy(), expected, atol=1e-12)


def test_items_have_their_own_frequencies_and_channels_share_them():
    x = torch.randn(3, 2, 500, generator=torch.Generator().manual_seed(0))
    frequency_hz = torch.tensor([[200.0, 900.0], [400.0, 5000.0], [60.0, 70.0]]).unsqueeze(-1)
    together = linkwitz_riley(x, SAMPLE_RATE, frequency_hz=frequency_hz)
    assert together.shape == (3, 3, 2, 500)
    for item in range(3):
        one = linkwitz_riley(x[item : item + 1, 1:], SAMPLE_RATE, frequency_hz=frequency_hz[item : item + 1])
        torch.testing.assert_close(together[:, item : item + 1, 1:], one)


def test_the_frequencies_have_the_gradients_of_finite_differences():
    x = torch.randn(1, 1, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frequency_hz = hertz(900.0, 4000.0).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda f: linkwitz_riley(x, SAMPLE_RATE, frequency_hz=f), (frequency_hz,), eps=1e-3, atol=1e-8
    )
