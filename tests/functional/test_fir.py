from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from difffx.functional import fir

FS = 44_100


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(x: Tensor, taps: Tensor) -> Tensor:
    """Row by row, by the definition."""
    taps = taps.expand(*x.shape[:2], -1)
    rows = [
        np.convolve(u, h)[: x.shape[-1]] for u, h in zip(x.flatten(0, 1), taps.flatten(0, 1), strict=True)
    ]
    return torch.from_numpy(np.stack(rows)).view(x.shape)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize(
    ("samples", "length"),
    [(1, 1), (1, 50), (7, 3), (300, 31), (300, 33), (200, 500), (5000, 100), (3000, 2047)],
)
def test_filtering_is_convolution_for_any_lengths(samples, length, shape):
    x, taps = noise(3, 2, samples), noise(*shape, length, seed=1)
    torch.testing.assert_close(fir.fir_filter(x, taps), convolved(x, taps), rtol=0, atol=1e-10)


def test_single_precision_costs_only_its_own_rounding():
    x, taps = noise(2, 1, 9000).float(), noise(2, 1, 700, seed=1).float()
    y = fir.fir_filter(x, taps)
    expected = convolved(x.double(), taps.double())
    assert y.dtype == torch.float32
    assert 20 * math.log10(float((y - expected).norm() / expected.norm())) < -140


@pytest.mark.parametrize("length", [5, 60])
def test_gradients_equal_finite_differences(length):
    x, taps = noise(2, 2, 90).requires_grad_(), noise(2, 1, length, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(fir.fir_filter, (x, taps))


def test_nothing_is_heard_before_it_happens_nor_wraps_around():
    x = torch.zeros(1, 1, 5000, dtype=torch.float64)
    x[..., -1] = 1
    assert fir.fir_filter(x, noise(1, 1, 1000))[..., :-1].abs().max() < 1e-12


def test_zero_phase_takes_the_delay_back():
    x, half = noise(1, 1, 400), noise(1, 1, 20)
    taps = torch.cat((half.flip(-1), torch.ones(1, 1, 1), half), -1)
    late = fir.fir_filter(x, taps)
    torch.testing.assert_close(fir.zero_phase_filter(x, taps)[..., :-20], late[..., 20:])


def test_a_flat_magnitude_is_one_tap():
    taps = fir.linear_phase_taps(torch.ones(3, 65), 101)
    expected = torch.zeros(3, 101, dtype=torch.float64)
    expected[:, 50] = 1
    torch.testing.assert_close(taps, expected, rtol=0, atol=1e-15)


def test_taps_are_symmetric_and_have_the_magnitude_asked_for():
    hz = torch.linspace(0, FS / 2, 2049, dtype=torch.float64)
    wanted_db = 12 * torch.exp(-((hz - 9000) / 2000).square())
    taps = fir.linear_phase_taps(10 ** (wanted_db / 20)[None], 511)
    torch.testing.assert_close(taps, taps.flip(-1), rtol=0, atol=1e-15)
    torch.testing.assert_close(fir.magnitude_db(taps, hz, FS)[0], wanted_db, rtol=0, atol=1e-3)


def test_more_or_an_even_number_of_taps_than_can_be_drawn_are_refused():
    for count in (100, 131, -1):
        with pytest.raises(ValueError, match=f"odd and at most 129, got {count}"):
            fir.linear_phase_taps(torch.ones(65), count)


def test_taps_for_other_items_or_channels_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 1, 10\) and \(3, 1, 5\)"):
        fir.fir_filter(torch.zeros(4, 1, 10), torch.zeros(3, 1, 5))
    with pytest.raises(ValueError, match=r"\(4, 1, 10\) and \(1, 2, 5\)"):
        fir.fir_filter(torch.zeros(4, 1, 10), torch.zeros(1, 2, 5))
