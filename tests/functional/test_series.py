from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difffx.functional import series

SHAPERS = {
    "taylor": (series.taylor_shaper, lambda v, p: np.polynomial.Polynomial([0.0, *p])(v)),
    "chebyshev": (series.chebyshev_shaper, lambda v, p: np.polynomial.chebyshev.chebval(v, p)),
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 2.0 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0


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
    y = series.chebyshev_shaper(torch.cos(phase).view(1, 1, -1), coefficients=p)
    torch.testing.assert_close(y[0, 0], torch.cos(5.0 * phase), atol=1e-10, rtol=0.0)


@pytest.mark.parametrize("name", SHAPERS)
def test_a_series_keeps_one_copy_of_the_signal_for_the_gradient(name):
    shaper, _ = SHAPERS[name]
    kept: list[int] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t)
    with hooks:
        shaper(noise(1, 1, 4096).requires_grad_(), coefficients=noise(1, 24, 1).requires_grad_())
    assert sum(kept) < 2 * 4096


@pytest.mark.parametrize(("oversample", "loud"), [(1, True), (2, False), (4, False)])
def test_a_harmonic_above_nyquist_folds_at_the_rate_and_dies_above_it(oversample, loud):
    tone = torch.cos(2 * math.pi * 5_000 / 44_100 * torch.arange(22_050, dtype=torch.float64)).view(1, 1, -1)
    ninth = torch.zeros(1, 10, 1, dtype=torch.float64)
    ninth[:, 9] = 1.0  # 45 kHz, heard at 900 Hz
    y = series.chebyshev_shaper(tone, coefficients=ninth, oversample=oversample)[..., 5_000:15_000]
    level_db = 20.0 * math.log10(math.sqrt(2.0 * y.square().mean().item()))
    assert level_db == pytest.approx(0.0, abs=0.1) if loud else level_db < -70.0
