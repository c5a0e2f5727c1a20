"""Compiled modulation against its definition in torch: sound and all gradients."""

import math

import pytest
import torch

from difffx.functional import compiled
from difffx.functional.lfo import SHAPES
from difffx.functional.modulation import chorus, flanger, ring_modulator, tremolo, vibrato
from difffx.functional.phaser import phaser

pytestmark = pytest.mark.skipif(not compiled.available(), reason="no C compiler")
RATE = 44_100
EVERY = pytest.mark.parametrize("shape", SHAPES)
SIZES = pytest.mark.parametrize(
    "size", [(1, 1, 40_000), (3, 2, 5001), (5, 1, 256), (2, 2, 3), (2, 1, 1)], ids=str
)
RANGES = {
    "rate_hz": (0.1, 12.0),
    "delay_ms": (0.0, 30.0),
    "depth_ms": (0.0, 10.0),
    "phase": (0.0, 1.0),
    "mix": (0.0, 1.0),
    "spread": (0.0, 0.5),
    "depth": (0.0, 1.0),
    "frequency_hz": (1.0, 20_000.0),
    "depth_octaves": (0.0, 3.0),
    "feedback": (-0.9, 0.9),
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def settings(items, *names, seed=1):
    u = torch.rand(
        len(names), items, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return {
        name: RANGES[name][0] + (RANGES[name][1] - RANGES[name][0]) * v
        for name, v in zip(names, u, strict=True)
    }


def named(effect, knobs, **options):
    """The effect as a function of tensors in order, for `tiers_agree`."""
    return lambda x, *values: effect(x, RATE, **dict(zip(knobs, values, strict=True)), **options)


DELAYS = ("rate_hz", "delay_ms", "depth_ms", "phase", "mix")
EFFECTS = {
    "chorus": (chorus, DELAYS, {}),
    "chorus of three": (chorus, DELAYS, {"voices": 3}),
    "flanger": (flanger, DELAYS, {}),
    "flanger with feedback": (flanger, (*DELAYS, "feedback"), {}),
    "vibrato": (vibrato, ("rate_hz", "depth_ms", "phase"), {}),
    "tremolo": (tremolo, ("rate_hz", "depth", "phase"), {}),
    "phaser": (phaser, ("rate_hz", "frequency_hz", "depth_octaves", "phase", "mix", "feedback"), {}),
    "phaser of seven": (phaser, ("rate_hz", "frequency_hz", "depth_octaves", "phase", "mix"), {"stages": 7}),
    "ring modulator": (ring_modulator, ("frequency_hz", "phase", "mix"), {}),
}


@EVERY
@SIZES
@pytest.mark.parametrize("name", EFFECTS)
def test_both_tiers_agree_in_sound_and_all_gradients(name, size, shape, tiers_agree):
    effect, names, options = EFFECTS[name]
    knobs = settings(size[0], *names)
    tiers_agree(named(effect, knobs, shape=shape, **options), noise(*size), *knobs.values())


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("effect", [chorus, flanger])
def test_the_sides_apart_and_settings_of_all_agree_for_any_number_of_threads(effect, threads, tiers_agree):
    knobs = settings(1, *DELAYS, "spread")
    tiers_agree(named(effect, knobs), noise(3, 2, 20_000), *knobs.values())
    tiers_agree(named(effect, knobs), noise(3, 2, 20_000).float(), *knobs.values(), rtol=2e-5)
    coarse = {name: value.float() for name, value in settings(3, *DELAYS, "spread").items()}
    tiers_agree(named(effect, coarse), noise(3, 2, 700).float(), *coarse.values(), rtol=2e-5)


@pytest.mark.parametrize("rate_hz", [0.0, 7.0, 200.0, 9000.0])
def test_delays_that_hurry_agree(rate_hz, tiers_agree):
    knobs = settings(2, *DELAYS) | {"rate_hz": torch.full((2, 1, 1), rate_hz, dtype=torch.float64)}
    tiers_agree(named(chorus, knobs), noise(2, 1, 5000), *knobs.values())


@EVERY
def test_corners_that_a_swing_begins_at_agree(shape, tiers_agree):
    phase = torch.tensor([0.0, 0.005, 0.25, 0.49, 0.5, 0.75, 1.0], dtype=torch.float64).view(-1, 1, 1)
    knobs = settings(7, "rate_hz", "depth") | {"phase": phase}
    tiers_agree(named(tremolo, knobs, shape=shape), noise(7, 1, 2), *knobs.values())


def test_the_oscillator_is_right_after_millions_of_cycles():
    samples, hz = 1 << 20, 19_001
    knobs = {"frequency_hz": hz, "phase": 0.25, "mix": 1.0}
    knobs = {name: torch.full((1, 1, 1), value, dtype=torch.float64) for name, value in knobs.items()}
    y = ring_modulator(torch.ones(1, 1, samples, dtype=torch.float64), RATE, **knobs)[0, 0]
    turned = (hz * torch.arange(samples) % RATE).double() / RATE  # in whole numbers: exact
    assert (y - (2 * math.pi * turned).cos()).abs().max() < 1e-9


def test_delays_that_are_negative_are_held_at_zero_without_gradient(tiers_agree):
    knobs = settings(3, *DELAYS) | {"delay_ms": torch.full((3, 1, 1), -3.0, dtype=torch.float64)}
    tiers_agree(named(chorus, knobs), noise(3, 1, 3000), *knobs.values())


@pytest.mark.parametrize("name", EFFECTS)
def test_one_gradient_without_the_other_is_the_same(name):
    effect, names, options = EFFECTS[name]
    x, weight, knobs = noise(2, 1, 3000).requires_grad_(), noise(2, 1, 3000, seed=3), settings(2, *names)
    rate = knobs[names[0]].requires_grad_()
    both = torch.autograd.grad(effect(x, RATE, **knobs, **options), (x, rate), weight)
    (by_x,) = torch.autograd.grad(effect(x, RATE, **knobs | {names[0]: rate.detach()}, **options), x, weight)
    (by_rate,) = torch.autograd.grad(effect(x.detach(), RATE, **knobs, **options), rate, weight)
    assert torch.equal(by_x, both[0]) and torch.equal(by_rate, both[1])


@pytest.mark.parametrize("name", EFFECTS)
def test_a_broken_item_leaves_the_others_alone(name, with_gradients):
    effect, names, options = EFFECTS[name]
    x, knobs = noise(3, 1, 3000), settings(3, *names)
    clean = with_gradients(named(effect, knobs, **options), x, *knobs.values())
    x[1, 0, 700] = torch.nan
    knobs["phase"][1] = torch.nan
    broken = with_gradients(named(effect, knobs, **options), x, *knobs.values())
    for ours, theirs in zip(broken, clean, strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])


def test_silence_has_finite_gradients(with_gradients):
    knobs = settings(2, *DELAYS)
    for value in with_gradients(named(chorus, knobs), torch.zeros(2, 1, 500), *knobs.values()):
        assert value.isfinite().all()


def test_nothing_is_kept_but_the_sound_and_its_settings():
    x, knobs, kept = noise(2, 1, 9000).requires_grad_(), settings(2, *DELAYS), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda t: t):
        chorus(x, RATE, voices=3, **{name: value.requires_grad_() for name, value in knobs.items()})
    assert max(kept) == x.numel() and sum(n > 100 for n in kept) == 1


@pytest.mark.parametrize("voices", [0, 1, 3])
def test_the_operator_keeps_the_rules_of_torch(voices):
    x, table = noise(3, 2, 300), noise(3, 2, 6, seed=1).abs()
    torch.library.opcheck(
        torch.ops.difffx.swing.default, (x.requires_grad_(), table.requires_grad_(), 0, voices)
    )
