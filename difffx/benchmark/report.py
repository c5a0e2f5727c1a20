"""What was measured, for people and for programs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.table import Table

import difffx
from difffx.benchmark.cases import SAMPLE_RATE, Case
from difffx.benchmark.measure import Figures
from difffx.benchmark.peers import version

HEADER = (
    "library",
    "forward ms",
    "+ reverse ms",
    "MB",
    "+ reverse MB",
    "error dB",
    "slower",
    "+ reverse",
    "",
)
SUMMARY = (
    "effect",
    "compiled",
    "+ reverse",
    "torch",
    "+ reverse",
    "fastest peer, forward",
    "fastest peer, + reverse",
)
WRONG_DB = -40.0
DASH = "\N{EN DASH}"


def machine(device: torch.device, shape: Sequence[int], rounds: int) -> dict[str, object]:
    """Where and how the figures were made."""
    return {
        "difffx": difffx.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "shape": list(shape),
        "sample_rate": SAMPLE_RATE,
        "rounds": rounds,
    }


def table(case: Case, figures: Sequence[Figures]) -> Table:
    """A row a rival: median / minimum of the rounds; how many times slower than the first row it is."""
    found = Table(*HEADER, title=f"{case.name} (error against {case.against})", title_justify="left")
    found.columns[0].no_wrap = True
    for column in found.columns[1:-1]:
        column.justify = "right"
    ratios = slower(figures)
    for row in figures:
        forward, both = ratios[row.library]
        found.add_row(
            row.library,
            *(_times(times) for times in (row.forward_ms, row.both_ms)),
            *(_number(value) for value in (row.forward_mb, row.both_mb, row.error_db)),
            *(_number(ratio, " x") for ratio in (forward, both)),
            row.note,
        )
    return found


def summary(results: Sequence[tuple[Case, Sequence[Figures]]]) -> Table:
    """A row an effect: medians of difffx in ms, and how many times slower the fastest peer is.

    A peer whose error is known and above -40 dB makes something else, and does not count.
    """
    found = Table(*SUMMARY, title="difffx, medians in ms, and the fastest peer", title_justify="left")
    for column in found.columns[1:5]:
        column.justify = "right"
    for case, figures in results:
        ours = [row for row in figures if row.library.startswith("difffx")]
        peers = [
            row for row in figures if row not in ours and (row.error_db is None or row.error_db < WRONG_DB)
        ]
        pairs = [_number(ms) for row in (ours[0], ours[-1]) for ms in (row.forward, row.both)]
        found.add_row(
            case.name,
            *(pairs if len(ours) > 1 else [DASH, DASH, *pairs[2:]]),
            _fastest([(row.forward, row.library) for row in peers], ours[0].forward),
            _fastest([(row.both, row.library) for row in peers], ours[0].both),
        )
    return found


def slower(figures: Sequence[Figures]) -> dict[str, tuple[float | None, float | None]]:
    """Median over the median of the first: forward, forward and reverse."""
    first = figures[0]
    return {
        row.library: (_ratio(row.forward, first.forward), _ratio(row.both, first.both)) for row in figures
    }


def as_json(
    about: Mapping[str, object], results: Sequence[tuple[Case, Sequence[Figures]]]
) -> dict[str, object]:
    """Every figure under the name of its effect."""
    effects = {}
    for case, figures in results:
        ratios = slower(figures)
        rows = [
            {
                "library": row.library,
                "version": version(row.library.split(",")[0]),
                "forward_ms": _summary(row.forward_ms),
                "both_ms": _summary(row.both_ms),
                "forward_mb": row.forward_mb,
                "both_mb": row.both_mb,
                "error_db": row.error_db,
                "times_slower": dict(zip(("forward", "both"), ratios[row.library], strict=True)),
                "note": row.note,
            }
            for row in figures
        ]
        effects[case.name] = {"error_against": case.against, "rivals": rows}
    return {"machine": dict(about), "effects": effects}


def _summary(times: Sequence[float]) -> dict[str, object] | None:
    row = Figures("", list(times))
    return {"median": row.forward, "min": min(times), "rounds": list(times)} if times else None


def _times(times: Sequence[float]) -> str:
    return f"{_number(Figures('', list(times)).forward)} / {_number(min(times))}" if times else DASH


def _number(value: float | None, unit: str = "") -> str:
    if value is None:
        return DASH
    return (
        f"{value:.0f}{unit}"
        if abs(value) >= 100
        else f"{value:.1f}{unit}"
        if abs(value) >= 10
        else f"{value:.2f}{unit}"
    )


def _fastest(peers: Sequence[tuple[float | None, str]], ours: float | None) -> str:
    times = [(ms, library) for ms, library in peers if ms is not None]
    if not times or not ours:
        return DASH
    ms, library = min(times)
    return f"{_number(ms / ours, ' x')}  {library}"


def _ratio(value: float | None, first: float | None) -> float | None:
    return value / first if value is not None and first else None


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
