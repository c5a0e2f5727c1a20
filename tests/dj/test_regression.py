"""How much of each stem is in a mix, by least squares."""

import pytest
import torch

from difffx.dj import STEM_NAMES, create_mixer, get_default_params, index_of
from difffx.dj.baselines import by_gradient, decks_of, drawn_anew, fixed_answers
from difffx.dj.regression import N_SOUNDS, explain, from_levels, known, least_squares, strips_from
from difffx.dj.responses import bands_of, echo_seconds, in_db, strip_masks, strips

RATE = 22_050
MIXER = create_mixer(RATE)
BANDS = bands_of(MIXER.config)
FRAMES = 5
ECHO_S = echo_seconds(torch.tensor([120.0]), MIXER.config)
GAINS = torch.tensor([[1.0, 0.5, 0.25, 0.8], [0.1, 0.9, 0.7, 0.4]])


def decks(seconds=2.0, seed=0):
    """Eight stems that have nothing to do with each other, [1, 2, 4, 1, T]."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(1, 2, 4, 1, round(seconds * RATE), generator=generator)


def with_gains(gains=GAINS):
    params = get_default_params(FRAMES)
    for d, deck in enumerate("ab"):
        for s, stem in enumerate(STEM_NAMES):
            params[..., index_of(deck, stem, "gain")] = gains[d, s]
    return params


def mixed(stems, params):
    return MIXER(*decks_of(stems), params)[0]


def test_static_gains_of_distinct_stems_are_found():
    stems, params = decks(), with_gains()
    found = explain(known(stems.mean(3), MIXER, BANDS, FRAMES, ECHO_S), mixed(stems, params).mean(1))
    gains = found.gains[0, :, 5:, :8].mean((0, 1)).view(2, 4)  # the lowest bands hold too few numbers
    assert (in_db(gains) - in_db(GAINS)).abs().max() < 0.2
    assert found.rest[:, :, 5:].max() < 0.01


def test_the_baseline_finds_static_gains_of_bass_mid_and_treble():
    stems, params = decks(), with_gains()
    params[..., index_of("a", "drums", "eq_mid")] = 0.4
    answer = least_squares(stems.mean(3), mixed(stems, params).mean(1), MIXER, BANDS, FRAMES)
    error = in_db(strip_masks(answer, BANDS, MIXER.config)) - in_db(strip_masks(params, BANDS, MIXER.config))
    assert error[..., 5:].abs().max() < 0.8 and error[..., 5:].abs().mean() < 0.2
    assert ((answer >= 0) & (answer <= 2)).all()


def test_silence_is_not_known_and_not_in_the_mix():
    stems = decks()
    stems[:, 1, 2] = 0.0
    facts = known(stems.mean(3), MIXER, BANDS, FRAMES, ECHO_S)
    found = explain(facts, mixed(stems, with_gains()).mean(1))
    assert found.sure[..., 6].max() < 1e-3 and found.sure[:, :, 5:, 0].min() > 0.8
    assert found.gains[..., 6].abs().max() < 1e-3


def test_several_mixes_of_a_pair_are_explained_as_each_alone():
    stems = torch.cat((decks(seed=1), decks(seed=2)))
    facts = known(stems.mean(3), MIXER, BANDS, FRAMES, ECHO_S.expand(2))
    mixes = [mixed(stems[i : i + 1], with_gains(GAINS * k)).mean(1) for i in (0, 1) for k in (1.0, 0.5)]
    together = explain(facts, torch.cat(mixes))
    for row, mix in enumerate(mixes):
        alone = explain(known(stems[row // 2 :][:1].mean(3), MIXER, BANDS, FRAMES, ECHO_S), mix)
        for name in ("gains", "sure", "powers", "power", "rest"):
            assert torch.allclose(getattr(together, name)[row], getattr(alone, name)[0], atol=1e-4), name


def test_halls_and_echoes_are_told_from_the_dry_sound():
    stems, params = decks(), with_gains(torch.ones(2, 4))
    params[..., index_of("b", "sends", "delay_send")] = 0.5
    found = explain(known(stems.mean(3), MIXER, BANDS, FRAMES, ECHO_S), mixed(stems, params).mean(1))
    assert found.gains.shape[-1] == N_SOUNDS
    echoes = found.gains[0, 2:, 5:].mean((0, 1))  # hall, first and second echo of A, then of B
    assert echoes[12] == pytest.approx(0.5, abs=0.05) and echoes[[8, 9, 10, 11]].abs().max() < 0.1


def test_levels_are_kept_however_fader_and_equalizer_share_them():
    levels = torch.tensor([0.0, 0.3, 1.7, 2.5]).view(1, 1, 1, 4, 1).expand(1, 1, 2, 4, 3)
    knobs = strips(from_levels(levels))
    assert torch.allclose(knobs[..., :1] * knobs[..., 1:4], levels.clamp(max=2.0))
    assert (knobs[..., 0] <= 1.0).all() and (knobs[..., 4] == 1.0).all() and (knobs[..., 5] == 0.0).all()


@pytest.mark.parametrize(("lpf", "hpf"), [(1.0, 0.0), (0.58, 0.0), (1.0, 0.42), (0.72, 0.28)])
def test_a_strip_is_found_from_its_response(lpf, hpf):
    params = get_default_params(1)
    for name, value in (("gain", 0.6), ("lpf", lpf), ("hpf", hpf)):
        params[..., index_of("a", "other", name)] = value
    gains = strip_masks(params, BANDS, MIXER.config)[:, :, 0, 3]
    found = strips_from(gains, torch.ones_like(gains), BANDS, MIXER.config)
    assert found[0, 0, 4].item() == pytest.approx(lpf, abs=0.08)
    assert found[0, 0, 5].item() == pytest.approx(hpf, abs=0.08)
    # in a band that a filter has taken away nothing can be said of the isolator
    product = found[0, 0, 0] * found[0, 0, 2]
    assert product.item() == pytest.approx(0.6, abs=0.1)


def test_answers_that_listen_to_nothing_have_the_shape_of_curves():
    for params in fixed_answers(7, 3).values():
        assert params.shape == (3, 7, 54)


def test_curves_drawn_anew_keep_their_ends_and_straight_lines():
    line = torch.linspace(0.0, 1.0, 5)[None, :, None].expand(1, 5, 54)
    assert torch.allclose(drawn_anew(line, 9)[0, :, 0], torch.linspace(0.0, 1.0, 9), atol=1e-6)


@pytest.mark.slow
def test_gradient_fitting_beats_least_squares_through_a_filter():
    stems, params = decks(1.5), with_gains()
    params[..., index_of("a", "other", "lpf")] = 0.6
    mix = mixed(stems, params)
    truth = in_db(strip_masks(params, BANDS, MIXER.config))
    errors = []
    for answer in (
        least_squares(stems.mean(3), mix.mean(1), MIXER, BANDS, FRAMES),
        by_gradient(stems, mix, MIXER, FRAMES, torch.tensor([120.0])),
    ):
        errors.append((in_db(strip_masks(answer, BANDS, MIXER.config)) - truth)[..., 5:].abs().mean())
    assert errors[1] < 0.3 < errors[0]
