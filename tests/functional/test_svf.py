from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from difffx.functional import filters, svf
from difffx.functional.cascade import sosfilt

FS = 44_100
GAINLESS = ["low_pass", "high_pass", "band_pass", "notch", "all_pass"]
WITH_GAIN = ["peak", "low_shelf", "high_shelf"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error_db(y: Tensor, reference: Tensor) -> float:
    return 20 * math.log10(float((y.double() - reference).norm() / reference.norm()) + 1e-20)


def sample_loop(x: Tensor, g: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Trapezoidal integrators, one sample after the other: low and band."""
    x, g, k = (np.moveaxis(y.double().expand(x.shape).numpy(), -1, 0) for y in (x, g, k))
    s, r = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    low, band = np.empty(x.shape), np.empty(x.shape)
    for n in range(len(x)):
        band[n] = (s + g[n] * (x[n] - r)) / (1 + g[n] * (g[n] + k[n]))
        low[n] = r + g[n] * band[n]
        s, r = 2 * band[n] - s, 2 * low[n] - r
    return tuple(torch.from_numpy(np.moveaxis(y, 0, -1).copy()) for y in (low, band))


def wild(items: int, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Frequency 20 Hz to 20 kHz and Q 0.1 to 100, new for every sample: g and k."""
    u, v = uniform(2, items, 1, samples, seed=seed)
    return torch.tan(math.pi * 20 * 1000**u / FS), 1 / (0.1 * 1000**v)


@pytest.mark.parametrize("samples", [1, 2, 127, 128, 129, 255, 4000])
def test_knobs_that_jump_with_every_sample_equal_the_sample_loop(samples):
    x, (g, k) = noise(3, 2, samples), wild(3, samples, seed=samples)
    for y, reference in zip(svf.low_and_band(x, g, k), sample_loop(x, g, k), strict=True):
        assert error_db(y, reference) < -200


def test_a_long_sweep_of_a_20_hz_filter_with_a_q_of_100_does_not_drift():
    samples = 2 * FS
    x, sweep = noise(1, 1, samples), torch.linspace(20, 40, samples, dtype=torch.float64)[None, None]
    g, k = torch.tan(math.pi * sweep / FS), torch.full((1, 1, 1), 0.01, dtype=torch.float64)
    for y, reference in zip(svf.low_and_band(x, g, k), sample_loop(x, g, k), strict=True):
        assert error_db(y, reference) < -150


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("kind", GAINLESS + WITH_GAIN)
def test_moving_knobs_that_stand_still_are_the_section_of_the_cookbook(kind):
    x = noise(4, 2, 3000)
    hz, q = torch.tensor([20.0, 300, 5000, 30_000]), torch.tensor([0.1, 100.0, 2.0, 0.7])
    gain_db = torch.tensor([24.0, -24.0, 0.0, 6.0])
    knobs = {"frequency_hz": hz, "q": q, **({"gain_db": gain_db} if kind in WITH_GAIN else {})}
    static = {name: knob.double().view(4, 1, 1) for name, knob in knobs.items()}
    expected = svf.svf(x, FS, kind=kind, **static)
    for moving in static:
        y = svf.svf(x, FS, kind=kind, **{**static, moving: static[moving].expand(-1, -1, 7)})
        assert error_db(y, expected) < -150


@pytest.mark.parametrize("kind", GAINLESS + WITH_GAIN)
def test_static_knobs_run_as_the_cascade(kind):
    x, one = noise(1, 1, 500), torch.ones(1, 1, 1)
    gain = {"gain_db": 6 * one} if kind in WITH_GAIN else {}
    sos = getattr(filters, kind)(*(knob[..., 0] for knob in (900 * one, *gain.values(), 2 * one)), FS)
    assert torch.equal(svf.svf(x, FS, kind=kind, frequency_hz=900 * one, q=2 * one, **gain), sosfilt(x, sos))


@pytest.mark.usefixtures("tier")
def test_single_precision_costs_only_its_own_rounding():
    x, hz = noise(2, 1, 5000).float(), 20 * 1000 ** uniform(2, 1, 5000)
    q = torch.full((2, 1, 1), 5.0)
    y = svf.svf(x, FS, kind="low_pass", frequency_hz=hz, q=q)
    low, _ = sample_loop(x, torch.tan(math.pi * hz / FS), 1 / q)
    assert y.dtype == torch.float32
    assert error_db(y, low) < -140


def test_a_tone_dies_when_the_cutoff_comes_down_past_it():
    tone = torch.sin(2 * math.pi * 4000 * torch.arange(FS, dtype=torch.float64) / FS)[None, None]
    cutoff_hz = torch.tensor([[[20_000.0, 100.0]]])
    y = svf.svf(tone, FS, kind="low_pass", frequency_hz=cutoff_hz, q=torch.full((1, 1, 1), 0.7))
    assert y[..., : FS // 10].abs().max() > 0.9
    assert y[..., -FS // 100 :].abs().max() < 0.01


@pytest.mark.usefixtures("tier")
def test_a_filter_that_is_thrown_about_does_not_blow_up():
    hz = torch.where(uniform(1, 1, 20_000) > 0.5, 20_000.0, 20.0).double()
    y = svf.svf(noise(1, 1, 20_000), FS, kind="low_pass", frequency_hz=hz, q=torch.full((1, 1, 1), 100.0))
    assert y.abs().max() < 100


def test_low_band_and_high_at_full_level_are_the_input():
    x, one = noise(2, 2, 1000), torch.ones(1, 1, 1)
    hz = 200 + 5000 * uniform(2, 1, 9)
    for frequency_hz in (hz, hz[..., :1]):
        y = svf.state_variable(x, FS, frequency_hz=frequency_hz, q=3 * one, low=one, band=one, high=one)
        torch.testing.assert_close(y, x, rtol=0, atol=1e-12)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("high", [False, True])
def test_a_butterworth_that_moves_but_stands_still_is_the_static_one(order, high):
    x, hz = noise(2, 1, 2000), torch.tensor([40.0, 9000.0], dtype=torch.float64).view(2, 1, 1)
    static = svf.butterworth(x, FS, frequency_hz=hz, order=order, high=high)
    moving = svf.butterworth(x, FS, frequency_hz=hz.expand(-1, -1, 3), order=order, high=high)
    assert error_db(moving, static) < -150


@pytest.mark.parametrize("samples", [1, 4, 5, 14])
def test_gradients_equal_finite_differences(samples, monkeypatch):
    monkeypatch.setattr(svf, "BLOCK", 4)
    x, g, k = noise(2, 2, samples), 2 * uniform(2, 1, samples, seed=1), 0.1 + uniform(2, 1, samples, seed=2)
    assert torch.autograd.gradcheck(svf.low_and_band, [y.requires_grad_() for y in (x, g, k)])


@pytest.mark.usefixtures("tier")
def test_gradients_reach_the_frames_of_every_knob():
    x = noise(1, 1, 300)
    knobs = {"frequency_hz": [300.0, 2000.0, 700.0], "gain_db": [3.0, -9.0, 0.0], "q": [0.5, 2.0, 1.0]}
    frames = [torch.tensor([[v]], dtype=torch.float64, requires_grad=True) for v in knobs.values()]

    def run(*frames: Tensor) -> Tensor:
        return svf.svf(x, FS, kind="high_shelf", **dict(zip(knobs, frames, strict=True)))

    assert torch.autograd.gradcheck(run, frames, eps=1e-5, atol=1e-6, rtol=1e-4)


def test_a_nan_spoils_its_own_item_from_there_on():
    x, (g, k) = noise(2, 1, 700), wild(2, 700, seed=3)
    clean, _ = svf.low_and_band(x, g, k)
    x[0, 0, 400] = math.nan
    low, _ = svf.low_and_band(x, g, k)
    assert torch.equal(low[1], clean[1])
    assert low[0, 0, 400:].isnan().all()


def test_the_past_does_not_hear_the_future():
    x, (g, k) = noise(1, 1, 1000), wild(1, 1000, seed=4)
    later = x.clone()
    later[..., 613:] = 7
    before, after = (svf.low_and_band(y, g, k)[0][..., :613] for y in (x, later))
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


def test_silence_stays_silent():
    g, k = wild(1, 300, seed=5)
    assert all(y.abs().max() == 0 for y in svf.low_and_band(torch.zeros(1, 2, 300), g, k))


def test_wrong_kinds_and_gains_are_refused():
    x, one = noise(1, 1, 10), torch.ones(1, 1, 1)
    with pytest.raises(ValueError, match=r"kind must be one of low_pass, .*; got 'lowpass'"):
        svf.svf(x, FS, kind="lowpass", frequency_hz=one, q=one)
    with pytest.raises(ValueError, match="notch takes no gain_db"):
        svf.svf(x, FS, kind="notch", frequency_hz=one, q=one, gain_db=one)
    with pytest.raises(ValueError, match="peak takes a gain_db"):
        svf.svf(x, FS, kind="peak", frequency_hz=one, q=one)
