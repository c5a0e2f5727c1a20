"""One page about one effect, measured from what it does to test sounds: true for any effect."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from difffx.params import Controls
from difffx.plots.spectra import draw_spectrograms
from difffx.plots.style import (
    ESTIMATE,
    FAINT,
    INK,
    TRUE,
    finish,
    frequency_axis,
    physical_text,
    plain_name,
    spec_values,
)
from difffx.processors import Processor

COLORS = (TRUE, ESTIMATE, "#2a9d8f", "#8d6a9f")
FLOOR_DB = -100.0
CLICK_AT_S, CLICK_DB, SECONDS_AFTER = 0.05, -6.0, 2.5
SWEEP_S, SWEEP_DB = 3.0, -12.0
TONE_HZ, TONE_S = 1_000.0, 1.0
BURST_DB, BURST_S = (-36.0, -6.0), (0.1, 0.3, 0.7)  # soft and loud; when it rises, falls, ends
LEVELS_DB = (-60.0, 6.0, 3.0)  # from, to, step
MOST_ROWS = 34  # of the table of settings


@torch.no_grad()
def processor_page(processor: Processor, settings: Mapping[str, Tensor], title: str = "") -> Figure:
    """What the effect does at some settings, z [1, P, 1] by name, four at most.

    The knobs; the spectrum of what a click leaves behind; the level of a tone out over its level in; what
    follows a click over time; how the level of a tone that jumps up and down is followed; and the spectrogram
    of a sweep. Other inputs than the first hear silence, but
    a `key`, which hears the first.
    """
    figure = Figure(figsize=(15.0, 8.4), layout="constrained", dpi=110, facecolor="white")
    figure.suptitle(title or type(processor).__name__, fontsize=13, x=0.01, ha="left", color=INK)
    above, below = figure.subfigures(2, 1, height_ratios=[5.0, 3.2])
    grid = above.add_gridspec(2, 4, width_ratios=[1.25, 1.3, 1.0, 1.1])
    table, response, levels = (above.add_subplot(grid[:, column]) for column in range(3))
    impulse, burst = (above.add_subplot(grid[row, 3]) for row in range(2))
    controls = {name: processor.from_unit(z) for name, z in settings.items()}
    draw_table(table, processor, settings)
    draw_click_response(response, processor, controls)
    draw_levels(levels, processor, controls)
    draw_click(impulse, processor, controls)
    draw_burst(burst, processor, controls)
    x = sweep(processor.sample_rate)
    heard = {"sweep": x[0], **{name: play(processor, x, knobs)[0] for name, knobs in controls.items()}}
    draw_spectrograms(below, heard, processor.sample_rate, difference=False)
    return figure


def play(processor: Processor, x: Tensor, controls: Controls, others: Tensor | None = None) -> Tensor:
    """x [B, C, T] into the first input; `others`, or silence, into the rest, the same x into a sidechain."""
    names = ("audio", "other") if processor.variadic else processor.inputs
    rest = torch.zeros_like(x) if others is None else others
    batch = {knob: value.expand(x.shape[0], -1, -1) for knob, value in controls.items()}
    return processor(
        *(x if i == 0 or name == "key" else rest for i, name in enumerate(names)), controls=batch
    )


def draw_table(axes: Axes, processor: Processor, settings: Mapping[str, Tensor]) -> None:
    """A line a knob, a column a setting."""
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    values = spec_values(processor.spec)
    shown, columns = values[:MOST_ROWS], len(settings)
    rows = max(len(shown) + 2 + (len(values) > len(shown)), 14)
    axes.set_ylim(rows, -1)
    for column, (name, z) in enumerate(settings.items()):
        place = 0.36 + 0.64 * (column + 1) / columns
        axes.text(place, 0, name, ha="right", fontsize=8, color=COLORS[column], weight="bold")
        for p, (_, param) in enumerate(shown):
            text = physical_text(param, z.flatten()[p].item())
            axes.text(place, p + 1, text, ha="right", va="center", fontsize=7.5, color=INK)
    for p, (label, param) in enumerate(shown):
        axes.text(0.0, p + 1, plain_name(label, param), va="center", fontsize=7.5, color=INK)
    if len(values) > len(shown):
        axes.text(0.0, len(shown) + 1, f"and {len(values) - len(shown)} more", va="center", fontsize=7.5)
    if not values:
        axes.text(0.0, 1, "no knobs", va="center", fontsize=8, color=INK)


def draw_click_response(axes: Axes, processor: Processor, controls: Mapping[str, Controls]) -> None:
    """Magnitude of what a click becomes, over that of the click, the loudest channel."""
    rate = processor.sample_rate
    top_hz = min(20_000.0, 0.49 * rate)
    hz = torch.logspace(math.log10(20.0), math.log10(top_hz), 500)
    reach = 12.0
    for color, (name, knobs) in zip(COLORS, controls.items(), strict=False):
        tail = _after_click(processor, knobs)
        spectrum = torch.fft.rfft(tail, dim=-1).abs().amax(0)
        bins = (hz * (tail.shape[-1] / rate)).round().long().clamp(max=len(spectrum) - 1)
        response_db = 20.0 * torch.log10(spectrum[bins].clamp(min=1e-6))
        reach = max(reach, 1.1 * response_db.max().item())
        axes.plot(hz, response_db, color=color, label=name, linewidth=1.4, alpha=0.85)
    frequency_axis(axes, top_hz, labeled=(50, 200, 1_000, 5_000, 20_000))
    axes.axhline(0.0, color=FAINT, linewidth=0.8)
    axes.set_ylim(max(-60.0, min(axes.get_ylim()[0], -reach)), reach)
    axes.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 3, 6, 10]))
    axes.set_title("response, by a click of -6 dBFS", fontsize=9, loc="left")
    finish(axes, "frequency [Hz]", "gain [dB]")


def draw_levels(axes: Axes, processor: Processor, controls: Mapping[str, Controls]) -> None:
    """RMS of a steady tone out over in, once everything has settled."""
    rate, (low, high, step) = processor.sample_rate, LEVELS_DB
    levels_db = torch.arange(low, high + step / 2, step)
    seconds = torch.arange(int(TONE_S * rate)) / rate
    tone = torch.sin(2 * math.pi * TONE_HZ * seconds)
    x = 10.0 ** (levels_db / 20.0).reshape(-1, 1, 1) * tone
    axes.plot([low, high], [low, high], color=FAINT, linewidth=0.8, linestyle="--")
    for color, (name, knobs) in zip(COLORS, controls.items(), strict=False):
        late = play(processor, x, knobs)[..., rate // 2 :]
        out_db = 10.0 * torch.log10(2.0 * late.square().mean(-1).amax(1).clamp(min=1e-12))
        axes.plot(levels_db, out_db.clamp(min=FLOOR_DB), color=color, label=name, linewidth=1.6)
    axes.set_xlim(low, high)
    axes.set_ylim(low - 20.0, max(high, axes.get_ylim()[1]))
    axes.set_title("static curve, 1 kHz", fontsize=9, loc="left")
    finish(axes, "level in [dBFS]", "level out [dBFS]")


def draw_click(axes: Axes, processor: Processor, controls: Mapping[str, Controls]) -> None:
    """Level over time of what follows a click, the loudest channel, until all of it is 90 dB down."""
    rate, longest = processor.sample_rate, 0.005
    for color, (name, knobs) in zip(COLORS, controls.items(), strict=False):
        size = _after_click(processor, knobs).abs().amax(0)
        alive = (size > max(size.max().item(), 1e-6) * 10.0 ** (-90.0 / 20.0)).nonzero().flatten()
        longest = max(longest, 1.1 * (alive[-1].item() / rate if len(alive) else 0.0))
        level_db = 20.0 * torch.log10(size.clamp(min=10.0 ** (FLOOR_DB / 20.0)))
        milliseconds = 1e3 * torch.arange(len(size)) / rate
        count = min(len(size), int(longest * rate) + 2)
        axes.plot(milliseconds[:count], level_db[:count], color=color, label=name, linewidth=0.8, alpha=0.8)
    axes.set_xlim(-0.02e3 * longest, 1e3 * longest)
    axes.set_ylim(FLOOR_DB, max(6.0, axes.get_ylim()[1]))
    axes.set_title("impulse response", fontsize=9, loc="left")
    finish(axes, "time after the click [ms]", "level [dB]")


def draw_burst(axes: Axes, processor: Processor, controls: Mapping[str, Controls]) -> None:
    """Level over time of a tone that jumps from soft to loud and back: attack, release, tails, tremolo."""
    rate, (soft_db, loud_db), (rises_s, falls_s, ends_s) = processor.sample_rate, BURST_DB, BURST_S
    seconds = torch.arange(int(ends_s * rate)) / rate
    loud = (seconds >= rises_s) & (seconds < falls_s)
    level_db = torch.where(loud, loud_db, soft_db)
    x = 10.0 ** (level_db / 20.0) * torch.sin(2 * math.pi * TONE_HZ * seconds)
    period = round(rate / TONE_HZ)
    for color, (name, knobs) in zip((FAINT, *COLORS), ({"in": None} | dict(controls)).items(), strict=False):
        y = x.view(1, 1, -1) if knobs is None else play(processor, x.view(1, 1, -1), knobs)
        power = y[0].square().unfold(-1, period, period).mean(-1).amax(0)
        out_db = 10.0 * torch.log10(2.0 * power.clamp(min=1e-12))
        time_ms = 1e3 * (torch.arange(len(out_db)) + 0.5) * period / rate
        axes.plot(time_ms, out_db.clamp(min=FLOOR_DB), color=color, label=name, linewidth=1.0)
    axes.set_ylim(max(FLOOR_DB, soft_db - 30.0, axes.get_ylim()[0]), axes.get_ylim()[1])
    axes.set_title("a tone of 1 kHz that jumps", fontsize=9, loc="left")
    finish(axes, "time [ms]", "level [dBFS]")


def sweep(sample_rate: int) -> Tensor:
    """20 Hz to 20 kHz, or as high as the rate goes, in equal time for each octave: [1, 1, T]."""
    seconds = torch.arange(int(SWEEP_S * sample_rate), dtype=torch.float64) / sample_rate
    octaves = math.log(min(20_000.0, 0.49 * sample_rate) / 20.0)
    phase = 2 * math.pi * 20.0 * SWEEP_S / octaves * torch.expm1(seconds * (octaves / SWEEP_S))
    return (10.0 ** (SWEEP_DB / 20.0) * torch.sin(phase)).float().reshape(1, 1, -1)


def _after_click(processor: Processor, controls: Controls) -> Tensor:
    """[C, T] from the click on, over the height of the click; what was there without it is taken away."""
    rate, height = processor.sample_rate, 10.0 ** (CLICK_DB / 20.0)
    start = int(CLICK_AT_S * rate)
    x = torch.zeros(1, 1, start + int(SECONDS_AFTER * rate))
    silence = play(processor, x, controls)[0]
    x[..., start] = height
    return (play(processor, x, controls)[0] - silence)[:, start:] / height
