from __future__ import annotations

import pytest
import torch

from difffx.processors.gain import FadeIn, FadeOut, Gain, LinearGain, Normalize, Polarity


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_gain_is_a_factor_and_0_db_is_nothing():
    gain, x = Gain(44_100), noise(2, 2, 100)
    assert torch.equal(gain(x), x)
    torch.testing.assert_close(gain(x, gain_db=-20.0), 0.1 * x)


def test_every_item_has_its_own_gain():
    x, gain_db = noise(3, 2, 100), torch.tensor([-20.0, 0.0, 20.0]).reshape(3, 1, 1)
    y = Gain(44_100)(x, gain_db=gain_db)
    torch.testing.assert_close(y, x * torch.tensor([0.1, 1.0, 10.0]).reshape(3, 1, 1))


def test_a_gain_curve_fades_in_a_straight_line_of_decibels():
    y = Gain(44_100)(torch.ones(1, 1, 101), gain_db=torch.tensor([[[-20.0, 0.0]]]))
    assert y[0, 0, 0] == pytest.approx(0.1)
    assert y[0, 0, 50] == pytest.approx(10**-0.5)
    assert y[0, 0, 100] == pytest.approx(1.0)


def test_normalize_has_no_knobs_and_two_measures():
    x = 0.01 * noise(2, 2, 1000) + 0.3
    assert len(Normalize(44_100).spec) == 0
    torch.testing.assert_close(Normalize(44_100)(x).abs().amax((1, 2)), torch.ones(2))
    torch.testing.assert_close(Normalize(44_100, mode="rms")(x).square().mean((1, 2)), torch.ones(2))


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="'peak' or 'rms', got 'lufs'"):
        Normalize(44_100, mode="lufs")


def test_a_linear_gain_goes_down_to_nothing():
    gain, x = LinearGain(44_100), noise(2, 2, 100)
    assert torch.equal(gain(x), x)
    assert gain(x, gain=0.0).abs().max() == 0
    torch.testing.assert_close(gain(x, gain=4.0), 4.0 * x)


def test_polarity_by_default_turns_the_sound_upside_down():
    x = noise(2, 1, 100)
    torch.testing.assert_close(Polarity(44_100)(x), -x)


def test_polarity_of_one_channel_makes_two_of_mono():
    x = noise(2, 1, 100)
    torch.testing.assert_close(Polarity(44_100, channel="right")(x), torch.cat((x, -x), 1))
    with pytest.raises(ValueError, match="'left' or 'right', got 'middle'"):
        Polarity(44_100, channel="middle")


@pytest.mark.parametrize("fade", [FadeIn, FadeOut])
def test_a_fade_leaves_the_rest_as_it_was(fade):
    x = noise(1, 2, 44_100)
    y = fade(44_100)(x, fade_ms=100.0)
    kept, faded = (y[..., 4410:], y[..., 0]) if fade is FadeIn else (y[..., :-4410], y[..., -1])
    torch.testing.assert_close(kept, x[..., 4410:] if fade is FadeIn else x[..., :-4410])
    assert faded.abs().max() == 0


def test_an_unknown_shape_of_fade_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="FadeOut: no shape 'exponentail' \\(did you mean 'exponential'"):
        FadeOut(44_100, shape="exponentail")
