from __future__ import annotations

import numpy as np
import pytest
import torch

from difffx.functional.ballistics import attack_release, one_pole
from difffx.functional.units import ms_to_pole

SAMPLE_RATE = 44_100
TIMES_MS = [(5.0, 100.0), (0.1, 5000.0), (500.0, 1.0), (1.0, 5000.0), (60.0, 10.0), (20.0, 20.0)]


def curve(rows: int, samples: int, seed: int = 0) -> torch.Tensor:
    """A gain reduction as music makes it: 0 to 30 dB in bursts, with the ripple of the waveform. [R, 1, T]"""
    noise = torch.randn(rows, 1, samples, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    burst = (torch.arange(samples) // 3000) % 3 == 1
    level_db = 20.0 * torch.log10(noise.abs().clamp(min=1e-4)) - 30.0 * ~burst
    return (level_db + 20.0).clamp(min=0.0)


def poles(*times_ms: float) -> torch.Tensor:
    return ms_to_pole(torch.tensor(times_ms, dtype=torch.float64), SAMPLE_RATE).view(-1, 1, 1)


def loop(
    u: np.ndarray, attack: np.ndarray, release: np.ndarray, initial: np.ndarray | float = 0.0
) -> np.ndarray:
    """The definition. u [R, T], poles [R]."""
    states, now = np.empty_like(u), np.zeros(u.shape[0]) + initial
    for n in range(u.shape[1]):
        a = np.where(u[:, n] > now, attack, release)
        now = a * now + (1.0 - a) * u[:, n]
        states[:, n] = now
    return states


@pytest.mark.usefixtures("tier")
def test_attack_release_is_the_float64_loop_at_any_setting_in_one_batch():
    u = curve(len(TIMES_MS), 30_000)
    attack, release = (poles(*times) for times in zip(*TIMES_MS, strict=True))
    expected = loop(u[:, 0].numpy(), attack[:, 0, 0].numpy(), release[:, 0, 0].numpy())
    np.testing.assert_allclose(attack_release(u, attack, release)[:, 0].numpy(), expected, atol=1e-9)


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("samples", [1, 2, 127, 128, 129, 4096, 5000])
def test_any_length_is_the_loop(samples):
    u = curve(2, samples)
    attack, release = poles(2.0, 30.0), poles(50.0, 3.0)
    expected = loop(u[:, 0].numpy(), attack[:, 0, 0].numpy(), release[:, 0, 0].numpy(), 4.0)
    np.testing.assert_allclose(attack_release(u, attack, release, 4.0)[:, 0].numpy(), expected, atol=1e-10)


@pytest.mark.usefixtures("tier")
def test_float32_stays_within_a_thousandth_of_a_decibel():
    u = curve(len(TIMES_MS), 30_000)
    attack, release = (poles(*times) for times in zip(*TIMES_MS, strict=True))
    error = attack_release(u.float(), attack, release).double() - attack_release(u, attack, release)
    assert error.square().mean().sqrt() < 1e-5


@pytest.mark.usefixtures("tier")
def test_slow_poles_do_not_drift_over_thirty_seconds():
    u = torch.full((1, 1, 30 * SAMPLE_RATE), 12.0)
    time = torch.arange(1, u.shape[-1] + 1, dtype=torch.float64) / SAMPLE_RATE
    risen = attack_release(u, poles(5000.0), poles(1.0))
    torch.testing.assert_close(
        risen[0, 0].double(), 12.0 * (1.0 - torch.exp(-time / 5.0)), atol=2e-6, rtol=0.0
    )


@pytest.mark.parametrize("samples", [1, 3, 140])
def test_attack_release_has_the_gradients_of_finite_differences(samples):
    generator = torch.Generator().manual_seed(1)  # not the bursts: at 0 dB on 0 dB the branch is open
    u = (5.0 * torch.rand(2, 1, samples, generator=generator, dtype=torch.float64)).requires_grad_()
    attack = torch.tensor([0.3, 0.97], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    release = torch.tensor([0.98, 0.6], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    initial = torch.tensor([1.0, 3.0], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(attack_release, (u, attack, release, initial))


@pytest.mark.usefixtures("tier")
def test_long_gradients_are_those_of_the_loop():
    u = curve(1, 3000).requires_grad_()
    pole = [poles(1.0).requires_grad_(), poles(40.0).requires_grad_()]
    weights = torch.randn(3000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    fast = torch.autograd.grad((attack_release(u, *pole)[0, 0] * weights).sum(), [u, *pole])
    now, total = torch.zeros((), dtype=torch.float64), 0.0
    for value, weight in zip(u[0, 0], weights, strict=True):
        a = (pole[0] if value > now else pole[1]).squeeze()
        now = a * now + (1.0 - a) * value
        total = total + weight * now
    for ours, theirs in zip(fast, torch.autograd.grad(total, [u, *pole]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.usefixtures("tier")
def test_one_setting_serves_all_items_and_its_gradient_is_their_sum():
    u = curve(3, 1000)
    shared = [poles(1.0).requires_grad_(), poles(40.0).requires_grad_()]
    each = [p.detach().expand(3, 1, 1).clone().requires_grad_() for p in shared]
    a, b = attack_release(u, *shared), attack_release(u, *each)
    torch.testing.assert_close(a, b)
    grads = torch.autograd.grad(a.sum(), shared), torch.autograd.grad(b.sum(), each)
    for one, many in zip(*grads, strict=True):
        torch.testing.assert_close(one, many.sum(0, keepdim=True))


@pytest.mark.usefixtures("tier")
@pytest.mark.parametrize("samples", [1, 200, 9000])
def test_one_pole_is_the_float64_loop(samples):
    u, pole = curve(3, samples), poles(0.5, 20.0, 5000.0)
    expected = loop(u[:, 0].numpy(), *(2 * [pole[:, 0, 0].numpy()]))
    np.testing.assert_allclose(one_pole(u, pole)[:, 0].numpy(), expected, atol=1e-11)


@pytest.mark.parametrize("samples", [1, 140])
def test_one_pole_has_the_gradients_of_finite_differences(samples):
    pole = torch.tensor([0.3, 0.99], dtype=torch.float64).view(2, 1, 1).requires_grad_()
    assert torch.autograd.gradcheck(one_pole, (curve(2, samples).requires_grad_(), pole))


@pytest.mark.usefixtures("tier")
def test_a_broken_item_comes_back_broken_and_leaves_the_others_alone():
    u = curve(2, 20_000)
    clean = attack_release(u, poles(5.0), poles(100.0))
    u[0, 0, 500] = torch.nan
    y = attack_release(u, poles(5.0), poles(100.0))
    assert y[0, 0, 500:].isnan().all()
    torch.testing.assert_close(y[1], clean[1])
