"""What a DJ did, as far as the mix tells, and how near a render of it comes."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from difffx.dj.layout import DECK_NAMES, ENTRIES, GLOBAL_PARAM_NAMES, STEM_PARAM_NAMES
from difffx.dj.mel_distance import at_rms, mel_centers_hz, mel_levels
from difffx.plots.style import ESTIMATE, INK, TRUE, blank_figure, finish, short_number

COLORS = dict(zip(DECK_NAMES, (TRUE, ESTIMATE), strict=True))
STROKES = ("-", (0, (4, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
SPAN_DB, OFF_DB = 70.0, 12.0
SHOWN_HZ = (100.0, 500.0, 2_000.0, 8_000.0)


def inversion_figure(
    curves: Tensor, times_s: Tensor, mix: Tensor, rendered: Tensor, sample_rate: int, title: str = ""
) -> Figure:
    """All curves that move, a panel for each kind of knob; below, log-mel levels of mix, render, difference.

    curves          [F, 54]
    times_s         [F]
    mix, rendered   [C, T]

    A deck whose stems move alike has one line. Levels are those of `mel_distance`.
    """
    names = _moving(curves)
    figure = blank_figure(10.0, 3.6 + 0.95 * max(len(names), 1))
    above, below = figure.subfigures(2, 1, height_ratios=[0.95 * max(len(names), 1), 3.2])
    panels = above.subplots(max(len(names), 1), 1, sharex=True, squeeze=False)[:, 0]
    for panel, name in zip(panels, names, strict=False):
        _draw_knob(panel, curves, times_s, name)
    panels[-1].set_xlabel("time [s]", fontsize=8)
    panels[0].set_title("deck A blue, deck B red", fontsize=8, loc="left", color=INK)
    _draw_levels(below, mix, rendered, sample_rate)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def _moving(curves: Tensor) -> list[str]:
    moves = (curves - curves[:1]).abs().amax(0) > 1e-3
    found = {label.split(".")[1] for label, moved in zip(ENTRIES, moves.tolist(), strict=True) if moved}
    return [name for name in (*STEM_PARAM_NAMES, *GLOBAL_PARAM_NAMES) if name in found]


def _draw_knob(axes: Axes, curves: Tensor, times_s: Tensor, name: str) -> None:
    for deck in DECK_NAMES:
        drawn: list[Tensor] = []
        for column, (label, param) in enumerate(ENTRIES.items()):
            line = curves[:, column]
            if label[0] != deck or param.name != name or any(torch.allclose(line, old) for old in drawn):
                continue
            stroke = STROKES[len(drawn) % len(STROKES)]
            axes.plot(times_s, line, color=COLORS[deck], linestyle=stroke, linewidth=1.2)
            drawn.append(line)
    finish(axes, "", name)
    axes.set_xlim(float(times_s[0]), float(times_s[-1]))


def _draw_levels(figure: SubFigure, mix: Tensor, rendered: Tensor, sample_rate: int) -> None:
    ours, theirs = (mel_levels(x, sample_rate) for x in at_rms(rendered, mix))
    panels = figure.subplots(1, 3, sharey=True)
    top, seconds = theirs.max().item(), mix.shape[-1] / sample_rate
    shared = {"origin": "lower", "aspect": "auto", "extent": (0.0, seconds, 0.0, len(ours))}
    for panel, name, picture in zip(panels, ("mix", "rendered"), (theirs, ours), strict=False):
        image = panel.imshow(picture, cmap="magma", vmin=top - SPAN_DB, vmax=top, **shared)
        panel.set_title(name, fontsize=9, loc="left")
    figure.colorbar(image, ax=list(panels[:2]), pad=0.02).set_label("level [dB]", fontsize=8)
    image = panels[2].imshow(ours - theirs, cmap="RdBu_r", vmin=-OFF_DB, vmax=OFF_DB, **shared)
    panels[2].set_title("rendered minus mix", fontsize=9, loc="left")
    figure.colorbar(image, ax=[panels[2]], pad=0.02).set_label("difference [dB]", fontsize=8)
    hz = mel_centers_hz(sample_rate)
    shown = [f for f in SHOWN_HZ if f < 0.5 * sample_rate]
    places = [(hz - f).abs().argmin().item() for f in shown]
    for column, panel in enumerate(panels):
        panel.set_yticks(places, [short_number(f) for f in shown])
        finish(panel, "time [s]", "frequency [Hz]" if column == 0 else "", grid=False)
