"""Who takes part: difffx in its tiers, and every other library that is installed.

A library is imported when its first effect is built. One that is missing or broken is a line in the log and
a dash in the table.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from unittest import mock

import torch
from torch import Tensor

from difffx.benchmark.cases import Case
from difffx.benchmark.measure import Controls, Figures, Rival, Run, forward
from difffx.functional import compiled
from difffx.processors import Processor

COMPILED, TORCH = "difffx, compiled", "difffx, torch"


@dataclass(frozen=True)
class Peer:
    """Somebody else's effect.

    library   the distribution, as pip calls it
    build     processor -> run; where it raises, the peer is absent
    variant   which of the library's ways
    knobs     the ranges of its own settings, random and one an item, [B]; None: it takes ours, [B, K, 1]
    """

    library: str
    build: Callable[[Processor], Run]
    variant: str = ""
    knobs: Mapping[str, Sequence[float]] | None = None
    gradient: bool = True
    same: bool = False
    note: str = ""

    @property
    def label(self) -> str:
        return f"{self.library}, {self.variant}" if self.variant else self.library


def rivals(
    case: Case,
    processor: Processor,
    controls: Controls,
    device: torch.device,
    peers: bool = True,
) -> tuple[list[Rival], list[Figures]]:
    """Who can run here, and who cannot, with the reason."""
    found, absent = ours(processor, controls, device), []
    batch = max((value.shape[0] for value in controls.values()), default=8)
    for peer in _peers_of(case.name) if peers else ():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run = peer.build(processor)
            own = controls if peer.knobs is None else draw(peer.knobs, batch, device)
        except Exception as error:
            # Any failure of a foreign library is a dash in the table.
            absent.append(Figures(peer.label, note=_why(error)))
            continue
        found.append(Rival(peer.label, run, own, peer.gradient, peer.same, note=peer.note))
    return found, absent


def ours(processor: Processor, controls: Controls, device: torch.device) -> list[Rival]:
    """The tiers of difffx that there are: the compiled one where a kernel takes part, and pure torch."""

    def run(x: Tensor, controls: Controls) -> Tensor:
        return processor(*heard(processor, x), controls=dict(controls))

    torch_only = Rival(TORCH, run, controls, around=compiled.disabled)
    fastest = replace(torch_only, library=COMPILED, around=Rival.around)
    batch = max((value.shape[0] for value in controls.values()), default=1)
    with mock.patch.object(compiled, "call", wraps=compiled.call) as kernel:
        forward(fastest, torch.zeros(batch, 1, 256, device=device))
    return [fastest, torch_only] if kernel.called else [torch_only]


def heard(processor: Processor, x: Tensor) -> list[Tensor]:
    """As many inputs as the effect has: the same sound, earlier and earlier."""
    count = 2 if processor.variadic else len(processor.inputs)
    return [x.roll(i, -1) for i in range(count)]


def draw(knobs: Mapping[str, Sequence[float]], batch: int, device: torch.device, seed: int = 0) -> Controls:
    """Uniform settings in a peer's own terms: {knob: [B]}."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (low + (high - low) * torch.rand(batch, generator=generator)).to(device)
        for name, (low, high) in knobs.items()
    }


def version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def _peers_of(name: str) -> Sequence[Peer]:
    return importlib.import_module("difffx.benchmark.libraries").PEERS.get(name, ())


def _why(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
