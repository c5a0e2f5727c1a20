"""One page about one sound."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

from difffx.graph import ProcessorGraph
from difffx.plots.curves import draw_compressor, draw_response, draw_transfer, node_settings, seen
from difffx.plots.knobs import draw_settings
from difffx.plots.spectra import draw_spectrograms
from difffx.plots.style import (
    INK,
    spec_groups,
)


def report(
    graph: ProcessorGraph,
    z: Tensor,
    signals: Mapping[str, Tensor],
    sample_rate: int,
    title: str = "",
    distances: Mapping[str, Mapping[str, float]] | None = None,
    spread: Tensor | None = None,
) -> Figure:
    """One page on one file: the settings, what they do, the sound, and how near it comes.

    graph, z    the estimate, z [1, P, 1]
    signals     what to show as spectrograms, [C, T] by name
    distances   {"before": {metric: value}, "after": {metric: value}}
    """
    nodes = node_settings(graph, z)
    panels = [
        (path, draw, seen(node, trait))
        for path, node in nodes.items()
        for trait, draw in (
            ("response", draw_response),
            ("static_response", draw_compressor),
            ("transfer", draw_transfer),
        )
        if seen(node, trait)
    ]
    rows = max(1, len(panels))
    upper = max(1.0 + 0.235 * (len(graph.spec) + 0.7 * len(spec_groups(graph.spec))), 3.0 * rows)
    figure = Figure(figsize=(11.0, upper + 3.4), layout="constrained", dpi=120, facecolor="white")
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=INK)
    above, below = figure.subfigures(2, 1, height_ratios=[upper, 3.2])
    left, right = above.subfigures(1, 2, width_ratios=[1.15, 1.0]) if panels else (above, None)
    draw_settings(left.subplots(), graph.spec, z, None, spread)
    if panels:
        stack = right.subplots(rows, 1, squeeze=False)[:, 0]
        for axes, (path, draw, node) in zip(stack, panels, strict=True):
            draw(axes, None, node, 0)
            axes.set_title(path, fontsize=9, loc="left")
    draw_spectrograms(below, signals, sample_rate, difference=True)
    if distances:
        before, after = distances["before"], distances["after"]
        parts = [f"{name} {before[name]:.3g} \N{RIGHTWARDS ARROW} {after[name]:.3g}" for name in after]
        text = f"distance to wet, dry \N{RIGHTWARDS ARROW} matched:  {',   '.join(parts)}"
        below.suptitle(text, fontsize=8.5, x=0.01, ha="left", color=INK)
    return figure
