from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difffx.functional import compiled, levels, waveshapers


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
def test_the_clipper_is_the_published_curve(shape, drive_db, tier):
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


def test_the_clipper_has_the_gradients_of_finite_differences(tier):
    knobs = [knob(6.0, -3.0), knob(0.3, 0.8), knob(0.4, 1.7)]
    inputs = [value.requires_grad_() for value in (noise(2, 2, 9), *knobs)]
    assert torch.autograd.gradcheck(
        lambda x, drive_db, offset, shape: waveshapers.parametric_clipper(
            x, drive_db=drive_db, offset=offset, shape=shape
        ),
        inputs,
    )


def by_loop(name: str, u: float, shape: float) -> float:
    """The curves as their docstrings say them."""
    size, sign = abs(u), math.copysign(1.0, u)
    if name == "soft_clip":
        if size <= 1 - shape:
            return u
        return sign * (size - (size - 1 + shape) ** 2 / (4 * shape) if size < 1 + shape else 1.0)
    if name == "exponential":
        return 1 - math.exp(-u) if u > 0 else (math.exp(shape * u) - 1) / shape
    return {
        "tanh": lambda: math.tanh(u),
        "hard_clip": lambda: min(max(u, -1.0), 1.0),
        "double_soft_clip": lambda: (math.tanh(u - shape) + math.tanh(u + shape)) / 2,
        "cubic": lambda: u - 4 / 27 * u**3 if size < 1.5 else sign,
        "arctan": lambda: 2 / math.pi * math.atan(math.pi / 2 * u),
        "arcsinh": lambda: math.asinh(u),
        "arctanh": lambda: math.atanh(u) if size < math.tanh(2.0) else 2 * sign,
    }[name]()


KNOBS = {  # name -> its knobs between drive and mix, with two settings
    "tanh": {"bias": (0.0, 0.7)},
    "hard_clip": {"ceiling_db": (-6.0, 0.0)},
    "soft_clip": {"ceiling_db": (-6.0, 0.0), "knee": (0.05, 1.0)},
    "double_soft_clip": {"gap": (0.4, 2.5), "bias": (0.0, 0.7)},
    "cubic": {"bias": (0.0, 0.7)},
    "arctan": {"bias": (0.0, 0.7)},
    "arcsinh": {"bias": (0.0, 0.7)},
    "arctanh": {},
    "exponential": {"asymmetry": (0.3, 4.0)},
}
SHAPE = {"soft_clip": "knee", "double_soft_clip": "gap", "exponential": "asymmetry"}
EXACT = [*KNOBS, "rectifier", "table_shaper"]
ALL = [*EXACT, "bit_crusher"]  # whose gradient goes straight through


def controls(name: str, batch: int = 2, points: int = 9) -> dict[str, torch.Tensor]:
    if name == "rectifier":
        return {"amount": knob(0.3, 0.8)[:batch]}
    if name == "bit_crusher":
        return {"bits": knob(3.0, 7.4)[:batch], "mix": knob(1.0, 0.6)[:batch]}
    others = {key: knob(*values)[:batch] for key, values in KNOBS.get(name, {}).items()}
    if name == "table_shaper":
        others = {"table": noise(batch, points, 1, seed=5)}
    return {"drive_db": knob(12.0, -3.0)[:batch], **others, "mix": knob(1.0, 0.6)[:batch]}


@pytest.mark.parametrize("drive_db", [-20.0, 0.0, 12.0, 40.0])
@pytest.mark.parametrize("setting", [0, 1])
@pytest.mark.parametrize("name", KNOBS)
def test_a_curve_is_what_its_docstring_says(name, setting, drive_db, tier):
    x = 2.0 * noise(1, 1, 300)
    values = {key: pair[setting] for key, pair in KNOBS[name].items()}
    shape = values.get(SHAPE.get(name), 0.0)
    gain, ceiling = 10 ** (drive_db / 20), 10 ** (values.get("ceiling_db", 0.0) / 20)
    bias, mix = values.get("bias", 0.0), 0.7
    rest = by_loop(name, bias, shape)
    expected = [
        (1 - mix) * s + mix * ceiling * (by_loop(name, gain * s / ceiling + bias, shape) - rest)
        for s in x.flatten().tolist()
    ]
    given = {key: knob(value) for key, value in values.items()}
    y = getattr(waveshapers, name)(x, drive_db=knob(drive_db), mix=knob(mix), **given)
    np.testing.assert_allclose(y.flatten(), expected, atol=1e-13 * max(gain, 1.0), rtol=1e-12)


