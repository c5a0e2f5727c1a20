"""Delay lines against impulses at known places, closed forms, and float64 loops over samples."""

import math

import numpy as np
import pytest
import torch

from difffx.functional import delays
from difffx.functional.delays import delay, echoes, fractional_delay, ms_to_samples, multi_tap_delay
from difffx.functional.feedback_delays import (
    feedback_delay,
    feedback_line,
    hz_to_pole,
    moving_feedback_line,
    ping_pong_delay,
)

BOTH = pytest.mark.parametrize("interpolation", ["linear", "lagrange"])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def impulse(samples, channels=1, dtype=torch.float32):
    x = torch.zeros(1, channels, samples, dtype=dtype)
    x[..., 0] = 1.0
    return x


def knob(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def read(line, at, interpolation):
    """The value of a list of past samples at a place counted in samples, newest last; zeros before it."""
    delay = len(line) - 1 - at
    first = math.floor(delay) if interpolation == "linear" else max(math.floor(delay) - 1, 0)
    places = range(first, first + (2 if interpolation == "linear" else 4))
    total = 0.0
    for i in places:
        share = math.prod((delay - j) / (i - j) for j in places if j != i)
        total += share * (line[len(line) - 1 - i] if i < len(line) else 0.0)
    return total


def loop(x, delay, feedback, interpolation, pole=0.0):
    """Sample by sample, as the docstring of `feedback_line` says it; delay is a number or a list."""
    delay = np.broadcast_to(np.maximum(delay, 2.0), len(x))
    entered, out, back = [], [], 0.0
    for n in range(len(x)):
        y = read([*entered, 0.0], n - delay[n], interpolation)
        back = (1 - pole) * y + pole * back
        entered.append(x[n] + feedback * back)
        out.append(y)
    return np.array(out)


def error_db(y, reference):
    reference = torch.as_tensor(np.asarray(reference)).double()
    return 20 * math.log10(float((y.double() - reference).norm() / reference.norm()) + 1e-20)


@BOTH
@pytest.mark.parametrize("delay", [0, 1, 2, 3, 50, 99])
def test_an_impulse_comes_out_where_the_delay_says(delay, interpolation):
    for settings in (knob(delay), knob(delay).expand(1, 1, 100)):
        y = fractional_delay(impulse(100), settings, interpolation)
        assert y[0, 0, delay] == 1.0
        assert y.abs().sum() == 1.0


@pytest.mark.parametrize("steady", [True, False])
def test_nothing_is_heard_before_the_neighbors_of_the_delay(steady):
    delay = knob(40.5) if steady else knob(40.5).expand(1, 1, 200)
    y = fractional_delay(impulse(200), delay)[0, 0]
    assert y.nonzero().flatten().tolist() == [39, 40, 41, 42]
    assert torch.allclose(y[39:43], torch.tensor([-1.0, 9.0, 9.0, -1.0]) / 16)
    y = fractional_delay(impulse(200), delay, "linear")[0, 0]
    assert y.nonzero().flatten().tolist() == [40, 41] and torch.allclose(y[40:42], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(("frequency_hz", "limit_db"), [(500, -115), (1000, -98), (3000, -59)])
def test_a_sine_is_late_by_a_part_of_a_sample(frequency_hz, limit_db):
    n = torch.arange(4000, dtype=torch.float64)
    omega = 2 * math.pi * frequency_hz / 44_100
    y = fractional_delay((omega * n).sin().view(1, 1, -1), knob(10.37))[0, 0, 100:]
    assert error_db(y, (omega * (n - 10.37)).sin()[100:]) < limit_db


@BOTH
def test_no_tone_comes_out_louder_than_it_went_in(interpolation):
    delays = 1.0 + torch.arange(11, dtype=torch.float64).view(-1, 1, 1) / 10
    response = fractional_delay(impulse(16, dtype=torch.float64).expand(11, -1, -1), delays, interpolation)
    assert torch.fft.rfft(response, 1024).abs().max() < 1 + 1e-12


@BOTH
def test_a_delay_longer_than_the_sound_is_silence(interpolation):
    x = noise(1, 1, 50)
    for by in (knob(52.0), knob(1e6), knob(1e6).expand(1, 1, 50)):
        assert not fractional_delay(x, by, interpolation).any()
    assert not feedback_line(x, knob(1e6), knob(0.5), None, interpolation).any()


@BOTH
def test_a_steady_curve_is_a_steady_delay(interpolation):
    x, delay = noise(3, 2, 400), knob(0.0, 0.3, 33.7)
    moving = fractional_delay(x, delay.expand(-1, -1, 400), interpolation)
    assert torch.allclose(moving, fractional_delay(x, delay, interpolation), atol=1e-14)


@BOTH
@pytest.mark.parametrize("channels", [1, 2])
def test_a_moving_delay_agrees_with_a_loop(channels, interpolation):
    x = noise(2, 2, 300)
    delay = 30.0 + 29.9 * (noise(2, channels, 300, seed=1).cumsum(-1) / 7).sin()
    y = fractional_delay(x, delay, interpolation)
    for b in range(2):
        for c in range(2):
            line, by = x[b, c].tolist(), delay[b, min(c, channels - 1)].tolist()
            expected = [read(line[: n + 1], n - by[n], interpolation) for n in range(300)]
            assert error_db(y[b, c], expected) < -250
    single = fractional_delay(x.float(), delay, interpolation)
    assert single.dtype == torch.float32 and error_db(single, y) < -130


def test_echoes_are_copies_with_their_levels():
    x = noise(2, 2, 200)
    delay, level = torch.rand(2, 1, 3).double() * 60, torch.rand(2, 1, 3).double()
    parts = [level[..., k : k + 1] * fractional_delay(x, delay[..., k : k + 1]) for k in range(3)]
    assert torch.allclose(echoes(x, delay, level), sum(parts), atol=1e-14)


@BOTH
@pytest.mark.parametrize("delay", [0.0, 2.0, 2.5, 3.9, 17.25, 64.0, 300.6])
@pytest.mark.parametrize(("feedback", "pole"), [(0.99, None), (-0.7, None), (0.95, 0.3), (-0.99, 0.97)])
def test_feedback_agrees_with_a_loop(delay, feedback, pole, interpolation, tier):
    x = noise(1, 1, 700)
    poles = None if pole is None else knob(pole)
    y = feedback_line(x, knob(delay), knob(feedback), poles, interpolation)
    expected = loop(x[0, 0].tolist(), delay, feedback, interpolation, pole or 0.0)
    assert error_db(y[0, 0], expected) < -250


@pytest.mark.parametrize("damped", [True, False])
def test_items_with_different_delays_do_not_disturb_each_other(damped, tier):
    x = noise(3, 2, 900)
    delay, feedback, pole = knob(3.3, 150.8, 2000.0), knob(0.9, -0.5, 0.3), knob(0.5, 0.1, 0.9)
    y = feedback_line(x, delay, feedback, pole if damped else None)
    for i in range(2):
        for c in range(2):
            by = float(pole[i]) if damped else 0.0
            expected = loop(x[i, c].tolist(), float(delay[i]), float(feedback[i]), "lagrange", by)
            assert error_db(y[i, c], expected) < -250
    assert not y[2].any()


def test_thirty_seconds_of_echoes_neither_end_nor_wrap(tier):
    samples, every = 30 * 44_100, 11_025
    y = feedback_line(impulse(samples), knob(every), knob(0.99))[0, 0]
    rounds = torch.arange(1, -(-samples // every))
    expected = torch.zeros(samples).index_put_((rounds * every,), (0.99 ** (rounds.double() - 1)).float())
    assert torch.allclose(y, expected, atol=0, rtol=1e-6)


def test_feedback_in_float32_is_that_of_float64(tier):
    x, delay, feedback = noise(2, 1, 60_000), knob(1000.37, 2500.5), knob(0.95, 0.99)
    fine = feedback_line(x.float().double(), delay, feedback)
    assert error_db(feedback_line(x.float(), delay, feedback), fine) < -145


def test_damping_makes_each_round_duller_and_keeps_the_bass():
    x = impulse(4000, dtype=torch.float64)
    y = feedback_line(x, knob(500.0), knob(0.8), knob(0.6))[0, 0]
    rounds = torch.fft.rfft(y[500:3500].view(6, 500)).abs()
    assert torch.allclose(rounds[:3, 0], 0.8 ** torch.arange(3).double(), atol=1e-6)
    assert torch.allclose(rounds[0], torch.ones(251, dtype=torch.float64))
    assert (rounds[1, 125] / rounds[0, 125] < 0.4) and (rounds[2, 125] / rounds[1, 125] < 0.4)


@BOTH
def test_a_moving_line_with_feedback_agrees_with_a_loop(interpolation, tier):
    x = noise(2, 2, 500)
    delay = 2.0 + 40.0 * (noise(2, 1, 500, seed=2).cumsum(-1) / 9).sin().square()
    delay[1] += 30.0
    feedback = knob(0.9, -0.95)
    y = moving_feedback_line(x, delay, feedback, interpolation)
    for b in range(2):
        for c in range(2):
            expected = loop(x[b, c].tolist(), delay[b, 0].numpy(), float(feedback[b]), interpolation)
            assert error_db(y[b, c], expected) < -250


def test_a_line_that_could_move_but_stands_is_a_steady_one(tier):
    x, delay, feedback = noise(2, 1, 9000), knob(150.4, 99.9), knob(0.9, -0.8)
    steady = feedback_line(x, delay, feedback)
    moving = moving_feedback_line(x, delay.expand(-1, -1, 9000), feedback)
    assert error_db(moving, steady) < -250


def ping_pong(x, feedback, width, damping_hz=1e9):
    """200 samples from one echo to the next, at 10 kHz; damping_hz far up is none."""
    settings = dict(
        zip(("feedback", "width", "damping_hz"), map(knob, (feedback, width, damping_hz)), strict=True)
    )
    return ping_pong_delay(x, 10_000, delay_ms=knob(20.0), mix=knob(1.0), **settings)[0]


def test_ping_pong_goes_left_right_left():
    x = impulse(1000, channels=2, dtype=torch.float64)
    y = ping_pong(x, 0.5, 1.0)
    left, right = (channel.nonzero().flatten().tolist() for channel in y)
    assert left == [200, 600] and right == [400, 800]
    assert torch.allclose(y[0, left], torch.tensor([1.0, 0.25]).double())
    assert torch.allclose(y[1, right], torch.tensor([0.5, 0.125]).double())
    middle = ping_pong(x, 0.5, 0.0)
    assert torch.equal(middle[0], middle[1]) and torch.allclose(middle[0], y.sum(0) / 2)


def test_ping_pong_is_two_crossed_lines():
    x = noise(1, 2, 1000)
    pole = float(hz_to_pole(torch.tensor(2000.0), 10_000))
    left, right = np.zeros(1000), np.zeros(1000)
    back = np.zeros(2)
    entered = np.zeros((2, 1200))  # 200 samples of silence in front
    for n in range(1000):
        left[n], right[n] = entered[:, n]
        back = (1 - pole) * np.array([left[n], right[n]]) + pole * back
        entered[:, n + 200] = [float(x[0, :, n].mean()) + 0.8 * back[1], 0.8 * back[0]]
    y = ping_pong(x, 0.8, 1.0, 2000.0)
    assert error_db(y[0], left) < -250 and error_db(y[1], right) < -250


def test_mix_goes_from_dry_to_echoes_alone():
    x = impulse(3000, dtype=torch.float64)
    settings = {"delay_ms": knob(100.0), "feedback": knob(0.5)}
    y = [feedback_delay(x, 10_000, mix=knob(mix), **settings)[0, 0] for mix in (0.0, 0.25, 1.0)]
    assert torch.equal(y[0], x[0, 0])
    assert y[1].nonzero().flatten().tolist() == [0, 1000, 2000]
    assert torch.allclose(y[1][[0, 1000, 2000]], torch.tensor([0.75, 0.25, 0.125]).double())
    assert y[2][0] == 0 and y[2][1000] == 1


def test_taps_stand_at_their_times_with_their_levels():
    x = impulse(100, dtype=torch.float64)
    times, levels = torch.tensor([[[1.0], [4.0], [2.0]]]), torch.tensor([[[0.5], [0.25], [1.0]]])
    y = multi_tap_delay(x, 10_000, delay_ms=times, level=levels, mix=knob(1.0))[0, 0]
    assert y.nonzero().flatten().tolist() == [10, 20, 40]
    assert y[[10, 20, 40]].tolist() == [0.5, 1.0, 0.25]


def test_a_delay_that_shortens_raises_the_pitch():
    n = torch.arange(8000, dtype=torch.float64)
    x = (2 * math.pi * 500 / 10_000 * n).sin().view(1, 1, -1)
    curve = torch.tensor([[[80.0, 0.0]]], dtype=torch.float64)  # 80 ms within 0.8 s: a tenth faster
    y = delay(x, 10_000, delay_ms=curve, mix=knob(1.0))[0, 0, 1000:7000]
    assert int(torch.fft.rfft(y * torch.hann_window(6000).double()).abs().argmax()) == 330


@pytest.mark.parametrize("delay", [0.35, 1.4, 6.3, 11.75])
@BOTH
def test_the_gradient_to_the_delay_is_that_of_finite_differences(delay, interpolation):
    x, target = noise(1, 1, 60), noise(1, 1, 60, seed=5)
    delay = knob(delay).requires_grad_()

    def loss(by):
        return (target * fractional_delay(x, by, interpolation)).sum()

    (slope,) = torch.autograd.grad(loss(delay), delay)
    (moving,) = torch.autograd.grad(loss(delay.expand(-1, -1, 60)), delay)
    with torch.no_grad():
        expected = (loss(delay + 1e-6) - loss(delay - 1e-6)) / 2e-6
    assert torch.allclose(slope, expected, rtol=1e-6) and torch.allclose(moving, expected, rtol=1e-6)


def test_a_delay_is_found_by_its_gradient():
    n = torch.arange(3000, dtype=torch.float64)
    x = (2 * math.pi * 300 / 44_100 * n).sin().view(1, 1, -1)
    wanted, delay = fractional_delay(x, knob(30.4)), knob(12.0).requires_grad_()
    optimizer = torch.optim.Adam([delay], lr=1.0, betas=(0.5, 0.9))
    for step in range(200):
        optimizer.param_groups[0]["lr"] = 0.97**step
        optimizer.zero_grad()
        (fractional_delay(x, delay) - wanted).square().mean().backward()
        optimizer.step()
    assert abs(delay.item() - 30.4) < 0.01


@BOTH
def test_gradients_equal_finite_differences(interpolation):
    x = noise(2, 2, 18).requires_grad_()
    delay = (5.0 + noise(2, 1, 18, seed=1)).requires_grad_()
    still = knob(4.3, 7.7).requires_grad_()
    feedback, pole = knob(0.8, -0.5).requires_grad_(), knob(0.4, 0.9).requires_grad_()
    several = torch.tensor([[[1.3, 8.8]], [[0.4, 3.6]]], dtype=torch.float64).requires_grad_()
    check = torch.autograd.gradcheck
    assert check(lambda x, d: fractional_delay(x, d, interpolation), (x, delay))
    assert check(lambda x, d, g: echoes(x, d, g, interpolation), (x, several, several))
    assert check(lambda x, d, f: feedback_line(x, d, f, None, interpolation), (x, still, feedback))
    assert check(lambda x, d, f, p: feedback_line(x, d, f, p, interpolation), (x, still, feedback, pole))
    assert check(lambda x, d, f: moving_feedback_line(x, d, f, interpolation), (x, delay, feedback))


def test_gradients_of_long_rows_agree_with_those_of_a_moving_line(tier):
    x = noise(2, 1, 9000).requires_grad_()
    delay, feedback = knob(150.4, 99.9).requires_grad_(), knob(0.9, -0.8).requires_grad_()
    weight = noise(2, 1, 9000, seed=4)
    steady = (feedback_line(x, delay, feedback) * weight).sum()
    moving = (moving_feedback_line(x, delay.expand(-1, -1, 9000), feedback) * weight).sum()
    pairs = zip(*(torch.autograd.grad(y, (x, delay, feedback)) for y in (steady, moving)), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-9) for a, b in pairs)


def test_rows_are_shifted_alike_on_every_device():
    x, start = noise(4, 30), torch.tensor([0, 7, 29, 500])
    expected = delays._shift(x, start, 3)
    assert torch.equal(delays._gathered_shift(x, start, 3), expected)
    assert not expected[0, :3].any() and torch.equal(expected[1, 10:], x[1, :23]) and not expected[3].any()


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_the_shortest_sounds_pass(samples):
    x = noise(1, 1, samples)
    for by in (knob(0.5), knob(0.5).expand(1, 1, samples)):
        assert fractional_delay(x, by).shape == x.shape
    assert feedback_line(x, knob(3.0), knob(0.5), knob(0.5)).shape == x.shape
    assert moving_feedback_line(x, knob(3.0).expand(1, 1, samples), knob(0.5)).shape == x.shape


def test_a_broken_row_breaks_no_other():
    x = noise(2, 1, 300)
    x[0, 0, 100] = math.nan
    delay, feedback = knob(10.5, 20.5), knob(0.5, 0.5)
    for y in (
        fractional_delay(x, delay),
        fractional_delay(x, delay.expand(-1, -1, 300)),
        feedback_line(x, delay, feedback, knob(0.5, 0.5)),
        moving_feedback_line(x, delay.expand(-1, -1, 300), feedback),
    ):
        assert y[0].isnan().any() and y[1].isfinite().all()
        assert y[0, 0, :108].isfinite().all()


def test_an_unknown_interpolation_is_refused():
    with pytest.raises(ValueError, match="linear, lagrange, got 'cubic'"):
        fractional_delay(noise(1, 1, 10), knob(1.0), "cubic")


def test_milliseconds_become_samples_in_float64():
    assert ms_to_samples(torch.tensor(250.0), 44_100) == torch.tensor(11_025.0, dtype=torch.float64)
