"""What a guess and the truth have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A sound and the settings that made it, travelling together.

    audio  [B, C, T]
    z      [B, P, F] in 0..1, or None where nobody knows the settings
    heard  [B, P, F], 0 for the knobs of an effect that is off, else 1; None: all are heard
    """

    audio: Tensor
    z: Tensor | None = None
    heard: Tensor | None = None

    def mean_squared_distance(self, z: Tensor, places: Sequence[int] | None = None) -> Tensor:
        """From these settings to others, [B, P, F] -> a scalar: the mean over the values that are heard.

        places  which of the P count; None: all
        """
        which = slice(None) if places is None else list(places)
        squared = (z - self.z.detach())[:, which].square()
        if self.heard is None:
            return squared.mean()
        heard = self.heard[:, which]
        return (heard * squared).sum() / heard.sum().clamp(min=1.0)
