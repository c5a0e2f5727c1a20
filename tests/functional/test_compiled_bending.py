from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from difffx.functional import compiled, waveshapers
from difffx.functional.compiled import bending
from difffx.functional.compiled.table import _look_up

pytestmark = pytest.mark.skipif(not compiled.available(), reason="no C compiler")

KNOBS = {  # name -> its knobs, with a setting for each of three items
    "tanh": {"drive_db": (12.0, -9.0, 30.0), "bias": (0.0, 0.7, -1.0), "mix": (1.0, 0.6, 0.1)},
    "hard_clip": {"drive_db": (12.0, -9.0, 30.0), "ceiling_db": (-6.0, 0.0, -20.0), "mix": (1.0, 0.6, 0.1)},
    "soft_clip": {
        "drive_db": (12.0, -9.0, 30.0),
        "ceiling_db": (-6.0, 0.0, -20.0),
        "knee": (0.05, 0.4, 1.0),
        "mix": (1.0, 0.6, 0.1),
    },
    "double_soft_clip": {
        "drive_db": (12.0, -9.0, 30.0),
        "gap": (0.4, 2.5, 1e-3),
        "bias": (0.0, 0.7, -1.0),
        "mix": (1.0, 0.6, 0.1),
    },
    "cubic": {"drive_db": (12.0, -9.0, 30.0), "bias": (0.0, 0.7, -1.0), "mix": (1.0, 0.6, 0.1)},
    "arctan": {"drive_db": (12.0, -9.0, 30.0), "bias": (0.0, 0.7, -1.0), "mix": (1.0, 0.6, 0.1)},
    "arcsinh": {"drive_db": (12.0, -9.0, 30.0), "bias": (0.0, 0.7, -1.0), "mix": (1.0, 0.6, 0.1)},
    "arctanh": {"drive_db": (12.0, -9.0, 30.0), "mix": (1.0, 0.6, 0.1)},
    "exponential": {"drive_db": (12.0, -9.0, 30.0), "asymmetry": (0.3, 1.0, 4.0), "mix": (1.0, 0.6, 0.1)},
    "rectifier": {"amount": (0.3, 0.5, 1.0)},
    "parametric_clipper": {
        "drive_db": (12.0, -9.0, 20.0),
        "offset": (0.0, 0.7, 1.0),
        "shape": (0.3, 1.6, 2.0),
    },
}

STRAIGHT = {**KNOBS, "bit_crusher": {"bits": (3.0, 7.4, 1.0), "mix": (1.0, 0.6, 0.1)}}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 2.0 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.0


