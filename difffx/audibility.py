"""What an estimator can know of each knob: how much of it is heard at all, and how much of it is found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from rich.table import Table
from torch import Tensor

from difffx.functional.spectra import normalize_rms
from difffx.graph import ProcessorGraph
from difffx.metrics.audio import mel_distance
from difffx.params import ControlSpec

FAR = 0.5
INAUDIBLE = 0.01
UNFOUND = 0.05


@torch.no_grad()
def audibility(
    graph: ProcessorGraph, batches: Iterable[Mapping], device: torch.device | str = "cpu"
) -> dict[str, float]:
    """{label: log-mel distance} between a chain at its settings and with this one knob half its range away.

    batches  dry [B, C, T] and z [B, P, 1]; the mean over all items. Renders each of them P + 1 times.
    """
    sums, count = torch.zeros(len(graph.spec)), 0
    for batch in batches:
        dries, settings = batch["dry"].to(device), batch["z"].to(device)
        for dry, z in zip(dries.split(1), settings.split(1), strict=True):
            moved = z + torch.diag(torch.where(z[0, :, 0] < 0.5, FAR, -FAR))[..., None]
            sounds = graph(dry.expand(len(moved), -1, -1), controls=graph.from_unit(moved))
            target = graph(dry, controls=graph.from_unit(z))
            sums += mel_distance(normalize_rms(sounds), normalize_rms(target), graph.sample_rate).cpu()
            count += 1
    return dict(zip(graph.spec.labels, (sums / max(count, 1)).tolist(), strict=True))


def explained(spec: ControlSpec, z: Tensor, z_hat: Tensor) -> dict[str, float]:
    """{label: share of the variance of a setting in 0..1 that an estimate accounts for}; 0: as the mean does.

    z, z_hat  [N, P, 1]; switches, and what does not vary, are left out
    """
    error = (z_hat - z).square().mean((0, 2))
    spread = (z - z.mean(0)).square().mean((0, 2))
    return {
        label: 1.0 - (error[i] / spread[i]).item()
        for i, label in enumerate(spec.labels)
        if i not in spec.switches and spread[i] > 1e-9
    }


def unknowable(audible: Mapping[str, float], found: Mapping[str, float]) -> dict[str, str]:
    """{label: why} for the knobs of which an estimator learns next to nothing."""
    reasons = {}
    for label, share in found.items():
        mel = audible[label]
        if mel < INAUDIBLE:
            reasons[label] = f"half its range is {mel:.4f} of log-mel: not heard"
        elif share < UNFOUND:
            reasons[label] = f"heard ({mel:.3f}), but {max(share, 0.0):.0%} of its variance is found"
    return reasons


def audibility_table(results: Mapping[str, Mapping]) -> Table:
    """`audible`, `explained` and `unknowable` of a benchmark's results, a row a knob."""
    table = Table(title="what can be known of each knob")
    for column in ("knob", "mel of half its range", "variance explained", "unknowable"):
        table.add_column(column, justify="left" if column in ("knob", "unknowable") else "right")
    for label, share in results["explained"].items():
        mel, why = results["audible"][label], results["unknowable"].get(label, "")
        table.add_row(label, f"{mel:.3f}", f"{share:.0%}", why)
    return table
