"""Compiled filters whose knobs move, against their definition in torch: sound and all gradients."""

import pytest
import torch

from difffx.functional import compiled, svf
from difffx.functional.compiled import svf as fused
from difffx.functional.dynamic_eq import dynamic_eq
from difffx.functional.modulation import auto_wah

pytestmark = pytest.mark.skipif(not compiled.available(), reason="no C compiler")
RATE = 44_100
SIZES = pytest.mark.parametrize(
    "size", [(1, 1, 9000), (3, 2, 1001), (8, 1, 2100), (5, 1, 64), (2, 2, 3)], ids=str
)
EVERY = pytest.mark.parametrize("kind", svf.SECTIONS)
RANGES = {"frequency_hz": (20.0, 23_000.0), "q": (0.1, 20.0), "gain_db": (-24.0, 24.0)}
LEVELS = {"low": (-1.0, 1.0), "band": (-1.0, 1.0), "high": (-1.0, 1.0)}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def curves(ranges, items, frames, seed=1):
    """{knob: [B, 1, F]}, anew at every frame; what is above 0.49 of the sample rate is held there."""
    u = torch.rand(
        len(ranges), items, 1, frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return {
        name: low + (high - low) * v**3 if name == "frequency_hz" else low + (high - low) * v
        for (name, (low, high)), v in zip(ranges.items(), u, strict=True)
    }


def knobs_of(kind, items, frames):
    knobs = curves(RANGES, items, frames)
    if kind in svf.LEVELS:
        del knobs["gain_db"]
    return knobs


def named(kind, knobs):
    """The filter as a function of tensors in order, for `tiers_agree`."""
    return lambda x, *values: svf.svf(x, RATE, kind=kind, **dict(zip(knobs, values, strict=True)))


@EVERY
@SIZES
@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_knobs_that_jump_with_every_sample_agree_in_sound_and_all_gradients(kind, size, threads, tiers_agree):
    knobs = knobs_of(kind, size[0], size[2])
    tiers_agree(named(kind, knobs), noise(*size), *knobs.values())


@EVERY
@pytest.mark.parametrize("size", [(1, 1, 9000), (3, 2, 501)], ids=str)
def test_one_knob_that_moves_among_others_that_stand_still_agrees(kind, size, tiers_agree):
    for moving in knobs_of(kind, 1, 1):
        for frames in (5, size[2] // 8, size[2] // 3, size[2]):
            knobs = knobs_of(kind, size[0], 1)
            knobs[moving] = knobs_of(kind, size[0], frames)[moving]
            tiers_agree(named(kind, knobs), noise(*size), *knobs.values())


@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_long_rows_in_segments_agree_when_their_memory_is_long(rows, threads, tiers_agree):
    knobs = curves({"frequency_hz": (20.0, 60.0), "q": (50.0, 100.0)}, rows, 9)
    tiers_agree(named("band_pass", knobs), noise(rows, 1, 9000), *knobs.values())


@pytest.mark.parametrize("threads", [1], indirect=True)
def test_the_number_of_threads_may_change_before_the_way_back(threads):
    x, knobs = noise(1, 1, 5000), knobs_of("peak", 1, 5)

    def run(forward, backward):
        inputs = [t.clone().requires_grad_() for t in (x, *knobs.values())]
        torch.set_num_threads(forward)
        y = named("peak", knobs)(*inputs)
        torch.set_num_threads(backward)
        return torch.autograd.grad(y.sum(), inputs)

    for ours, theirs in zip(run(1, 3), run(3, 1), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("moving", ["frequency_hz", "q", *LEVELS])
def test_levels_of_their_own_agree(moving, tiers_agree):
    knobs = curves({"frequency_hz": RANGES["frequency_hz"], "q": RANGES["q"], **LEVELS}, 3, 1)
    knobs[moving] = curves({moving: {**RANGES, **LEVELS}[moving]}, 3, 700)[moving]

    def run(x, *values):
        return svf.state_variable(x, RATE, **dict(zip(knobs, values, strict=True)))

    tiers_agree(run, noise(3, 2, 700), *knobs.values())


@pytest.mark.parametrize("order", [1, 2, 5])
@pytest.mark.parametrize("high", [False, True])
def test_butterworth_filters_agree(order, high, tiers_agree):
    hz = curves({"frequency_hz": RANGES["frequency_hz"]}, 2, 40)["frequency_hz"]
    run = lambda x, hz: svf.butterworth(x, RATE, frequency_hz=hz, order=order, high=high)  # noqa: E731
    tiers_agree(run, noise(2, 2, 3000), hz)


@EVERY
def test_curves_of_all_items_and_single_precision_agree(kind, tiers_agree):
    knobs = knobs_of(kind, 1, 900)
    tiers_agree(named(kind, knobs), noise(3, 2, 900), *knobs.values())
    coarse = {name: value.float() for name, value in knobs_of(kind, 3, 900).items()}
    tiers_agree(named(kind, coarse), noise(3, 1, 900).float(), *coarse.values(), rtol=2e-5)


@pytest.mark.parametrize("wanted", ["x", "frequency_hz", "q", "gain_db"])
def test_one_gradient_without_the_others_is_the_same(wanted):
    knobs = {"x": noise(2, 2, 800), **knobs_of("peak", 2, 800)}
    knobs["q"] = knobs["q"][..., :1]
    weight = noise(2, 2, 800, seed=3)

    def run(**inputs):
        return svf.svf(inputs.pop("x"), RATE, kind="peak", **inputs)

    leaves = {name: value.clone().requires_grad_() for name, value in knobs.items()}
    every = dict(zip(leaves, torch.autograd.grad(run(**leaves), [*leaves.values()], weight), strict=True))
    alone = knobs | {wanted: leaves[wanted]}
    assert torch.equal(torch.autograd.grad(run(**alone), leaves[wanted], weight)[0], every[wanted])


@pytest.mark.parametrize("broken", ["x", "frequency_hz", "q", "gain_db"])
@pytest.mark.parametrize("frames", [1, 900])
def test_a_broken_item_leaves_the_others_alone(broken, frames, with_gradients):
    inputs = {"x": noise(3, 1, 900), **knobs_of("low_shelf", 3, frames)}
    inputs["q"] = inputs["q"].expand(-1, -1, 900).clone()
    run = named("low_shelf", [*inputs][1:])
    clean = with_gradients(run, *inputs.values())
    inputs[broken][1] = torch.nan
    for ours, theirs in zip(with_gradients(run, *inputs.values()), clean, strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])


def test_silence_has_finite_gradients(with_gradients):
    knobs = knobs_of("high_shelf", 2, 500)
    for value in with_gradients(named("high_shelf", knobs), torch.zeros(2, 1, 500), *knobs.values()):
        assert value.isfinite().all()


def test_at_no_gain_the_sound_is_itself_to_the_bit():
    x, knobs = noise(2, 1, 900), knobs_of("peak", 2, 900)
    knobs["gain_db"] = torch.zeros(2, 1, 1, dtype=torch.float64)
    for kind in ("peak", "low_shelf", "high_shelf"):
        assert torch.equal(svf.svf(x, RATE, kind=kind, **knobs), x)


def test_what_is_kept_is_the_inputs_and_half_a_byte_per_sample():
    x, knobs, kept = noise(8, 1, 9000).float().requires_grad_(), knobs_of("peak", 8, 1), []
    knobs["gain_db"] = knobs["gain_db"].float().repeat(1, 1, 9000).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t), lambda t: t):
        svf.svf(x, RATE, kind="peak", **knobs)
    assert sum(t.nbytes for t in kept) < 8.6 * x.numel()


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize(("kind", "knobs"), [(0, 5), (1, 3), (3, 3)])
def test_the_operator_keeps_the_rules_of_torch(kind, knobs, threads):
    values = [200.0 * torch.rand(3, 1, 100, dtype=torch.float64) + 1.0 for _ in range(knobs)]
    values[1] = values[1][..., :1].clone()
    values = [v.requires_grad_() for v in values] + [None] * (5 - knobs)
    x = noise(3, 2, 100).requires_grad_()
    torch.library.opcheck(torch.ops.difffx.moving_filter.default, (x, *values, kind, 44_100.0, 3, True))


