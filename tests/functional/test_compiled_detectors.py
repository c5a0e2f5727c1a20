"""The kernels of limiters, gates and what they are made of agree with pure torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difffx.functional import compiled, dynamics, gating, limiting

RATE = 44_100
needs_compiler = pytest.mark.skipif(not compiled.available(), reason="no C compiler")
SHAPES = [(1, 1, 5001), (5, 2, 3000), (8, 1, 2048), (2, 3, 1), (3, 1, 67)]


def swells(items: int, channels: int, samples: int, seed: int = 0) -> Tensor:
    """Noise that swells and dies away, 80 dB, a few times."""
    generator = torch.Generator().manual_seed(seed)
    swell = torch.sin(torch.arange(samples) * (9.0 / samples) + 1.0).abs() ** 4 + 1e-4
    return torch.randn(items, channels, samples, generator=generator, dtype=torch.float64) * swell


def settings(ranges: dict[str, tuple[float, float]], items: int, seed: int = 0) -> dict[str, Tensor]:
    """[B, 1, 1] each; the first item stands at the low end of every range."""
    u = torch.rand(
        len(ranges), items, 1, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    u[:, 0] = 0.0
    return {name: low + (high - low) * v for (name, (low, high)), v in zip(ranges.items(), u, strict=True)}


LIMITERS = {"ceiling_db": (-24.0, 0.0), "drive_db": (-6.0, 24.0), "release_ms": (0.5, 100.0)}


def limited(names, lookahead, true_peak=False):
    def run(x, *values):
        controls = dict(zip(names, values, strict=True))
        return limiting.limiter(x, RATE, lookahead=lookahead, true_peak=true_peak, **controls)

    return run


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lookahead", [0, 1, 40, 2500])
def test_limiters_agree_in_sound_and_in_all_gradients(shape, lookahead, threads, tiers_agree):
    x, knobs = swells(*shape), settings(LIMITERS, shape[0])
    tiers_agree(limited(knobs, lookahead), x, *knobs.values(), atol=1e-11)
    single = x.float(), *(v.float() for v in knobs.values())
    tiers_agree(limited(knobs, lookahead), *single, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("lookahead", [0, 5, 88])
def test_true_peak_limiters_agree_in_sound_and_in_all_gradients(shape, lookahead, tiers_agree):
    x, knobs = swells(*shape), settings(LIMITERS, shape[0])
    tiers_agree(limited(knobs, lookahead, true_peak=True), x, *knobs.values(), atol=1e-11)
    single = x.float(), *(v.float() for v in knobs.values())
    tiers_agree(limited(knobs, lookahead, true_peak=True), *single, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("true_peak", [False, True])
@pytest.mark.parametrize("moving", [("ceiling_db",), ("drive_db",), ("ceiling_db", "drive_db")], ids=str)
def test_limiters_agree_where_knobs_move_and_are_shared_by_all_items(moving, true_peak, tiers_agree):
    x, knobs = swells(5, 2, 3000), settings(LIMITERS, 2)
    for name in knobs:
        curve = torch.stack((knobs[name][0], knobs[name][1] - 2.0, knobs[name][1]), -1).view(1, 1, 3)
        knobs[name] = curve if name in moving else knobs[name][1:]
    tiers_agree(limited(knobs, 30, true_peak), x, *knobs.values())


@needs_compiler
def test_a_broken_item_of_a_limiter_leaves_the_others_alone():
    x, knobs = swells(3, 2, 900), settings(LIMITERS, 3, seed=1)
    run = limited(knobs, 20)
    clean = run(x, *knobs.values())
    x[1, 1, 400] = torch.nan
    y = run(x, *knobs.values())
    assert y[1, :, 400:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]]) and torch.equal(y[1, :, :380], clean[1, :, :380])


@needs_compiler
def test_the_operator_of_limiters_keeps_the_rules_of_torch():
    x, table = swells(3, 2, 100), torch.tensor([[-6.0, 6.0, 0.99]], dtype=torch.float64).repeat(3, 1)
    curve, taps = torch.zeros(3, 1, 100, dtype=torch.float64), torch.tensor(limiting._taps()).double()
    inputs = x.requires_grad_(), table, curve, None, taps, 20, 1.0, True
    torch.library.opcheck(torch.ops.difffx.limit.default, inputs)


EXPANDERS = {
    "threshold_db": (-60.0, -10.0),
    "ratio": (1.0, 20.0),
    "knee_db": (0.0, 12.0),
    "attack_ms": (0.05, 10.0),
    "release_ms": (0.5, 50.0),
    "range_db": (0.0, 80.0),
    "hysteresis_db": (0.0, 12.0),
}


def expanded(names, hold):
    def run(x, *values):
        return gating.expander(x, RATE, hold=hold, **dict(zip(names, values, strict=True)))

    return run


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("hold", [1, 2, 50, 441, 9000])
def test_expanders_agree_in_sound_and_in_all_gradients(shape, hold, threads, tiers_agree):
    x, knobs = swells(*shape), settings(EXPANDERS, shape[0])
    tiers_agree(expanded(knobs, hold), x, *knobs.values(), atol=1e-11)
    single = x.float(), *(v.float() for v in knobs.values())
    tiers_agree(expanded(knobs, hold), *single, rtol=1e-3, atol=1e-5)


@needs_compiler
def test_expanders_agree_without_hysteresis_and_with_settings_shared_by_all_items(tiers_agree):
    x, knobs = swells(5, 2, 3000), {name: v[-1:] for name, v in settings(EXPANDERS, 2).items()}
    del knobs["hysteresis_db"]
    tiers_agree(expanded(knobs, 30), x, *knobs.values())


@needs_compiler
@pytest.mark.parametrize("items", [1, 5])
def test_expanders_agree_where_the_threshold_moves(items, tiers_agree):
    x, knobs = swells(5, 1, 3000), settings(EXPANDERS, 5)
    knobs["threshold_db"] = torch.linspace(-60.0, 0.0, 7 * items, dtype=torch.float64).view(items, 1, 7)
    tiers_agree(expanded(knobs, 100), x, *knobs.values())


@needs_compiler
@pytest.mark.parametrize("keys", [1, 3])
def test_keyed_gates_agree_in_sound_and_in_all_gradients(keys, tiers_agree):
    x, key, knobs = swells(3, 2, 2000), swells(3, keys, 2000, seed=1), settings(EXPANDERS, 3)
    del knobs["knee_db"]

    def run(x, key, *values):
        return gating.noise_gate(x, RATE, key=key, hold=60, **dict(zip(knobs, values, strict=True)))

    tiers_agree(run, x, key, *knobs.values())


@needs_compiler
def test_samples_and_channels_that_are_equally_loud_share_the_gradient_as_in_torch(tiers_agree):
    x, knobs = swells(2, 1, 1000).sign().repeat(1, 2, 1), settings(EXPANDERS, 2)
    x = x * torch.tensor([0.02, 0.005, 0.02, 0.01]).repeat_interleave(250)
    x[:, 1] *= -1.0
    tiers_agree(expanded(knobs, 40), x, *knobs.values(), atol=1e-11)


@needs_compiler
def test_a_broken_item_of_an_expander_leaves_the_others_alone():
    x, knobs = swells(3, 2, 900), settings(EXPANDERS, 3, seed=1)
    run = expanded(knobs, 20)
    clean = run(x, *knobs.values())
    x[1, 1, 400] = torch.nan
    y = run(x, *knobs.values())
    assert y[1, :, 400:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]]) and torch.equal(y[1, :, :400], clean[1, :, :400])


@needs_compiler
def test_the_operator_of_gates_keeps_the_rules_of_torch():
    x, curve = swells(3, 2, 100), torch.full((3, 1, 100), -30.0, dtype=torch.float64)
    table = torch.tensor([[-20.0, 3.0, 6.0, 40.0, 4.0, 0.9, 0.99]], dtype=torch.float64).repeat(3, 1)
    for key, thresholds in ((None, None), (swells(3, 1, 100, seed=1), curve)):
        inputs = x.requires_grad_(), key, table, thresholds, 20, -120.0, True
        torch.library.opcheck(torch.ops.difffx.gate.default, inputs)


SHAPERS = {
    "attack_db": (-24.0, 24.0),
    "sustain_db": (-24.0, 24.0),
    "attack_ms": (2.0, 60.0),
    "sustain_ms": (5.0, 500.0),
}


def shaped(names, rate=RATE):
    def run(x, *values):
        return dynamics.transient_shaper(x, rate, **dict(zip(names, values, strict=True)))

    return run


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2], indirect=True)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("rate", [100, RATE])
def test_transient_shapers_agree_in_sound_and_in_all_gradients(shape, rate, threads, tiers_agree):
    x, knobs = swells(*shape), settings(SHAPERS, shape[0])
    tiers_agree(shaped(knobs, rate), x, *knobs.values(), atol=1e-11)
    single = x.float(), *(v.float() for v in knobs.values())
    tiers_agree(shaped(knobs, rate), *single, rtol=1e-3, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("moving", [("attack_db",), ("sustain_db",), ("attack_db", "sustain_db")], ids=str)
def test_transient_shapers_agree_where_gains_move_and_are_shared_by_all_items(moving, tiers_agree):
    x, knobs = swells(5, 2, 3000), settings(SHAPERS, 2)
    for name in knobs:
        curve = torch.stack((knobs[name][0], knobs[name][1] - 2.0, knobs[name][1]), -1).view(1, 1, 3)
        knobs[name] = curve if name in moving else knobs[name][1:]
    tiers_agree(shaped(knobs), x, *knobs.values())


@needs_compiler
def test_a_broken_item_of_a_transient_shaper_leaves_the_others_alone():
    x, knobs = swells(3, 2, 900), settings(SHAPERS, 3, seed=1)
    clean = shaped(knobs)(x, *knobs.values())
    x[1, 1, 400] = torch.nan
    y = shaped(knobs)(x, *knobs.values())
    assert y[1, :, 400:].isnan().all()
    assert torch.equal(y[[0, 2]], clean[[0, 2]]) and torch.equal(y[1, :, :400], clean[1, :, :400])


@needs_compiler
def test_the_operator_of_transient_shapers_keeps_the_rules_of_torch():
    x, table = swells(3, 2, 100), torch.tensor([[6.0, -6.0, 0.01, 0.001, 0.9, 0.99]], dtype=torch.float64)
    curve = torch.linspace(-6.0, 6.0, 300, dtype=torch.float64).view(3, 1, 100)
    inputs = x.requires_grad_(), table.repeat(3, 1), curve, None, 20, -80.0, 10.0, True
    torch.library.opcheck(torch.ops.difffx.transients.default, inputs)


@needs_compiler
@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("effect", ["limiter", "true peaks", "expander", "shaper"])
def test_the_gradients_of_settings_do_not_need_those_of_the_sound(effect, moving):
    """Where the sound wants none, the work for it is left out."""
    x = swells(3, 2, 2000)
    ranges = {"expander": EXPANDERS, "shaper": SHAPERS}.get(effect, LIMITERS)
    knobs = settings(ranges, 3, seed=1)
    first = next(iter(knobs))
    knobs[first] = knobs[first].expand(3, 1, 4).clone() if moving else knobs[first]
    run = {
        "limiter": limited(knobs, 30),
        "true peaks": limited(knobs, 30, true_peak=True),
        "expander": expanded(knobs, 60),
        "shaper": shaped(knobs),
    }[effect]
    values = [value.requires_grad_() for value in knobs.values()]
    alone = torch.autograd.grad(run(x, *values).square().sum(), values)
    beside = torch.autograd.grad(run(x.requires_grad_(), *values).square().sum(), values)
    assert all(torch.equal(a, b) for a, b in zip(alone, beside, strict=True))
