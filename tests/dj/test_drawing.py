from collections import Counter

import numpy as np
import pytest
import torch

from difffx.dj import LABELS, TRANSITIONS
from difffx.dj.drawing import CHANCES, Beats, checked_chances, draw_curves, from_db, smooth, walks
from difffx.dj.layout import RANGES

FRAMES, SECONDS = 32, 8.0
BEATS = Beats(tempo_bpm=128.0, start_s=0.7)


def drawn(count, seed=0, frames=FRAMES, beats=BEATS, **chances):
    rng = np.random.default_rng(seed)
    found = [draw_curves(rng, frames, SECONDS, beats, chances or CHANCES) for _ in range(count)]
    return torch.stack([curves for curves, _ in found]), [name for _, name in found]


@pytest.fixture(scope="module")
def many():
    """Curves [600, 32, 54] and their names."""
    return drawn(600)


def columns(name):
    return [i for i, label in enumerate(LABELS) if label.endswith(f".{name}")]


def test_curves_stay_within_their_ranges_and_are_finite(many):
    low, high = torch.tensor(RANGES).unbind(1)
    curves, _ = many
    assert curves.dtype == torch.float32 and curves.isfinite().all()
    assert (curves >= low).all() and (curves <= high).all()


def test_every_one_of_the_54_numbers_moves_and_rests_at_times(many):
    moves = (many[0].amax(1) - many[0].amin(1) > 0.05).double().mean(0)
    assert moves.min() > 0.05 and moves.max() < 0.95


def test_every_rule_is_drawn_alone_mixed_and_by_an_unsteady_hand(many):
    names = Counter(many[1])
    for rule in TRANSITIONS:
        assert names[rule] > 5 and names[f"{rule}~"] > 1
        assert any("+" in name and rule in name.split("+") for name in names)


def test_kinds_are_as_frequent_as_they_should_be(many):
    kinds = Counter(
        "smooth"
        if name == "smooth"
        else {"~": "perturbed"}.get(name[-1], "mixture" if "+" in name else "rule")
        for name in many[1]
    )
    shares = {kind: count / len(many[1]) for kind, count in kinds.items()}
    assert shares == pytest.approx({"rule": 0.4, "mixture": 0.1, "smooth": 0.3, "perturbed": 0.2}, abs=0.05)


def test_one_kind_alone_can_be_asked_for():
    assert set(drawn(30, smooth=1.0)[1]) == {"smooth"}
    assert set(drawn(60, rule=2.0)[1]) <= set(TRANSITIONS)


def test_the_generator_decides_everything():
    first, again, other = (drawn(5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and first[1] == again[1]
    assert not torch.equal(first[0], other[0])


def test_transitions_begin_and_end_within_the_segment_and_outside_of_it():
    curves, _ = drawn(200, rule=1.0)
    gains = curves[..., columns("gain")]
    a, b = gains[..., :4].amax(-1), gains[..., 4:].amax(-1)
    first, last = (a[:, 0] == 1.0) & (b[:, 0] == 0.0), (a[:, -1] == 0.0) & (b[:, -1] == 1.0)
    for share in (first & last, first & ~last, ~first & last, ~first & ~last):
        assert share.double().mean() > 0.03


def test_a_cut_falls_on_a_downbeat_of_the_beat_that_is_given():
    frames = 801
    curves, names = drawn(60, rule=1.0, frames=frames)
    times = torch.linspace(0.0, SECONDS, frames)
    found = []
    for item, name in zip(curves, names, strict=True):
        gain = item[:, LABELS.index("b_other.gain")]
        steps = (gain.diff() > 0.99).nonzero()[:, 0]
        found += [times[step + 1].item() for step in steps if name in ("cut", "echo_out")]
    bar_s = 4 * 60.0 / BEATS.tempo_bpm
    late = [(time - BEATS.start_s) % bar_s for time in found]
    # of a transition of one bar the middle; of longer ones a downbeat
    assert len(found) > 5 and sum(x < 0.0101 for x in late) > 0.6 * len(late)


def test_a_mixture_gives_stems_of_both_decks_to_one_rule_or_the_other():
    curves, names = drawn(80, mixture=1.0)
    differ = 0
    for item in curves:
        gains = item[:, columns("gain")]
        differ += len({tuple(gains[:, i].tolist()) for i in range(4)}) > 1
    assert differ > 40 and all("+" in name for name in names)


def test_an_unsteady_hand_stays_near_the_rule():
    curves, _ = drawn(80, perturbed=1.0)
    rough, _ = drawn(80, smooth=1.0)
    still = curves[..., columns("lpf")]
    assert (still == 1.0).double().mean() > 0.3 and (still < 1.0).any()
    assert still.mean() > rough[..., columns("lpf")].mean()


def test_smooth_curves_are_slow_mostly_open_and_shut_at_times():
    curves = np.stack([smooth(np.random.default_rng(seed), 101, SECONDS) for seed in range(60)])
    spectrum = np.abs(
        np.fft.rfft(np.hanning(101)[:, None] * (curves - curves.mean(1, keepdims=True)), axis=1)
    )
    hz = np.fft.rfftfreq(101, SECONDS / 100)
    gains = np.square(spectrum[..., columns("gain")]).sum((0, 2))
    assert gains[hz > 3.0].sum() < 0.02 * gains.sum()
    assert np.median(curves[..., columns("lpf")]) == 1.0 and curves[..., columns("lpf")].min() < 0.4
    assert np.median(curves[..., columns("hpf")]) == 0.0 and curves[..., columns("hpf")].max() > 0.6
    assert np.median(curves[..., columns("delay_send")]) == 0.0
    for name in ("eq_low", "eq_mid", "eq_high"):
        values = curves[..., columns(name)]
        assert (values == 0.0).mean() > 0.02 and (values > 1.2).mean() > 0.05
    gains = curves[..., columns("gain")]
    assert (gains == 0.0).mean() > 0.05 and ((gains > 0.2) & (gains < 0.8)).mean() > 0.2


def test_walks_have_the_variance_they_promise():
    found = walks(np.random.default_rng(0), 50, SECONDS, 0.5, 2000)
    assert found.mean() == pytest.approx(0.0, abs=0.05) and found.var() == pytest.approx(1.0, abs=0.05)


def test_an_equalizer_in_db_shuts_without_a_step():
    assert from_db(np.array([-200.0, -40.0, 0.0])).tolist() == pytest.approx([0.0, 0.0, 1.0])
    assert from_db(np.array([-39.0]))[0] < 0.002


@pytest.mark.parametrize("frames", [2, 5, 128])
def test_any_number_of_points_can_be_drawn_with_and_without_a_beat(frames):
    for beats in (None, BEATS):
        curves, _ = drawn(20, frames=frames, beats=beats)
        assert curves.shape == (20, frames, 54) and curves.isfinite().all()


@pytest.mark.parametrize(
    ("chances", "message"),
    [
        ({"rules": 1.0}, r"chances: no kind 'rules' .did you mean 'rule'"),
        ({"rule": -1.0}, r"chances.rule must not be negative, got -1.0"),
        ({"rule": 0.0}, r"at least one must be above 0"),
    ],
)
def test_chances_that_are_none_are_refused(chances, message):
    with pytest.raises(ValueError, match=message):
        checked_chances(chances)