def test_what_is_taken_from_a_gain_is_taken():
    knobs, fall_db = knobs_of("peak", 2, 300), 6.0 * noise(2, 1, 300, seed=4)
    x = noise(2, 1, 300)
    y = fused.moving_filter(x, RATE, "peak", *(knobs[name] for name in RANGES), fall_db)
    knobs["gain_db"] = knobs["gain_db"] - fall_db
    torch.testing.assert_close(y, svf.svf(x, RATE, kind="peak", **knobs), rtol=0.0, atol=1e-12)


def bursts(*size):
    """Loud, quiet, silent."""
    envelope = torch.tensor([0.5, 0.02, 0.0]).repeat_interleave(max(size[-1] // 7, 1)).repeat(3)
    return noise(*size) * envelope[: size[-1]]


EQUALIZERS = {
    "frequency_hz": (50.0, 20_000.0),
    "q": (0.3, 10.0),
    "gain_db": (-12.0, 12.0),
    "threshold_db": (-60.0, 0.0),
    "ratio": (1.0, 10.0),
    "attack_ms": (1.0, 30.0),
    "release_ms": (10.0, 100.0),
}


@pytest.mark.parametrize("moving", [None, "gain_db", "frequency_hz", "threshold_db"])
@pytest.mark.parametrize("size", [(1, 1, 5000), (3, 2, 701), (2, 1, 3)], ids=str)
def test_dynamic_equalizers_agree(size, moving, tiers_agree):
    knobs = {k: v.view(-1, 3, 1) for k, v in curves(EQUALIZERS, 3 * size[0], 1).items()}
    if moving:
        knobs[moving] = knobs[moving] * torch.linspace(1.0, 0.5, 7, dtype=torch.float64)
    knobs["knee_db"] = torch.full((1, 1, 1), 6.0, dtype=torch.float64)

    def run(x, key, *values):
        return dynamic_eq(x, RATE, key=key, **dict(zip(knobs, values, strict=True)))

    tiers_agree(run, noise(*size), bursts(size[0], 2, size[2]), *knobs.values(), rtol=1e-8)
    tiers_agree(lambda x, *values: run(x, None, *values), bursts(*size), *knobs.values(), rtol=1e-8)


WAHS = {
    "frequency_hz": (100.0, 3_000.0),
    "range_octaves": (-2.0, 4.0),
    "sensitivity_db": (0.0, 30.0),
    "attack_ms": (0.1, 50.0),
    "release_ms": (0.1, 100.0),
    "q": (0.7, 12.0),
    "mix": (0.0, 1.0),
}


def wah(x, *values):
    return auto_wah(x, RATE, **dict(zip(WAHS, values, strict=True)))


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("size", [(1, 1, 5000), (9, 1, 700), (3, 2, 701), (2, 3, 64), (2, 1, 1)], ids=str)
def test_auto_wahs_agree_in_sound_and_all_gradients(size, threads, tiers_agree):
    settings = curves(WAHS, size[0], 1)
    tiers_agree(wah, bursts(*size), *settings.values())
    tiers_agree(wah, bursts(*size), *(value[:1] for value in settings.values()))
    tiers_agree(wah, bursts(*size).float(), *(v.float() for v in settings.values()), rtol=1e-4)


def test_an_auto_wah_of_two_equal_channels_hears_both_as_the_loudest(tiers_agree):
    tiers_agree(wah, bursts(2, 1, 700).repeat(1, 2, 1), *curves(WAHS, 2, 1).values())


def test_a_broken_item_of_an_auto_wah_leaves_the_others_alone(with_gradients):
    x, settings = bursts(3, 2, 900), curves(WAHS, 3, 1)
    clean = with_gradients(wah, x, *settings.values())
    x[1, 1, 400] = torch.nan
    for ours, theirs in zip(with_gradients(wah, x, *settings.values()), clean, strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])


@pytest.mark.parametrize("channels", [1, 2])
def test_the_operator_of_the_auto_wah_keeps_the_rules_of_torch(channels):
    table = torch.tensor([300.0, 2.0, 3.0, 0.9, 0.99, 0.2, 0.4, 0.6], dtype=torch.float64)
    inputs = bursts(3, channels, 100).requires_grad_(), table.repeat(3, channels, 1), 44_100.0, True
    torch.library.opcheck(torch.ops.difffx.auto_wah.default, inputs)
