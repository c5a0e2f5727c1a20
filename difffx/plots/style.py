"""How every figure looks, and how knobs are written on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from difffx.params import ControlSpec, Param

TRUE, ESTIMATE, FAINT, INK = "#1b4965", "#e4572e", "#9aa5b1", "#2b2f36"
CYCLES = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


def save_figure(figure: Figure, path: Path) -> None:
    """A PNG that appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(part, format="png")
    part.replace(path)


def blank_figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=120, facecolor="white")


def finish(axes: Axes, x: str, y: str, size: float = 8, grid: bool = True) -> None:
    axes.set_xlabel(x, fontsize=size)
    axes.set_ylabel(y, fontsize=size)
    axes.tick_params(labelsize=size - 0.5, colors=INK, width=0.6, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    if grid:
        axes.grid(True, color="#e6e9ed", linewidth=0.6)
        axes.set_axisbelow(True)


def frequency_axis(axes: Axes, top_hz: float, labeled: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(20, top_hz)
    axes.xaxis.set_major_locator(FixedLocator([f for f in labeled if f <= top_hz * 1.01]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.xaxis.set_minor_locator(FixedLocator([f for f in CYCLES if f <= top_hz]))
    axes.xaxis.set_minor_formatter(NullFormatter())


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 per decade, thinned to four or fewer."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    return ticks[:: -(-len(ticks) // 4)] if ticks else [low, high]


def spec_values(spec: ControlSpec) -> list[tuple[str, Param]]:
    """A label and a knob for each of the P values."""
    params = [param for param in spec.entries.values() for _ in range(param.size)]
    return list(zip(spec.labels, params, strict=True))


def spec_groups(spec: ControlSpec) -> list[str]:
    return list(dict.fromkeys(label.rpartition(".")[0] for label in spec.labels))


def plain_name(label: str, param: Param) -> str:
    """peq.low_shelf_gain_db -> peq low shelf gain; geq.gain_db[3] -> geq gain 4."""
    node, _, knob = label.rpartition(".")
    knob, _, index = knob.rstrip("]").partition("[")
    unit = param.name.rsplit("_", 1)[-1]
    knob = knob.removesuffix(f"_{unit}") if param.unit else knob
    knob += " frequency" if param.unit == "Hz" and knob not in ("cutoff", "frequency") else ""
    number = f" {int(index) + 1}" if index else ""
    knob = "Q" if knob == "q" else f"{knob[:-2]}_Q" if knob.endswith("_q") else knob
    return f"{node} {knob}{number}".replace("_", " ").strip()


def panel_title(label: str, param: Param) -> str:
    unit = f" [{param.unit}]" if param.unit else ""
    return f"{plain_name(label, param)}{unit}"


def physical_text(param: Param, z: float) -> str:
    value = param.from_unit(torch.tensor(z, dtype=torch.float64)).item()
    if param.unit == "dB":
        value = round(value, 1) + 0.0  # no -0.0
        return f"{value:+.1f} dB" if param.low < 0 else f"{value:.1f} dB"
    if param.unit == "Hz" and value >= 1_000:
        return f"{value / 1_000:.2f} kHz"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {param.unit}".strip()


def short_number(value: float) -> str:
    """1234 -> 1.2k; 0.7071 -> 0.71."""
    if abs(value) >= 1_000:
        return f"{value / 1_000:.3g}k"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2g}"
