"""Spectrograms side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from difffx.plots.style import (
    blank_figure,
    finish,
    short_number,
)

FLOOR_DB = 80.0  # spectrograms span so much below their loudest point


def spectrograms(signals: Mapping[str, Tensor], sample_rate: int, difference: bool = True) -> Figure:
    """The signals [C, T] by name, each at the same RMS, on one scale of levels.

    With difference, and three signals or more, a further panel, the last minus the one before it: where the
    estimate is louder (red) or softer (blue) than the truth.
    """
    panels = len(signals) + (difference and len(signals) > 2)
    figure = blank_figure(3.5 * panels, 2.9)
    draw_spectrograms(figure, signals, sample_rate, difference)
    return figure


def draw_spectrograms(
    figure: Figure | SubFigure, signals: Mapping[str, Tensor], sample_rate: int, difference: bool
) -> None:
    difference = difference and len(signals) > 2
    columns = len(signals) + difference
    axes = figure.subplots(1, columns, squeeze=False, sharey=True)[0]
    hz = torch.logspace(math.log10(30.0), math.log10(0.49 * sample_rate), 200)
    names = list(signals)
    length = min(signal.shape[-1] for signal in signals.values())
    pictures = {
        name: log_spectrogram(signal[..., :length], sample_rate, hz) for name, signal in signals.items()
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
        ax.set_yticks(places, [short_number(f) for f in ticks])
        finish(ax, "time [s]", "frequency [Hz]" if column == 0 else "", grid=False)


def _colorbar(figure: Figure | SubFigure, image: object, axes: Sequence[Axes], label: str) -> None:
    bar = figure.colorbar(image, ax=list(axes), pad=0.02, aspect=30)
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)


def log_spectrogram(signal: Tensor, sample_rate: int, hz: Tensor) -> Tensor:
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
