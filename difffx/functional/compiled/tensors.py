"""What the kernels take: tensors in one piece, knobs that stand still or move."""

from __future__ import annotations

from torch import Tensor

from difffx.functional.control import at_audio_rate


def contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    """The same in one piece; None stays None."""
    return [None if t is None else t.contiguous() for t in tensors]


def curve_or_column(control: Tensor, items: int, samples: int) -> tuple[Tensor | None, Tensor]:
    """[B or 1, 1, F] -> a curve [B, 1, T] or None, and what stands still, [B, 1, 1]; one of them counts.

    Both in float64.
    """
    control = at_audio_rate(control.double(), samples)
    if control.shape[2] == 1:
        return None, control.expand(items, 1, 1)
    return control.expand(items, 1, samples), control.new_zeros(items, 1, 1)


def are_knobs(items: int, still: tuple[Tensor, ...], moving: tuple[Tensor, ...]) -> bool:
    """Whether these are [B or 1, 1, 1], and those [B or 1, 1, F]."""
    return all(
        k.ndim == 3 and k.shape[0] in (items, 1) and k.shape[1] == 1 for k in (*still, *moving)
    ) and all(k.shape[2] == 1 for k in still)
