"""Recursions as machine code for the processor at hand, where a C compiler can be found.

The first recursion that could use them compiles the C files beside this one, once per machine and user, into
the user's cache folder. No compiler, a compiler that fails, nowhere to write: then everything runs in pure
torch as it would without this package, slower and otherwise the same. DIFFFX_COMPILED=0 asks for that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd import forward_ad

from difffx.functional.compiled.build import BLOCK, LANES, library

__all__ = ["BLOCK", "LANES", "available", "call", "disabled", "groups_of", "library", "serves", "untraced"]

_on = True


@torch.compiler.assume_constant_result
def available() -> bool:
    """Whether the compiled recursions are there and switched on. The first call may compile, for seconds."""
    return _on and library() is not None


@contextlib.contextmanager
def disabled() -> Iterator[None]:
    """Pure torch inside, in all threads."""
    global _on
    before, _on = _on, False
    try:
        yield
    finally:
        _on = before


def serves(*tensors: Tensor) -> bool:
    """Whether a compiled recursion can take these; vmap and forward mode, which it cannot, are for torch."""
    return (
        all(
            x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and x.numel()
            for x in tensors
        )
        and not _transformed()
        and available()
    )


@torch.compiler.disable
def untraced(recursion: type[torch.autograd.Function], *inputs: Tensor | int) -> Tensor:
    """A recursion of the pure tier as it stands: torch.compile would unroll its loops, for minutes."""
    return recursion.apply(*inputs)


def groups_of(rows: int) -> int:
    """Into how many groups of LANES rows at most work is cut: one for each thread, if rows suffice."""
    return max(-(-rows // LANES), min(rows, torch.get_num_threads()))


def call(name: str, *arguments: int | float | Tensor | None) -> None:
    """Run a C function on tensors, which must be contiguous; it knows how many threads torch may use."""
    pointers = (x.data_ptr() if isinstance(x, Tensor) else x for x in arguments)
    if getattr(library(), f"difffx_{name}")(*pointers, torch.get_num_threads()):
        raise MemoryError(f"{name}: no memory for its work space")


@torch.compiler.assume_constant_result
def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
