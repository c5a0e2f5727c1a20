import math

import pytest
import torch

from difffx.functional.stem_masks import (
    bin_log_hz,
    isolator_bands,
    mixed_stems,
    steepness,
    strip_coefficients,
)

RANGE = {"lpf_hz": (20.0, 20_000.0), "hpf_hz": (20.0, 20_000.0)}
RATE, N_FFT = 44_100, 2048


def mask(octaves=0.5, **knobs):
    """The factor of each bin, [N], at static settings."""
    neutral = {"gain": 1.0, "eq_low": 1.0, "eq_mid": 1.0, "eq_high": 1.0, "lpf": 1.0, "hpf": 0.0}
    order = steepness(octaves)
    values = [torch.full((1, 1, 1), float(v), dtype=torch.float64) for v in (neutral | knobs).values()]
    log_hz = bin_log_hz(RATE, N_FFT)
    ones = torch.ones(1, 1, 2, 1, len(log_hz), dtype=torch.float64)
    coefficients = strip_coefficients(*values, order=order, **RANGE)
    bands = isolator_bands(log_hz, 300.0, 4000.0, order)
    return mixed_stems([ones], coefficients, bands, order * log_hz)[0, 0, 0, 0]


def db_at(factors, hz):
    """Decibels at any frequency, read between bins in octaves."""
    bins = torch.arange(len(factors)) * RATE / N_FFT
    above = int((bins > hz).nonzero()[0])
    share = math.log(hz / bins[above - 1]) / math.log(bins[above] / bins[above - 1])
    levels = 20 * torch.log10(factors[above - 1 : above + 1])
    return (levels[0] + share * (levels[1] - levels[0])).item()


def test_neutral_settings_are_one_in_every_bin():
    assert torch.allclose(mask(), torch.ones(1025, dtype=torch.float64), atol=1e-15)


def test_the_bands_add_up_to_one_and_meet_at_half():
    log_hz = torch.tensor([20.0, 300.0, 1000.0, 4000.0, 20_000.0], dtype=torch.float64).log()
    bands = isolator_bands(log_hz, 300.0, 4000.0, steepness(0.5))
    assert torch.allclose(bands.sum(0), torch.ones(5, dtype=torch.float64))
    assert bands[0, 1] == pytest.approx(0.5) and bands[2, 3] == pytest.approx(0.5)
    assert bands[1, 2] == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    ("octaves", "expected"), [(-0.5, -0.16), (0.0, -6.02), (0.25, -18.5), (0.5, -34.9), (1.0, -69.5)]
)
def test_a_sweep_has_the_published_slope(octaves, expected):
    cutoff = 20.0 * 1000.0**0.75
    assert db_at(mask(lpf=0.75), cutoff * 2**octaves) == pytest.approx(expected, abs=0.1)
    assert db_at(mask(hpf=0.75), cutoff * 2**-octaves) == pytest.approx(expected, abs=0.1)


def test_a_wider_transition_is_24_db_an_octave():
    falls = mask(1.0 / math.log(2.0), lpf=0.5)
    assert db_at(falls, 632.0 * 8) - db_at(falls, 632.0 * 4) == pytest.approx(-24.1, abs=0.2)


@pytest.mark.parametrize(("band", "hz"), [("eq_low", 60.0), ("eq_mid", 1100.0), ("eq_high", 12_000.0)])
def test_two_is_6_db_more_and_zero_is_gone(band, hz):
    assert db_at(mask(**{band: 2.0}), hz) == pytest.approx(6.02, abs=0.01)
    assert db_at(mask(**{band: 0.0}) + 1e-12, hz) < -100.0


@pytest.mark.parametrize("name", ["lpf", "hpf"])
def test_a_filter_that_opens_does_not_jump(name):
    positions = torch.linspace(0.0, 0.05, 51).tolist()
    masks = torch.stack([mask(**{name: p if name == "hpf" else 1.0 - p}) for p in positions])
    assert masks.diff(dim=0).abs().max() < 0.06


def test_gradients_to_knobs_and_stems_are_those_of_the_formula():
    order, generator = steepness(1.0), torch.Generator().manual_seed(0)
    log_hz = bin_log_hz(8000, 16)
    bands = isolator_bands(log_hz, 900.0, 2000.0, order)
    knobs = torch.rand(2, 2, 6, 3, dtype=torch.float64, generator=generator).mul_(0.9).requires_grad_()
    mono, stereo = (
        torch.randn(b, c, 2, 3, 9, dtype=torch.float64, generator=generator).requires_grad_()
        for b, c in ((1, 1), (2, 2))
    )

    def mixed(knobs, mono, stereo):
        coefficients = strip_coefficients(
            *knobs.unbind(2), order=order, lpf_hz=(300.0, 3000.0), hpf_hz=(300.0, 3000.0)
        )
        return mixed_stems([mono, stereo], coefficients, bands, order * log_hz)

    assert torch.autograd.gradcheck(mixed, (knobs, mono, stereo))
