"""Modulation by physics: where an impulse lands, which tones live, how far a pitch bends; then loops."""

import math

import numpy as np
import pytest
import torch

from difffx.functional.delays import fractional_delay
from difffx.functional.modulation import auto_wah, chorus, flanger, ring_modulator, tremolo, vibrato

RATE = 10_000


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def knob(*values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def knobs(**values):
    return {name: knob(*value) if isinstance(value, tuple) else knob(value) for name, value in values.items()}


def impulse(samples, at=0, items=1, channels=1):
    x = torch.zeros(items, channels, samples, dtype=torch.float64)
    x[..., at] = 1.0
    return x


def tone(frequency_hz, samples):
    n = torch.arange(samples, dtype=torch.float64)
    return (2 * math.pi * frequency_hz / RATE * n).sin().view(1, 1, -1)


def test_without_depth_each_item_has_its_own_delay_and_nothing_comes_early():
    still = knobs(rate_hz=1.0, delay_ms=(10.0, 25.0), depth_ms=0.0, phase=0.3, mix=1.0)
    for effect in (chorus, flanger):
        y = effect(impulse(400, items=2), RATE, **still)
        assert [row.nonzero().flatten().tolist() for row in y[:, 0]] == [[100], [250]]


@pytest.mark.parametrize(("phase", "delay_ms"), [(0.25, 14.0), (0.75, 10.0), (0.0, 12.0), (0.5, 12.0)])
def test_the_delay_runs_from_its_shortest_to_its_longest(phase, delay_ms):
    # The sound arrives at the first samples of a very slow swing, where the wave is as its phase says.
    swing = knobs(rate_hz=1e-6, delay_ms=10.0, depth_ms=4.0, phase=phase, mix=1.0)
    assert chorus(impulse(300), RATE, **swing)[0, 0].argmax() == round(delay_ms * 10)


def test_the_wave_is_read_when_the_sound_is_heard():
    settings = knobs(rate_hz=2.0, delay_ms=5.0, depth_ms=8.0, phase=0.1, mix=1.0)
    x, n = noise(1, 1, 6000), torch.arange(6000, dtype=torch.float64)
    delay = 50.0 + 40.0 * (1.0 + (2 * math.pi * (2.0 * n / RATE + 0.1)).sin())
    assert torch.allclose(chorus(x, RATE, **settings), fractional_delay(x, delay.view(1, 1, -1)), atol=1e-9)


def test_voices_are_the_mean_of_chorus_at_equal_distances_in_the_cycle():
    x, usual = noise(2, 1, 3000), {"rate_hz": 3.0, "delay_ms": 8.0, "depth_ms": 5.0, "mix": 1.0}
    parts = [chorus(x, RATE, **knobs(phase=0.2 + k / 3, **usual)) for k in range(3)]
    assert torch.allclose(chorus(x, RATE, voices=3, **knobs(phase=0.2, **usual)), sum(parts) / 3, atol=1e-9)


def test_spread_sets_the_sides_apart():
    swing = knobs(rate_hz=1e-6, delay_ms=10.0, depth_ms=4.0, phase=0.25, mix=1.0, spread=0.5)
    for effect in (chorus, flanger):
        left, right = effect(impulse(300, channels=2), RATE, **swing)[0]
        assert left.argmax() == 140 and right.argmax() == 100


@pytest.mark.parametrize("effect", [chorus, flanger])
def test_phases_of_float32_settings_are_added_in_float64(effect):
    x = noise(1, 2, 3000)
    swing = knobs(rate_hz=2.0, delay_ms=5.0, depth_ms=10.0, phase=0.7, mix=1.0, spread=0.29)
    coarse = {name: value.float() for name, value in swing.items()}
    fine = effect(x, RATE, **{name: value.double() for name, value in coarse.items()})
    assert (effect(x.float(), RATE, **coarse) - fine).norm() / fine.norm() < 1e-6


def test_a_still_flanger_is_a_comb():
    still = knobs(rate_hz=1.0, delay_ms=2.0, depth_ms=0.0, phase=0.0, mix=0.5)
    level = torch.fft.rfft(flanger(impulse(4000), RATE, **still)[0, 0]).abs()
    assert torch.allclose(level[[100, 300, 500]], torch.zeros(3).double(), atol=1e-9)  # 250, 750, 1250 Hz
    assert torch.allclose(level[[0, 200, 400]], torch.ones(3).double())


def test_a_flanger_with_feedback_has_feedback_and_echoes_that_come_later():
    still = knobs(rate_hz=1.0, delay_ms=2.0, depth_ms=0.0, phase=0.0, mix=1.0)
    y = flanger(impulse(100), RATE, feedback=knob(-0.5), **still)[0, 0]
    assert y.nonzero().flatten().tolist() == [20, 40, 60, 80]
    assert torch.allclose(y[20::20], torch.tensor([1.0, -0.5, 0.25, -0.125]).double())


def test_vibrato_bends_the_pitch_by_pi_rate_depth():
    x = tone(500.0, 2 * RATE)
    y = vibrato(x, RATE, **knobs(rate_hz=5.0, depth_ms=2.0, phase=0.0))[0, 0].numpy()
    half = np.fft.fft(y)
    half[len(half) // 2 :] = 0
    pitch_hz = np.diff(np.unwrap(np.angle(np.fft.ifft(half))))[2000:-2000] * RATE / (2 * math.pi)
    bend = math.pi * 5.0 * 0.002
    assert pitch_hz.max() == pytest.approx(500 * (1 + bend), rel=2e-3)
    assert pitch_hz.min() == pytest.approx(500 * (1 - bend), rel=2e-3)


def test_vibrato_without_depth_is_the_sound_itself():
    x = noise(1, 2, 500)
    assert torch.equal(vibrato(x, RATE, **knobs(rate_hz=5.0, depth_ms=0.0, phase=0.7)), x)


def test_tremolo_moves_the_level_between_one_and_one_less_depth():
    x = torch.ones(1, 2, RATE, dtype=torch.float64)
    y = tremolo(x, RATE, **knobs(rate_hz=4.0, depth=0.8, phase=0.0))
    n = torch.arange(RATE, dtype=torch.float64)
    assert torch.allclose(y[0, 1], 0.6 + 0.4 * (2 * math.pi * 4 * n / RATE).sin(), atol=1e-9)
    square = tremolo(x, RATE, **knobs(rate_hz=4.0, depth=1.0, phase=0.0), shape="square")[0, 0]
    assert (square == 1).sum() > 4700 and (square == 0).sum() > 4700
    left, right = tremolo(x, RATE, **knobs(rate_hz=4.0, depth=1.0, phase=0.0, spread=0.5))[0]
    assert torch.allclose(left + right, torch.ones(RATE).double())


def test_a_ring_modulator_makes_sum_and_difference_and_keeps_neither_tone():
    y = ring_modulator(tone(1000.0, RATE), RATE, **knobs(frequency_hz=300.0, phase=0.1, mix=1.0))
    level = torch.fft.rfft(y[0, 0]).abs() / RATE
    assert torch.nonzero(level > 1e-6).flatten().tolist() == [700, 1300]
    assert torch.allclose(level[[700, 1300]], torch.tensor([0.25, 0.25]).double())


def test_the_auto_wah_is_its_definition_sample_by_sample():
    x = noise(1, 1, 600)[0, 0].numpy() * np.where(np.arange(600) < 300, 0.8, 0.02)
    attack, release = (math.exp(-1000 / (time_ms * RATE)) for time_ms in (2.0, 10.0))
    level, s, r, expected = 0.0, 0.0, 0.0, []
    for value in x:
        u = abs(value) * 10 ** (6 / 20)
        pole = attack if u > level else release
        level = pole * level + (1 - pole) * u
        g = math.tan(math.pi * 400.0 * 2 ** (3 * min(level, 1.0)) / RATE)
        k = 1 / 5.0
        band = (s + g * (value - r)) / (1 + g * (g + k))
        low = r + g * band
        s, r = 2 * band - s, 2 * low - r
        expected.append(k * band)
    settings = knobs(frequency_hz=400.0, range_octaves=3.0, sensitivity_db=6.0, attack_ms=2.0)
    settings |= knobs(release_ms=10.0, q=5.0, mix=1.0)
    y = auto_wah(torch.tensor(x).view(1, 1, -1), RATE, **settings)[0, 0].numpy()
    assert np.abs(y - expected).max() < 1e-10


def test_the_auto_wah_opens_for_loud_sounds():
    usual = knobs(frequency_hz=300.0, range_octaves=2.0, sensitivity_db=0.0, attack_ms=1.0)
    usual |= knobs(release_ms=500.0, q=5.0, mix=1.0)
    quiet, loud = (auto_wah(level * tone(1200.0, 6000), RATE, **usual) / level for level in (0.001, 1.4))
    assert loud[..., 3000:].abs().max() > 4 * quiet[..., 3000:].abs().max()


@pytest.mark.parametrize("shape", ["sine", "triangle", "saw", "square"])
def test_gradients_equal_finite_differences(shape):
    x = noise(2, 1, 13).requires_grad_()
    rate, delay, depth = knob(31.3, 57.1), knob(0.613, 0.931), knob(0.417, 0.593)
    phase, mix, feedback = knob(0.137, 0.519), knob(0.4, 0.9), knob(0.6, -0.7)
    for value in (rate, delay, depth, phase, mix, feedback):
        value.requires_grad_()

    def with_all(x, rate, delay, depth, phase, mix, feedback):
        swing = {"rate_hz": rate, "delay_ms": delay, "depth_ms": depth, "phase": phase, "mix": mix}
        y = chorus(x, RATE, shape=shape, voices=2, **swing)
        y = y + flanger(x, RATE, shape=shape, feedback=feedback, **swing)
        y = y + tremolo(x, RATE, rate_hz=rate, depth=depth, phase=phase, shape=shape)
        return y + ring_modulator(x, RATE, frequency_hz=rate, phase=phase, mix=mix, shape=shape)

    inputs = (x, rate, delay, depth, phase, mix, feedback)
    assert torch.autograd.gradcheck(with_all, inputs, eps=1e-7, atol=1e-5)
