from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difffx.functional import dynamics

SAMPLE_RATE = 44_100
KNOBS = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db", "makeup_db")
LOW = torch.tensor([-40.0, 1.0, 0.1, 1.0, 0.0, 0.0], dtype=torch.float64)
HIGH = torch.tensor([0.0, 20.0, 500.0, 5000.0, 12.0, 20.0], dtype=torch.float64)
CORNERS = [
    (-40.0, 10.0, 0.1, 5000.0, 0.0, 0.0),
    (-24.0, 4.0, 500.0, 1.0, 6.0, 3.0),
    (-10.0, 1.0, 5.0, 100.0, 12.0, 20.0),
    (-30.0, 20.0, 0.1, 1.0, 0.0, 0.0),
]


def music(items: int, channels: int, seconds: float, seed: int = 0) -> torch.Tensor:
    """Tone and noise in bursts with silence between."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    noise = 0.3 * torch.randn(items, channels, len(time), generator=generator)
    return (noise + 0.6 * torch.sin(2.0 * math.pi * 220.0 * time)) * (
        torch.sin(2.0 * math.pi * 9.0 * time) > 0
    )


def settings(*rows: tuple[float, ...], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    columns = torch.tensor(rows, dtype=dtype).unbind(1)
    return {name: column.view(-1, 1, 1) for name, column in zip(KNOBS, columns, strict=True)}


def random_settings(items: int, seed: int) -> list[tuple[float, ...]]:
    u = torch.rand(items, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    linear = LOW + u * (HIGH - LOW)
    linear[:, 2:4] = LOW[2:4] * (HIGH / LOW)[2:4] ** u[:, 2:4]
    return [tuple(row) for row in linear.tolist()]


def reference(x: torch.Tensor, row: tuple[float, ...], floor_db: float = -80.0) -> np.ndarray:
    """The published law, sample by sample in float64; x [C, T]."""
    threshold, ratio, attack_ms, release_ms, knee, makeup = np.float32(row).astype(float)
    x = x.double().numpy()
    level = 20.0 * np.log10(np.maximum(np.abs(x).max(0), 10.0 ** (floor_db / 20.0)))
    over = level - threshold
    curve = np.where(over > knee / 2, threshold + over / ratio, level)
    if knee > 0:
        bend = level + (1.0 / ratio - 1.0) * (over + knee / 2) ** 2 / (2.0 * knee)
        curve = np.where(np.abs(over) <= knee / 2, bend, curve)
    attack, release = (math.exp(-1000.0 / (ms * SAMPLE_RATE)) for ms in (attack_ms, release_ms))
    smooth, now = [], 0.0
    for g in (level - curve).tolist():
        a = attack if g > now else release
        now = a * now + (1.0 - a) * g
        smooth.append(now)
    return x * 10.0 ** ((makeup - np.array(smooth)) / 20.0)


def error_db(y: torch.Tensor, expected: np.ndarray) -> float:
    error = y.double().numpy() - expected
    return 10.0 * math.log10((error**2).sum() / (expected**2).sum() + 1e-30)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_compressor_is_the_float64_loop_to_minus_90_db_over_the_whole_range(seed):
    rows = random_settings(6, seed) + CORNERS
    x = music(len(rows), 2, 0.6, seed)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings(*rows))
    for item, row in enumerate(rows):
        assert error_db(y[item], reference(x[item], row)) < -90.0, row


@pytest.mark.slow
@pytest.mark.parametrize("row", [CORNERS[0], CORNERS[1], (-24.0, 4.0, 5.0, 100.0, 6.0, 0.0)])
def test_the_compressor_is_the_float64_loop_on_thirty_seconds(row):
    x = music(1, 1, 30.0)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings(row))
    assert error_db(y[0], reference(x[0], row)) < -90.0


def test_the_simple_compressor_is_the_loop_with_one_time_constant():
    rows = [(-40.0, 10.0, ms, ms, knee, 2.0) for ms in (1.0, 30.0, 500.0) for knee in (0.0, 9.0)]
    x = music(len(rows), 2, 0.6)
    controls = settings(*rows)
    controls["time_ms"] = controls.pop("attack_ms")
    del controls["release_ms"]
    y = dynamics.simple_compressor(x, SAMPLE_RATE, **controls)
    for item, row in enumerate(rows):
        assert error_db(y[item], reference(x[item], row, floor_db=-120.0)) < -90.0, row


def test_the_compressor_has_the_gradients_of_finite_differences():
    x = music(2, 2, 0.004).double()[..., 3:60] + 1e-3
    knobs = settings((-22.0, 4.0, 0.2, 1.5, 6.0, 3.0), (-30.0, 8.0, 2.0, 0.4, 20.0, 0.0), dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (x, *knobs.values())]
    assert torch.autograd.gradcheck(
        lambda x, *values: dynamics.compressor(x, SAMPLE_RATE, **dict(zip(KNOBS, values, strict=True))),
        inputs,
    )


def test_the_simple_compressor_has_the_gradients_of_finite_differences():
    x = music(1, 1, 0.004).double()[..., 3:90] + 1e-3
    names = ("threshold_db", "ratio", "time_ms", "knee_db", "makeup_db")
    values = [torch.full((1, 1, 1), v, dtype=torch.float64) for v in (-22.0, 4.0, 0.5, 6.0, 3.0)]
    inputs = [value.requires_grad_() for value in (x, *values)]
    assert torch.autograd.gradcheck(
        lambda x, *v: dynamics.simple_compressor(x, SAMPLE_RATE, **dict(zip(names, v, strict=True))), inputs
    )


@pytest.mark.parametrize("row", [(-20.0, 1.0, 5.0, 50.0, 0.0, 0.0), (-20.0, 4.0, 5.0, 50.0, 0.0, 0.0)])
@pytest.mark.parametrize("amplitude", [0.0, 0.1, 1.0])
def test_a_corner_knee_a_ratio_of_one_and_silence_have_finite_gradients(row, amplitude):
    x = torch.full((1, 2, 1000), amplitude).requires_grad_()
    knobs = {name: value.requires_grad_() for name, value in settings(row).items()}
    y = dynamics.compressor(x, SAMPLE_RATE, **knobs)
    y.sum().backward()
    assert y.isfinite().all()
    for value in (x, *knobs.values()):
        assert value.grad.isfinite().all()


def test_a_ratio_of_one_does_nothing():
    x = music(1, 2, 0.1)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings((-40.0, 1.0, 1.0, 10.0, 6.0, 0.0)))
    torch.testing.assert_close(y, x, rtol=0.0, atol=0.0)


def test_silence_stays_silence_with_all_the_makeup():
    y = dynamics.compressor(
        torch.zeros(1, 2, 500), SAMPLE_RATE, **settings((-40.0, 10.0, 1.0, 10.0, 6.0, 20.0))
    )
    assert y.abs().max() == 0.0


def test_quiet_samples_are_not_overwritten_by_the_floor_of_the_level():
    x = torch.full((1, 1, 100), -5e-5)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings((-40.0, 4.0, 5.0, 50.0, 6.0, 0.0)))
    torch.testing.assert_close(y, x, rtol=0.0, atol=0.0)


def test_one_sample_passes():
    x = torch.full((1, 1, 1), 0.5)
    row = (-20.0, 4.0, 5.0, 50.0, 0.0, 0.0)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings(row))
    assert error_db(y[0], reference(x[0], row)) < -90.0


def test_above_the_threshold_four_to_one_means_one_decibel_for_four():
    levels = torch.tensor([[[-30.0, -20.0, -16.0, -12.0, 0.0]]])
    curve = dynamics.static_curve(levels, torch.tensor(-20.0), torch.tensor(4.0), torch.tensor(0.0))
    torch.testing.assert_close(curve, torch.tensor([[[-30.0, -20.0, -19.0, -18.0, -15.0]]]))


def test_the_knee_is_smooth_and_meets_both_lines():
    levels = torch.linspace(-40.0, 0.0, 4001, dtype=torch.float64).view(1, 1, -1)
    knob = [torch.tensor(v, dtype=torch.float64) for v in (-20.0, 4.0, 10.0)]
    slope = dynamics.static_curve(levels, *knob).diff() / levels.diff()
    assert slope[..., 0] == pytest.approx(1.0)
    assert slope[..., -1] == pytest.approx(0.25)
    assert (slope.diff() < 1e-9).all()
    assert slope.diff().abs().max() < 1.01 * 0.75 * 0.01 / 10.0


def test_the_attack_is_63_percent_there_after_its_time_and_so_is_the_release():
    row = (-20.0, 4.0, 10.0, 100.0, 0.0, 0.0)
    controls = settings(row)
    del controls["makeup_db"]
    loud, quiet = int(0.5 * SAMPLE_RATE), int(0.5 * SAMPLE_RATE)
    x = torch.cat([torch.full((1, 1, loud), 1.0), torch.full((1, 1, quiet), 1e-3)], -1)
    gain_db = dynamics.compressor_gain_db(x, SAMPLE_RATE, **controls)[0, 0]
    assert gain_db.shape[-1] == loud + quiet
    share = 1.0 - math.exp(-1.0)
    assert gain_db[441 - 1].item() == pytest.approx(-15.0 * share, abs=1e-4)
    assert gain_db[loud - 1].item() == pytest.approx(-15.0, abs=1e-4)
    assert gain_db[loud + 4410 - 1].item() == pytest.approx(-15.0 * (1.0 - share), abs=1e-4)


def test_the_stereo_image_does_not_move():
    x = music(1, 1, 0.2)
    stereo = torch.cat([x, 0.25 * x], 1)
    row = (-30.0, 8.0, 1.0, 50.0, 6.0, 5.0)
    y = dynamics.compressor(stereo, SAMPLE_RATE, **settings(row))
    torch.testing.assert_close(y[:, 1], 0.25 * y[:, 0])
    torch.testing.assert_close(y[:, :1], dynamics.compressor(x, SAMPLE_RATE, **settings(row)))


def test_a_curve_of_makeup_that_does_not_move_is_a_static_one():
    x = music(2, 1, 0.1)
    controls = settings((-20.0, 4.0, 5.0, 50.0, 6.0, 7.0), (-10.0, 2.0, 5.0, 50.0, 6.0, 3.0))
    still = dynamics.compressor(x, SAMPLE_RATE, **controls)
    controls["makeup_db"] = controls["makeup_db"].expand(2, 1, 9)
    torch.testing.assert_close(dynamics.compressor(x, SAMPLE_RATE, **controls), still)
