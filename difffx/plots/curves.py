"""What an effect does, true beside estimated: responses, static curves, transfer curves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from difffx.graph import ProcessorGraph
from difffx.params import Controls
from difffx.plots.style import (
    ESTIMATE,
    FAINT,
    TRUE,
    blank_figure,
    finish,
    frequency_axis,
    short_number,
)
from difffx.processors import ChebyshevShaper, ParametricClipper, Processor, TaylorShaper

WAVESHAPERS = (ParametricClipper, TaylorShaper, ChebyshevShaper)

Node = tuple[Processor, Controls]
Draw = Callable[[Axes, "Node | None", "Node | None", int], None]


def node_settings(graph: ProcessorGraph, z: Tensor) -> dict[str, Node]:
    """Every effect by its dotted path, nested graphs opened, with all its physical controls [B or 1, K, F]:
    predicted, fixed, learned and tied."""
    return dict(_opened(graph, graph.from_unit(z.detach()), z))


def _opened(graph: ProcessorGraph, controls: Controls, like: Tensor) -> Iterator[tuple[str, Node]]:
    complete = graph.settings.complete(graph.spec, controls, like.detach())
    for name, processor in graph.processors.items():
        inside = complete.get(name, {})
        if isinstance(processor, ProcessorGraph):
            yield from ((f"{name}.{path}", node) for path, node in _opened(processor, inside, like))
        else:
            yield name, (processor, inside)


def curve_figures(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> dict[str, Figure]:
    """The figures there are for a graph: response (equalizers), compressor, transfer (waveshapers)."""
    figures = {
        "response": response_curves(estimated, true, items),
        "compressor": compressor_curves(estimated, true, items),
        "transfer": transfer_curves(estimated, true, items),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def response_curves(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> Figure | None:
    """Magnitude over frequency: a row an equalizer, a column an item. None without equalizers."""
    return _grid(estimated, true, items, "response", draw_response, (3.6, 2.7))


def compressor_curves(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> Figure | None:
    """Level out over level in of each compressor, its times written beside. None without compressors."""
    return _grid(estimated, true, items, "static_response", draw_compressor, (3.3, 3.2))


def transfer_curves(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> Figure | None:
    """Sample out over sample in of each waveshaper. None without waveshapers."""
    return _grid(estimated, true, items, "transfer", draw_transfer, (3.2, 3.1))


def _grid(
    estimated: Mapping[str, Node],
    true: Mapping[str, Node] | None,
    items: int,
    trait: str,
    draw: Draw,
    size: tuple[float, float],
) -> Figure | None:
    true = true or {}
    paths = [
        path
        for path in {**true, **estimated}
        if seen(true.get(path), trait) or seen(estimated.get(path), trait)
    ]
    if not paths:
        return None
    columns = max(1, min(items, max(_batch(node) for node in [*estimated.values(), *true.values()])))
    figure = blank_figure(size[0] * columns, size[1] * len(paths) + 0.4)
    axes = figure.subplots(len(paths), columns, squeeze=False, sharex="row", sharey="row")
    for row, path in enumerate(paths):
        for item in range(columns):
            draw(axes[row, item], seen(true.get(path), trait), seen(estimated.get(path), trait), item)
            axes[row, item].set_title(f"{path}, item {item}" if columns > 1 else path, fontsize=9, loc="left")
            if item:
                axes[row, item].set_ylabel("")
    if true:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def seen(node: Node | None, trait: str) -> Node | None:
    """The node if it has such a curve, or what it stands in for, such as a proxy, has; else None."""
    for processor in () if node is None else (node[0], getattr(node[0], "target", None)):
        if _has(processor, trait):
            return processor, node[1]
    return None


def _has(processor: Processor | None, trait: str) -> bool:
    return isinstance(processor, WAVESHAPERS) if trait == "transfer" else hasattr(processor, trait)


def _batch(node: Node) -> int:
    return max([value.shape[0] for value in node[1].values()], default=1)


def _row(values: Tensor, item: int) -> Tensor:
    """One item of [B, ...]; what is fixed for all items has B = 1."""
    return values[min(item, len(values) - 1)].detach().cpu()


def _both(true: Node | None, estimated: Node | None) -> list[tuple[Node, str, dict]]:
    thick = {"color": TRUE, "linewidth": 3.0, "alpha": 0.55}
    thin = {"color": ESTIMATE, "linewidth": 1.6}
    pairs = [(true, "true", thick), (estimated, "estimated", thin)]
    return [(node, name, style) for node, name, style in pairs if node is not None]


@torch.no_grad()
def draw_response(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
    processor, controls = estimated or true
    top_hz = min(20_000.0, 0.49 * processor.sample_rate)
    hz = torch.logspace(math.log10(20.0), math.log10(top_hz), 400, dtype=torch.float64)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    reach = 12.0
    for (processor, controls), name, style in _both(true, estimated):
        response_db = _row(processor.response(controls, hz.to(next(iter(controls.values())).device)), item)
        axes.plot(hz, response_db, label=name, **style)
        reach = max(reach, 1.1 * response_db.abs().max().item())
    frequency_axis(axes, top_hz, labeled=(50, 200, 1_000, 5_000, 20_000))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -reach), max(high, reach))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10]))
    finish(axes, "frequency [Hz]", "gain [dB]")


@torch.no_grad()
def draw_compressor(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
    levels_db = torch.linspace(-60.0, 0.0, 241)
    axes.plot([-60, 0], [-60, 0], color=FAINT, linewidth=0.8, linestyle="--")
    for (processor, controls), name, style in _both(true, estimated):
        axes.plot(levels_db, _row(processor.static_response(controls, levels_db), item), label=name, **style)
    axes.set_xlim(-60, 0)
    axes.set_ylim(-60, max(3.0, axes.get_ylim()[1]))
    for line, ((_, controls), name, style) in enumerate(_both(true, estimated)):
        times = [
            f"{knob.removesuffix('_ms')} {short_number(_row(value, item).flatten()[0].item())}"
            for knob, value in controls.items()
            if knob.endswith("_ms")
        ]
        text = f"{name}: {', '.join(times)} ms" if true else f"{', '.join(times)} ms"
        axes.text(
            0.98,
            0.10 - 0.07 * line,
            text,
            transform=axes.transAxes,
            ha="right",
            fontsize=7.5,
            color=style["color"],
        )
    finish(axes, "level in [dBFS]", "level out [dBFS]")


@torch.no_grad()
def draw_transfer(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
    """Two kinds of shaper are compared at the same peak and the same way up: the loss hears neither."""
    leveled = true is not None and estimated is not None and type(true[0]) is not type(estimated[0])
    axes.plot([-1, 1], [-1, 1], color=FAINT, linewidth=0.8, linestyle="--")
    for (processor, controls), name, style in _both(true, estimated):
        batch = _batch((processor, controls))
        ramp = torch.linspace(-1.0, 1.0, 501).to(next(iter(controls.values())))
        curve = _row(processor(ramp.expand(batch, 1, -1), controls=controls), item)[0]
        if leveled:
            curve = curve / curve.abs().max().clamp_min(1e-9) * (1 if curve[-1] >= curve[0] else -1)
        axes.plot(ramp.cpu(), curve, label=name, **style)
    axes.set_xlim(-1, 1)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    finish(axes, "sample in", "sample out" + (" (peak at 1)" if leveled else ""))
