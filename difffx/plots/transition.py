"""What the hands do on the mixer while one song hands over to another, and how loud it is."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from torch import Tensor

from difffx.dj.config import MixerConfig
from difffx.dj.handover import HandOver
from difffx.dj.layout import DECK_NAMES, ENTRIES, GLOBAL_PARAM_NAMES, STEM_PARAM_NAMES, index_of
from difffx.dj.loudness import loudness_curve
from difffx.dj.transitions import BEATS_PER_BAR
from difffx.plots.style import ESTIMATE, INK, TRUE, blank_figure, finish, short_number

COLORS = {"a": TRUE, "b": ESTIMATE}
STROKES = ("-", (0, (4, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
BAR_LINE, BEAT_LINE = "#b8c0ca", "#e9ecf0"
AROUND = 0.12  # of the transition, shown on both sides
QUIETEST_LUFS = -60.0
HEARD_HZ = (20.0, 100.0, 500.0, 2_000.0, 10_000.0)
MOST_BARS = 32
SWEEPS = {"lpf": ("lpf_min", "lpf_max"), "hpf": ("hpf_min", "hpf_max")}


def transition_figure(handed: HandOver, title: str = "", config: MixerConfig | None = None) -> Figure:
    """All curves that move, a panel for each kind of knob, over bars and beats; below, how loud it is.

    A deck whose stems move alike has one line. Loudness is short-term (3 s), in LUFS, of A and B as they come
    out of the mixer and of the mix. `config` tells what filters mean in Hz; None: the usual one.
    """
    config = config or MixerConfig()
    names = moving(handed.curves)
    rows = len(names) + 1
    figure = blank_figure(10.0, 0.8 + 1.15 * len(names) + 2.2)
    axes = figure.subplots(rows, 1, sharex=True, height_ratios=[1.15] * len(names) + [2.0], squeeze=False)
    *panels, loudness = axes[:, 0]
    for panel, name in zip(panels, names, strict=True):
        _draw_knob(panel, handed, name, config)
    _draw_loudness(loudness, handed)
    reach = AROUND * handed.meeting.seconds
    shown = handed.times_s[0].item() - reach, handed.times_s[-1].item() + reach
    for panel in axes[:, 0]:
        _draw_grid(panel, handed, *shown)
        panel.grid(False, axis="x")
    loudness.set_xlim(*shown)
    _number_bars(axes[0, 0], handed)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left", color=INK)
    return figure


def moving(curves: Tensor) -> list[str]:
    """The kinds of knob of [F, 54] that do not stand still, in the order of the mixer."""
    moves = (curves - curves[:1]).abs().amax(0) > 1e-6
    found = {label.split(".")[1] for label, moved in zip(ENTRIES, moves.tolist(), strict=True) if moved}
    return [name for name in (*STEM_PARAM_NAMES, *GLOBAL_PARAM_NAMES) if name in found]


def lines(handed: HandOver, deck: str, name: str) -> dict[str, Tensor]:
    """A deck's curves [F] of one kind of knob by what they are called; stems that move alike are one."""
    if name in GLOBAL_PARAM_NAMES:
        return {deck.upper(): handed.curves[:, index_of(deck, "sends", name)]}
    stems = list(handed.meeting.deck_a if deck == "a" else handed.meeting.deck_b)
    alike: list[tuple[Tensor, list[str]]] = []
    for stem in stems:
        curve = handed.curves[:, index_of(deck, stem, name)]
        same = next((group for known, group in alike if torch.equal(known, curve)), None)
        if same is None:
            alike.append((curve, [stem]))
        else:
            same.append(stem)
    if len(alike) == 1:
        return {deck.upper(): alike[0][0]}
    return {f"{deck.upper()} {', '.join(group)}": curve for curve, group in alike}


def _draw_knob(axes: Axes, handed: HandOver, name: str, config: MixerConfig) -> None:
    times = handed.times_s
    for deck in DECK_NAMES:
        for (label, curve), stroke in zip(lines(handed, deck, name).items(), STROKES, strict=False):
            if name in SWEEPS:
                low, high = (getattr(config, edge) for edge in SWEEPS[name])
                curve = low * (high / low) ** curve
            axes.plot(times, curve, color=COLORS[deck], linestyle=stroke, linewidth=1.6, label=label)
    if name in SWEEPS:
        axes.set_yscale("log")
        axes.set_ylim(16.0, 25_000.0)
        axes.yaxis.set_major_locator(FixedLocator(HEARD_HZ))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        param = next(param for label, param in ENTRIES.items() if label.endswith(f".{name}"))
        margin = 0.06 * (param.high - param.low)
        top = param.high if handed.curves[:, _columns(name)].max() > param.default + 1e-6 else 1.0
        axes.set_ylim(param.low - margin, top + margin)
    finish(axes, "", f"{name.replace('_', ' ')}{' [Hz]' if name in SWEEPS else ''}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)


def _columns(name: str) -> list[int]:
    return [place for place, label in enumerate(ENTRIES) if label.endswith(f".{name}")]


def _draw_loudness(axes: Axes, handed: HandOver) -> None:
    rate, meeting = handed.meeting.sample_rate, handed.meeting
    reach = round(AROUND * (meeting.last - meeting.first) + 1.5 * rate)
    first, last = max(meeting.first - reach, 0), min(meeting.last + reach, meeting.samples)
    sounds = {
        "A": (handed.heard("a", first, last), TRUE, 1.4),
        "B": (handed.heard("b", first, last), ESTIMATE, 1.4),
        "mix": (handed.mix[:, first:last], INK, 2.0),
    }
    highest = QUIETEST_LUFS
    for name, (sound, color, width) in sounds.items():
        times_s, lufs = loudness_curve(sound, rate)
        highest = max(highest, lufs.max().item())
        lufs = lufs.masked_fill(lufs < QUIETEST_LUFS, torch.nan)
        axes.plot(times_s + first / rate, lufs, color=color, linewidth=width, label=name)
    axes.set_ylim(highest - 30.0, highest + 3.0)
    finish(axes, "s of the mix", "short-term loudness [LUFS]")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=7)


def _draw_grid(axes: Axes, handed: HandOver, first_s: float, last_s: float) -> None:
    """Bars, and beats while there is room for them, before and after the transition too."""
    meeting, times_s = handed.meeting, handed.times_s
    beat_s = meeting.seconds / (meeting.bars * BEATS_PER_BAR)
    for place in range(-meeting.bars * BEATS_PER_BAR, 2 * meeting.bars * BEATS_PER_BAR + 1):
        time_s, bar = times_s[0].item() + place * beat_s, place % BEATS_PER_BAR == 0
        if first_s <= time_s <= last_s and (bar or meeting.bars <= MOST_BARS):
            color, width = (BAR_LINE, 0.8) if bar else (BEAT_LINE, 0.6)
            axes.axvline(time_s, color=color, linewidth=width, zorder=0)


def _number_bars(axes: Axes, handed: HandOver) -> None:
    bars = handed.meeting.bars
    starts = torch.linspace(handed.times_s[0], handed.times_s[-1], bars + 1)[:-1].tolist()
    for number, time_s in list(enumerate(starts, 1))[:: -(-bars // MOST_BARS)]:
        place = {"xy": (time_s, 1.02), "xycoords": ("data", "axes fraction")}
        axes.annotate(str(number), **place, ha="center", fontsize=7, color=INK)
