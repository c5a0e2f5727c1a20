"""The phaser's recursions against float64 loops over samples, and the notches that they are for."""

import math

import numpy as np
import pytest
import torch

from difffx.functional.phaser import all_pass_chain, first_order_varying, phaser

RATE = 44_100


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def knob(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def wander(items, samples, seed=3):
    """log_g from 30 Hz up to near the top, restless: the frequency moves by octaves within a few samples."""
    return -6.0 + 7.0 * (noise(items, 1, samples, seed=seed).cumsum(-1) / 5).sin()


def loop(x, log_g, stages, feedback=0.0):
    """As the docstring of `all_pass_chain` says it, one row."""
    g = np.exp(np.asarray(log_g))
    memories, last, out = [0.0] * stages, 0.0, []
    for n in range(len(x)):
        a = (g[n] - 1) / (g[n] + 1)
        c = math.sqrt(1 - a * a)
        u = float(x[n]) + feedback * last
        for i in range(stages):
            u, memories[i] = a * u + c * memories[i], c * u - a * memories[i]
        last = u
        out.append(u)
    return torch.tensor(out, dtype=torch.float64)


def error_db(y, reference):
    return 20 * math.log10(float((y.double() - reference).norm() / reference.norm()) + 1e-20)


def settings(**changes):
    usual = {"rate_hz": 0.5, "frequency_hz": 800.0, "depth_octaves": 0.0, "phase": 0.0, "mix": 0.5}
    return {name: knob(value) for name, value in {**usual, **changes}.items()}


@pytest.mark.parametrize("samples", [1, 2, 127, 128, 129, 5000, 17_000])
def test_the_recursion_of_first_order_is_the_loop(samples):
    x, a = noise(2, samples), torch.tanh(3 * noise(2, samples, seed=1))
    y = first_order_varying(x, a)
    for row in range(2):
        now, expected = 0.0, []
        for slope, fresh in zip(a[row].tolist(), x[row].tolist(), strict=True):
            now = slope * now + fresh
            expected.append(now)
        assert np.allclose(y[row].numpy(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stages", [1, 2, 5, 8])
@pytest.mark.parametrize("feedback", [None, 0.95, -0.95])
def test_the_chain_is_the_loop_however_fast_it_moves(stages, feedback):
    x, log_g = noise(2, 2, 700), wander(2, 700)
    y = all_pass_chain(x, log_g, stages, None if feedback is None else knob(feedback))
    for b in range(2):
        for c in range(2):
            expected = loop(x[b, c], log_g[b, 0], stages, feedback or 0.0)
            assert error_db(y[b, c], expected) < -220


def test_the_chain_over_thirty_seconds_is_the_loop_in_float32_too():
    samples = 30 * RATE
    x = noise(1, 1, samples).float()
    log_g = -2.0 + torch.sin(torch.arange(samples) * (2 * math.pi * 0.3 / RATE)).view(1, 1, -1)
    y = all_pass_chain(x, log_g, 4, knob(0.9))[0, 0]
    assert y.dtype == torch.float32
    # Above 700 Hz a round takes 80 samples at most, so 22,000 samples are 275 rounds of 0.9: -250 dB.
    last = slice(samples - 30_000, None)
    expected = loop(x[0, 0, last].tolist(), log_g[0, 0, last].double(), 4, 0.9)
    assert error_db(y[last][22_000:], expected[22_000:]) < -130


@pytest.mark.parametrize("feedback", [None, 0.0])
def test_no_energy_is_won_or_lost_however_fast_the_frequency_moves(feedback):
    x, log_g = torch.zeros(1, 1, 30_000, dtype=torch.float64), wander(1, 30_000)
    x[..., :200] = noise(1, 1, 200)
    log_g[..., 1000:] = -2.0  # at rest it gives back what it holds
    y = all_pass_chain(x, log_g, 6, None if feedback is None else knob(feedback))
    assert torch.allclose(y.square().sum(), x.square().sum(), rtol=1e-12)


def test_a_still_phaser_has_one_notch_for_every_two_stages_where_the_formula_puts_them():
    x = torch.zeros(1, 1, 1 << 15, dtype=torch.float64)
    x[..., 0] = 1.0
    y = phaser(x, RATE, stages=4, **settings(frequency_hz=1000.0))
    level = torch.fft.rfft(y[0, 0]).abs()
    notches = [
        k for k in range(1, len(level) - 1) if level[k] < 0.02 and level[k] <= level[k - 1 : k + 2].min()
    ]
    # Four stages turn by half a circle where each turns by 45 or 135 degrees: tan(22.5) and tan(67.5) of g.
    g = math.tan(math.pi * 1000 / RATE)
    expected = [RATE / math.pi * math.atan(g * math.tan(math.radians(d))) for d in (22.5, 67.5)]
    assert [k * RATE / (1 << 15) for k in notches] == pytest.approx(expected, abs=2.0)
    assert level.max() < 1 + 1e-9


def test_the_notches_wander_with_the_oscillator():
    n = torch.arange(RATE, dtype=torch.float64)
    tone = (2 * math.pi * 414.2 / RATE * n).sin().view(1, 1, -1)  # 1000 Hz tan(22.5 degrees)
    still = phaser(tone, RATE, **settings(frequency_hz=1000.0))
    moving = phaser(tone, RATE, **settings(frequency_hz=1000.0, depth_octaves=2.0, rate_hz=2.0))
    assert still[..., 5000:].abs().max() < 0.02
    assert moving[..., 5000:].abs().max() > 0.9


def test_feedback_sharpens_what_is_between_the_notches():
    x = torch.zeros(1, 1, 1 << 15, dtype=torch.float64)
    x[..., 0] = 1.0
    top = [
        torch.fft.rfft(phaser(x, RATE, feedback=knob(f), **settings())[0, 0]).abs().max() for f in (0.0, 0.8)
    ]
    assert top[0] < 1.001 and top[1] > 2.5


def test_no_feedback_is_feedback_zero():
    x, log_g = noise(2, 1, 3000), wander(2, 3000)
    assert torch.allclose(all_pass_chain(x, log_g, 4), all_pass_chain(x, log_g, 4, knob(0.0)), atol=1e-10)


def test_gradients_equal_finite_differences():
    check = torch.autograd.gradcheck
    x, log_g = noise(2, 2, 12).requires_grad_(), (wander(2, 12) / 4).requires_grad_()
    feedback = knob(0.7, -0.4).requires_grad_()
    assert check(lambda x, g: all_pass_chain(x, g, 3), (x, log_g))
    assert check(lambda x, g, f: all_pass_chain(x, g, 3, f), (x, log_g, feedback))
    a = torch.tanh(noise(2, 30, seed=4)).requires_grad_()
    assert check(first_order_varying, (noise(2, 30).requires_grad_(), a))


def test_gradients_across_many_blocks_equal_finite_differences():
    x, weight = noise(1, 1, 1500), noise(1, 1, 1500, seed=8)
    log_g, feedback = (wander(1, 1500) / 3).requires_grad_(), knob(0.8).requires_grad_()
    x.requires_grad_()
    inputs, directions = (
        (x, log_g, feedback),
        (noise(1, 1, 1500, seed=5), noise(1, 1, 1500, seed=6), knob(1.0)),
    )

    def loss(x, log_g, feedback):
        return (all_pass_chain(x, log_g, 4, feedback) * weight).sum()

    for k, (grad, way) in enumerate(zip(torch.autograd.grad(loss(*inputs), inputs), directions, strict=True)):
        with torch.no_grad():
            ahead, back = (
                loss(*(v + s * 1e-6 * way if i == k else v for i, v in enumerate(inputs))) for s in (1, -1)
            )
        assert (grad * way).sum().item() == pytest.approx((ahead - back).item() / 2e-6, rel=1e-5)


def test_a_broken_row_breaks_no_other():
    x, log_g = noise(2, 1, 2000), wander(2, 2000)
    x[0, 0, 500] = math.nan
    for feedback in (None, knob(0.5)):
        y = all_pass_chain(x, log_g, 4, feedback)
        assert y[0, 0, 500:].isnan().all() and y[1].isfinite().all()


def test_a_constant_curve_of_frequency_is_a_static_one():
    x = noise(1, 1, 1000)
    usual = settings(depth_octaves=1.0)
    curves = {k: v.expand(-1, -1, 7) if k not in ("phase",) else v for k, v in usual.items()}
    assert torch.allclose(phaser(x, RATE, **usual), phaser(x, RATE, **curves), atol=1e-9)
