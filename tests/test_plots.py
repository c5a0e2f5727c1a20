"""Figures show what the numbers say."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from difffx import plots
from difffx.graph import ProcessorGraph
from difffx.processors import (
    Compressor,
    GraphicEQ,
    Normalize,
    ParametricClipper,
    ParametricEQ,
    Processor,
    TaylorShaper,
)

RATE = 44_100


def chain(**settings):
    return ProcessorGraph(
        {
            "level": Normalize(RATE),
            "peq": ParametricEQ(RATE),
            "comp": Compressor(RATE),
            "dist": ParametricClipper(RATE),
        },
        set=settings,
    )


def some_z(graph, batch=3, seed=0):
    return graph.spec.sample(batch, generator=torch.Generator().manual_seed(seed))


def nodes(graph, z):
    return plots.node_settings(graph, z)


def line(axes, label):
    return next(line for line in axes.get_lines() if line.get_label() == label)


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_a_chain_gets_a_figure_for_each_kind_of_effect():
    graph = chain()
    figures = plots.curve_figures(nodes(graph, some_z(graph)), nodes(graph, some_z(graph, seed=1)))
    assert list(figures) == ["response", "compressor", "transfer"]
    assert all(len(figure.axes) == 3 for figure in figures.values())


def test_a_chain_without_an_effect_has_no_figure_of_it():
    graph = ProcessorGraph({"level": Normalize(RATE), "comp": Compressor(RATE)})
    assert list(plots.curve_figures(nodes(graph, some_z(graph)))) == ["compressor"]
    assert plots.response_curves(nodes(graph, some_z(graph))) is None


def test_a_bell_of_9_db_is_drawn_9_db_high_at_its_frequency():
    graph = ProcessorGraph({"peq": ParametricEQ(RATE)})
    preset = graph.spec.preset(graph.spec.defaults())
    preset["peq"].update(peak_2_hz=1_000.0, peak_2_gain_db=9.0)
    figure = plots.response_curves(nodes(graph, graph.spec.from_preset(preset)))
    hz, gain_db = line(figure.axes[0], "estimated").get_data()
    assert np.interp(1_000.0, hz, gain_db) == pytest.approx(9.0, abs=0.05)
    assert figure.axes[0].get_ylim()[1] > 9.0


def test_true_and_estimated_curves_are_not_mixed_up():
    graph = ProcessorGraph({"geq": GraphicEQ(RATE)})
    figure = plots.response_curves(nodes(graph, torch.ones(1, 10, 1)), nodes(graph, torch.zeros(1, 10, 1)))
    assert np.min(line(figure.axes[0], "estimated").get_ydata()) > 0
    assert np.max(line(figure.axes[0], "true").get_ydata()) < 0


def test_a_fixed_knob_shapes_the_curve_that_is_drawn():
    """Threshold -20 dB, 4:1, hard knee: full scale leaves at -15 dB."""
    graph = chain(comp={"threshold_db": -20.0, "ratio": 4.0, "knee_db": 0.0, "makeup_db": 0.0})
    axes = plots.compressor_curves(nodes(graph, some_z(graph))).axes[0]
    levels_db, out_db = line(axes, "estimated").get_data()
    assert out_db[-1] == pytest.approx(-15.0, abs=1e-3)
    assert np.interp(-40.0, levels_db, out_db) == pytest.approx(-40.0, abs=1e-3)


def test_the_times_of_a_compressor_are_written_beside_its_curve():
    graph = chain(comp={"attack_ms": 12.0, "release_ms": 250.0})
    assert texts(plots.compressor_curves(nodes(graph, some_z(graph))).axes[0]) == [
        "attack 12, release 250 ms"
    ]


def test_effects_in_a_nested_graph_are_found_with_their_own_fixed_knobs():
    inner = ProcessorGraph({"comp": Compressor(RATE)}, inputs=("audio",), set={"comp": {"ratio": 8.0}})
    graph = ProcessorGraph(
        {"rack": inner, "peq": ParametricEQ(RATE)}, set={"rack": {"comp": {"knee_db": 1.5}}}
    )
    found = nodes(graph, some_z(graph))
    assert list(found) == ["rack.comp", "peq"]
    controls = found["rack.comp"][1]
    assert controls["ratio"].flatten().tolist() == [8.0]
    assert controls["knee_db"].flatten().tolist() == [1.5]
    assert controls["threshold_db"].shape == (3, 1, 1)


class StandIn(Processor):
    """A proxy: no curve of its own, but a target."""

    def __init__(self, target):
        self.params = target.params
        super().__init__(target.sample_rate)
        self.target = target


def test_a_proxy_is_drawn_as_what_it_stands_in_for():
    true = ProcessorGraph({"comp": Compressor(RATE)})
    proxied = ProcessorGraph({"comp": StandIn(Compressor(RATE))})
    z = some_z(true)
    axes = plots.compressor_curves(nodes(proxied, z), nodes(true, z)).axes[0]
    assert np.allclose(line(axes, "estimated").get_ydata(), line(axes, "true").get_ydata())


def test_a_polynomial_upside_down_is_drawn_like_the_clipper_it_imitates():
    true = ProcessorGraph({"dist": ParametricClipper(RATE)})
    afx = ProcessorGraph({"dist": TaylorShaper(RATE)})
    z = torch.full((1, 24, 1), 0.5)
    z[0, 0] = 0.25  # y = -x / 2
    axes = plots.transfer_curves(nodes(afx, z), nodes(true, true.spec.defaults())).axes[0]
    x, y = line(axes, "estimated").get_data()
    assert np.allclose(x, y, atol=1e-5)


def test_the_scatter_of_a_perfect_answer_lies_on_the_line():
    graph = chain()
    z = some_z(graph, 8)
    figure = plots.knob_scatter(graph.spec, z, z)
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == len(graph.spec)
    assert all("r = 1.00" in texts(axes) for axes in panels)
    dots = panels[graph.spec.labels.index("comp.threshold_db")].collections[0].get_offsets()
    assert np.allclose(dots[:, 0], dots[:, 1])
    assert np.allclose(dots[:, 0], graph.from_unit(z)["comp"]["threshold_db"].flatten(), atol=1e-3)


def test_the_scatter_has_log_axes_where_the_knob_is_logarithmic():
    graph = chain()
    figure = plots.knob_scatter(graph.spec, some_z(graph), some_z(graph, seed=1))
    for axes, (_, param) in zip(figure.axes, plots.style.spec_values(graph.spec), strict=False):
        assert axes.get_xscale() == param.scale
        assert axes.get_xlim() == pytest.approx((param.low, param.high))


def test_the_scatter_of_one_item_has_no_correlation():
    graph = ProcessorGraph({"comp": Compressor(RATE)})
    figure = plots.knob_scatter(graph.spec, some_z(graph, 1), some_z(graph, 1))
    assert not any(texts(axes) for axes in figure.axes)


def test_the_scatter_refuses_answers_about_other_knobs():
    graph = ProcessorGraph({"comp": Compressor(RATE)})
    with pytest.raises(ValueError, match=r"expected z \[N, 6, F\]"):
        plots.knob_scatter(graph.spec, some_z(graph), torch.zeros(3, 5, 1))


def test_a_tone_stands_at_its_frequency_in_the_spectrogram():
    time = torch.arange(RATE) / RATE
    hz = torch.logspace(np.log10(30), np.log10(20_000), 200)
    picture = plots.spectra.log_spectrogram(torch.sin(2 * torch.pi * 2_000 * time)[None], RATE, hz)
    assert hz[picture.mean(1).argmax()].item() == pytest.approx(2_000, rel=0.03)


def test_a_softer_copy_differs_by_nothing():
    noise = torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    figure = plots.spectrograms({"dry": noise, "wet": noise.flip(1), "wet_hat": 0.1 * noise.flip(1)}, RATE)
    difference = next(axes for axes in figure.axes if axes.get_title("left") == "wet_hat minus wet")
    assert np.abs(difference.images[0].get_array()).max() < 0.01


def test_the_settings_are_written_in_the_words_of_a_musician():
    graph = chain(comp={"makeup_db": 0.0})
    preset = graph.spec.preset(graph.spec.defaults())
    preset["peq"].update(high_shelf_hz=12_340.0, low_shelf_gain_db=-3.04)
    preset["comp"].update(knee_db=6.0, attack_ms=12.5)
    axes = plots.settings_table(graph.spec, graph.spec.from_preset(preset)).axes[0]
    values = dict(zip([t.get_text() for t in axes.get_yticklabels()], texts(axes), strict=True))
    assert values["peq high shelf frequency"] == "12.34 kHz"
    assert values["peq low shelf gain"] == "-3.0 dB"
    assert values["peq peak 1 gain"] == "+0.0 dB"
    assert values["comp attack"] == "12.5 ms"
    assert values["comp knee"] == "6.0 dB"
    assert "peq low shelf Q" in values
    assert "comp makeup" not in values


def test_a_report_is_made_with_and_without_a_dry_file(tmp_path):
    graph = chain()
    z = some_z(graph, 1)
    sounds = {name: torch.randn(1, RATE) for name in ("dry", "wet", "matched")}
    scores = {"before": {"mel": 1.5}, "after": {"mel": 0.25}}
    full = plots.report(graph, z, sounds, RATE, "a title", scores, torch.full((len(graph.spec), 1), 0.1))
    bare = plots.report(
        ProcessorGraph({"level": Normalize(RATE), "x": Gainless(RATE)}),
        z[:, :1],
        {"wet": sounds["wet"]},
        RATE,
    )
    for name, figure in {"full": full, "bare": bare}.items():
        plots.save_figure(figure, tmp_path / "new" / f"{name}.png")
        assert (tmp_path / "new" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["bare.png", "full.png"]


class Gainless(Processor):
    """One knob, no curve to draw."""

    params = (Compressor.params[0],)


def test_plots_leave_the_global_state_of_matplotlib_alone():
    code = "import sys, difffx.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
