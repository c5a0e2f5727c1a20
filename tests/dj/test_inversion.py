"""What a DJ did, found again in mixes of known moves."""

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt

from difffx.dj import (
    MixerConfig,
    SimpleCrossfader,
    create_mixer,
    get_default_params,
    index_of,
    inversion,
    observed,
)
from difffx.dj.convex import convex_faders
from difffx.dj.gradient_fit import Descent, strips_of
from difffx.dj.inversion import invert
from difffx.dj.lags import moved, residual_lags
from difffx.dj.mel_distance import mel_distance
from difffx.dj.placing import place, put
from difffx.dj.powers import Objective, frozen_numbers, master_basis, measured
from difffx.dj.stretching import varispeed

RATE = 16_000


def song(seed, seconds=4.0, band=None):
    """Noise in bursts, [2, T]: nothing in it repeats."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    x = rng.standard_normal((2, count)) * 0.1
    for first in np.sort(rng.integers(0, count, round(6 * seconds))):
        x[:, first:] += (
            0.5 * rng.standard_normal((2, count - first)) * np.exp(-np.arange(count - first) / 800)
        )
    if band:
        x = sosfilt(butter(4, band, "bandpass", fs=RATE, output="sos"), x)
    return torch.from_numpy(x).float() * 0.3


@pytest.fixture(scope="module")
def mixer():
    return create_mixer(RATE)


@pytest.fixture(scope="module")
def crossfaded(mixer):
    """Two songs, curves of a crossfade that is over early, the mix."""
    a, b = song(0), song(1)
    curves = SimpleCrossfader("equal_power")(8, 1, 0.1, 0.6)
    mix = mixer({"other": a[None]}, {"other": b[None]}, curves)[0][0]
    return a, b, curves, mix


@pytest.fixture(scope="module")
def found(crossfaded):
    a, b, _, mix = crossfaded
    return invert(
        {"other": a}, {"other": b}, mix, RATE, model="incoherent", frames=8, steps=90, lagging=False
    )


def levels(curves, deck):
    """How loud a deck's bass, mid and treble are, relative to the loudest of both decks."""
    gain = curves[..., index_of(deck, "other", "gain")]
    return torch.stack(
        [gain * curves[..., index_of(deck, "other", f"eq_{n}")] for n in ("low", "mid", "high")]
    )


def test_faders_are_found_without_phases(crossfaded, found):
    true = crossfaded[2][0]
    for deck in "ab":
        off = levels(found.curves, deck)[1] / levels(found.curves, "a")[1].max() - levels(true, deck)[1]
        assert off.abs().mean() < 0.08, deck


def test_it_comes_nearer_than_every_start(found):
    assert found.loss[1] < found.loss[0]
    others = [scores["all"] for name, scores in found.distances.items() if name != "after"]
    assert found.distances["after"]["all"] <= min(others)
    assert found.ended == "settled" and found.curves.shape == (8, 54) and found.times_s[-1] > 3.99


def test_the_level_of_the_mix_does_not_matter(crossfaded, found):
    a, b, _, mix = crossfaded
    quiet = invert(
        {"other": a}, {"other": b}, 0.1 * mix, RATE, model="incoherent", frames=8, steps=90, lagging=False
    )
    assert (quiet.curves - found.curves).abs().mean() < 0.01
    assert quiet.loss[1] == pytest.approx(found.loss[1], rel=0.05)
    assert (found.master_db - quiet.master_db).mean().item() == pytest.approx(20.0, abs=0.3)


def test_a_mix_of_these_very_sounds_is_found_with_phases(crossfaded, monkeypatch):
    monkeypatch.setattr(inversion, "POLISH", 3)
    a, b, true, mix = crossfaded
    exact = invert({"other": a}, {"other": b}, mix, RATE, frames=8, steps=100)
    assert exact.model == "coherent"
    where = observed.grid(a.shape[1], RATE, 1024, 256, 4)
    rows = [(0, 3), (1, 3)]
    masks = [
        20 * observed.strip_masks(strips_of(p, rows), where, MixerConfig(RATE)).clamp(min=0.03).log10()
        for p in (exact.curves[None], true)
    ]
    assert (masks[0] - masks[1]).abs().mean() < 0.2


