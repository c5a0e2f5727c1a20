"""Time, memory and error of one call, for many rivals in turn."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import math
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

Controls = Mapping[str, Tensor]
Run = Callable[[Tensor, Controls], Tensor]

PATIENCE_S = 3.0  # a forward pass slower than this is timed once, and its reverse pass not at all
QUIET_DB = -300.0  # what an error of nothing is called


@dataclass(frozen=True)
class Rival:
    """One way of making an effect.

    library   who made it; for difffx with its tier
    run       audio [B, C, T], controls -> audio
    controls  the settings: leaves of the gradient. [B, K, 1] in our own terms, [B] in those of a peer
    gradient  False where there is only a forward pass
    same      False where it is another effect of the same name, which has no error against our reference
    around    entered for each call, such as a switch between tiers
    note      what the reader of the table should know
    """

    library: str
    run: Run
    controls: Controls
    gradient: bool = True
    same: bool = True
    around: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """What was measured for one rival; None where it could not be.

    forward_ms, both_ms    every round of the forward pass alone, and of forward and reverse pass
    forward_mb, both_mb    how far the peak lies above what was held before the call
    error_db               against the reference: 20 log10(|y - reference| / |reference|)
    """

    library: str
    forward_ms: list[float] = field(default_factory=list)
    both_ms: list[float] = field(default_factory=list)
    forward_mb: float | None = None
    both_mb: float | None = None
    error_db: float | None = None
    note: str = ""

    @property
    def forward(self) -> float | None:
        """The median of the rounds, in ms."""
        return statistics.median(self.forward_ms) if self.forward_ms else None

    @property
    def both(self) -> float | None:
        return statistics.median(self.both_ms) if self.both_ms else None


def compare(
    rivals: Sequence[Rival],
    x: Tensor,
    rounds: int,
    check: tuple[Tensor, Tensor] | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> list[Figures]:
    """Each rival once unmeasured, then `rounds` rounds in which every rival has its turn.

    check   a shorter input and what a perfect effect makes of it; the settings of its items are the first
    """
    results: dict[int, Figures] = {}
    both: set[int] = set()
    fast: set[int] = set()
    for i, rival in enumerate(rivals):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # those of other libraries, once each
                forward(rival, x)
            # The better of two: a stall of the machine is no fault of the rival.
            seconds = min(_seconds(lambda rival=rival: forward(rival, x), x.device) for _ in range(2))
            if rival.gradient and seconds < PATIENCE_S:
                forward_and_reverse(rival, x)
                both.add(i)
        except Exception as error:
            # Whatever a foreign library throws, the other rivals go on.
            log(f"{rival.library}: {_one_line(error)}")
            results[i] = Figures(rival.library, note="failed")
            both.discard(i)
            continue
        warm = seconds < PATIENCE_S
        if warm:
            fast.add(i)
        note = rival.note if warm else f"{rival.note}; one round, forward only".strip("; ")
        results[i] = Figures(rival.library, [] if warm else [1e3 * seconds], note=note)
    for turn in range(rounds):
        order = sorted(fast, key=lambda i: (i + turn) % len(rivals))
        for i in order:
            results[i].forward_ms.append(1e3 * _seconds(lambda i=i: forward(rivals[i], x), x.device))
            if i in both:
                seconds = _seconds(lambda i=i: forward_and_reverse(rivals[i], x), x.device)
                results[i].both_ms.append(1e3 * seconds)
    for i in fast:
        results[i] = replace(
            results[i],
            forward_mb=growth_mb(lambda i=i: forward(rivals[i], x), x.device),
            both_mb=growth_mb(lambda i=i: forward_and_reverse(rivals[i], x), x.device) if i in both else None,
            error_db=error_db(rivals[i], *check) if check and rivals[i].same else None,
        )
    return [results[i] for i in range(len(rivals))]


def forward(rival: Rival, x: Tensor) -> Tensor:
    with torch.no_grad(), rival.around():
        return rival.run(x, rival.controls)


def forward_and_reverse(rival: Rival, x: Tensor) -> None:
    """The gradients of a weighted sum of the output to the audio and to every setting."""
    with rival.around():
        audio = x.detach().requires_grad_()
        controls = {name: value.detach().requires_grad_() for name, value in rival.controls.items()}
        y = rival.run(audio, controls)
        y.backward(_weight(y.shape, y.dtype, y.device))


def error_db(rival: Rival, x: Tensor, reference: Tensor) -> float:
    batch = x.shape[0]
    y = forward(
        replace(rival, controls={name: value[:batch] for name, value in rival.controls.items()}), x
    ).double()
    error = ((y.to(reference) - reference).norm() / reference.norm()).item()
    return 20.0 * math.log10(error) if error > 0.0 else QUIET_DB


def growth_mb(call: Callable[[], object], device: torch.device) -> float | None:
    """How far memory rises above its level before the call, in MB; None where the system does not say.

    CUDA: the allocator of torch. Else the resident memory of the whole process, buffers of numpy and of
    compiled code included: Linux writes its peak down, and starts again when asked.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        _give_back_free_memory()
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident_kb("VmRSS")
        call()
        return max(0.0, (_resident_kb("VmHWM") - before) * 1024 / 1e6)
    except (OSError, KeyError):
        return None


def _give_back_free_memory() -> None:
    """What the C library keeps for later would hide as much of the next call."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _resident_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int({line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}[name])


@lru_cache(maxsize=4)
def _weight(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A fixed direction for the gradient, the same for all rivals, made before the clock runs."""
    return torch.linspace(-1.0, 1.0, shape[-1], dtype=dtype, device=device).expand(shape).contiguous()


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:160]}" if text else type(error).__name__
