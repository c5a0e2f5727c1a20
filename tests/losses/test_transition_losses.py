"""Losses of transitions: blind to what nobody hears, finite everywhere."""

import pytest
import torch

from difffx.dj import create_mixer, get_default_params, index_of, recommended_start, transition
from difffx.dj.baselines import decks_of
from difffx.dj.responses import bands_of, stem_energies, stem_levels, strip_masks
from difffx.losses import Curves, Mel, Transition, TransitionLoss
from difffx.metrics.dj import mix_metrics, swap_times, transition_metrics
from difffx.params import ControlSpec

RATE, FRAMES, SECONDS = 22_050, 6, 1.5
MIXER = create_mixer(RATE)
BANDS = bands_of(MIXER.config)
ECHO_S = torch.tensor([0.375])
STEMS = 0.1 * torch.randn(1, 2, 4, 1, round(SECONDS * RATE), generator=torch.Generator().manual_seed(0))
ENERGIES = stem_energies(STEMS.mean(3), FRAMES, BANDS, MIXER.config)


def of(params, audio=None, energies=ENERGIES):
    return Transition(params, audio, energies, SECONDS, ECHO_S)


def scores(found, true, energies=ENERGIES):
    return transition_metrics(found, true, energies, BANDS, MIXER.config, SECONDS, ECHO_S)


def set_to(params, places, value):
    params = params.clone()
    for deck, place, name in places:
        params[..., index_of(deck, place, name)] = value
    return params


EVERY_EQ = [("a", "bass", name) for name in ("eq_low", "eq_mid", "eq_high")]


def test_the_truth_costs_nothing():
    params = recommended_start(FRAMES)
    assert all(value < 1e-9 for value in TransitionLoss(RATE)(of(params), of(params)).values())
    found = scores(params, params)
    assert all(value.nan_to_num(0.0).abs().max() < 1e-4 for value in found.values())


def test_half_the_fader_and_twice_the_equalizer_cost_nothing_in_the_response():
    true = get_default_params(FRAMES)
    found = set_to(set_to(true, [("a", "bass", "gain")], 0.5), EVERY_EQ, 2.0)
    terms = TransitionLoss(RATE)(of(found), of(true))
    assert terms["response"] < 1e-4 and terms["params"] > 0.01
    assert scores(found, true)["response_db"] < 1e-4 and scores(found, true)["gain"] < 1e-5


def test_a_filter_on_a_stem_that_is_not_played_costs_nothing():
    silent = ENERGIES.clone()
    silent[:, :, 0, 2] = 0.0
    true = get_default_params(FRAMES)
    found = set_to(true, [("a", "vocals", "lpf")], 0.3)
    terms = TransitionLoss(RATE)(of(found), of(true, energies=silent))
    assert terms["response"] < 1e-6 and terms["params"] < 1e-6
    assert TransitionLoss(RATE)(of(found), of(true))["response"] > 0.5


def test_a_send_of_a_deck_that_is_down_costs_nothing():
    true = get_default_params(FRAMES)  # B is down
    for deck, least in (("b", 0.0), ("a", 0.05)):
        found = set_to(true, [(deck, "sends", "reverb_send")], 0.4)
        cost = TransitionLoss(RATE)(of(found), of(true))["sends"].item()
        assert cost == pytest.approx(least, abs=1e-6) if deck == "b" else cost > least


def test_a_gain_that_is_6_db_off_reads_6_db():
    true = recommended_start(FRAMES)
    found = true.clone()
    for d in (0, 27):
        found[..., d : d + 24 : 6] *= 0.5
    assert TransitionLoss(RATE)(of(found), of(true))["response"].item() == pytest.approx(6.02, abs=0.3)
    assert scores(found, true)["response_db"].item() == pytest.approx(6.02, abs=0.05)
    level = stem_levels(strip_masks(true, BANDS, MIXER.config), ENERGIES)
    expected = 0.5 * (level * ENERGIES.sum(-1)).sum() / ENERGIES.sum()
    assert scores(found, true)["gain"].item() == pytest.approx(expected.item(), rel=1e-3)


@pytest.mark.parametrize("start", [recommended_start(FRAMES), get_default_params(FRAMES)])
def test_gradients_are_finite_wherever_the_knobs_stand(start):
    params = start.clone().requires_grad_()
    loss = TransitionLoss(RATE)
    loss.total(loss(of(params), of(transition("filter_sweep", FRAMES, bars=2.0)[None]))).backward()
    assert params.grad.isfinite().all() and params.grad.any()


