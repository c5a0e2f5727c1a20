"""Where the knobs stand: scatter over many items, bars for one."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from torch import Tensor

from difffx.params import ControlSpec, Param
from difffx.plots.style import (
    ESTIMATE,
    FAINT,
    INK,
    TRUE,
    blank_figure,
    finish,
    log_ticks,
    panel_title,
    physical_text,
    plain_name,
    short_number,
    spec_groups,
    spec_values,
)


def knob_scatter(spec: ControlSpec, z_true: Tensor, z_hat: Tensor) -> Figure:
    """Estimated over true, a panel a value, in physical units, with the correlation.

    z [N, P, F], F is averaged. The line is a perfect answer. A knob that was not understood shows as a flat
    band around its mean.
    """
    count = len(spec)
    if z_true.shape[:2] != z_hat.shape[:2] or z_true.shape[1] != count:
        raise ValueError(
            f"knob_scatter: expected z [N, {count}, F], got {tuple(z_true.shape)} and {tuple(z_hat.shape)}"
        )
    columns = next((n for n in (5, 6, 4) if count % n == 0), min(5, count)) if count > 5 else count
    rows = -(-count // columns)
    figure = blank_figure(2.15 * columns, 2.2 * rows + 0.2)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    true, hat = (z.detach().cpu().double().mean(2) for z in (z_true, z_hat))
    for p, (label, param) in enumerate(spec_values(spec)):
        _knob_panel(axes[p], label, param, true[:, p], hat[:, p])
    for unused in axes[count:]:
        unused.set_axis_off()
    figure.supxlabel("true", fontsize=10)
    figure.supylabel("estimated", fontsize=10)
    return figure


def _knob_panel(axes: Axes, label: str, param: Param, true: Tensor, hat: Tensor) -> None:
    axes.plot([param.low, param.high], [param.low, param.high], color=FAINT, linewidth=1.0)
    axes.scatter(
        param.from_unit(true),
        param.from_unit(hat),
        s=11,
        color=ESTIMATE,
        alpha=0.65,
        linewidths=0,
        clip_on=False,
    )
    if param.scale == "log":
        axes.set_xscale("log")
        axes.set_yscale("log")
        ticks = log_ticks(param.low, param.high)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
            axis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlim(param.low, param.high)
    axes.set_ylim(param.low, param.high)
    axes.set_box_aspect(1)
    if len(true) > 2 and true.std() > 0 and hat.std() > 0:
        r = torch.corrcoef(torch.stack([true, hat]))[0, 1].item()
        box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.0}
        axes.text(
            0.05, 0.93, f"r = {r:.2f}", transform=axes.transAxes, va="top", fontsize=8, color=INK, bbox=box
        )
    axes.set_title(panel_title(label, param), fontsize=8)
    finish(axes, "", "", size=7)


def settings_table(
    spec: ControlSpec, z_hat: Tensor, z_true: Tensor | None = None, spread: Tensor | None = None
) -> Figure:
    """Where the knobs of one item stand in their ranges, z [P, 1] or [1, P, 1], with the values beside.

    z_true   marked by a line and written behind the estimate
    spread   [P, 1], one standard deviation to both sides, as between the windows of a long file
    """
    figure = blank_figure(6.4, 0.9 + 0.235 * (len(spec) + 0.7 * len(spec_groups(spec))))
    draw_settings(figure.subplots(), spec, z_hat, z_true, spread)
    return figure


def draw_settings(
    axes: Axes, spec: ControlSpec, z_hat: Tensor, z_true: Tensor | None, spread: Tensor | None
) -> None:
    hat, true, width = (
        None if z is None else z.detach().cpu().double().reshape(len(spec), -1).mean(1).tolist()
        for z in (z_hat, z_true, spread)
    )
    places, names, place, before = [], [], 0.0, None
    for p, (label, param) in enumerate(spec_values(spec)):
        node = label.rpartition(".")[0]
        place += 0.7 if before not in (None, node) else 0.0
        before = node
        axes.barh(place, 1.0, height=0.72, color="#eef1f4", zorder=1)
        axes.barh(place, hat[p], height=0.72, color=ESTIMATE, alpha=0.8, zorder=2)
        if width is not None:
            low, high = max(0.0, hat[p] - width[p]), min(1.0, hat[p] + width[p])
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2, zorder=3)
        text = physical_text(param, hat[p])
        if true is not None:
            axes.plot([true[p]] * 2, [place - 0.42, place + 0.42], color=TRUE, linewidth=2.5, zorder=4)
            text = f"{text}  ({physical_text(param, true[p])})"
        axes.text(1.02, place, text, va="center", fontsize=8, color=INK)
        places.append(place)
        names.append(plain_name(label, param))
        place += 1.0
    axes.set_yticks(places, names)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["low", "middle", "high"])
    title = "estimated (true)" if true is not None else "estimated settings"
    axes.set_title(title, fontsize=9, loc="left")
    finish(axes, "", "", grid=False)
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
