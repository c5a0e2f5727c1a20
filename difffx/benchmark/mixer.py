"""What the DJ's mixer costs beside its published formulas, in one process and in turn.

The reference is `MixerConfig(compat=True)`: the published structure written down straightforwardly, three
STFT round trips for each stem (EQ, low-pass, high-pass), a gain at sample rate, a reverb by one long FFT and
a delay of up to four taps for each deck, gradients by autograd. Its sends are in use, as are ours. It is a
stand-in: the known implementation took 18 to 20 s of CPU time and 3.9 GB on two threads of another machine.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from rich.table import Table
from torch import Tensor

from difffx.benchmark.measure import growth_mb
from difffx.dj import STEM_NAMES, DJMixer, create_mixer, recommended_start

HEADER = ("mixer", "forward CPU s", "+ reverse CPU s", "wall s", "+ reverse wall s", "MB", "+ reverse MB")
PUBLISHED = "published formulas"


@dataclass
class MixerFigures:
    """Every round of one way to mix: seconds of CPU and of the clock, forward alone and with the gradient.

    forward_mb, both_mb   how far memory rises above what is held before the call; None if nobody says
    """

    name: str
    forward_cpu_s: list[float] = field(default_factory=list)
    both_cpu_s: list[float] = field(default_factory=list)
    forward_s: list[float] = field(default_factory=list)
    both_s: list[float] = field(default_factory=list)
    forward_mb: float | None = None
    both_mb: float | None = None


def measure_mixer(
    seconds: float = 30.0,
    frames: int = 64,
    rounds: int = 3,
    device: torch.device | None = None,
    seed: int = 0,
) -> list[MixerFigures]:
    """Two decks of four stereo stems of noise, 44.1 kHz: published, ours, ours with stems prepared."""
    device = device or torch.device("cpu")
    tracks, params = _task(seconds, frames, seed, device)
    published, ours = (create_mixer(compat=compat).to(device) for compat in (True, False))
    prepared = [ours.prepare(track) for track in tracks]
    ways = {
        PUBLISHED: lambda params: published(*tracks, params)[0],
        "difffx": lambda params: ours(*tracks, params)[0],
        "difffx, stems prepared": lambda params: ours(*prepared, params)[0],
        "difffx, as a graph": lambda params: _by_graph(ours, tracks, params),
    }
    found = [MixerFigures(name) for name in ways]
    for turn in range(rounds):
        for row, way in zip(found, ways.values(), strict=True):
            _round(row, way, params, device, with_memory=turn == 0)
    return found


def mixer_table(found: Sequence[MixerFigures]) -> Table:
    """A row a way: medians, and in brackets the share of what the published formulas take."""
    table = Table(
        *HEADER,
        title="two decks of four stems, both sends; in brackets the share of the first row",
        title_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    reference = _medians(found[0])
    for row in found:
        cells = []
        for value, of in zip(_medians(row), reference, strict=True):
            share = f" ({value / of:.2f})" if value is not None and of else ""
            cells.append("\N{EN DASH}" if value is None else f"{value:.3g}{share}")
        table.add_row(row.name, *cells)
    return table


def mixer_json(about: dict[str, object], found: Sequence[MixerFigures]) -> dict[str, object]:
    """All rounds, and medians as shares of the published formulas'."""
    reference = _medians(found[0])
    names = ("forward_cpu", "both_cpu", "forward_wall", "both_wall", "forward_mb", "both_mb")
    shares = {
        row.name: {
            name: value / of
            for name, value, of in zip(names, _medians(row), reference, strict=True)
            if value is not None and of
        }
        for row in found
    }
    return {**about, "rounds": [vars(row) for row in found], "share_of_published": shares}


def _task(
    seconds: float, frames: int, seed: int, device: torch.device
) -> tuple[list[dict[str, Tensor]], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * 44_100)
    tracks = [
        {stem: (0.1 * torch.randn(1, 2, samples, generator=generator)).to(device) for stem in STEM_NAMES}
        for _ in range(2)
    ]
    start = recommended_start(frames)
    wander = 0.1 * (torch.rand(start.shape, generator=generator) - 0.5)
    return tracks, (start + wander).to(device)


def _by_graph(mixer: DJMixer, tracks: Sequence[dict[str, Tensor]], params: Tensor) -> Tensor:
    signals = {
        f"{deck}_{stem}_stem": x
        for deck, track in zip("ab", tracks, strict=True)
        for stem, x in track.items()
    }
    return mixer.graph(signals, controls=mixer.controls(params))


def _round(
    row: MixerFigures,
    way: Callable[[Tensor], Tensor],
    params: Tensor,
    device: torch.device,
    with_memory: bool,
) -> None:
    def forward() -> None:
        with torch.no_grad():
            way(params)

    def both() -> None:
        leaf = params.clone().requires_grad_()
        y = way(leaf)
        y.backward(torch.ones_like(y))

    if with_memory:
        row.forward_mb, row.both_mb = growth_mb(forward, device), growth_mb(both, device)
    for call, cpu, wall in ((forward, row.forward_cpu_s, row.forward_s), (both, row.both_cpu_s, row.both_s)):
        cpu_s, wall_s = _seconds(call, device)
        cpu.append(cpu_s)
        wall.append(wall_s)


def _seconds(call: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """CPU time of all threads; wall time, to the end of what the device does."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.process_time() - cpu, time.perf_counter() - wall


def _medians(row: MixerFigures) -> list[float | None]:
    times = (row.forward_cpu_s, row.both_cpu_s, row.forward_s, row.both_s)
    return [*(statistics.median(each) for each in times), row.forward_mb, row.both_mb]