def test_a_loss_that_listens_hears_the_difference():
    true, found = get_default_params(FRAMES), recommended_start(FRAMES)
    audio = [MIXER(*decks_of(STEMS), params)[0] for params in (true, found)]
    loss = TransitionLoss(RATE, audio=1.0, heard=Mel(RATE, n_fft=1024, hop=256, bands=40))
    assert loss.listens and not TransitionLoss(RATE).listens
    assert loss(of(found, audio[1]), of(true, audio[0]))["audio"] > 0.1
    assert loss(of(true, audio[0]), of(true, audio[0]))["audio"] < 1e-6
    found = mix_metrics(audio[1], audio[0], RATE)
    assert found["mel_db"] > 1.0 and found["si_sdr"] < 20.0


def test_a_loss_of_curves_reads_their_own_units():
    true = get_default_params(FRAMES)
    loss = Curves(RATE)(of(true + 0.1), of(true))
    assert loss["curves"].item() == pytest.approx(0.1, abs=1e-6)


def test_wrong_use_is_refused():
    with pytest.raises(ValueError, match="heard=Mel"):
        TransitionLoss(RATE, audio=1.0)
    with pytest.raises(ValueError, match="task=dj"):
        TransitionLoss(RATE).require(ControlSpec({}), ControlSpec({}))
    with pytest.raises(ValueError, match="curves of one shape"):
        TransitionLoss(RATE)(of(get_default_params(3)), of(get_default_params(4)))


@pytest.mark.parametrize(("cue_in", "cue_out"), [(0.0, 1.0), (0.2, 0.6)])
def test_the_decks_change_places_in_the_middle_of_a_linear_crossfade(cue_in, cue_out):
    from difffx.dj import SimpleCrossfader

    params = SimpleCrossfader("linear")(51, cue_in=cue_in, cue_out=cue_out)
    energies = stem_energies(STEMS.mean(3), 51, BANDS, MIXER.config)
    masks = strip_masks(params, BANDS, MIXER.config)
    times = swap_times(masks, energies, BANDS, MIXER.config, 10.0)
    assert torch.allclose(times, torch.full((1, 3), 5.0 * (cue_in + cue_out)), atol=0.01)


def test_a_bass_swap_changes_the_bass_on_its_downbeat_and_not_the_rest():
    params = transition("bass_swap", 129, bars=8.0, point=0.5, swap_bars=0.25)[None]
    energies = stem_energies(STEMS.mean(3), 129, BANDS, MIXER.config)
    masks = strip_masks(params, BANDS, MIXER.config)
    low, _, high = swap_times(masks, energies, BANDS, MIXER.config, 16.0)[0].tolist()
    assert low == pytest.approx(7.75, abs=0.05)  # half a second before the downbeat it begins
    assert high == pytest.approx(8.0, abs=0.1)  # between B's entry and A's leaving both are there
    late = transition("bass_swap", 129, bars=8.0, point=0.625, swap_bars=0.25)[None]
    moved = transition_metrics(late, params, energies, BANDS, MIXER.config, 16.0, ECHO_S)["swap_ms"]
    assert moved.item() == pytest.approx(2000.0 / 3.0, abs=40.0)  # the bass alone, two seconds late


def test_who_never_swaps_although_there_is_a_swap_is_off_by_its_longer_side():
    true, energies = (
        transition("cut", 17, bars=4.0)[None],
        stem_energies(STEMS.mean(3), 17, BANDS, MIXER.config),
    )
    found = get_default_params(17)
    score = transition_metrics(found, true, energies, BANDS, MIXER.config, 8.0, ECHO_S)["swap_ms"]
    assert 4000.0 <= score.item() <= 4600.0
    assert transition_metrics(found, found, energies, BANDS, MIXER.config, 8.0, ECHO_S)["swap_ms"].isnan()


def test_a_cutoff_counts_in_octaves_and_only_where_it_is_heard():
    true = set_to(get_default_params(FRAMES), [("a", "drums", "lpf")], 0.6)
    found = set_to(true, [("a", "drums", "lpf"), ("b", "drums", "lpf")], 0.5)
    octaves = scores(found, true)["cutoff_octaves"].item()
    assert octaves == pytest.approx(0.1 * 9.966, abs=0.01)
    assert scores(found, get_default_params(FRAMES))["cutoff_octaves"].isnan()


def test_what_nobody_hears_does_not_move_the_swap():
    params = transition("cut", 17, bars=4.0)[None]
    params[:, 12:, [index_of("b", stem, "gain") for stem in ("drums", "bass", "vocals", "other")]] = 0.0
    near = params.clone()
    near[:, 12:, index_of("a", "drums", "gain")] = 0.003
    energies = stem_energies(STEMS.mean(3), 17, BANDS, MIXER.config)
    moved = transition_metrics(near, params, energies, BANDS, MIXER.config, 8.0, ECHO_S)["swap_ms"]
    assert moved.item() < 1.0
