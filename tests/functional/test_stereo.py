from __future__ import annotations

import math

import pytest
import torch

from difffx.functional import stereo

MIDDLE_DB = {"-3dB": -3.0103, "-4.5dB": -4.5154, "-6dB": -6.0206, "linear": -6.0206}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def knob(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)


def test_mid_and_side_give_back_left_and_right():
    x = noise(2, 2, 50)
    torch.testing.assert_close(stereo.left_right(*stereo.mid_side(x)), x)


def test_a_mono_sound_is_its_own_mid_and_has_no_side():
    x = noise(2, 1, 50)
    mid, side = stereo.mid_side(x.expand(-1, 2, -1))
    torch.testing.assert_close(mid, x)
    assert side.abs().max() == 0


@pytest.mark.parametrize("law", MIDDLE_DB)
def test_a_law_is_named_by_its_level_in_the_middle(law):
    y = stereo.pan(torch.ones(1, 1, 1, dtype=torch.float64), pan=knob(0.0), law=law)
    torch.testing.assert_close(
        20 * torch.log10(y).flatten(), torch.full((2,), MIDDLE_DB[law]).double(), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("law", MIDDLE_DB)
def test_at_an_end_one_channel_has_the_sound_and_the_other_is_silent(law):
    x = noise(2, 1, 50)
    y = stereo.pan(x, pan=knob(-1.0, 1.0), law=law)
    torch.testing.assert_close(y[0, 0], x[0, 0])
    torch.testing.assert_close(y[1, 1], x[1, 0])
    assert y[0, 1].abs().max() < 1e-15 and y[1, 0].abs().max() < 1e-15


def test_each_law_keeps_what_it_says():
    pan = torch.linspace(-1.0, 1.0, 101, dtype=torch.float64).view(1, 1, -1)
    ones = torch.ones(1, 1, 101, dtype=torch.float64)
    gains = {law: stereo.pan(ones, pan=pan, law=law) for law in MIDDLE_DB}
    torch.testing.assert_close(gains["-3dB"].square().sum(1, keepdim=True), ones)
    torch.testing.assert_close(gains["-6dB"].sum(1, keepdim=True), ones)
    torch.testing.assert_close(gains["linear"].sum(1, keepdim=True), ones)
    between = (gains["-3dB"] * gains["linear"]).clamp(min=0.0).sqrt()
    torch.testing.assert_close(gains["-4.5dB"], between, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("place", [stereo.pan, stereo.balance])
@pytest.mark.parametrize("law", MIDDLE_DB)
@pytest.mark.parametrize("end", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gains_are_no_less_than_zero_and_gradients_finite_at_the_ends(place, law, end, dtype):
    pan = torch.full((1, 1, 1), end, dtype=dtype, requires_grad=True)
    x = torch.ones(1, 1 if place is stereo.pan else 2, 3, dtype=dtype)
    y = place(x, pan=pan, law=law)
    y.square().sum().backward()
    assert y.isfinite().all() and pan.grad.isfinite().all()


@pytest.mark.parametrize("law", MIDDLE_DB)
def test_balance_turns_down_one_side_only(law):
    x = noise(3, 2, 50)
    y = stereo.balance(x, pan=knob(-0.4, 0.0, 1.0), law=law)
    torch.testing.assert_close(y[0, 0], x[0, 0])
    assert (y[0, 1].abs() <= x[0, 1].abs()).all() and y[0, 1].abs().max() > 0
    torch.testing.assert_close(y[1], x[1])
    torch.testing.assert_close(y[2, 1], x[2, 1])
    assert y[2, 0].abs().max() < 1e-15


@pytest.mark.parametrize("frames", [1, 7])
def test_width_scales_the_side_and_leaves_the_mid(frames):
    x, width = noise(3, 2, 50), knob(0.0, 1.0, 1.7).expand(-1, -1, frames)
    mid, side = stereo.mid_side(x)
    mid_wide, side_wide = stereo.mid_side(stereo.width(x, width=width))
    torch.testing.assert_close(mid_wide, mid)
    torch.testing.assert_close(side_wide, side * width[..., :1])


@pytest.mark.parametrize("frames", [1, 3])
def test_gradients_of_the_width_equal_finite_differences(frames):
    x = noise(2, 2, 6).requires_grad_()
    width = noise(2, 1, frames, seed=1).abs().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, width: stereo.width(x, width=width), (x, width))


def test_the_late_channel_is_late_and_the_other_is_not():
    x = noise(1, 2, 500)
    y = stereo.haas(x, 1000, delay_ms=knob(20.0), mix=knob(1.0))
    torch.testing.assert_close(y[:, 0], x[:, 0])
    torch.testing.assert_close(y[:, 1, 20:], x[:, 1, :-20])
    assert y[:, 1, :20].abs().max() < 1e-12
    left = stereo.haas(x, 1000, delay_ms=knob(20.0), mix=knob(1.0), later="left")
    torch.testing.assert_close(left, stereo.haas(x.flip(1), 1000, delay_ms=knob(20.0), mix=knob(1.0)).flip(1))


def test_a_delay_between_samples_moves_a_tone_by_that_much():
    clock = torch.arange(2000, dtype=torch.float64)
    tone = torch.sin(2 * math.pi * 0.02 * clock).view(1, 1, -1).expand(-1, 2, -1)
    y = stereo.haas(tone, 1000, delay_ms=knob(10.37), mix=knob(1.0))[0, 1, 50:]
    torch.testing.assert_close(y, torch.sin(2 * math.pi * 0.02 * (clock - 10.37))[50:], atol=1e-4, rtol=0)


def test_gradients_of_the_haas_effect_equal_finite_differences():
    x = noise(2, 2, 7).requires_grad_()
    knobs = (knob(1.3, 4.6).requires_grad_(), knob(0.4, 1.0).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda x, delay_ms, mix: stereo.haas(x, 1000, delay_ms=delay_ms, mix=mix), (x, *knobs)
    )
