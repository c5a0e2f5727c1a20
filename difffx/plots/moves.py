"""A DJ's moves over time: true beside estimated."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from difffx.dj.layout import DECK_NAMES, ENTRIES, GLOBAL_PARAM_NAMES, LABELS, STEM_NAMES, STEM_PARAM_NAMES
from difffx.plots.style import blank_figure, finish

COLORS = ("#222222", "#b2182b", "#e08214", "#1b7837", "#2166ac", "#762a83")


@torch.no_grad()
def moves(found: Tensor, true: Tensor | None, seconds: float) -> Figure:
    """All 54 curves of a transition, [F, 54]: a row a deck, a column a stem, the sends last.

    True ones are broad and pale, estimated ones thin; each in its own range, 0..1 from bottom to top.
    """
    places = (*STEM_NAMES, "sends")
    figure = blank_figure(3.0 * len(places), 5.4)
    axes = figure.subplots(len(DECK_NAMES), len(places), sharex=True, sharey=True)
    times = torch.linspace(0.0, seconds, len(found))
    for row, deck in enumerate(DECK_NAMES):
        for column, place in enumerate(places):
            names = GLOBAL_PARAM_NAMES if place == "sends" else STEM_PARAM_NAMES
            for name, color in zip(names, COLORS, strict=False):
                number = LABELS.index(f"{deck}_{place}.{name}")
                high = ENTRIES[LABELS[number]].high
                if true is not None:
                    curve = true[:, number].cpu() / high
                    axes[row, column].plot(times, curve, color=color, linewidth=4.0, alpha=0.25)
                curve = found[:, number].cpu() / high
                axes[row, column].plot(times, curve, color=color, linewidth=1.3, label=name)
            axes[row, column].set_ylim(-0.03, 1.03)
            axes[row, column].set_title(f"{deck} {place}", fontsize=9, loc="left")
            finish(axes[row, column], "time [s]" if row else "", "" if column else "share of range")
    for column, place in ((0, "outside lower left"), (-1, "outside lower right")):
        handles, labels = axes[0, column].get_legend_handles_labels()
        figure.legend(handles, labels, loc=place, ncols=len(labels), frameon=False, fontsize=8)
    return figure
