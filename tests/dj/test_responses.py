"""What settings do to the sound, whichever knob does it."""

import pytest
import torch

from difffx.dj import create_mixer, get_default_params, index_of, recommended_start
from difffx.dj.responses import (
    bands_of,
    hats,
    in_db,
    joined,
    known_tempo,
    line_levels,
    sends,
    stem_energies,
    stem_levels,
    strip_masks,
    strips,
)

RATE = 44_100
MIXER = create_mixer(RATE)
BANDS = bands_of(MIXER.config)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def with_knobs(deck, stem, frames=1, **knobs):
    params = get_default_params(frames)
    for name, value in knobs.items():
        params[..., index_of(deck, stem, name)] = value
    return params


def test_bands_cover_every_bin_once_up_to_half_the_rate():
    assert BANDS.first[0] == 1 and BANDS.first[-1] == MIXER.config.n_fft // 2 + 1
    assert all(a < b for a, b in zip(BANDS.first, BANDS.first[1:], strict=False))
    assert len(BANDS.hz) == len(BANDS.first) - 1


def test_neutral_settings_do_nothing():
    masks = strip_masks(get_default_params(3), BANDS, MIXER.config)
    assert in_db(masks[:, :, 0]).abs().max() < 1e-5
    assert (in_db(masks[:, :, 1]) == -60.0).all()  # deck B's faders are down


@pytest.mark.parametrize(
    "knobs",
    [
        {"gain": 0.5, "eq_low": 1.5, "eq_mid": 0.7, "eq_high": 0.3},
        {"gain": 1.0, "lpf": 0.7},
        {"gain": 0.8, "hpf": 0.5, "eq_mid": 2.0},
    ],
)
def test_the_response_is_what_the_mixer_does_to_a_steady_sound(knobs):
    click = torch.zeros(1, 1, 16_384)
    click[..., 8_192] = 1.0
    params = with_knobs("a", "vocals", **knobs)
    heard = MIXER({"vocals": click}, {"other": torch.zeros_like(click)}, params)[0][0, 0]
    hz = torch.fft.rfftfreq(len(heard), 1 / RATE)
    nearest = [int((hz - center).abs().argmin()) for center in BANDS.hz]
    measured = torch.fft.rfft(heard).abs()[nearest]
    expected = strip_masks(params, BANDS, MIXER.config)[0, 0, 0, 2]
    audible = (expected > 0.03) & (torch.tensor(BANDS.hz) > 200.0)  # below, a bin is wider than a slope
    assert audible.sum() > 8
    assert (in_db(measured) - in_db(expected))[audible].abs().max() < 0.6
    assert (in_db(measured) - in_db(expected))[audible].abs().mean() < 0.1


def test_half_the_fader_and_twice_the_equalizer_are_the_same():
    loud = with_knobs("a", "bass", gain=1.0)
    shared = with_knobs("a", "bass", gain=0.5, eq_low=2.0, eq_mid=2.0, eq_high=2.0)
    masks = [strip_masks(params, BANDS, MIXER.config) for params in (loud, shared)]
    assert torch.allclose(*masks, atol=1e-6)


def test_the_54_numbers_are_taken_apart_and_put_together_again():
    params = torch.arange(54.0).expand(2, 3, 54)
    assert strips(params)[0, 0, 1, 2, 3] == index_of("b", "vocals", "eq_high")
    assert sends(params)[0, 0, 0, 1] == index_of("a", "sends", "delay_send")
    assert torch.equal(joined(strips(params), sends(params)), params)


@pytest.mark.parametrize("frames", [1, 2, 9, 400])
def test_every_control_point_looks_at_its_own_surroundings(frames):
    weights = hats(RATE, frames, MIXER.config, 1024)
    assert weights.shape[0] == frames and torch.allclose(weights.sum(1), torch.ones(frames))
    if frames > 2:
        assert weights[0].argmax() < weights[-1].argmax()


def test_energies_are_powers_at_the_right_time_in_the_right_band():
    time = torch.arange(RATE) / RATE
    stems = torch.zeros(1, 2, 4, RATE)
    stems[0, 1, 2] = torch.sin(2 * torch.pi * 1000.0 * time) * (time > 0.5)
    energies = stem_energies(stems, 5, BANDS, MIXER.config)
    place = min(range(len(BANDS)), key=lambda k: abs(BANDS.hz[k] - 1000.0))
    loudest = torch.unravel_index(energies[0, 4].argmax(), energies.shape[2:])
    assert [int(i) for i in loudest] == [1, 2, place]
    assert energies[0, 0].max() < 1e-4 * energies[0, 4].max()
    assert torch.allclose(stem_energies(2 * stems, 5, BANDS, MIXER.config), 4 * energies)


def test_the_level_of_a_stem_is_its_amplitude_and_finite_in_silence():
    energies = stem_energies(noise(1, 2, 4, RATE), 4, BANDS, MIXER.config)
    masks = strip_masks(with_knobs("a", "drums", frames=4, gain=0.25), BANDS, MIXER.config)
    assert torch.allclose(stem_levels(masks, energies)[:, :, 0, 0], torch.full((1, 4), 0.25), atol=1e-5)
    assert stem_levels(masks, torch.zeros_like(energies)).isfinite().all()


def test_what_was_sent_rings_on_in_the_line_as_the_feedback_lets_it():
    sent = torch.zeros(1, 6, 2)
    sent[0, 1, 0] = 0.5
    feedback = torch.ones(1, 6, 2)
    feedback[0, 4:] = 0.0
    level = line_levels(sent, feedback, 0.5, torch.tensor([0.5]), MIXER.config)[0, :, 0]
    assert torch.allclose(level[:4], torch.tensor([0.0, 0.5, 0.35, 0.245]), atol=1e-6) and level[4] < 1e-5


def test_an_unknown_tempo_is_that_of_the_usual_echo():
    tempo = known_tempo(torch.tensor([0.0, 128.0]), MIXER.config)
    assert tempo.tolist() == [120.0, 128.0]
    assert MIXER.config.echo_ms(120.0) == MIXER.config.delay_default_ms


def test_every_knob_of_a_strip_gets_a_finite_gradient():
    params = recommended_start(2).requires_grad_()
    strip_masks(params, BANDS, MIXER.config).square().sum().backward()
    grad = strips(params.grad)
    assert grad.isfinite().all() and (grad.abs().sum((0, 1)) > 0).all()