def test_powers_of_unlike_songs_add_up_as_the_model_says(mixer):
    a, b = (torch.randn(1, 5 * RATE, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    curves = get_default_params(2)
    curves[..., index_of("a", "other", "gain")] = 0.6
    curves[..., index_of("b", "other", "gain")] = 0.8
    curves[..., index_of("b", "other", "eq_low")] = 0.0
    mix = mixer({"other": a[None]}, {"other": b[None]}, curves)[0][0]
    powers = measured({"other": a}, {"other": b}, mix, RATE)
    ratio = powers.predicted(curves, mixer.config).sum(1) / powers.mix.sum(1)
    bass = powers.where.log_hz.exp() < 150.0
    assert ratio[0].log().abs().max() < 0.35
    assert powers.predicted(curves, mixer.config).sum() / powers.mix.sum() == pytest.approx(1.0, abs=0.02)
    assert (powers.mix.sum(1)[0] / powers.decks[0][0, 0].sum(0))[bass].mean() == pytest.approx(0.36, rel=0.1)


def test_a_master_is_level_where_its_knots_are():
    basis = master_basis(torch.tensor([10.0, 100.0, 1_000.0, 30_000.0]).log())
    torch.testing.assert_close(basis.sum(0), torch.ones(4, dtype=torch.float64))


def test_frozen_knobs_stay_at_rest(crossfaded):
    a, b, _, mix = crossfaded
    faders = invert(
        {"other": a}, {"other": b}, mix, RATE, bands=1, frames=4, steps=10, start="linear", lagging=False
    )
    for name, rest in (("eq_low", 1.0), ("lpf", 1.0), ("hpf", 0.0)):
        assert (faders.curves[:, index_of("b", "other", name)] == rest).all()
    assert faders.start == "linear" and faders.model == "incoherent"


def test_ctrl_c_and_the_deadline_keep_the_best_so_far(crossfaded):
    a, b, _, mix = crossfaded

    def interrupted(done, total, loss):
        if done == 6:
            raise KeyboardInterrupt

    stopped = invert(
        {"other": a}, {"other": b}, mix, RATE, model="incoherent", frames=4, start="linear",
        progress=interrupted, lagging=False,
    )  # fmt: skip
    assert stopped.ended == "interrupted" and stopped.loss[1] < stopped.loss[0]
    late = invert(
        {"other": a}, {"other": b}, mix, RATE, model="incoherent", frames=4, start="linear",
        seconds=1e-3, lagging=False,
    )  # fmt: skip
    assert late.ended == "seconds" and torch.isfinite(late.curves).all()


def test_an_impatient_descent_lets_ctrl_c_through():
    def distance(curves):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Descent(3)(torch.zeros(1, 2, 54), distance, 3, 0.1)


def test_the_best_of_a_descent_is_kept_and_not_the_last(mixer):
    values = iter([5.0, 3.0, 4.0, 6.0])
    start = torch.full((1, 2, 54), 0.5)
    seen = []

    def distance(curves):
        seen.append(curves.detach().clone())
        return curves.sum() * 0.0 + curves.mean() - curves.mean().detach() + next(values)

    best = Descent(3)(start, distance, 3, 0.1)
    torch.testing.assert_close(best, seen[1])


def test_monotone_faders_by_least_squares():
    a, b = song(4)[0], song(5)[0]
    t = torch.linspace(0.0, 1.0, len(a))
    faders = convex_faders(a, b, a * (1.0 - t) + b * t, RATE)
    assert faders.shape[0] == 2 and faders.shape[2] == 3
    assert (faders[0].diff(dim=0) <= 1e-6).all() and (faders[1].diff(dim=0) >= -1e-6).all()
    line = torch.linspace(0.0, 1.0, faders.shape[1])[:, None]
    assert (faders[1] - line)[4:-4].abs().mean() < 0.15


def test_the_distance_knows_no_gain_and_its_parts_are_bands():
    x = song(6, 2.0)
    assert mel_distance(3.0 * x, x, RATE)["all"] < 1e-3
    low, high = song(6, 2.0, (60.0, 150.0)), 0.02 * song(7, 2.0, (2_900.0, 7_900.0))
    parts = mel_distance(low + 2.0 * high, low + high, RATE)
    assert parts["high"] == pytest.approx(6.02, abs=0.6) and parts["low"] < 0.5


def test_lags_that_come_and_go_are_found_and_made():
    x = song(7, 12.0)
    times, lags = torch.tensor([0.0, 6.0, 12.0]).double(), torch.tensor([0.01, 0.01, -0.02]).double()
    late = moved(x, times, lags, RATE)
    at, heard = residual_lags(x.mean(0), late.mean(0), RATE)
    expected = np.interp(at.numpy(), times.numpy(), lags.numpy())
    assert np.abs(heard.numpy() - expected).mean() < 0.003
    whole = moved(x, times, torch.full((3,), 0.01).double(), RATE)
    torch.testing.assert_close(whole[:, 160:], x[:, :-160], atol=1e-4, rtol=0.0)


@pytest.mark.slow
def test_a_song_is_found_in_a_mix_at_its_speed_and_pitch():
    a, b = song(8, 16.0), song(9, 16.0)
    count = 12 * RATE
    played = put(varispeed(a, 1.02), -2.5, RATE, count)
    fade = torch.linspace(1.0, 0.0, count)
    mix = played * fade + put(b, 1.25, RATE, count) * (1.0 - fade)
    there = place({"other": a}, mix, RATE)
    assert there.offset_s == pytest.approx(-2.5, abs=0.004)
    assert there.speed == pytest.approx(1.02, abs=0.0005) and there.pitch == "follows"
    other = place({"other": b}, mix, RATE)
    assert other.offset_s == pytest.approx(1.25, abs=0.004) and (other.speed, other.pitch) == (1.0, "same")
    assert other.deck["other"].shape == (2, count)
    with pytest.raises(ValueError, match="not found in the mix"):
        place({"other": song(10, 10.0)}, b[:, :count], RATE, "a song")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": "convexx"}, "no start 'convexx'"),
        ({"start": "rule:bas_swap"}, "no transition 'bas_swap'"),
        ({"model": "both"}, "no model 'both'"),
        ({"bands": 2}, "bands must be 1"),
        ({"frames": 1}, "expected 2 frames"),
        ({"bands": 1, "model": "coherent"}, "needs model=incoherent"),
    ],
)
def test_wrong_options_are_named(changes, message):
    x = song(11, 1.0)
    with pytest.raises(ValueError, match=message):
        invert({"other": x}, {"other": x}, x, RATE, **changes)


def test_wrong_sounds_are_named():
    x = song(11, 1.0)
    with pytest.raises(ValueError, match="deck_b has 15000 samples"):
        invert({"other": x}, {"other": x[:, :15_000]}, x, RATE)
    with pytest.raises(ValueError, match="deck_a is silent"):
        invert({"other": 0 * x}, {"other": x}, x, RATE)
    with pytest.raises(ValueError, match="too short"):
        invert({"other": x[:, :900]}, {"other": x[:, :900]}, x[:, :900], RATE)


def test_coarse_objectives_agree_with_fine_ones_about_a_steady_sound(mixer):
    x = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(3))
    powers = measured({"other": x}, {"other": 0.5 * x}, 0.5 * x, RATE)
    judge = Objective(powers, mixer.config, frozen_numbers(3))
    curves = get_default_params(4)
    values = [one.difference(curves, torch.zeros(25)).item() for one in (judge, judge.coarser(4))]
    assert values == pytest.approx([np.log(4.0)] * 2, rel=0.05)
    assert inversion.drawn_anew(curves, 9).shape == (1, 9, 54)
