"""What a guess and the truth have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A sound and the settings that made it, travelling together.

    audio  [B, C, T]
    z      [B, P, F] in 0..1, or None where nobody knows the settings
    """

    audio: Tensor
    z: Tensor | None = None
