"""Tensors in, matplotlib figures out: no trainer, no logger, no global state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator
from torch import Tensor

from difffx.graph import ProcessorGraph
from difffx.params import Controls, ControlSpec, Param
from difffx.processors import ChebyshevShaper, ParametricClipper, Processor, TaylorShaper

TRUE, ESTIMATE, FAINT, INK = "#1b4965", "#e4572e", "#9aa5b1", "#2b2f36"
CYCLES = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
FLOOR_DB = 80.0  # spectrograms span so much below their loudest point

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
    return _grid(estimated, true, items, "response", _draw_response, (3.6, 2.7))


def compressor_curves(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> Figure | None:
    """Level out over level in of each compressor, its times written beside. None without compressors."""
    return _grid(estimated, true, items, "static_response", _draw_compressor, (3.3, 3.2))


def transfer_curves(
    estimated: Mapping[str, Node], true: Mapping[str, Node] | None = None, items: int = 4
) -> Figure | None:
    """Sample out over sample in of each waveshaper. None without waveshapers."""
    return _grid(estimated, true, items, "transfer", _draw_transfer, (3.2, 3.1))


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
        if _seen(true.get(path), trait) or _seen(estimated.get(path), trait)
    ]
    if not paths:
        return None
    columns = max(1, min(items, max(_batch(node) for node in [*estimated.values(), *true.values()])))
    figure = _figure(size[0] * columns, size[1] * len(paths) + 0.4)
    axes = figure.subplots(len(paths), columns, squeeze=False, sharex="row", sharey="row")
    for row, path in enumerate(paths):
        for item in range(columns):
            draw(axes[row, item], _seen(true.get(path), trait), _seen(estimated.get(path), trait), item)
            axes[row, item].set_title(f"{path}, item {item}" if columns > 1 else path, fontsize=9, loc="left")
            if item:
                axes[row, item].set_ylabel("")
    if true:
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2, frameon=False, fontsize=9)
    return figure


def _seen(node: Node | None, trait: str) -> Node | None:
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
def _draw_response(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
    processor, controls = estimated or true
    top_hz = min(20_000.0, 0.49 * processor.sample_rate)
    hz = torch.logspace(math.log10(20.0), math.log10(top_hz), 400, dtype=torch.float64)
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    reach = 12.0
    for (processor, controls), name, style in _both(true, estimated):
        response_db = _row(processor.response(controls, hz.to(next(iter(controls.values())).device)), item)
        axes.plot(hz, response_db, label=name, **style)
        reach = max(reach, 1.1 * response_db.abs().max().item())
    _frequency_axis(axes, top_hz, labeled=(50, 200, 1_000, 5_000, 20_000))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -reach), max(high, reach))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 3, 6, 10]))
    _finish(axes, "frequency [Hz]", "gain [dB]")


@torch.no_grad()
def _draw_compressor(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
    levels_db = torch.linspace(-60.0, 0.0, 241)
    axes.plot([-60, 0], [-60, 0], color=FAINT, linewidth=0.8, linestyle="--")
    for (processor, controls), name, style in _both(true, estimated):
        axes.plot(levels_db, _row(processor.static_response(controls, levels_db), item), label=name, **style)
    axes.set_xlim(-60, 0)
    axes.set_ylim(-60, max(3.0, axes.get_ylim()[1]))
    for line, ((_, controls), name, style) in enumerate(_both(true, estimated)):
        times = [
            f"{knob.removesuffix('_ms')} {_short(_row(value, item).flatten()[0].item())}"
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
    _finish(axes, "level in [dBFS]", "level out [dBFS]")


@torch.no_grad()
def _draw_transfer(axes: Axes, true: Node | None, estimated: Node | None, item: int) -> None:
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
    _finish(axes, "sample in", "sample out" + (" (peak at 1)" if leveled else ""))


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
    figure = _figure(2.15 * columns, 2.2 * rows + 0.2)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    true, hat = (z.detach().cpu().double().mean(2) for z in (z_true, z_hat))
    for p, (label, param) in enumerate(_values(spec)):
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
        ticks = _log_ticks(param.low, param.high)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator(ticks))
            axis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
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
    axes.set_title(_title(label, param), fontsize=8)
    _finish(axes, "", "", size=7)


def spectrograms(signals: Mapping[str, Tensor], sample_rate: int, difference: bool = True) -> Figure:
    """The signals [C, T] by name, each at the same RMS, on one scale of levels.

    With difference, and three signals or more, a further panel, the last minus the one before it: where the
    estimate is louder (red) or softer (blue) than the truth.
    """
    panels = len(signals) + (difference and len(signals) > 2)
    figure = _figure(3.5 * panels, 2.9)
    _draw_spectrograms(figure, signals, sample_rate, difference)
    return figure


def _draw_spectrograms(
    figure: Figure | SubFigure, signals: Mapping[str, Tensor], sample_rate: int, difference: bool
) -> None:
    difference = difference and len(signals) > 2
    columns = len(signals) + difference
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    hz = torch.logspace(math.log10(30.0), math.log10(0.49 * sample_rate), 200)
    names = list(signals)
    length = min(signal.shape[-1] for signal in signals.values())
    pictures = {
        name: _log_spectrogram(signal[..., :length], sample_rate, hz) for name, signal in signals.items()
    }
    top = max(picture.max().item() for picture in pictures.values())
    extent = (0.0, length / sample_rate, 0.0, 1.0)
    shared = {"origin": "lower", "aspect": "auto", "extent": extent, "interpolation": "bilinear"}
    for ax, name in zip(axes, names, strict=False):
        image = ax.imshow(pictures[name].numpy(), cmap="magma", vmin=top - FLOOR_DB, vmax=top, **shared)
        ax.set_title(name, fontsize=9, loc="left")
    _colorbar(figure, image, axes[: len(names)], "level [dB]")
    if difference:
        estimate, truth = pictures[names[-1]], pictures[names[-2]]
        heard = torch.maximum(estimate, truth) > top - FLOOR_DB + 10
        image = axes[-1].imshow(
            torch.where(heard, estimate - truth, 0.0).numpy(), cmap="RdBu_r", vmin=-12, vmax=12, **shared
        )
        axes[-1].set_title(f"{names[-1]} minus {names[-2]}", fontsize=9, loc="left")
        _colorbar(figure, image, [axes[-1]], "difference [dB]")
    ticks = [f for f in (50, 200, 1_000, 5_000, 20_000) if hz[0] < f < hz[-1]]
    for column, ax in enumerate(axes):
        places = [math.log(f / hz[0]) / math.log(hz[-1] / hz[0]) for f in ticks]
        ax.set_yticks(places, [_short(f) for f in ticks])
        _finish(ax, "time [s]", "frequency [Hz]" if column == 0 else "", grid=False)


def _colorbar(figure: Figure | SubFigure, image: object, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), pad=0.02, aspect=30)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def _log_spectrogram(signal: Tensor, sample_rate: int, hz: Tensor) -> Tensor:
    """[C, T] -> level in dB, at an RMS of 1, at the frequencies hz [N] and some 600 moments, [N, M]."""
    mono = signal.detach().cpu().float().mean(0)
    mono = mono / mono.square().mean().sqrt().clamp_min(1e-9)
    size = 4096 if len(mono) >= 4096 else max(16, len(mono) // 2 * 2)
    hop = max(size // 8, len(mono) // 600)
    window = torch.hann_window(size)
    power = torch.stft(mono, size, hop, window=window, return_complex=True, pad_mode="constant")
    power = power.abs().square() / window.sum().square()
    place = hz / sample_rate * size
    below = place.floor().long().clamp(0, power.shape[0] - 2)
    part = (place - below)[:, None].clamp(0, 1)
    return 10 * torch.log10((1 - part) * power[below] + part * power[below + 1] + 1e-12)


def settings_table(
    spec: ControlSpec, z_hat: Tensor, z_true: Tensor | None = None, spread: Tensor | None = None
) -> Figure:
    """Where the knobs of one item stand in their ranges, z [P, 1] or [1, P, 1], with the values beside.

    z_true   marked by a line and written behind the estimate
    spread   [P, 1], one standard deviation to both sides, as between the windows of a long file
    """
    figure = _figure(6.4, 0.9 + 0.235 * (len(spec) + 0.7 * len(_groups(spec))))
    _draw_settings(figure.subplots(), spec, z_hat, z_true, spread)
    return figure


def _draw_settings(
    axes: Axes, spec: ControlSpec, z_hat: Tensor, z_true: Tensor | None, spread: Tensor | None
) -> None:
    hat, true, width = (
        None if z is None else z.detach().cpu().double().reshape(len(spec), -1).mean(1).tolist()
        for z in (z_hat, z_true, spread)
    )
    places, names, place, before = [], [], 0.0, None
    for p, (label, param) in enumerate(_values(spec)):
        node = label.rpartition(".")[0]
        place += 0.7 if before not in (None, node) else 0.0
        before = node
        axes.barh(place, 1.0, height=0.72, color="#eef1f4", zorder=1)
        axes.barh(place, hat[p], height=0.72, color=ESTIMATE, alpha=0.8, zorder=2)
        if width is not None:
            low, high = max(0.0, hat[p] - width[p]), min(1.0, hat[p] + width[p])
            axes.plot([low, high], [place, place], color=INK, linewidth=1.2, zorder=3)
        text = _physical(param, hat[p])
        if true is not None:
            axes.plot([true[p]] * 2, [place - 0.42, place + 0.42], color=TRUE, linewidth=2.5, zorder=4)
            text = f"{text}  ({_physical(param, true[p])})"
        axes.text(1.02, place, text, va="center", fontsize=8, color=INK)
        places.append(place)
        names.append(_plain_name(label, param))
        place += 1.0
    axes.set_yticks(places, names)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["low", "middle", "high"])
    title = "estimated (true)" if true is not None else "estimated settings"
    axes.set_title(title, fontsize=9, loc="left")
    _finish(axes, "", "", grid=False)
    axes.tick_params(axis="y", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


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
        (path, draw, _seen(node, trait))
        for path, node in nodes.items()
        for trait, draw in (
            ("response", _draw_response),
            ("static_response", _draw_compressor),
            ("transfer", _draw_transfer),
        )
        if _seen(node, trait)
    ]
    rows = max(1, len(panels))
    upper = max(1.0 + 0.235 * (len(graph.spec) + 0.7 * len(_groups(graph.spec))), 3.0 * rows)
    figure = Figure(figsize=(11.0, upper + 3.4), layout="constrained", dpi=120, facecolor="white")
    figure.suptitle(title, fontsize=12, x=0.01, ha="left", color=INK)
    above, below = figure.subfigures(2, 1, height_ratios=[upper, 3.2])
    left, right = above.subfigures(1, 2, width_ratios=[1.15, 1.0]) if panels else (above, None)
    _draw_settings(left.subplots(), graph.spec, z, None, spread)
    if panels:
        stack = right.subplots(rows, 1, squeeze=False)[:, 0]
        for axes, (path, draw, node) in zip(stack, panels, strict=True):
            draw(axes, None, node, 0)
            axes.set_title(path, fontsize=9, loc="left")
    _draw_spectrograms(below, signals, sample_rate, difference=True)
    if distances:
        before, after = distances["before"], distances["after"]
        parts = [f"{name} {before[name]:.3g} \N{RIGHTWARDS ARROW} {after[name]:.3g}" for name in after]
        text = f"distance to wet, dry \N{RIGHTWARDS ARROW} matched:  {',   '.join(parts)}"
        below.suptitle(text, fontsize=8.5, x=0.01, ha="left", color=INK)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """A PNG that appears under its name only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.partial.png")
    figure.savefig(part, format="png")
    part.replace(path)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", dpi=120, facecolor="white")


