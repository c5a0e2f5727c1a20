"""The figure of a transition shows its curves, its bars, and how loud it is."""

import pytest
import torch
from matplotlib.colors import to_rgb

from difffx.dj import transition
from difffx.dj.handover import by_rule, hand_over
from difffx.dj.meeting import Meeting
from difffx.plots.style import ESTIMATE, TRUE, save_figure
from difffx.plots.transition import BAR_LINE, lines, moving, transition_figure

RATE, BARS = 8_000, 2
BAR = 2 * RATE


def handed(name, stems=("drums", "bass", "vocals", "other"), level_b=0.1, **options):
    generator = torch.Generator().manual_seed(0)
    decks = [
        {stem: level * torch.randn(2, 10 * RATE, generator=generator) for stem in stems}
        for level in (0.1, level_b)
    ]
    return hand_over(Meeting(*decks, RATE, BAR, (1 + BARS) * BAR, 0, BARS, 120.0), by_rule(name, **options))


def named(axes):
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bass_swap", ["gain", "eq_low"]),
        ("spectral_handover", ["gain", "eq_low", "eq_mid", "eq_high"]),
        ("echo_out", ["gain", "delay_send", "delay_feedback"]),
    ],
)
def test_what_moves_has_a_panel_and_nothing_else(name, expected):
    assert moving(transition(name, 65, bars=BARS)) == expected
    figure = transition_figure(handed(name), "A to B")
    assert [
        axes.get_ylabel().removesuffix(" [Hz]").replace(" ", "_") for axes in figure.axes[:-1]
    ] == expected
    assert figure.axes[-1].get_ylabel() == "short-term loudness [LUFS]"


def test_stems_that_move_alike_are_one_line():
    found = lines(handed("drum_swap"), "a", "gain")
    assert list(found) == ["A drums", "A bass, vocals, other"]
    assert list(lines(handed("crossfade"), "b", "gain")) == ["B"]
    assert list(lines(handed("drum_swap", stems=("other",)), "b", "gain")) == ["B"]


def test_lines_are_the_curves_at_their_times():
    mix = handed("crossfade")
    drawn = named(transition_figure(mix).axes[0])
    assert list(drawn) == ["A", "B"]
    assert [to_rgb(line.get_color()) for line in drawn.values()] == [to_rgb(TRUE), to_rgb(ESTIMATE)]
    times, gains = drawn["B"].get_data()
    assert times[0] == 2.0 and times[-1] == 6.0 and gains[0] == 0.0 and gains[-1] == 1.0
    assert torch.equal(torch.as_tensor(gains), mix.curves[:, 27])


def test_filters_are_drawn_in_hertz():
    drawn = named(transition_figure(handed("filter_sweep", lowest=0.5)).axes[1])
    hz = drawn["A"].get_data()[1]
    assert hz[0] == pytest.approx(20_000.0) and hz[-2] == pytest.approx(632.5, rel=1e-3)


def test_every_bar_has_a_line_and_a_number():
    figure = transition_figure(handed("cut"))
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "2"]
    for axes in figure.axes:
        bars = [line.get_xdata()[0] for line in axes.get_lines() if line.get_color() == BAR_LINE]
        assert bars == pytest.approx([2.0, 4.0, 6.0])


def test_loudness_of_the_mix_is_that_of_the_deck_that_plays():
    figure = transition_figure(handed("cut", level_b=0.05))
    drawn = named(figure.axes[-1])
    assert list(drawn) == ["A", "B", "mix"]
    level = {name: line.get_ydata() for name, line in drawn.items()}
    assert level["mix"][0] == pytest.approx(level["A"][0], abs=0.01)
    assert level["mix"][-1] == pytest.approx(level["B"][-1], abs=0.01)
    assert level["mix"][0] - level["mix"][-1] == pytest.approx(6.0, abs=0.3)


def test_echoes_over_silence_of_a_song_without_stems_are_drawn_and_saved(tmp_path):
    figure = transition_figure(handed("echo_out", stems=("other",), level_b=0.0))
    save_figure(figure, tmp_path / "transition.png")
    assert (tmp_path / "transition.png").read_bytes().startswith(b"\x89PNG")
