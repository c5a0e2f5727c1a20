from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import signal

from difffx.functional import limiting

SAMPLE_RATE = 44_100
pytestmark = pytest.mark.usefixtures("tier")


def knob(*values: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype).view(-1, 1, 1)


def bursts(items: int, samples: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.rand(items, 1, samples, generator=generator, dtype=torch.float64) ** 8
    return (torch.randn(items, 2, samples, generator=generator, dtype=torch.float64) * shape).to(dtype)


def reference(
    x: np.ndarray, ceiling_db: float, drive_db: float, release_ms: float, lookahead: int
) -> np.ndarray:
    """The law sample by sample; x [C, T]."""
    x = x * 10.0 ** (drive_db / 20.0)
    ceiling, pole = 10.0 ** (ceiling_db / 20.0), math.exp(-1000.0 / (release_ms * SAMPLE_RATE))
    excess = np.maximum(1.0 - ceiling / np.maximum(np.abs(x).max(0), 1e-30), 0.0)
    samples, now, released = x.shape[1], 0.0, []
    padded = np.concatenate([np.zeros(lookahead), excess, np.zeros(lookahead)])
    for n in range(samples + lookahead):
        now = max(padded[n : n + lookahead + 1].max(), pole * now)
        released.append(now)
    window = np.ones(lookahead // 2 + 1)
    other = np.ones(lookahead - lookahead // 2 + 1)
    smooth = np.convolve(np.convolve(released, window / window.size), other / other.size)
    return x * (1.0 - smooth[lookahead : lookahead + samples])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(12))
def test_no_sample_ever_leaves_above_the_ceiling(seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    ceiling_db, drive_db, release = torch.rand(3, 4, 1, 1, generator=generator).to(dtype)
    ceiling_db, drive_db, release_ms = -24.0 * ceiling_db, 40.0 * drive_db, 10.0 ** (4.0 * release - 1.0)
    lookahead = int(torch.randint(0, 300, (), generator=generator)) if seed else 0
    x = bursts(4, 3000, seed, dtype)
    y = limiting.limiter(
        x, SAMPLE_RATE, ceiling_db=ceiling_db, drive_db=drive_db, release_ms=release_ms, lookahead=lookahead
    )
    ceiling = (10.0 ** (ceiling_db.double() / 20.0)).flatten()
    assert (y.double().abs().amax((1, 2)) <= ceiling).all()
    assert (y.double().abs().amax((1, 2)) >= 0.99 * torch.minimum(ceiling, x.abs().amax((1, 2)))).all()


def test_a_moving_ceiling_is_kept_at_every_sample():
    ceiling_db = torch.tensor([[[0.0, -20.0, -3.0]]], dtype=torch.float64)
    x = 4.0 * bursts(1, 5000, 3, torch.float64)
    y = limiting.limiter(
        x, SAMPLE_RATE, ceiling_db=ceiling_db, drive_db=knob(0.0), release_ms=knob(50.0), lookahead=88
    )
    curve = torch.nn.functional.interpolate(ceiling_db, size=5000, mode="linear", align_corners=True)
    assert (y.abs() <= 10.0 ** (curve / 20.0)).all()


@pytest.mark.parametrize("lookahead", [0, 1, 2, 57, 5000])
def test_the_limiter_is_the_float64_loop(lookahead):
    rows = [(-6.0, 6.0, 50.0), (-24.0, 30.0, 1000.0), (0.0, 0.0, 1.0)]
    x = bursts(3, 3000, 5, torch.float64)
    ceiling_db, drive_db, release_ms = (
        knob(*column, dtype=torch.float64) for column in zip(*rows, strict=True)
    )
    y = limiting.limiter(
        x, SAMPLE_RATE, ceiling_db=ceiling_db, drive_db=drive_db, release_ms=release_ms, lookahead=lookahead
    )
    for item, row in enumerate(rows):
        expected = reference(x[item].numpy(), *row, lookahead)
        np.testing.assert_allclose(y[item].numpy(), expected, atol=5e-7 * np.abs(expected).max())


def test_what_stays_below_the_ceiling_passes_untouched():
    x = bursts(2, 2000, 1)
    x = 0.5 * x / x.abs().max()
    y = limiting.limiter(
        x, SAMPLE_RATE, ceiling_db=knob(-6.0), drive_db=knob(0.0), release_ms=knob(50.0), lookahead=88
    )
    torch.testing.assert_close(y, x, rtol=0.0, atol=0.0)


def test_the_gain_comes_down_before_the_peak_and_goes_back_by_the_release():
    x = torch.full((1, 1, 20_000), 0.1, dtype=torch.float64)
    x[..., 5000] = 2.0
    y = limiting.limiter(
        x, SAMPLE_RATE, ceiling_db=knob(0.0), drive_db=knob(0.0), release_ms=knob(100.0), lookahead=100
    )
    reduction = 1.0 - (y / x)[0, 0]
    assert reduction[:4900].abs().max() == 0.0
    assert (reduction[4900:5001].diff() > 0.0).all()
    assert reduction[5000].item() == pytest.approx(0.5, abs=1e-3)
    later = reduction[6000 + 4410].item() / reduction[6000].item()
    assert later == pytest.approx(math.exp(-1.0), rel=1e-6)
    assert (reduction.diff().abs() < 0.5 / 25).all()


def test_the_stereo_image_does_not_move():
    x = bursts(1, 2000, 2)[:, :1]
    stereo = torch.cat([x, -0.25 * x], 1)
    settings = {"ceiling_db": knob(-12.0), "drive_db": knob(12.0), "release_ms": knob(50.0), "lookahead": 44}
    y = limiting.limiter(stereo, SAMPLE_RATE, **settings)
    torch.testing.assert_close(y[:, 1], -0.25 * y[:, 0])


@pytest.mark.parametrize("cutoff", [0.1, 0.25, 0.4])
def test_between_the_samples_the_true_peak_limiter_keeps_within_a_tenth_of_a_decibel(cutoff):
    generator = torch.Generator().manual_seed(int(1000 * cutoff))
    spectrum = torch.fft.rfft(torch.randn(2, 1, 8192, generator=generator, dtype=torch.float64))
    spectrum[..., int(cutoff * 8192) :] = 0.0
    x = torch.fft.irfft(spectrum)
    x = x / x.abs().amax(-1, keepdim=True)
    over_db = []
    for true_peak in (False, True):
        y = limiting.limiter(
            x,
            SAMPLE_RATE,
            ceiling_db=knob(-6.0),
            drive_db=knob(6.0),
            release_ms=knob(50.0),
            lookahead=88,
            true_peak=true_peak,
        )
        fine = signal.resample_poly(y.numpy(), 8, 1, axis=-1, window=("kaiser", 12.0))
        over_db.append(20.0 * math.log10(np.abs(fine).max()) + 6.0)
    assert over_db[1] <= 0.1
    assert over_db[0] > over_db[1]


def test_the_peak_between_two_samples_of_a_sine_is_found():
    time = torch.arange(1000, dtype=torch.float64)
    for cycles in (0.05, 0.25, 0.4):
        x = torch.sin(2 * math.pi * cycles * time + math.pi / 4) * torch.hann_window(1001)[:-1].double()
        x = x.view(1, 1, -1)
        assert 20.0 * limiting.interpolated_peak(x).max().log10().item() == pytest.approx(0.0, abs=0.11)


def test_the_limiter_has_the_gradients_of_finite_differences():
    x = (bursts(1, 16, 7, torch.float64) + 1e-3).requires_grad_()
    values = [knob(v, dtype=torch.float64).requires_grad_() for v in (-12.0, 3.0, 1.0)]
    names = ("ceiling_db", "drive_db", "release_ms")

    def limited(x: torch.Tensor, *values: torch.Tensor, true_peak: bool) -> torch.Tensor:
        settings = dict(zip(names, values, strict=True))
        return limiting.limiter(x, SAMPLE_RATE, **settings, lookahead=5, true_peak=true_peak)

    for true_peak in (False, True):
        assert torch.autograd.gradcheck(
            lambda *inputs, t=true_peak: limited(*inputs, true_peak=t), (x, *values), atol=2e-5
        )


@pytest.mark.parametrize("true_peak", [False, True])
@pytest.mark.parametrize("samples", [1, 300])
def test_silence_and_single_samples_have_finite_gradients(samples, true_peak):
    for level in (0.0, 3.0):
        x = torch.full((1, 2, samples), level).requires_grad_()
        values = [knob(v).requires_grad_() for v in (-24.0, 24.0, 5.0)]
        y = limiting.limiter(
            x,
            SAMPLE_RATE,
            ceiling_db=values[0],
            drive_db=values[1],
            release_ms=values[2],
            lookahead=88,
            true_peak=true_peak,
        )
        y.sum().backward()
        assert y.shape == x.shape and y.isfinite().all() and x.grad.isfinite().all()
        assert all(value.grad.isfinite().all() for value in values)
