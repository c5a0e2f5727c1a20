import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from difffx.dj import (
    LABELS,
    TRANSITIONS,
    DJMixer,
    get_default_params,
    index_of,
    recommended_start,
    transition,
)
from difffx.dj.handover import (
    by_rule,
    eased,
    hand_over,
    limited,
    mixer_config,
    not_heard,
    pinned,
    tail_samples,
    trimmed,
)
from difffx.dj.meeting import Meeting

RATE, TEMPO = 8_000, 120.0
BAR = 2 * RATE
EDGE = round(0.05 * RATE)  # a curve moves within a frame of 46 ms


def deck(seed, seconds, stems=("drums", "bass", "vocals", "other")):
    generator = torch.Generator().manual_seed(seed)
    return {stem: 0.1 * torch.randn(2, round(seconds * RATE), generator=generator) for stem in stems}


def meeting(bars=2, before=2, offset=None, stems=("drums", "other"), seconds=(9.0, 12.0)):
    """A's bar `before` is where it begins; B begins with it unless an offset says otherwise."""
    first = before * BAR
    decks = deck(0, seconds[0], stems), deck(1, seconds[1], stems)
    offset = first if offset is None else offset
    return Meeting(*decks, RATE, first, first + bars * BAR, offset, bars, TEMPO)


def distance_db(x, reference):
    error = (x - reference).double().square().sum()
    return 10 * math.log10(max(error.item(), 1e-30) / reference.double().square().sum().item())


def dry(name):
    """Options with which nothing rings after the transition."""
    return {"feedback": 0.0, "point": 0.5} if name == "echo_out" else {}


@pytest.mark.parametrize("name", TRANSITIONS)
@pytest.mark.parametrize("offset", [2 * BAR, BAR + 123, -777])
def test_before_there_is_a_and_after_there_is_b(name, offset):
    both = meeting(offset=offset)
    handed = hand_over(both, by_rule(name, **dry(name)))
    assert handed.mix.shape == (2, offset + 12 * RATE) and handed.mix.shape[1] == both.samples
    before, after = slice(0, both.first - EDGE), slice(both.last + EDGE, None)
    assert distance_db(handed.mix[:, before], both.song("a")[:, before]) < -100.0
    assert distance_db(handed.mix[:, after], both.song("b")[:, both.last + EDGE - offset :]) < -100.0
    middle = slice(both.first + EDGE, both.last - EDGE)
    assert torch.isfinite(handed.mix).all() and handed.mix[:, middle].square().mean() > 1e-4


@pytest.mark.parametrize("name", TRANSITIONS)
def test_no_click_where_the_mixer_takes_over_and_hands_back(name):
    time = torch.arange(16 * RATE) / RATE
    a, b = (torch.sin(2 * math.pi * hz * time).expand(2, -1) for hz in (100.0, 130.0))
    both = replace(meeting(), deck_a={"other": a}, deck_b={"other": b})
    handed = hand_over(both, by_rule(name, **dry(name)))
    steepest = 2 * math.pi * 130.0 / RATE
    for seam in (handed.start, both.first, both.last, handed.start + handed.deck_a.shape[1]):
        around = handed.mix[:, seam - 5 : seam + 5]
        assert around.diff().abs().max() < 1.01 * steepest
        assert around.diff().diff().abs().max() < 1.05 * steepest**2


def test_the_transition_is_what_the_mixer_makes_of_it():
    both = meeting(before=2)
    handed = hand_over(both, by_rule("bass_swap"), frames_per_beat=8)
    assert handed.curves.shape == (65, 54) and torch.equal(handed.curves, transition("bass_swap", 65, bars=2))
    part = [{stem: x[None] for stem, x in both.part(d, both.first, both.last + 1).items()} for d in "ab"]
    expected = DJMixer(mixer_config(both))(*part, handed.curves)[0][0]
    inner = slice(EDGE, -EDGE)
    assert (
        distance_db(handed.mix[:, both.first : both.last + 1][:, inner], expected[:, inner]) < -70.0
    )  # frames lie elsewhere


def test_times_are_those_of_the_mix():
    both = meeting(before=1)
    handed = hand_over(both, by_rule("cut"), frames_per_beat=4)
    assert handed.times_s[0].item() == pytest.approx(2.0) and handed.times_s[-1].item() == pytest.approx(6.0)
    assert len(handed.times_s) == 33


@pytest.mark.parametrize("before", [0, 1])
def test_the_decks_add_up_to_the_mix(before):
    both = meeting(before=before, seconds=(6.5, 5.0))
    handed = hand_over(both, by_rule("echo_out", feedback=1.0))
    heard = handed.heard("a", 0, both.samples) + handed.heard("b", 0, both.samples)
    assert distance_db(heard, handed.mix) < -120.0
    assert handed.heard("b", 0, max(both.first - EDGE, 0)).abs().amax().item() == 0.0 if before else True