def _finish(axes: Axes, x: str, y: str, size: float = 8, grid: bool = True) -> None:
    axes.set_xlabel(x, fontsize=size)
    axes.set_ylabel(y, fontsize=size)
    axes.tick_params(labelsize=size - 0.5, colors=INK, width=0.6, length=3)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
    if grid:
        axes.grid(True, color="#e6e9ed", linewidth=0.6)
        axes.set_axisbelow(True)


def _frequency_axis(axes: Axes, top_hz: float, labeled: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xlim(20, top_hz)
    axes.xaxis.set_major_locator(FixedLocator([f for f in labeled if f <= top_hz * 1.01]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_locator(FixedLocator([f for f in CYCLES if f <= top_hz]))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 per decade, thinned to four or fewer."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [m * 10.0**d for d in decades for m in (1, 2, 5) if low <= m * 10.0**d <= high]
    return ticks[:: -(-len(ticks) // 4)] if ticks else [low, high]


def _values(spec: ControlSpec) -> list[tuple[str, Param]]:
    """A label and a knob for each of the P values."""
    params = [param for param in spec.entries.values() for _ in range(param.size)]
    return list(zip(spec.labels, params, strict=True))


def _groups(spec: ControlSpec) -> list[str]:
    return list(dict.fromkeys(label.rpartition(".")[0] for label in spec.labels))


def _plain_name(label: str, param: Param) -> str:
    """peq.low_shelf_gain_db -> peq low shelf gain; geq.gain_db[3] -> geq gain 4."""
    node, _, knob = label.rpartition(".")
    knob, _, index = knob.rstrip("]").partition("[")
    unit = param.name.rsplit("_", 1)[-1]
    knob = knob.removesuffix(f"_{unit}") if param.unit else knob
    knob += " frequency" if param.unit == "Hz" and knob not in ("cutoff", "frequency") else ""
    number = f" {int(index) + 1}" if index else ""
    knob = "Q" if knob == "q" else f"{knob[:-2]}_Q" if knob.endswith("_q") else knob
    return f"{node} {knob}{number}".replace("_", " ").strip()


def _title(label: str, param: Param) -> str:
    unit = f" [{param.unit}]" if param.unit else ""
    return f"{_plain_name(label, param)}{unit}"


def _physical(param: Param, z: float) -> str:
    value = param.from_unit(torch.tensor(z, dtype=torch.float64)).item()
    if param.unit == "dB":
        value = round(value, 1) + 0.0  # no -0.0
        return f"{value:+.1f} dB" if param.low < 0 else f"{value:.1f} dB"
    if param.unit == "Hz" and value >= 1_000:
        return f"{value / 1_000:.2f} kHz"
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f} {param.unit}".strip()


def _short(value: float) -> str:
    """1234 -> 1.2k; 0.7071 -> 0.71."""
    if abs(value) >= 1_000:
        return f"{value / 1_000:.3g}k"
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2g}"
