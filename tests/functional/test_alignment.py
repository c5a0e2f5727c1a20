"""A late sound is found and moved."""

import pytest
import torch

from difffx.functional.alignment import delayed, latency
from difffx.processors import Compressor, ParametricEQ

RATE = 16_000


def music(seconds=2.0, channels=1, seed=0):
    """Decaying chords, one after the other, over a little noise."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE)) / RATE
    tones = sum(torch.sin(2 * torch.pi * 110 * k * time) / k for k in range(1, 40))
    decay = torch.exp(-6 * (time % 0.4))
    noise = torch.randn(channels, len(time), generator=generator)
    return 0.1 * tones * decay + 0.01 * noise * (0.2 + decay)


@pytest.mark.parametrize("samples", [-800, -37, 0, 64, 799])
def test_a_delay_is_found_to_the_sample_behind_an_equalizer_and_a_compressor(samples):
    dry = music()
    wet = ParametricEQ(RATE)(dry[None], low_shelf_gain_db=9.0, peak_2_gain_db=-12.0, high_shelf_gain_db=-12.0)
    wet = Compressor(RATE)(wet, threshold_db=-30.0, ratio=6.0)[0]
    assert latency(dry, delayed(wet, samples), RATE) == samples


def test_a_sound_upside_down_is_not_later_for_it():
    assert latency(music(channels=2), -delayed(music(channels=2), 100), RATE) == 100


def test_sounds_that_have_nothing_in_common_are_left_where_they_are():
    noises = [torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    assert latency(*noises, RATE) == 0
    assert latency(torch.zeros(1, RATE), torch.zeros(1, RATE), RATE) == 0


def test_a_delay_beyond_reach_is_not_looked_for():
    assert latency(music(), delayed(music(), 1200), RATE, longest_ms=50.0) == 0


def test_moving_a_sound_brings_silence_in_and_keeps_its_length():
    x = torch.arange(1.0, 5.0)[None]
    assert delayed(x, 1).tolist() == [[0, 1, 2, 3]]
    assert delayed(x, -1).tolist() == [[2, 3, 4, 0]]
    assert torch.equal(delayed(x, 0), x)
