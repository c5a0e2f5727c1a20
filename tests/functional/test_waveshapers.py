from __future__ import annotations

import numpy as np
import pytest
import torch

from difffx.functional import waveshapers

SHAPERS = {
    "taylor": (waveshapers.taylor_shaper, lambda v, p: np.polynomial.Polynomial([0.0, *p])(v)),
    "chebyshev": (waveshapers.chebyshev_shaper, lambda v, p: np.polynomial.chebyshev.chebval(v, p)),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0


def knob(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def closed_form(x: np.ndarray, drive_db: float, offset: float, shape: float) -> np.ndarray:
    def curve(u: np.ndarray) -> np.ndarray:
        cubic = np.where(np.abs(u) < 1.5, u - 4.0 / 27.0 * u**3, np.sign(u))
        hard = (np.abs(u + 1.0) - np.abs(u - 1.0)) / 2.0
        if shape < 1.0:
            return (1.0 - shape) * np.tanh(u) + shape * cubic
        return (2.0 - shape) * cubic + (shape - 1.0) * hard

    gain = 10.0 ** (drive_db / 20.0)
    return (curve(gain * x + offset) - curve(np.array(offset))) / gain


@pytest.mark.parametrize("shape", [0.0, 0.3, 1.0, 1.4, 2.0])
@pytest.mark.parametrize("drive_db", [-10.0, 20.0])
def test_the_clipper_is_the_published_curve(shape, drive_db):
    x = noise(1, 2, 500)
    y = waveshapers.parametric_clipper(x, drive_db=knob(drive_db), offset=knob(0.4), shape=knob(shape))
    np.testing.assert_allclose(y.numpy(), closed_form(x.numpy(), drive_db, 0.4, shape), atol=1e-12)


def test_the_clipper_is_continuous_across_shape_one():
    x = noise(1, 1, 500)
    below, above = (
        waveshapers.parametric_clipper(x, drive_db=knob(12.0), offset=knob(0.3), shape=knob(shape))
        for shape in (1.0 - 1e-9, 1.0 + 1e-9)
    )
    torch.testing.assert_close(below, above, atol=1e-8, rtol=0.0)


def test_hard_clipping_holds_the_ceiling():
    x = 3.0 * noise(1, 1, 500)
    y = waveshapers.parametric_clipper(x, drive_db=knob(0.0), offset=knob(0.0), shape=knob(2.0))
    torch.testing.assert_close(y, x.clamp(-1.0, 1.0))


def test_the_clipper_lets_quiet_sounds_through_at_their_level():
    x = 1e-4 * noise(1, 1, 100)
    for shape in (0.0, 1.0, 2.0):
        y = waveshapers.parametric_clipper(x, drive_db=knob(20.0), offset=knob(0.0), shape=knob(shape))
        torch.testing.assert_close(y, x, atol=1e-9, rtol=1e-4)


def test_the_clipper_leaves_silence_silent_whatever_the_offset():
    y = waveshapers.parametric_clipper(
        torch.zeros(1, 2, 10), drive_db=knob(20.0), offset=knob(1.0), shape=knob(0.5)
    )
    assert y.abs().max() == 0.0


def test_the_clipper_has_the_gradients_of_finite_differences():
    knobs = [knob(6.0, -3.0), knob(0.3, 0.8), knob(0.4, 1.7)]
    inputs = [value.requires_grad_() for value in (noise(2, 2, 9), *knobs)]
    assert torch.autograd.gradcheck(
        lambda x, drive_db, offset, shape: waveshapers.parametric_clipper(
            x, drive_db=drive_db, offset=offset, shape=shape
        ),
        inputs,
    )


@pytest.mark.parametrize("name", SHAPERS)
@pytest.mark.parametrize("size", [1, 2, 3, 24])
def test_a_series_is_numpys_polynomial(name, size):
    shaper, reference = SHAPERS[name]
    x, p = 0.9 * noise(3, 2, 200), noise(3, size, 1, seed=1)
    y = shaper(x, coefficients=p)
    for item in range(3):
        v = (x[item] - x[item].mean(-1, keepdim=True)).numpy()
        np.testing.assert_allclose(y[item].numpy(), reference(v, p[item, :, 0].numpy()), atol=1e-12)


@pytest.mark.parametrize("name", SHAPERS)
@pytest.mark.parametrize("size", [1, 2, 24])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_series_has_the_gradients_of_finite_differences(name, size, rows):
    shaper, _ = SHAPERS[name]
    x = (0.9 * noise(2, 2, 5)).requires_grad_()
    p = noise(rows, size, 1, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p: shaper(x, coefficients=p), (x, p))


@pytest.mark.parametrize("name", SHAPERS)
def test_float32_agrees_with_float64_to_minus_90_db(name):
    shaper, _ = SHAPERS[name]
    x, p = noise(2, 1, 4000), noise(2, 24, 1, seed=1)
    exact = shaper(x, coefficients=p)
    error = shaper(x.float(), coefficients=p.float()) - exact
    assert 10.0 * torch.log10(error.square().mean() / exact.square().mean()) < -90.0


def test_a_chebyshev_polynomial_makes_its_harmonic_of_a_cosine():
    phase = 2.0 * torch.pi * 8 * torch.arange(1024, dtype=torch.float64) / 1024
    p = torch.zeros(1, 24, 1, dtype=torch.float64)
    p[0, 5] = 1.0
    y = waveshapers.chebyshev_shaper(torch.cos(phase).view(1, 1, -1), coefficients=p)
    torch.testing.assert_close(y[0, 0], torch.cos(5.0 * phase), atol=1e-10, rtol=0.0)


@pytest.mark.parametrize("name", SHAPERS)
def test_a_series_keeps_one_copy_of_the_signal_for_the_gradient(name):
    shaper, _ = SHAPERS[name]
    kept: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t)
    with hooks:
        shaper(noise(1, 1, 4096).requires_grad_(), coefficients=noise(1, 24, 1).requires_grad_())
    assert sum(kept) < 2 * 4096
