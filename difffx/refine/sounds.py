"""Two sounds brought together: in time, and by the settings of a graph of effects."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from difffx.functional.alignment import delayed, latency
from difffx.graph import ProcessorGraph
from difffx.refine.judge import Progress
from difffx.refine.search import RENDERS, SECONDS, Refinement, refine

EXCERPT_SECONDS = 10.0
LONG = 1.25  # times the excerpt: what is shorter is refined as a whole
ON_THE_WHOLE = 5  # moves


def line_up(dry: Tensor, wet: Tensor, sample_rate: int) -> tuple[Tensor, list[str]]:
    """Dry [C, T] moved to where wet is, since many effects are late, and in words by how much."""
    samples = latency(dry, wet, sample_rate)
    if not samples:
        return dry, []
    amount = f"{abs(samples)} samples ({1000 * abs(samples) / sample_rate:.1f} ms)"
    return delayed(dry, samples), [
        f"wet is {amount} {'late' if samples > 0 else 'early'}: dry is moved there"
    ]


def loudest(audio: Tensor, sample_rate: int, seconds: float = EXCERPT_SECONDS) -> slice:
    """The samples of the loudest excerpt of audio [C, T], in steps of a second; all where it is no longer."""
    length, step = round(seconds * sample_rate), sample_rate
    if audio.shape[-1] <= length:
        return slice(0, audio.shape[-1])
    energy = torch.cat([torch.zeros(1), audio.double().square().sum(0)]).cumsum(0)
    starts = torch.arange(0, audio.shape[-1] - length + 1, step)
    first = int(starts[(energy[starts + length] - energy[starts]).argmax()])
    return slice(first, first + length)


def refine_sound(
    graph: ProcessorGraph,
    dry: Tensor,
    wet: Tensor,
    start: Tensor,
    *,
    renders: int = RENDERS,
    seconds: float = SECONDS,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Refinement, list[str]]:
    """`refine` for sounds [1, C, T] of any length, and in words what of them was heard.

    Of a long sound the loudest ten seconds are searched, and a few moves on the whole follow, since effects
    that bring their input to one peak hear another peak there. before and after are distances on the whole.
    """
    rate, limits = graph.sample_rate, {"renders": renders, "seed": seed, "progress": progress}
    if wet.shape[-1] <= LONG * EXCERPT_SECONDS * rate:
        return refine(graph, dry, wet, start, seconds=seconds, **limits), []
    span = loudest(wet[0], rate)
    part = refine(graph, dry[..., span], wet[..., span], start, seconds=0.7 * seconds, **limits)
    moves = 0 if part.ended == "interrupted" else ON_THE_WHOLE
    limits["renders"] = len(start) + 1 + moves * (len(graph.spec) + 5)
    starts = torch.cat([start, part.z])
    whole = refine(graph, dry, wet, starts, seconds=0.3 * seconds, restarts=False, **limits)
    ended = part.ended if part.ended == "interrupted" else whole.ended
    note = f"refined on {span.start / rate:.0f} to {span.stop / rate:.0f} s, the loudest, then on the whole"
    return replace(whole, renders=part.renders + whole.renders, ended=ended), [note]
