"""Several answers instead of one: the best distinct settings for a sound, and files of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from difffx import inference
from difffx.data import audio_io
from difffx.encoders import distinct
from difffx.runs import write_json


@dataclass(frozen=True)
class Candidate:
    """One answer: z [1, P, 1], its log density in nats (`Posterior.rank`), its share among the candidates."""

    z: Tensor
    log_density: float
    share: float


@torch.no_grad()
def candidates(
    task: nn.Module,
    audio: Tensor,
    sample_rate: int,
    count: int,
    window_seconds: float = inference.WINDOW_SECONDS,
    progress: inference.Progress = iter,
) -> list[Candidate]:
    """The best distinct settings for a sound [C, T] of any rate and length, the likeliest first.

    A long sound is heard in windows, and the log density of a setting is its mean over them. Switches are
    decided; knobs of an effect that is off make no difference. Raises ValueError where the head of the task
    gives one answer only.
    """
    if count < 1:
        raise ValueError(f"candidates: expected at least 1, got {count}")
    inference.checked(audio, sample_rate)
    audio = inference.resample(audio, sample_rate, task.sample_rate)
    windows = inference.loud_windows(audio, task.sample_rate, window_seconds)
    device = next(task.parameters()).device
    heard = [task.posterior(window.to(device)) for window in progress(windows)]
    if heard[0] is None:
        raise ValueError("this run gives one answer; several come from a run with head=mixture or head=flow")
    pool = torch.cat([posterior.candidates(count)[0] for posterior in heard], 1)
    rank = torch.stack([posterior.rank(pool) for posterior in heard]).mean(0)
    spec = task.afx.spec
    settings = spec.decided(pool[0])
    audible = torch.where(spec.heard(settings) > 0, settings, 0.5) if spec.switches else settings
    places = distinct(audible[None, ..., 0], rank, count)[0]
    shares = rank[0, places].softmax(0)
    return [
        Candidate(settings[place, None].cpu(), rank[0, place].item(), share.item())
        for place, share in zip(places, shares, strict=True)
    ]


def write(
    task: nn.Module,
    found: Sequence[Candidate],
    folder: Path,
    sample_rate: int,
    dry: Tensor | None = None,
    wet: Tensor | None = None,
) -> Table:
    """settings_1.json, settings_2.json, ... and candidates.json into a folder, and a table of them.

    dry, wet   [C, T] of one shape at the sample rate; with dry also matched_1.wav, ... and distances to wet
    """
    rows = {}
    for place, candidate in enumerate(found, 1):
        write_json(folder / f"settings_{place}.json", inference.settings(task, candidate.z))
        rows[str(place)] = {"share": candidate.share, "log_density": candidate.log_density}
        if dry is not None:
            matched, scores = inference.match(task, dry, wet, sample_rate, candidate.z)
            audio_io.save(folder / f"matched_{place}.wav", matched, sample_rate)
            rows[str(place)]["distances"] = scores["after"]
    write_json(folder / "candidates.json", rows)
    return table(rows)


def table(rows: dict[str, dict]) -> Table:
    """The rows of candidates.json for a terminal."""
    metrics = list(rows["1"].get("distances", ()))
    nearest = {m: (max if m == "si_sdr" else min)(r["distances"][m] for r in rows.values()) for m in metrics}
    shown = Table(
        "", "share", "log density", *metrics, title="candidates" + ", their distance to wet" * bool(metrics)
    )
    for place, row in rows.items():
        found = [row["distances"][metric] for metric in metrics]
        marks = [
            f"[bold]{value:.3f}[/bold]" if math.isclose(value, nearest[metric]) else f"{value:.3f}"
            for metric, value in zip(metrics, found, strict=True)
        ]
        shown.add_row(place, f"{row['share']:.2f}", f"{row['log_density']:.2f}", *marks)
    return shown
