"""The page of an effect shows what the effect does."""

import math

import pytest
import torch

from difffx import plots
from difffx.plots import processor as page
from difffx.processors import Compressor, Gain, Mix, ParametricEQ, Processor

RATE = 44_100


class Echo(Processor):
    """A copy at -20 dB, 100 samples later."""

    def process(self, x):
        return x + 0.1 * torch.nn.functional.pad(x, (100, 0))[..., :-100]


def axes():
    return plots.style.blank_figure(4.0, 3.0).subplots()


def line(ax, label="a setting"):
    found = next(line for line in ax.get_lines() if line.get_label() == label)
    return torch.as_tensor(found.get_xdata()), torch.as_tensor(found.get_ydata())


def some(processor, seed=0):
    return processor.from_unit(processor.spec.sample(1, generator=torch.Generator().manual_seed(seed)))


def test_the_response_by_a_click_is_the_response_of_the_filters():
    eq = ParametricEQ(RATE)
    controls, ax = some(eq), axes()
    page.draw_click_response(ax, eq, {"a setting": controls})
    hz, gain_db = line(ax)
    assert torch.allclose(gain_db.double(), eq.response(controls, hz)[0], atol=0.3)


def test_the_measured_static_curve_is_the_curve_of_the_compressor():
    comp = Compressor(RATE)
    controls = comp.from_unit(comp.spec.defaults())
    controls |= {"attack_ms": torch.full((1, 1, 1), 1.0), "release_ms": torch.full((1, 1, 1), 500.0)}
    ax = axes()
    page.draw_levels(ax, comp, {"a setting": controls})
    levels_db, out_db = line(ax)
    assert torch.allclose(out_db, comp.static_response(controls, levels_db)[0], atol=0.6)


def test_the_burst_shows_the_echo_after_its_end_and_how_a_compressor_comes_back():
    ax = axes()
    page.draw_burst(ax, Echo(RATE), {"a setting": {}})
    time_ms, level_db = line(ax)
    after = level_db[(time_ms > 300.6) & (time_ms < 301.8)]
    assert after.min() > -28.0 and after.max() < -22.0  # a tone at -6 dBFS, 20 dB down, beside one at -36
    assert level_db[(time_ms - 310.0).abs().argmin()].item() == pytest.approx(-36.0, abs=1.0)
    comp, ax = Compressor(RATE), axes()
    knobs = {"threshold_db": -30.0, "ratio": 10.0, "attack_ms": 10.0, "release_ms": 80.0, "knee_db": 0.0}
    controls = comp.from_unit(comp.spec.defaults())
    controls |= {name: torch.full((1, 1, 1), value) for name, value in knobs.items()}
    page.draw_burst(ax, comp, {"a setting": controls})
    reduction_db = line(ax, "in")[1] - line(ax)[1]
    one, other = (reduction_db[(time_ms - at).abs().argmin()].item() for at in (310.0, 390.0))
    assert reduction_db[(time_ms < 99.0)].abs().max() < 0.01 and one > 12.0
    assert other == pytest.approx(one / math.e, rel=0.03)


def test_the_impulse_response_shows_the_echo_where_it_is():
    ax = axes()
    page.draw_click(ax, Echo(RATE), {"a setting": {}})
    milliseconds, level_db = line(ax)
    later = level_db[1:].argmax() + 1
    assert milliseconds[later].item() == pytest.approx(1e3 * 100 / RATE)
    assert level_db[later].item() == pytest.approx(-20.0, abs=0.01)
    assert ax.get_xlim()[1] == pytest.approx(5.0)


def test_the_sweep_reaches_both_ends_of_hearing():
    x = page.sweep(RATE)[0, 0]
    turns = (x[1:] * x[:-1] < 0).nonzero().flatten() / RATE
    assert 1.0 / (2 * (turns[1] - turns[0]).item()) == pytest.approx(20.0, rel=0.1)
    assert 1.0 / (2 * (turns[-1] - turns[-101]).item() / 100) == pytest.approx(20_000.0, rel=0.05)


def test_a_page_names_its_knobs_and_settings():
    gain = Gain(RATE)
    figure = plots.processor_page(gain, {"default": gain.spec.defaults(), "loud": torch.ones(1, 1, 1)})
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"default", "loud", "gain"} <= set(texts) and any(text.endswith("dB") for text in texts)
    assert [ax.get_title(loc="left") for ax in figure.axes[-4:-1]] == ["sweep", "default", "loud"]


def test_other_inputs_hear_silence_or_what_they_are_given():
    mix, x = Mix(RATE), torch.ones(1, 1, 8)
    controls = mix.from_unit(mix.spec.defaults())
    assert torch.allclose(plots.play(mix, x, controls), x, atol=1e-5)
    assert torch.allclose(plots.play(mix, x, controls, 2 * x), 3 * x, atol=1e-5)
    comp = Compressor(RATE, sidechain=True)
    loud, controls = torch.ones(1, 1, 4000), comp.from_unit(comp.spec.defaults())
    assert plots.play(comp, loud, controls)[..., -1] < 0.7