@pytest.mark.parametrize("name", KNOBS)
def test_quiet_sounds_come_out_as_loud_as_the_slope_at_zero_says(name):
    x = 1e-6 * noise(1, 1, 100)
    given = {key: knob(pair[0]) for key, pair in KNOBS[name].items()}
    y = getattr(waveshapers, name)(x, drive_db=knob(20.0), mix=knob(1.0), **given)
    slope = 1 / math.cosh(0.4) ** 2 if name == "double_soft_clip" else 1.0
    torch.testing.assert_close(y, 10 * slope * x, atol=0.0, rtol=1e-4)


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("oversample", [1, 2])
def test_gradients_equal_finite_differences(name, oversample, tier):
    given = controls(name)
    inputs = [value.requires_grad_() for value in (noise(2, 2, 6), *given.values())]

    def run(x, *values):
        knobs = dict(zip(given, values, strict=True))
        return getattr(waveshapers, name)(x, **knobs, oversample=oversample)

    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", EXACT)
def test_moving_knobs_have_the_gradients_of_finite_differences(name, channels):
    static = {"table", "gap", "knee", "asymmetry"}
    given = {
        key: value.detach() if key in static else value + 0.1 * noise(1, 1, 3)
        for key, value in controls(name).items()
    }
    inputs = [value.requires_grad_() for value in (noise(2, channels, 6), *given.values())]

    def run(x, *values):
        return getattr(waveshapers, name)(x, **dict(zip(given, values, strict=True)))

    assert torch.autograd.gradcheck(run, inputs, eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_float32_agrees_with_float64(name):
    x, given = noise(2, 1, 4000), controls(name)
    exact = getattr(waveshapers, name)(x.float().double(), **given)
    coarse = getattr(waveshapers, name)(x.float(), **{key: value.float() for key, value in given.items()})
    assert 20 * torch.log10((coarse - exact).norm() / exact.norm()) < -120.0


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("level", [0.0, 1e-30, 1e4, 1e18])
def test_any_level_gives_finite_sound_and_gradients(name, level, tier):
    x = (level * noise(2, 1, 50).float()).requires_grad_()
    given = {key: value.float().requires_grad_() for key, value in controls(name).items()}
    y = getattr(waveshapers, name)(x, **given)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(value.grad.isfinite().all() for value in given.values())


@pytest.mark.parametrize("name", ALL)
def test_what_is_no_number_stays_in_its_row(name, tier):
    x = noise(2, 1, 50)
    x[1, 0, 20] = math.nan
    y = getattr(waveshapers, name)(x, **controls(name))
    assert y[0].isfinite().all() and y[1, 0, 20].isnan()
    assert y[1, 0, :20].isfinite().all() and y[1, 0, 21:].isfinite().all()


def test_the_rectifier_turns_the_lower_half_wave_around():
    x = noise(1, 1, 100)
    half, full = (waveshapers.rectifier(x, amount=knob(amount)) for amount in (0.5, 1.0))
    torch.testing.assert_close(half, x.clamp(min=0.0))
    torch.testing.assert_close(full, x.abs())


def test_the_crusher_has_as_many_steps_as_its_bits_say():
    ramp = torch.linspace(-1.0, 1.0, 10_001, dtype=torch.float64).view(1, 1, -1)
    for bits in (1, 2, 5):
        y = waveshapers.bit_crusher(ramp, bits=knob(bits), mix=knob(1.0))
        assert len(y.unique()) == 2**bits + 1
        assert (y - ramp).abs().max() <= 0.5 ** (bits - 1) / 2 + 1e-12


def test_the_gradient_to_the_bits_is_that_of_the_error_they_make():
    x = noise(1, 1, 20_000)

    def error(bits):
        return (waveshapers.bit_crusher(x, bits=bits, mix=knob(1.0)) - x).square().mean()

    bits = knob(5.0).requires_grad_()
    (gradient,) = torch.autograd.grad(error(bits), bits)
    secant = (error(knob(5.5)) - error(knob(4.5))).item()
    assert gradient.item() == pytest.approx(secant, rel=0.1)


def test_the_crusher_passes_the_gradient_straight_through():
    x = noise(1, 1, 50).requires_grad_()
    y = waveshapers.bit_crusher(x, bits=knob(2.0), mix=knob(1.0))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient, torch.ones_like(x))