def test_echoes_ring_on_over_the_next_song():
    both = meeting(seconds=(8.0, 30.0))

    def thrown(there, frames):
        curves = transition("cut", frames, there.bars)
        curves[frames // 4 :, index_of("a", "sends", "delay_send")] = 1.0
        curves[:, index_of("a", "sends", "delay_feedback")] = 1.0
        curves[:, index_of("a", "other", "gain")] = 1.0
        return curves

    handed = hand_over(both, thrown)
    rest = handed.mix[:, both.last :] - both.song("b")[:, both.last - both.offset :]
    echo = round(0.75 * 0.5 * RATE)
    levels = [rest[:, k * echo + EDGE : (k + 1) * echo - EDGE].square().mean().sqrt() for k in range(4)]
    assert levels[0] > 0.05
    for louder, softer in pairwise(levels):
        assert (softer / louder).item() == pytest.approx(0.7, rel=0.02)
    left = handed.start + handed.deck_a.shape[1] - both.last
    assert rest[:, left - echo : left].abs().max() < 2e-5 and left > 20 * echo


@pytest.mark.parametrize(("feedback", "echoes"), [(0.0, 1), (1.0, 34)])
def test_a_tail_is_followed_until_it_is_gone(feedback, echoes):
    config = mixer_config(meeting())
    curves = get_default_params(5)[0]
    assert tail_samples(curves, config) == 0.0
    curves[2, index_of("b", "sends", "delay_send")] = 0.1
    curves[-1, index_of("b", "sends", "delay_feedback")] = feedback
    assert tail_samples(curves, config) == pytest.approx(echoes * 0.375 * RATE)
    curves[2, index_of("a", "sends", "reverb_send")] = 0.1
    assert tail_samples(curves, config) == pytest.approx(max(1.82, echoes * 0.375) * RATE)


def test_what_is_drawn_at_the_ends_gives_way_to_a_alone_and_b_alone():
    drawn = recommended_start(9)[0]
    held = pinned(drawn)
    assert torch.equal(held[1:-1], drawn[1:-1])
    for row, label in [(0, "a_bass.gain"), (-1, "b_bass.gain"), (0, "a_other.lpf"), (-1, "b_other.eq_low")]:
        assert held[row, LABELS.index(label)] == 1.0
    for row, label in [
        (0, "b_bass.gain"),
        (-1, "a_bass.gain"),
        (-1, "a_sends.delay_send"),
        (0, "a_bass.hpf"),
    ]:
        assert held[row, LABELS.index(label)] == 0.0
    for row, label in [(-1, "a_sends.delay_feedback"), (-1, "a_bass.eq_low"), (0, "b_bass.lpf")]:
        assert held[row, LABELS.index(label)] == drawn[row, LABELS.index(label)]
    assert drawn[0, 0] == recommended_start(1)[0, 0, 0]  # the caller's own is left


def test_a_slow_song_has_its_echo_too():
    assert mixer_config(replace(meeting(), tempo_bpm=30.0)).echo_ms() == pytest.approx(1500.0)


def test_a_mix_that_is_trimmed_is_a_part_of_the_whole():
    whole = hand_over(meeting(offset=BAR + 77, seconds=(9.0, 12.0)), by_rule("bass_swap"))
    short = trimmed(whole, 1.0)
    assert short.mix.shape[1] == 2 * BAR + 2 * RATE and short.meeting.samples == short.mix.shape[1]
    assert torch.equal(short.mix, whole.mix[:, 2 * BAR - RATE : 4 * BAR + RATE])
    assert short.times_s[0].item() == pytest.approx(1.0)
    for deck_name in "ab":
        heard = whole.heard(deck_name, 2 * BAR - RATE, 4 * BAR + RATE)
        assert torch.equal(short.heard(deck_name, 0, short.mix.shape[1]), heard)
    assert torch.equal(trimmed(whole, 100.0).mix, whole.mix)


def test_a_limiter_holds_the_mix_and_leaves_what_is_below():
    both = meeting()
    loud = replace(both, deck_b={stem: 8.0 * x for stem, x in both.deck_b.items()})
    handed = limited(hand_over(loud, by_rule("cut")))
    assert handed.mix.abs().max() <= 10 ** (-1 / 20) and handed.mix[:, both.last :].abs().max() > 0.8
    quiet = slice(0, both.first - RATE)
    assert torch.equal(handed.mix[:, quiet], both.song("a")[:, quiet])


@pytest.mark.parametrize(
    ("name", "stems", "says"),
    [
        ("drum_swap", ("other",), "A and B came without a stem of drums"),
        ("vocal_safe", ("drums", "other"), "A and B came without a stem of vocals"),
        ("drum_swap", ("drums", "other"), None),
        ("bass_swap", ("other",), None),
    ],
)
def test_a_rule_says_what_cannot_be_heard_of_it(name, stems, says):
    found = not_heard(name, meeting(stems=stems))
    assert found is None if says is None else says in found


def test_what_a_network_draws_is_led_to_the_ends_within_a_beat():
    both = meeting(bars=2)
    drawn = recommended_start(2 * 4 * 8 + 1)[0]
    led = eased(lambda *_: drawn, beats=1.0)(both, len(drawn))
    assert torch.allclose(led[[0, -1]], pinned(drawn)[[0, -1]])
    assert torch.allclose(led[8:-8], drawn[8:-8])
    gain = led[:, index_of("a", "bass", "gain")]
    assert gain[4].item() == pytest.approx(0.85) and gain[-5].item() == pytest.approx(0.35)


@pytest.mark.parametrize("name", TRANSITIONS)
def test_rules_begin_and_end_so_by_themselves(name):
    curves = transition(name, 129, bars=8)
    assert torch.equal(pinned(curves), curves)


def test_an_unknown_rule_or_option_is_refused_before_anything_is_rendered():
    with pytest.raises(ValueError, match="bass_swop"):
        by_rule("bass_swop")
    with pytest.raises(ValueError, match="no option 'lenght'"):
        by_rule("cut", lenght=2)
    with pytest.raises(ValueError, match=r"bass_swap: cannot take enter=0\.5"):
        by_rule("bass_swap", enter=0.5)
