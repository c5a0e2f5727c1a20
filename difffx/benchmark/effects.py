"""One effect, measured: difffx and its peers, on one sound, with one set of settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from difffx.benchmark.cases import CHECKED_ITEMS, CHECKED_SAMPLES, Case, settings, sound
from difffx.benchmark.measure import Figures, compare
from difffx.benchmark.peers import heard, rivals
from difffx.functional import compiled
from difffx.processors import Processor


def measure_case(
    case: Case,
    shape: Sequence[int],
    rounds: int,
    device: torch.device,
    peers: bool = True,
    log: Callable[[str], None] = lambda line: None,
) -> list[Figures]:
    """difffx first, then the peers that ran, then those that could not.

    shape   [B, C, T]; an effect that is about stereo gets two channels
    """
    batch, channels, samples = shape[0], max(shape[1], case.channels), shape[2]
    processor = case.processor().eval().to(device)
    controls = {name: value.to(device) for name, value in settings(processor, batch).items()}
    check = checked(
        case, processor, controls, min(batch, CHECKED_ITEMS), channels, min(samples, CHECKED_SAMPLES)
    )
    there, absent = rivals(case, processor, controls, device, peers)
    for row in absent:
        log(f"{row.library}: {row.note}")
    return [*compare(there, sound(batch, channels, samples).to(device), rounds, check, log), *absent]


@torch.no_grad()
def checked(
    case: Case, processor: Processor, controls: Mapping[str, Tensor], batch: int, channels: int, samples: int
) -> tuple[Tensor, Tensor]:
    """A shorter sound, and what it should become: by the textbook, else by its torch tier in float64."""
    x = sound(batch, channels, samples, seed=1)
    first = {name: value[:batch].double().cpu() for name, value in controls.items()}
    if case.reference is None:
        exact = processor.to("cpu").double()
        with compiled.disabled():
            y = exact(*heard(exact, x.double()), controls=first)
        processor.to(device=next(iter(controls.values()), x).device, dtype=torch.float32)
    else:
        knobs = {name: value[..., 0].numpy() for name, value in first.items()}
        y = torch.from_numpy(case.reference(processor, x.double().numpy(), knobs))
    device = next(iter(controls.values()), x).device
    return x.to(device), y.to(device)