def test_a_table_is_interpolated_as_numpy_does_it():
    x, table = 1.5 * noise(1, 2, 500), noise(1, 7, 1, seed=2)
    y = waveshapers.table_shaper(x, drive_db=knob(0.0), table=table, mix=knob(1.0))
    expected = np.interp(x.numpy(), np.linspace(-1, 1, 7), table.flatten().numpy())
    np.testing.assert_allclose(y, expected, atol=1e-12)


def test_a_table_of_a_curve_is_the_curve_at_its_points():
    points = torch.linspace(-1.0, 1.0, 33, dtype=torch.float64)
    y = waveshapers.table_shaper(
        points.view(1, 1, -1), drive_db=knob(0.0), table=points.sin().view(1, -1, 1), mix=knob(1.0)
    )
    torch.testing.assert_close(y.flatten(), points.sin())


def folded_db(y: torch.Tensor, cycles: int) -> float:
    """What is no harmonic of a tone with so many cycles, against the tone; DC left out."""
    power = torch.fft.rfft(y[0, 0] * torch.hann_window(y.shape[-1], dtype=y.dtype)).abs().square()
    harmonic = torch.zeros(len(power), dtype=torch.bool)
    for k in range(0, len(power), cycles):
        harmonic[max(k - 2, 0) : k + 3] = True
    return 10 * math.log10(power[~harmonic].sum() / power[harmonic].sum())


CYCLES, SAMPLES = 929, 8192  # a tone of 5.0 kHz at 44.1
TONE = torch.sin(2 * math.pi * CYCLES * torch.arange(SAMPLES, dtype=torch.float64) / SAMPLES).repeat(3)


def loud(name: str) -> dict[str, torch.Tensor]:
    """Settings at which a curve makes many harmonics, even ones where it can."""
    if name == "rectifier":
        return {"amount": knob(1.0)}
    if name == "bit_crusher":
        return {"bits": knob(2.0), "mix": knob(1.0)}
    given = {key: knob(pair[1]) for key, pair in KNOBS.get(name, {}).items()}
    if name == "table_shaper":
        points = torch.linspace(-1.0, 1.0, 9, dtype=torch.float64).view(1, -1, 1)
        given = {"table": points.sign() * points.abs().sqrt()}
    return {
        "drive_db": knob(12.0 if name in ("arctanh", "table_shaper") else 30.0),
        **given,
        "mix": knob(1.0),
    }


@pytest.mark.parametrize("name", ALL)
def test_oversampling_takes_away_the_tones_that_fit_no_chord(name):
    def left_db(factor: int) -> float:
        y = getattr(waveshapers, name)(TONE.view(1, 1, -1), **loud(name), oversample=factor)
        return folded_db(y[..., SAMPLES:-SAMPLES], CYCLES)

    left = [left_db(factor) for factor in (1, 2, 4, 8)]
    assert left[0] > left[1] + 6 > left[2] + 8 > left[3] + 14
    assert left[3] < left[0] - 18


LOPSIDED = {"tanh", "double_soft_clip", "cubic", "arctan", "arcsinh", "exponential", "rectifier"}


@pytest.mark.parametrize("oversample", [1, 2])
@pytest.mark.parametrize("name", ALL)
def test_what_is_lopsided_leaves_dc_that_a_high_pass_takes_out_and_what_is_not_leaves_none(name, oversample):
    tone = TONE.repeat(3).view(1, 1, -1)
    y = getattr(waveshapers, name)(tone, **loud(name), oversample=oversample)
    offset = y[..., SAMPLES:-SAMPLES].mean().abs()
    assert (offset > 0.01) if name in LOPSIDED else (offset < 1e-9)
    assert levels.without_dc(y, 44_100)[..., -2 * SAMPLES : -SAMPLES].mean().abs() < 1e-3


def test_oversampling_keeps_the_dry_part_as_it_is():
    x = noise(1, 2, 400)
    y = waveshapers.tanh(x, drive_db=knob(20.0), bias=knob(0.0), mix=knob(0.0), oversample=4)
    torch.testing.assert_close(y, x)


def test_without_kernels_curves_keep_one_copy_of_the_signal_for_the_gradient():
    kept: list[int] = []
    x = noise(1, 1, 4096).requires_grad_()
    given = {key: value.requires_grad_() for key, value in controls("tanh", batch=1).items()}
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t)
    with compiled.disabled(), hooks:
        waveshapers.tanh(x, **given)
    assert sum(kept) < 2.1 * 4096  # x itself and one more
