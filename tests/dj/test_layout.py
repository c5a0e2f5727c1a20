import pytest
import torch

from difffx import dj
from difffx.dj import LABELS, ParameterParser, get_default_params, get_param_info, index_of


def test_the_54_numbers_lie_where_the_publication_has_them():
    assert (dj.N_STEMS, dj.N_STEM_PARAMS, dj.N_GLOBAL_PARAMS) == (4, 6, 3)
    assert (dj.N_PARAMS_PER_TRACK, dj.N_TOTAL_PARAMS, len(LABELS)) == (27, 54, 54)
    assert dj.STEM_NAMES == ("drums", "bass", "vocals", "other")
    assert dj.STEM_PARAM_NAMES == ("gain", "eq_low", "eq_mid", "eq_high", "lpf", "hpf")
    assert dj.GLOBAL_PARAM_NAMES == ("reverb_send", "delay_send", "delay_feedback")
    for t, deck in enumerate("ab"):
        for s, stem in enumerate(dj.STEM_NAMES):
            for k, name in enumerate(dj.STEM_PARAM_NAMES):
                assert index_of(deck, stem, name) == 27 * t + 6 * s + k
        for k, name in enumerate(dj.GLOBAL_PARAM_NAMES):
            assert index_of(deck, "sends", name) == 27 * t + 24 + k


def test_the_defaults_are_deck_a_alone():
    params = get_default_params(3, 2)
    assert params.shape == (2, 3, 54)
    a, b = ParameterParser().parse(params)
    for stem in dj.STEM_NAMES:
        assert (a["stems"][stem]["gain"] == 1).all() and (b["stems"][stem]["gain"] == 0).all()
        for deck in (a, b):
            values = [deck["stems"][stem][name].unique().item() for name in dj.STEM_PARAM_NAMES[1:]]
            assert values == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert all((curve == 0).all() for deck in (a, b) for curve in deck["global"].values())


def test_parsing_and_flattening_are_inverse():
    params = torch.rand(2, 3, 54, generator=torch.Generator().manual_seed(0))
    parser = ParameterParser()
    assert torch.equal(parser.flatten(*parser.parse(params)), params)
    assert parser.parse(params[0])[1]["stems"]["other"]["hpf"].shape == (1, 3)


def test_the_table_says_what_there_is():
    info = get_param_info()
    assert info["total_params"] == 54 and info["params_per_track"] == 27
    assert info["param_ranges"]["eq_mid"] == (0.0, 2.0) and info["param_ranges"]["lpf"] == (0.0, 1.0)
    assert info["layout"].splitlines()[27] == "27 b_drums.gain"


@pytest.mark.parametrize("device", [None, "cpu"])
def test_settings_are_made_where_they_are_wanted(device):
    assert get_default_params(2, device=device).device.type == "cpu"