def knobs(name: str, items: int = 3) -> list[Tensor]:
    rows = [torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in STRAIGHT[name].values()]
    return [row.repeat(-(-items // 3), 1, 1)[:items] for row in rows]


def shaper(name: str, **options: int):
    def run(x: Tensor, *values: Tensor) -> Tensor:
        return getattr(waveshapers, name)(x, **dict(zip(STRAIGHT[name], values, strict=True)), **options)

    return run


def db(found: Tensor, expected: Tensor) -> float:
    return 20 * math.log10(max((found.double() - expected).norm() / expected.norm(), 1e-20))


@pytest.mark.parametrize("name", STRAIGHT)
def test_both_tiers_agree_mono_and_stereo_at_odd_lengths(name, tiers_agree):
    for channels, samples in ((1, 1), (1, 5), (2, 256), (2, 1111)):
        tiers_agree(shaper(name), 3.0 * noise(3, channels, samples), *knobs(name), rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("name", ["tanh", "double_soft_clip"])
def test_both_tiers_agree_for_any_number_of_items_and_threads(name, threads, tiers_agree):
    for items in (1, 2, 7):
        tiers_agree(shaper(name), noise(items, 1, 40_001), *knobs(name, items))


@pytest.mark.parametrize("name", STRAIGHT)
def test_knobs_that_all_items_share_collect_the_gradients_of_all(name, tiers_agree):
    tiers_agree(shaper(name), noise(3, 2, 500), *(knob[:1] for knob in knobs(name)), atol=1e-12)
    mixed = [knob[:1] if i % 2 else knob for i, knob in enumerate(knobs(name))]
    tiers_agree(shaper(name), noise(3, 2, 500), *mixed, atol=1e-12)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("name", ["tanh", "soft_clip", "double_soft_clip", "bit_crusher"])
def test_both_tiers_agree_oversampled(name, factor, tiers_agree):
    for channels, samples in ((1, 1), (2, 40), (1, 1111)):
        shared = [knob[:1] if i % 2 else knob for i, knob in enumerate(knobs(name))]
        tiers_agree(shaper(name, oversample=factor), noise(3, channels, samples), *shared, atol=1e-12)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
def test_both_tiers_agree_oversampled_where_pieces_meet(threads, tiers_agree):
    tiers_agree(shaper("tanh", oversample=2), noise(2, 1, 31_000), *knobs("tanh", 2))


@pytest.mark.parametrize("factor", [2, 4, 8])
@pytest.mark.parametrize("name", KNOBS.keys() - {"parametric_clipper"})
def test_oversampled_float32_is_within_minus_120_db(name, factor, with_gradients):
    x, given = noise(3, 1, 3000).float(), [knob.float() for knob in knobs(name)]
    run = shaper(name, oversample=factor)
    coarse = with_gradients(run, x, *given)
    fine = with_gradients(run, x.double(), *(knob.double() for knob in given))
    assert db(coarse[0], fine[0]) < -120.0
    for found, expected in zip(coarse[1:], fine[1:], strict=True):
        assert db(found, expected) < -90.0  # a sample at a corner may fall to its other side


@pytest.mark.parametrize("level", [1e-6, 1e-3, 0.3, 3.0])
@pytest.mark.parametrize("name", KNOBS)
def test_float32_is_within_minus_139_db_however_quiet(name, level):
    x = (level * noise(3, 1, 20_000)).float()
    given = [knob.float() for knob in knobs(name)]
    exact = shaper(name)(x.double(), *(knob.double() for knob in given))
    for found, expected in zip(shaper(name)(x, *given), exact, strict=True):
        assert db(found, expected) < -139.0


@pytest.mark.parametrize("name", KNOBS)
def test_gradients_in_float32_are_those_in_float64(name, with_gradients):
    x, given = noise(3, 1, 20_000).float(), [knob.float() for knob in knobs(name)]
    coarse = with_gradients(shaper(name), x, *given)
    fine = with_gradients(shaper(name), x.double(), *(knob.double() for knob in given))
    for found, expected in zip(coarse[1:], fine[1:], strict=True):
        assert found.dtype == torch.float32
        assert db(found, expected) < -100.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [-60.0, -11.0, 0.0, 3.0, 15.0])
def test_a_bias_far_from_zero_is_kept(bias, dtype):
    x = 100.0 * noise(1, 1, 5000).to(dtype)
    for name, curve in (
        ("tanh", torch.tanh),
        ("arctan", lambda u: torch.atan(u * torch.pi / 2) * 2 / torch.pi),
    ):
        knob = {
            "drive_db": torch.zeros(1, 1, 1),
            "bias": torch.full((1, 1, 1), bias),
            "mix": torch.ones(1, 1, 1),
        }
        y = getattr(waveshapers, name)(x, **knob)
        expected = curve(x.double() + bias) - curve(torch.tensor(bias, dtype=torch.float64))
        torch.testing.assert_close(
            y, expected.to(dtype), atol=2e-5 if dtype == torch.float32 else 1e-13, rtol=0
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STRAIGHT)
def test_the_loudest_and_the_quietest_sounds_stay_finite(name, dtype):
    for level in (0.0, 1e-40, 1e-30, 1e20, 1e30):
        inputs = [t.to(dtype).requires_grad_() for t in (level * noise(3, 1, 50), *knobs(name))]
        y = shaper(name)(*inputs)
        assert y.isfinite().all()
        assert all(grad.isfinite().all() for grad in torch.autograd.grad(y.mean(), inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", STRAIGHT)
def test_a_broken_sample_stays_alone_and_a_broken_knob_in_its_item(name, dtype):
    x, given = noise(3, 1, 40_000).to(dtype), [knob.to(dtype) for knob in knobs(name)]
    clean = shaper(name)(x, *given)
    broken = x.clone()
    broken[1, 0, 300] = torch.nan
    y = shaper(name)(broken, *given)
    assert y[1, 0, 300].isnan() and y[1, 0, 299] == clean[1, 0, 299] and y[1, 0, 301] == clean[1, 0, 301]
    assert torch.equal(y[[0, 2]], clean[[0, 2]])
    for i in range(len(given)):
        wrong = [knob.clone() for knob in given]
        wrong[i][1] = torch.nan
        y = shaper(name)(x, *wrong)
        assert y[1].isnan().any() and torch.equal(y[[0, 2]], clean[[0, 2]])


def test_one_gradient_without_the_others_is_the_same(with_gradients):
    x, given = noise(3, 2, 700), knobs("double_soft_clip")
    every = with_gradients(shaper("double_soft_clip"), x, *given)[1:]
    for i, expected in enumerate(every):
        inputs = [x, *given]

        def run(one: Tensor, i: int = i, inputs: list[Tensor] = inputs) -> Tensor:
            return shaper("double_soft_clip")(*inputs[:i], one, *inputs[i + 1 :])

        assert torch.equal(with_gradients(run, inputs[i])[1], expected)


def test_audio_laid_out_otherwise_is_the_same_audio():
    x, given = noise(500, 2, 3).permute(2, 1, 0), knobs("tanh")
    assert torch.equal(shaper("tanh")(x, *given), shaper("tanh")(x.contiguous(), *given))


def test_nothing_is_kept_for_the_gradient_but_the_inputs():
    kept: list[int] = []
    x, given = noise(1, 1, 4096).requires_grad_(), [knob.requires_grad_() for knob in knobs("soft_clip", 1)]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        shaper("soft_clip")(x, *given)
    assert sum(kept) < 4096 + 10


@pytest.mark.parametrize("curve", bending.CURVES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operators_keep_the_rules_of_torch(curve, dtype):
    one = torch.full((2, 1, 1), 0.5, dtype=dtype)
    bias = one.clone() if curve in bending.BIASED else None
    knobs = [None if knob is None else knob.clone().requires_grad_() for knob in (one, one, bias, one, one)]
    arguments = noise(2, 1, 40).to(dtype).requires_grad_(), *knobs, bending.CURVES.index(curve), 1
    torch.library.opcheck(bending._bend, arguments)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize("items", [1, 2])
def test_both_tiers_look_up_the_same(items, threads, tiers_agree):
    def run(x: Tensor, drive_db: Tensor, table: Tensor, mix: Tensor) -> Tensor:
        return waveshapers.table_shaper(x, drive_db=drive_db, table=table, mix=mix)

    half = torch.full((1, 1, 1), 0.5, dtype=torch.float64)
    for shape in ((2, 1, 1), (2, 2, 41_001)):
        x, drive_db = (
            1.5 * noise(*shape),
            torch.tensor((3.0, -8.0), dtype=torch.float64).view(2, 1, 1)[:items],
        )
        tiers_agree(run, x, drive_db, noise(items, 33, 1, seed=1), half)
        tiers_agree(run, x.float(), drive_db, noise(items, 3, 1, seed=1).float(), half, rtol=1e-4)


def test_a_broken_sample_breaks_no_other_at_the_table():
    x, table = noise(2, 1, 500), noise(2, 9, 1, seed=1)
    knobs = {"drive_db": torch.zeros(1, 1, 1), "mix": torch.full((1, 1, 1), 0.7)}
    clean = waveshapers.table_shaper(x, table=table, **knobs)
    x[1, 0, 7] = torch.nan
    y = waveshapers.table_shaper(x, table=table, **knobs)
    assert y[1, 0, 7].isnan() and y.isnan().sum() == 1
    assert torch.equal(y[~y.isnan()], clean[~y.isnan()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_operator_of_the_table_keeps_the_rules_of_torch(dtype):
    half = torch.full((1, 1, 1), 0.5)
    arguments = noise(2, 1, 40), half, half.repeat(2, 1, 1), noise(2, 5, 1, seed=1)
    torch.library.opcheck(_look_up, tuple(t.to(dtype).requires_grad_() for t in arguments))
