import inspect
import math

import numpy as np
import pytest
import torch

from difffx.dj import (
    FADES,
    LABELS,
    STEM_NAMES,
    TRANSITIONS,
    SimpleCrossfader,
    bar_positions,
    get_default_params,
    index_of,
    transition,
)
from difffx.dj.transitions import OPTION_RANGES, draw_options

BARS, FRAMES = 16, 16 * 4 * 4 + 1  # four points a beat


def curve(params, label):
    return params[..., LABELS.index(label)]


def frame_of(bar):
    return round(bar * 16)


@pytest.mark.parametrize("fade_type", FADES)
@pytest.mark.parametrize(("cue_in", "cue_out"), [(0.0, 1.0), (0.2, 0.7), (0.3, 1.0)])
def test_a_fade_is_monotone_and_goes_all_the_way(fade_type, cue_in, cue_out):
    params = SimpleCrossfader(fade_type)(101, batch_size=2, cue_in=cue_in, cue_out=cue_out)
    assert params.shape == (2, 101, 54)
    first, last = round(100 * cue_in), round(100 * cue_out)
    for stem in STEM_NAMES:
        a, b = (curve(params, f"{deck}_{stem}.gain")[1] for deck in "ab")
        assert (a[: first + 1] == 1.0).all() and (b[: first + 1] == 0.0).all()
        assert (a[last:] == 0.0).all() and (b[last:] == 1.0).all()
        assert (a[first : last + 1].diff() < 0).all() and (b[first : last + 1].diff() > 0).all()
    params[..., ["gain" in label for label in LABELS]] = 0.0
    neutral = get_default_params(101, 2)
    neutral[..., ["gain" in label for label in LABELS]] = 0.0
    assert torch.equal(params, neutral)


def test_laws_of_the_fades():
    a, b = (
        {name: curve(SimpleCrossfader(name)(65), f"{deck}_bass.gain")[0] for name in FADES} for deck in "ab"
    )
    assert torch.allclose(a["linear"] + b["linear"], torch.ones(65))
    assert torch.allclose(a["equal_power"] ** 2 + b["equal_power"] ** 2, torch.ones(65))
    assert b["exponential"][32].item() == pytest.approx((1 - math.exp(-1.5)) / (1 - math.exp(-3.0)))
    assert a["logarithmic"][32].item() == pytest.approx(math.log10(5.5))


@pytest.mark.parametrize(("cue_in", "cue_out"), [(0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1)])
def test_cues_in_the_wrong_order_are_refused(cue_in, cue_out):
    with pytest.raises(ValueError, match="expected 0 <= cue_in < cue_out <= 1"):
        SimpleCrossfader("linear")(8, 1, cue_in, cue_out)


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"no fade_type 'equalpower' .did you mean 'equal_power'"):
        SimpleCrossfader("equalpower")
    with pytest.raises(ValueError, match=r"no transition 'bassswap' .did you mean 'bass_swap'"):
        transition("bassswap", 8)
    with pytest.raises(ValueError, match=r"transition cut: no option 'pont' .did you mean 'point'"):
        transition("cut", 8, pont=0.3)


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("bars", [1, 2, 7.5, 16])
@pytest.mark.parametrize("frames", [2, 65])
def test_a_transition_goes_from_deck_a_alone_to_deck_b_alone(name, bars, frames):
    params = transition(name, frames, bars)
    low, high = torch.tensor([(0.0, 2.0 if ".eq_" in label else 1.0) for label in LABELS]).unbind(1)
    assert params.shape == (frames, 54) and (params >= low).all() and (params <= high).all()
    neutral = get_default_params(1)[0, 0]
    gains = torch.tensor([label.endswith(".gain") for label in LABELS])
    assert torch.equal(params[0][gains], neutral[gains])
    assert torch.equal(params[0][:24], neutral[:24])
    end = params[-1].roll(27)
    assert torch.equal(end[gains], neutral[gains])
    assert torch.equal(end[:27], neutral[:27]) and (params[-1, 24:27] == 0.0).all()


def test_before_and_after_a_transition_one_deck_plays_as_it_is():
    for name in TRANSITIONS:
        params = transition(name, 61, 8, seconds=30.0, tempo_bpm=120.0, start_s=7.0)
        assert (curve(params, "b_drums.gain")[:14] == 0.0).all()
        assert (curve(params, "a_drums.gain")[47:] == 0.0).all()
        assert torch.equal(params[:14, :24], get_default_params(14)[0, :, :24])


def test_a_cut_falls_on_the_downbeat():
    params = transition("cut", FRAMES, BARS, point=0.26)  # bar 4.16: the downbeat is bar 4
    b = curve(params, "b_vocals.gain")
    assert b[frame_of(4) - 1] == 0.0 and b[frame_of(4)] == 1.0
    slow = curve(transition("cut", FRAMES, BARS, beats=1.0), "b_vocals.gain")
    assert slow[frame_of(8) - 4] == 0.0 and slow[frame_of(8) - 2] == 0.5 and slow[frame_of(8)] == 1.0


