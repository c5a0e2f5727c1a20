from __future__ import annotations

import pytest
import torch

from difffx.processors.mixing import Crossfade, Mix, Sum


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_sum_puts_mono_into_every_channel():
    a, b = noise(2, 1, 50), noise(2, 2, 50, seed=1)
    torch.testing.assert_close(Sum(44_100)(a, b, b), a + 2 * b)


def test_a_mix_has_a_level_for_each_input():
    a, b, c = noise(3, 1, 2, 50)
    gain_db = torch.tensor([0.0, -20.0, 6.0]).view(1, 3, 1)
    y = Mix(44_100, num_inputs=3)(a, b, c, gain_db=gain_db)
    torch.testing.assert_close(y, a + 0.1 * b + 10 ** (6 / 20) * c)


@pytest.mark.parametrize("law", ["linear", "equal_power"])
def test_a_crossfade_has_one_sound_at_each_end(law):
    a, b = noise(2, 1, 50), noise(2, 2, 50, seed=1)
    fader = Crossfade(44_100, law=law)
    torch.testing.assert_close(fader(a, b, position=0.0), a.expand(-1, 2, -1))
    torch.testing.assert_close(fader(a, b, position=1.0), b)


def test_equal_power_keeps_the_level_of_unlike_sounds():
    a, b = noise(1, 1, 100_000), noise(1, 1, 100_000, seed=1)
    for position in (0.25, 0.5, 0.8):
        y = Crossfade(44_100)(a, b, position=position)
        assert y.std().item() == pytest.approx(1.0, abs=0.02)


def test_an_unknown_law_is_refused():
    with pytest.raises(ValueError, match="'equal_power' or 'linear', got 'cubic'"):
        Crossfade(44_100, law="cubic")
