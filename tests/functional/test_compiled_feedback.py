"""Compiled lines, combs and all-passes against those in torch: sound, gradients, rows apart."""

import pytest
import torch
from torch import Tensor

from difffx.functional import compiled, fdn
from difffx.functional.delay_network import delay_network
from difffx.functional.feedback_delays import feedback_line, moving_feedback_line

SHAPES = [(1, 1, 1300), (3, 2, 601), (5, 1, 64), (2, 1, 1)]
needs_compiler = pytest.mark.skipif(not compiled.available(), reason="no C compiler")
any_threads = pytest.mark.parametrize("threads", [1, 3], indirect=True)
any_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
any_interpolation = pytest.mark.parametrize("interpolation", ["lagrange", "linear"])


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spaced(first: float, last: float, items: int) -> Tensor:
    return torch.linspace(first, last, items, dtype=torch.float64).view(-1, 1, 1)


def wandering(items: int, channels: int, samples: int, low: float, high: float) -> Tensor:
    """Delays in samples, each item on its own way between two."""
    swing = (noise(items, channels, samples, seed=1).cumsum(-1) / 9).sin()
    return low + (high - low) * 0.5 * (1.0 + swing)


@needs_compiler
@any_threads
@any_shape
@any_interpolation
@pytest.mark.parametrize("delays", [(0.5, 3.9), (9.3, 44.7), (300.2, 5000.0)], ids=str)
def test_a_line_agrees_in_sound_and_all_gradients(shape, delays, interpolation, threads, tiers_agree):
    x, delay = noise(*shape), spaced(*delays, shape[0])
    feedback, pole = spaced(-0.9, 0.95, shape[0]), spaced(0.05, 0.97, shape[0])

    def run(x, delay, feedback, pole=None):
        return feedback_line(x, delay, feedback, pole, interpolation)

    tiers_agree(run, x, delay, feedback)
    tiers_agree(run, x, delay, feedback, pole)
    tiers_agree(run, x, delay[:1], feedback[-1:], pole[:1])
    tiers_agree(run, x.float(), delay, feedback, pole, rtol=3e-5)


@needs_compiler
@any_threads
@any_shape
@pytest.mark.parametrize("delays", [(0.0, 3.9), (300.2, 5000.0)], ids=str)
def test_a_steady_delay_agrees_in_sound_and_both_gradients(shape, delays, threads, tiers_agree):
    x, delay = noise(*shape), spaced(*delays, shape[0])
    tiers_agree(fdn._later, x, delay)
    tiers_agree(fdn._later, x, delay[-1:])
    tiers_agree(fdn._later, x.float(), delay, rtol=1e-5)


@needs_compiler
@any_threads
@any_shape
@any_interpolation
@pytest.mark.parametrize("delays", [(1.0, 9.0), (44.0, 400.0), (900.0, 9000.0)], ids=str)
def test_a_moving_line_agrees_in_sound_and_all_gradients(shape, delays, interpolation, threads, tiers_agree):
    x, feedback = noise(*shape), spaced(-0.9, 0.95, shape[0])

    def run(x, delay, feedback):
        return moving_feedback_line(x, delay, feedback, interpolation)

    delay = wandering(*shape, *delays)
    tiers_agree(run, x, delay, feedback)
    tiers_agree(run, x, delay[:, :1], feedback[-1:])
    tiers_agree(run, x, delay[:1], feedback)
    tiers_agree(run, x.float(), delay, feedback, rtol=3e-5)


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
def test_long_rows_agree_too(threads, tiers_agree):
    x, delay, feedback = noise(2, 1, 9000), spaced(900.7, 2500.2, 2), spaced(0.5, -0.9, 2)
    tiers_agree(feedback_line, x, delay, feedback, spaced(0.3, 0.9, 2))
    tiers_agree(moving_feedback_line, x, wandering(2, 1, 9000, 300.0, 1500.0), feedback)


@needs_compiler
@pytest.mark.parametrize("moving", [False, True])
def test_each_gradient_is_the_same_whichever_others_are_wanted(moving):
    knobs = [noise(2, 1, 900), spaced(7.7, 300.3, 2), spaced(0.5, -0.8, 2), spaced(0.3, 0.9, 2)]
    if moving:
        knobs[1:] = [wandering(2, 1, 900, 5.0, 80.0), knobs[2]]
    line = moving_feedback_line if moving else feedback_line
    everything = [knob.clone().requires_grad_() for knob in knobs]
    weight = noise(2, 1, 900, seed=2)
    together = torch.autograd.grad(line(*everything), everything, weight)
    for i, expected in enumerate(together):
        alone = [knob.clone().requires_grad_(i == j) for j, knob in enumerate(knobs)]
        assert torch.equal(torch.autograd.grad(line(*alone), alone[i], weight)[0], expected)


@needs_compiler
def test_a_line_without_feedback_has_gradients_to_all_settings(tiers_agree):
    knobs = noise(2, 1, 500), spaced(20.3, 33.3, 2), torch.zeros(2, 1, 1, dtype=torch.float64)
    tiers_agree(feedback_line, *knobs, spaced(0.3, 0.9, 2))
    tiers_agree(feedback_line, knobs[0].float(), *knobs[1:], spaced(0.3, 0.9, 2), rtol=1e-5)


