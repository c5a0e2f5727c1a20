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


def feedback_reference(x: torch.Tensor, row: tuple[float, ...]) -> np.ndarray:
    """A compressor that reads the level of the sample that has just left it; x [C, T]."""
    threshold, ratio, attack_ms, release_ms, knee, makeup = row
    x = x.double().numpy()
    attack, release = (math.exp(-1000.0 / (ms * SAMPLE_RATE)) for ms in (attack_ms, release_ms))
    now, left, gains = 0.0, 0.0, []
    for peak in np.abs(x).max(0):
        over = 20.0 * math.log10(max(left, 1e-30)) - threshold
        counts = (over + knee / 2) ** 2 / (2.0 * knee) if abs(over) < knee / 2 else max(over, 0.0)
        target = (ratio - 1.0) * counts
        a = attack if target > now else release
        now = a * now + (1.0 - a) * target
        gains.append(10.0 ** (-now / 20.0))
        left = peak * gains[-1]
    return x * np.array(gains) * 10.0 ** (makeup / 20.0)


FEEDBACK_ROWS = [
    (-20.0, 4.0, 10.0, 100.0, 6.0, 3.0),
    (-40.0, 10.0, 1.0, 10.0, 0.0, 0.0),
    (-40.0, 20.0, 1.0, 5000.0, 12.0, 0.0),
    (-24.0, 4.0, 500.0, 1.0, 6.0, 0.0),
    (-20.0, 1.0, 10.0, 100.0, 6.0, 0.0),
]


def test_the_feedback_compressor_is_the_loop_that_hears_what_has_left_it():
    x = music(len(FEEDBACK_ROWS), 2, 0.3).double()
    y = dynamics.compressor(x, SAMPLE_RATE, **settings(*FEEDBACK_ROWS, dtype=torch.float64), feedback=True)
    for item, row in enumerate(FEEDBACK_ROWS):
        assert error_db(y[item], feedback_reference(x[item], row)) < -180.0, row


def test_the_feedback_compressor_settles_on_the_static_curve():
    x = torch.full((1, 1, 20_000), 1.0)
    y = dynamics.compressor(x, SAMPLE_RATE, **settings((-20.0, 4.0, 10.0, 100.0, 6.0, 0.0)), feedback=True)
    assert 20.0 * y[0, 0, -1].log10().item() == pytest.approx(-15.0, abs=1e-3)