def test_basses_are_swapped_on_the_downbeat_and_never_both_full():
    params = transition("bass_swap", FRAMES, BARS)
    a, b = (curve(params, f"{deck}_bass.eq_low") for deck in "ab")
    assert b[frame_of(7)] == 0.0 and b[frame_of(8)] == 1.0
    assert torch.allclose(a + b, torch.ones(FRAMES))
    both_in = curve(params, "b_other.gain")[frame_of(8)] == 1.0 == curve(params, "a_other.gain")[frame_of(8)]
    assert both_in


def test_a_filter_sweep_closes_one_and_opens_the_other_in_pitch():
    params = transition("filter_sweep", FRAMES, BARS, lowest=0.3, highest=0.7)
    lpf, hpf = curve(params, "a_other.lpf"), curve(params, "b_other.hpf")
    assert (lpf.diff() <= 0).all() and (hpf.diff() <= 0).all()
    assert lpf.min().item() == pytest.approx(0.3) and hpf.max().item() == pytest.approx(0.7)
    assert lpf[frame_of(6)] == 1.0 and hpf[frame_of(10)] == 0.0


def test_an_echo_out_opens_the_send_for_the_last_bar_and_lets_it_ring():
    params = transition("echo_out", FRAMES, BARS, throw_bars=2.0)
    send, feedback = curve(params, "a_sends.delay_send"), curve(params, "a_sends.delay_feedback")
    assert (send[: frame_of(6) + 1] == 0.0).all() and (send[frame_of(8) :] == 0.0).all()
    assert send[frame_of(7) : frame_of(8)].min().item() == pytest.approx(0.8)
    assert feedback[frame_of(6) : frame_of(12) + 1].min().item() == pytest.approx(0.8)
    assert (curve(params, "a_bass.gain")[frame_of(8) :] == 0.0).all()


def test_a_spectral_handover_is_at_equal_power_in_each_band_at_its_own_time():
    params = transition("spectral_handover", FRAMES, BARS)
    for name, center in (("eq_low", 0.25), ("eq_mid", 0.65), ("eq_high", 0.45)):
        a, b = (curve(params, f"{deck}_drums.{name}") for deck in "ab")
        assert torch.allclose(a**2 + b**2, torch.ones(FRAMES))
        half = (b - math.sqrt(0.5)).abs().argmin().item()
        assert half / (FRAMES - 1) == pytest.approx(center, abs=0.01)


def test_two_voices_are_never_heard_together():
    params = transition("vocal_safe", FRAMES, BARS)
    a, b = (curve(params, f"{deck}_vocals.gain") for deck in "ab")
    assert (a * b == 0.0).all() and a[0] == b[-1] == 1.0
    assert (curve(params, "a_other.gain") * curve(params, "b_other.gain")).max() == pytest.approx(0.5)


def test_drums_change_within_a_beat_and_the_rest_does_not():
    params = transition("drum_swap", FRAMES, BARS)
    drums, other = curve(params, "b_drums.gain"), curve(params, "b_other.gain")
    assert drums[frame_of(8) - 4] == 0.0 and drums[frame_of(8)] == 1.0
    assert other[frame_of(8)].item() == pytest.approx(math.sqrt(0.5))


def test_bars_are_counted_along_a_tempo_or_along_the_beats_that_were_found():
    at = bar_positions(5, 8, seconds=8.0, tempo_bpm=120.0, start_s=2.0)
    assert at.tolist() == [-1.0, 0.0, 1.0, 2.0, 3.0]
    grid = [0.0, 2.0, 4.5, 7.0]  # it slows down
    at = bar_positions(9, 8, seconds=8.0, downbeats_s=grid, start_s=2.3)
    assert at.tolist() == pytest.approx([-1.0, -0.5, 0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tempo_bpm": 120.0}, "needs the length of what is rendered"),
        ({"seconds": 8.0}, "expected tempo_bpm above 0, or downbeats_s"),
        ({"seconds": 8.0, "downbeats_s": [1.0, 0.5]}, "each later than the one before"),
        ({"point": 0.0}, "a share of the transition between 0 and 1"),
        ({"bars": 0}, "bars above 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        transition("cut", 8, **options)


def test_every_label_is_a_number_of_its_own():
    assert index_of("b", "sends", "delay_feedback") == 53 and len(set(LABELS)) == 54


@pytest.mark.parametrize("name", TRANSITIONS)
def test_every_option_of_every_rule_can_be_drawn_and_changes_the_curves(name):
    known = [
        option for option in inspect.signature(TRANSITIONS[name]).parameters if option not in ("at", "bars")
    ]
    assert list(OPTION_RANGES[name]) == known
    rng = np.random.default_rng(0)
    drawn = [draw_options(rng, name) for _ in range(20)]
    low, high = torch.tensor([(0.0, 2.0 if ".eq_" in label else 1.0) for label in LABELS]).unbind(1)
    for options in drawn:
        params = transition(name, 65, 8, **options)
        assert (params >= low).all() and (params <= high).all() and params.isfinite().all()
    first = transition(name, FRAMES, BARS, **drawn[0])
    for option in known:
        others = [transition(name, FRAMES, BARS, **{**drawn[0], option: o[option]}) for o in drawn[1:]]
        assert not all(torch.equal(first, other) for other in others), option