@needs_compiler
@any_threads
@any_shape
@pytest.mark.parametrize("delays", [[1], [225, 341], [7, 300, 5000]], ids=str)
def test_all_passes_in_a_row_agree_in_sound_and_both_gradients(shape, delays, threads, tiers_agree):
    x, gain = noise(*shape), spaced(-0.5, 0.9, shape[0])

    def run(x, gain):
        return fdn.schroeder_all_pass(x, gain, *delays)

    tiers_agree(run, x, gain)
    tiers_agree(run, x, gain[:1])
    tiers_agree(run, x.float(), gain, rtol=1e-5)


@needs_compiler
@any_threads
@any_shape
@pytest.mark.parametrize(
    "delays", [[[1], [4]], [[225, 341], [300, 3]], [[7, 300, 5000], [99, 512, 20]]], ids=str
)
def test_combs_agree_in_sound_and_all_gradients(shape, delays, threads, tiers_agree):
    items, combs = shape[0], len(delays[0])
    gains, levels = 0.9 * noise(items, 2, combs, seed=1).tanh(), noise(items, 2, combs, seed=2)
    pole = spaced(0.05, 0.97, items)

    def run(*inputs):
        return fdn.combs(*inputs, delays)

    tiers_agree(run, noise(*shape), gains, levels, pole)
    tiers_agree(run, noise(items, 3 - shape[1], shape[2]), gains, levels, pole)
    tiers_agree(run, noise(*shape), gains[:1], levels[:1], pole[:1])
    tiers_agree(run, noise(*shape).float(), gains, levels, pole, rtol=1e-4)


@needs_compiler
def test_a_broken_item_of_combs_and_all_passes_leaves_the_others_alone():
    x, gain, delays = noise(3, 1, 900), spaced(0.3, 0.7, 3), [[7, 300], [9, 310]]
    settings = 0.5 * torch.ones(3, 2, 2, dtype=torch.float64), torch.ones(3, 2, 2, dtype=torch.float64), gain
    passed, combed = fdn.schroeder_all_pass(x, gain, 20, 30), fdn.combs(x, *settings, delays)
    x[1, 0, 300] = torch.nan
    for y, clean in (
        (fdn.schroeder_all_pass(x, gain, 20, 30), passed),
        (fdn.combs(x, *settings, delays), combed),
    ):
        assert y[1, :, 310:].isnan().any() and torch.equal(y[[0, 2]], clean[[0, 2]])


@needs_compiler
def test_a_network_goes_back_in_the_tier_in_which_it_came():
    x = noise(2, 1, 700).requires_grad_()
    matrix = 0.4 * noise(2, 3, 3, seed=1)
    filters = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64).expand(2, 2, 3)
    expected = torch.autograd.grad(delay_network(x, matrix, filters, [7, 90]).square().sum(), x)[0]
    y = delay_network(x, matrix, filters, [7, 90])
    with compiled.disabled():
        assert torch.equal(torch.autograd.grad(y.square().sum(), x)[0], expected)
        y = delay_network(x, matrix, filters, [7, 90])
    assert torch.allclose(torch.autograd.grad(y.square().sum(), x)[0], expected, rtol=1e-9)


@needs_compiler
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_broken_item_leaves_the_others_alone(broken):
    x, delay, feedback = noise(3, 1, 900), spaced(7.5, 90.5, 3), spaced(0.5, 0.9, 3)
    clean = feedback_line(x, delay, feedback, feedback)
    moving = moving_feedback_line(x, delay.expand(-1, -1, 900), feedback)
    x[1, 0, 300] = broken
    y = feedback_line(x, delay, feedback, feedback)
    assert not y[1, 0, 400:].isfinite().any() and torch.equal(y[[0, 2]], clean[[0, 2]])
    curve = delay.repeat(1, 1, 900)
    curve[1, 0, 500] = broken
    y = moving_feedback_line(x, curve, feedback)
    assert not y[1, 0, 500].isfinite() and torch.equal(y[[0, 2]], moving[[0, 2]])


@needs_compiler
@pytest.mark.parametrize("damped", [False, True, None])
def test_the_operators_keep_the_rules_of_torch(damped):
    knobs = (
        noise(3, 100),
        noise(3, 4, seed=1),
        0.5 * noise(3, 1, seed=2).tanh(),
        spaced(0.2, 0.8, 3).view(3, 1),
    )
    x, weights, feedback, pole = (knob.requires_grad_() for knob in knobs)
    start = torch.tensor([1, 7, 200])
    looped = None if damped is None else feedback
    inputs = x, start, weights, looped, pole if damped else None, True
    torch.library.opcheck(torch.ops.difffx.feedback_line.default, inputs)


@needs_compiler
def test_the_operator_of_moving_lines_keeps_the_rules_of_torch():
    knobs = noise(3, 1, 100), noise(3, 1, 100, seed=1) + 9.0, spaced(-0.5, 0.5, 3)
    inputs = (*(knob.requires_grad_() for knob in knobs), 4, True)
    torch.library.opcheck(torch.ops.difffx.moving_feedback_line.default, inputs)


@needs_compiler
def test_the_operators_of_combs_and_all_passes_keep_the_rules_of_torch():
    x, gain = noise(3, 100).requires_grad_(), noise(3, seed=1).tanh().requires_grad_()
    torch.library.opcheck(torch.ops.difffx.schroeder.default, (x, gain, [7, 40]))
    settings = (
        0.5 * noise(3, 2, 2, seed=2).tanh(),
        noise(3, 2, 2, seed=3),
        torch.tensor([0.1, 0.5, 0.9]).double(),
    )
    inputs = [t.detach().requires_grad_() for t in (x.view(3, 1, 100), *settings)]
    torch.library.opcheck(torch.ops.difffx.combs.default, (*inputs, [3, 30, 4, 200]))