def test_the_feedback_compressor_has_the_gradients_of_finite_differences():
    x = music(1, 2, 0.004).double()[..., 3:23] + 1e-3
    knobs = settings((-22.0, 4.0, 0.4, 1.5, 6.0, 3.0), dtype=torch.float64)
    inputs = [value.requires_grad_() for value in (x, *knobs.values())]

    def compressed(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        controls = dict(zip(KNOBS, values, strict=True))
        return dynamics.compressor(x, SAMPLE_RATE, **controls, feedback=True)

    assert torch.autograd.gradcheck(compressed, inputs)


def gain_db(x: torch.Tensor, controls: dict[str, torch.Tensor], **options: object) -> torch.Tensor:
    """What the compressor has made of a sound that is never 0."""
    y = dynamics.compressor(x, SAMPLE_RATE, **controls, **options)
    return 20.0 * torch.log10(y / x)


@pytest.mark.usefixtures("tier")
def test_with_a_mean_square_a_sine_and_a_square_wave_of_one_rms_are_one():
    time = (torch.arange(SAMPLE_RATE) + 0.3) / SAMPLE_RATE
    sine = torch.sin(2.0 * math.pi * 1000.0 * time).view(1, 1, -1)
    square = math.sqrt(0.5) * sine.sign()
    controls = settings((-20.0, 4.0, 1.0, 50.0, 6.0, 0.0))
    rms_ms = torch.full((1, 1, 1), 50.0)
    gains_db = [gain_db(x, controls, rms_ms=rms_ms)[..., -1] for x in (sine, square)]
    assert gains_db[0].item() == pytest.approx(0.75 * -17.0, abs=0.1)
    assert gains_db[0].item() == pytest.approx(gains_db[1].item(), abs=0.1)


@pytest.mark.usefixtures("tier")
def test_with_look_ahead_the_gain_comes_down_before_the_sound_does():
    x = torch.full((1, 1, 4000), 1e-3)
    x[..., 2000:] = 1.0
    controls = settings((-20.0, 4.0, 1.0, 50.0, 0.0, 0.0))
    late, early = (gain_db(x, controls, lookahead=samples) for samples in (0, 100))
    torch.testing.assert_close(early[..., :-100], late[..., 100:], rtol=1e-4, atol=1e-4)
    assert early[..., 1899].item() == 0.0 and early[..., 1901].item() < -0.1


def de_essing(**changes: float) -> dict[str, torch.Tensor]:
    usual = {
        "frequency_hz": 5000.0,
        "threshold_db": -30.0,
        "ratio": 4.0,
        "range_db": 12.0,
        "attack_ms": 0.5,
        "release_ms": 50.0,
    }
    return {name: torch.full((1, 1, 1), value) for name, value in {**usual, **changes}.items()}


def tone(hz: float, amplitude: float = 0.5, samples: int = 8000) -> torch.Tensor:
    return (amplitude * torch.sin(2.0 * math.pi * hz / SAMPLE_RATE * torch.arange(samples))).view(1, 1, -1)


def rms_change_db(y: torch.Tensor, x: torch.Tensor) -> float:
    return 10.0 * math.log10((y[..., -4000:].square().sum() / x[..., -4000:].square().sum()).item())


@pytest.mark.parametrize("wide", [False, True])
def test_the_de_esser_turns_hiss_down_and_lets_the_voice_pass(wide):
    hiss, voice = tone(15_000.0), tone(300.0)
    for x, change_db in ((hiss, -12.0), (voice, 0.0)):
        y = dynamics.de_esser(x, SAMPLE_RATE, **de_essing(), wide=wide)
        assert rms_change_db(y, x) == pytest.approx(change_db, abs=0.2)


def test_only_the_wide_de_esser_turns_the_voice_down_with_the_hiss():
    x = tone(300.0, 0.8) + tone(10_000.0, 0.2)
    split, wide = (
        rms_change_db(dynamics.de_esser(x, SAMPLE_RATE, **de_essing(), wide=wide), x)
        for wide in (False, True)
    )
    assert split > -0.5
    assert wide < -8.0


def test_the_de_esser_without_range_is_flat():
    x = torch.zeros(1, 1, 8192)
    x[..., 0] = 1.0
    y = dynamics.de_esser(x, SAMPLE_RATE, **de_essing(range_db=0.0))
    torch.testing.assert_close(torch.fft.rfft(y).abs(), torch.ones(1, 1, 4097), rtol=0.0, atol=1e-5)
    torch.testing.assert_close(dynamics.de_esser(x, SAMPLE_RATE, **de_essing(range_db=0.0), wide=True), x)


def drum(amplitude: float = 0.5) -> torch.Tensor:
    """A hit every half second that rings for 100 ms."""
    time = torch.arange(2 * SAMPLE_RATE) % (SAMPLE_RATE // 2) / SAMPLE_RATE
    return (amplitude * torch.exp(-10.0 * time) * torch.sin(2.0 * math.pi * 200.0 * time)).view(1, 1, -1)


def shaped_gain_db(x: torch.Tensor, attack_db: float, sustain_db: float) -> torch.Tensor:
    knobs = {"attack_db": attack_db, "sustain_db": sustain_db, "attack_ms": 30.0, "sustain_ms": 300.0}
    y = dynamics.transient_shaper(
        x, SAMPLE_RATE, **{name: torch.full((1, 1, 1), value) for name, value in knobs.items()}
    )
    second = slice(SAMPLE_RATE, SAMPLE_RATE + SAMPLE_RATE // 2)
    return (
        10.0
        * (
            y[0, 0, second].square().view(-1, 2205).sum(1) / x[0, 0, second].square().view(-1, 2205).sum(1)
        ).log10()
    )


def test_attack_lifts_the_hit_and_sustain_lifts_its_tail():
    hit = shaped_gain_db(drum(), 12.0, 0.0)
    assert hit[0] > 6.0 and hit[-2].abs() < 0.1
    tail = shaped_gain_db(drum(), 0.0, 12.0)
    assert tail[0] < 4.0 and tail[-2] > 9.0
    assert shaped_gain_db(drum(), -12.0, 0.0)[0] < -6.0


def test_the_transient_shaper_hears_no_level():
    loud, soft = (shaped_gain_db(drum(amplitude), 12.0, -12.0) for amplitude in (1.0, 0.25))
    torch.testing.assert_close(loud[:4], soft[:4], rtol=0.0, atol=0.3)


def test_a_steady_tone_has_neither_attack_nor_tail():
    x = tone(100.0, samples=2 * SAMPLE_RATE)
    assert shaped_gain_db(x, 24.0, 24.0).abs().max() < 0.01
