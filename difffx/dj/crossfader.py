"""The horizontal fader: deck A out, deck B in, nothing else moved."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from difffx.dj.layout import STEM_NAMES, get_default_params, index_of
from difffx.params import unknown

STEEPNESS = 3.0  # of the exponential: two thirds of the way in a third of the time
DECADES = 9.0  # of the logarithm: log10 of 10 down to 1


def _exponential(t: Tensor) -> Tensor:
    return torch.expm1(-STEEPNESS * t) / math.expm1(-STEEPNESS)


FADES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "linear": lambda t: (1.0 - t, t),
    "equal_power": lambda t: (torch.sin(0.5 * math.pi * (1.0 - t)), torch.sin(0.5 * math.pi * t)),
    "exponential": lambda t: (1.0 - _exponential(t), _exponential(t)),
    "logarithmic": lambda t: (
        torch.log10(1.0 + DECADES * (1.0 - t)),
        1.0 - torch.log10(1.0 + DECADES * (1.0 - t)),
    ),
}
"""Name -> gains of deck A and deck B at t, 0 to 1; all monotone, from exactly (1, 0) to exactly (0, 1).

linear        1 - t and t: level for tracks that are alike, 3 dB down in the middle for unlike ones
equal_power   cos and sin: level for unlike tracks
exponential   B in fast at first, then ever slower; A is 1 - B
logarithmic   A at first hardly lower, then ever faster down; B is 1 - A
"""


class SimpleCrossfader:
    """Curves of a crossfade: SimpleCrossfader("equal_power")(n_frames=64) -> [1, 64, 54].

    fade_type   a name of `FADES`
    """

    def __init__(self, fade_type: str = "equal_power") -> None:
        if fade_type not in FADES:
            raise ValueError(f"SimpleCrossfader: no fade_type {unknown(fade_type, FADES)}")
        self.fade_type = fade_type

    def __call__(
        self, n_frames: int, batch_size: int = 1, cue_in: float = 0.0, cue_out: float = 1.0
    ) -> Tensor:
        """From cue_in to cue_out, shares of the whole: [batch_size, n_frames, 54].

        Raises ValueError where cue_in does not come before cue_out.
        """
        if not 0.0 <= cue_in < cue_out <= 1.0:
            raise ValueError(
                f"expected 0 <= cue_in < cue_out <= 1, got cue_in {cue_in:g}, cue_out {cue_out:g}"
            )
        if n_frames < 1 or batch_size < 1:
            raise ValueError(
                f"expected n_frames and batch_size of 1 or more, got {n_frames} and {batch_size}"
            )
        t = torch.linspace(0.0, 1.0, n_frames, dtype=torch.float64)
        gains = fade((t - cue_in) / (cue_out - cue_in), self.fade_type)
        params = get_default_params(n_frames, batch_size)
        for deck, gain in zip("ab", gains, strict=True):
            for stem in STEM_NAMES:
                params[..., index_of(deck, stem, "gain")] = gain.float()
        return params


def fade(t: Tensor, fade_type: str) -> tuple[Tensor, Tensor]:
    """Gains of deck A and deck B; t below 0 and above 1 is before and after. Float64 in, float64 out."""
    t = torch.where(t > 1.0 - 1e-12, 1.0, t.clamp(min=0.0))
    return tuple(gain.clamp(0.0, 1.0) for gain in FADES[fade_type](t))
