"""Curves found again in mixes that the mixer itself made."""

import pytest
import torch

from difffx.dj import LABELS, MixerConfig, create_mixer, get_default_params, index_of, observed, transition
from difffx.dj.gradient_fit import fit, strips_of

RATE = 8_000
ROWS = [(0, 0), (0, 3), (1, 0), (1, 3)]


def noise_deck(seed, seconds=2.0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    stems = torch.randn(2, batch, 2, round(seconds * RATE), generator=generator)
    return {"drums": 0.1 * stems[0], "other": 0.1 * stems[1]}


def masks_db(curves, samples):
    where = observed.grid(samples, RATE, 512, 128, 4)
    masks = observed.strip_masks(strips_of(curves, ROWS), where, MixerConfig(RATE))
    return 20.0 * masks.clamp(min=0.03).log10()


@pytest.fixture(scope="module")
def mixer():
    return create_mixer(RATE, eq_low_hz=300.0, eq_high_hz=2_000.0)


def test_a_bass_swap_is_found_again(mixer):
    a, b = noise_deck(0), noise_deck(1)
    true = transition("bass_swap", 6, bars=4)[None]
    mix = mixer(a, b, true)[0]
    found = fit(a, b, mix, mixer, start=torch.full((1, 6, 54), 0.7), steps=150, polish=0)
    error = (masks_db(found, 16_000) - masks_db(true, 16_000)).abs().mean()
    assert error < 0.5
    rendered = mixer(a, b, found)[0]
    assert (rendered - mix).square().sum() < 1e-3 * mix.square().sum()


def test_an_open_hall_is_heard(mixer):
    a, b = noise_deck(2), noise_deck(3)
    true = get_default_params(4)
    true[..., index_of("a", "sends", "reverb_send")] = 0.6
    mix = mixer(a, b, true)[0]
    found = fit(a, b, mix, mixer, start=get_default_params(4), steps=30, polish=8)
    send = found[..., index_of("a", "sends", "reverb_send")]
    assert (send - 0.6).abs().max() < 0.1
    assert found[..., index_of("a", "sends", "delay_send")].max() < 0.1


def test_items_of_a_batch_are_fitted_as_they_are_alone(mixer):
    a, b = noise_deck(4, 1.0, batch=2), noise_deck(5, 1.0, batch=2)
    true = torch.cat([transition(name, 4, bars=4)[None] for name in ("crossfade", "filter_sweep")])
    mix = mixer(a, b, true)[0]
    together = fit(a, b, mix, mixer, true * 0.8, steps=20, polish=2)
    second = {name: x[1:] for name, x in a.items()}, {name: x[1:] for name, x in b.items()}
    alone = fit(*second, mix[1:], mixer, true[1:] * 0.8, steps=20, polish=2)
    torch.testing.assert_close(together[1:], alone, atol=2e-3, rtol=0.0)


def test_the_answer_keeps_the_ranges_and_the_progress_counts_all_steps(mixer):
    a, b, seen = noise_deck(6, 1.0), noise_deck(7, 1.0), []
    mix = mixer(a, b, transition("cut", 4, bars=4)[None])[0].mean(1, keepdim=True)
    found = fit(a, b, mix, mixer, steps=6, polish=2, progress=lambda *state: seen.append(state))
    assert found.shape[-1] == len(LABELS) and found.min() >= 0.0 and found.max() <= 2.0
    assert [state[0] for state in seen] == list(range(1, 13)) and {state[1] for state in seen} == {12}
    assert seen[5][2] < seen[0][2]


def test_sounds_that_do_not_belong_together_are_named(mixer):
    with pytest.raises(ValueError, match="mix has 7000 samples"):
        fit(noise_deck(0, 1.0), noise_deck(1, 1.0), torch.zeros(1, 2, 7_000), mixer)
