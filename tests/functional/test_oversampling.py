from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difffx.functional.oversampling import downsample, oversampled, upsample

FACTORS = [2, 3, 4, 8]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tone(frequency: float, samples: int) -> torch.Tensor:
    """frequency in cycles per sample."""
    return torch.sin(2 * math.pi * frequency * torch.arange(samples, dtype=torch.float64)).view(1, 1, -1)


def low_pass(factor: int) -> np.ndarray:
    clock = np.arange(-32 * factor, 32 * factor + 1) / factor
    taps = np.kaiser(64 * factor + 1, 9.3) * np.sinc(clock)
    return taps[:-1] / np.tile(taps[:-1].reshape(64, factor).sum(0), 64)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("samples", [1, 31, 100])
def test_up_is_zero_stuffing_and_a_low_pass(factor, samples):
    x = noise(2, 2, samples)
    y = upsample(x, factor)
    stuffed = np.zeros((2, 2, samples * factor))
    stuffed[..., ::factor] = x.numpy()
    for item, channel in np.ndindex(2, 2):
        full = np.convolve(stuffed[item, channel], low_pass(factor))[32 * factor :][: samples * factor]
        np.testing.assert_allclose(y[item, channel], full, atol=1e-12)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("samples", [1, 31, 100])
def test_down_is_a_low_pass_and_every_nth_sample(factor, samples):
    x = noise(1, 1, samples * factor)
    full = np.convolve(x[0, 0].numpy(), low_pass(factor)[::-1])[32 * factor - 1 :]
    expected = full[: samples * factor : factor] / factor
    np.testing.assert_allclose(downsample(x, factor)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("factor", FACTORS)
def test_the_pass_band_is_flat_and_images_are_90_db_down(factor):
    impulse = torch.zeros(1, 1, 129, dtype=torch.float64)
    impulse[..., 64] = 1.0
    response = torch.fft.rfft(upsample(impulse, factor)[0, 0], 1 << 15).abs() / factor
    level_db = 20 * torch.log10(response + 1e-12)
    frequency = torch.arange(len(response)) * factor / (1 << 15)
    assert level_db[frequency <= 0.453].abs().max() < 0.0003
    assert level_db[frequency >= 0.547].max() < -90.0


@pytest.mark.parametrize("factor", FACTORS)
def test_the_samples_that_were_there_stay_and_constants_pass(factor):
    x = noise(1, 2, 300)
    torch.testing.assert_close(upsample(x, factor)[..., ::factor], x)
    middle = upsample(torch.ones(1, 1, 300, dtype=torch.float64), factor)[..., 40 * factor : -40 * factor]
    torch.testing.assert_close(middle, torch.ones_like(middle))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("frequency", [0.01, 0.23, 0.45])
def test_there_and_back_is_the_tone_without_latency(factor, frequency):
    x = tone(frequency, 600)
    error = (oversampled(x, factor, lambda up: up) - x)[..., 70:-70]
    assert error.abs().max() < 1e-4


def test_an_alias_becomes_silence():
    squared = oversampled(tone(0.4, 2000), 2, torch.square)[0, 0, 100:-100]  # 0.8 of the rate, and DC
    assert (squared - 0.5).abs().max() < 1e-4
    assert (tone(0.4, 2000).square() - 0.5).abs().max() > 0.4


@pytest.mark.parametrize("factor", FACTORS)
def test_gradients_are_exact(factor):
    x = noise(1, 2, 7).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: upsample(x, factor), (x,))
    assert torch.autograd.gradgradcheck(lambda x: upsample(x, factor).pow(3), (x,))
    y = noise(1, 1, 7 * factor).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: downsample(y, factor), (y,))


def test_factor_one_is_nothing_and_others_are_refused():
    x = noise(1, 1, 10)
    assert upsample(x, 1) is x and downsample(x, 1) is x
    with pytest.raises(ValueError, match="factor of 1 to 8, got 16"):
        upsample(x, 16)
    with pytest.raises(ValueError, match="10 samples are no multiple of 4"):
        downsample(x, 4)


@pytest.mark.parametrize("factor", [2, 8])
def test_float32_is_within_minus_120_db(factor):
    x = noise(2, 1, 3000)
    exact = oversampled(x, factor, torch.tanh)
    error = oversampled(x.float(), factor, torch.tanh).double() - exact
    assert 20 * torch.log10(error.norm() / exact.norm()) < -120.0
