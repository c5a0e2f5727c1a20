"""The 54 numbers of a DJ's mixer: their order, names, ranges and usual values.

Deck A's 27 come first, then deck B's. Of each deck four strips of six, drums, bass, vocals and other, then
the three sends.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from difffx.params import Param

STEM_NAMES = ("drums", "bass", "vocals", "other")
DECK_NAMES = ("a", "b")
STEM_PARAMS = (
    Param("gain", 0.0, 1.0, default=1.0, dynamic=True),
    Param("eq_low", 0.0, 2.0, default=1.0, dynamic=True),
    Param("eq_mid", 0.0, 2.0, default=1.0, dynamic=True),
    Param("eq_high", 0.0, 2.0, default=1.0, dynamic=True),
    Param("lpf", 0.0, 1.0, default=1.0, dynamic=True),
    Param("hpf", 0.0, 1.0, default=0.0, dynamic=True),
)
GLOBAL_PARAMS = (
    Param("reverb_send", 0.0, 1.0, default=0.0, dynamic=True),
    Param("delay_send", 0.0, 1.0, default=0.0, dynamic=True),
    Param("delay_feedback", 0.0, 1.0, default=0.0, dynamic=True),
)
STEM_PARAM_NAMES = tuple(param.name for param in STEM_PARAMS)
GLOBAL_PARAM_NAMES = tuple(param.name for param in GLOBAL_PARAMS)
N_STEMS, N_STEM_PARAMS, N_GLOBAL_PARAMS = len(STEM_NAMES), len(STEM_PARAMS), len(GLOBAL_PARAMS)
N_PARAMS_PER_TRACK = N_STEMS * N_STEM_PARAMS + N_GLOBAL_PARAMS
N_TOTAL_PARAMS = len(DECK_NAMES) * N_PARAMS_PER_TRACK

START = {
    **{"gain": 0.7, "eq_low": 1.0, "eq_mid": 1.0, "eq_high": 1.0, "lpf": 0.9, "hpf": 0.1},
    **{"reverb_send": 0.2, "delay_send": 0.2, "delay_feedback": 0.3},
}
"""Where a fit should begin: nothing is shut, nothing quite open, so that every number can be heard."""


def index_of(deck: str, place: str, name: str) -> int:
    """Where a number lies: index_of("b", "bass", "eq_low"), index_of("a", "sends", "reverb_send")."""
    return LABELS.index(f"{deck}_{place}.{name}")


def _entries() -> Iterator[tuple[str, Param]]:
    for deck in DECK_NAMES:
        for stem in STEM_NAMES:
            yield from ((f"{deck}_{stem}.{param.name}", param) for param in STEM_PARAMS)
        yield from ((f"{deck}_sends.{param.name}", param) for param in GLOBAL_PARAMS)


ENTRIES = dict(_entries())
"""Label -> Param of each number, in order: what a head that speaks 0..1 needs to know."""
LABELS = tuple(ENTRIES)
"""One name a number, 54 of them: a_drums.gain ... b_sends.delay_feedback; those of the graph's spec too."""
RANGES = tuple((param.low, param.high) for param in ENTRIES.values())


def get_default_params(
    n_frames: int, batch_size: int = 1, device: torch.device | str | None = None
) -> Tensor:
    """Deck A as it is, deck B's faders down, no effects: [batch_size, n_frames, 54]."""
    values = [
        0.0 if label[0] == "b" and label.endswith(".gain") else ENTRIES[label].default for label in LABELS
    ]
    return _curves(values, n_frames, batch_size, device)


def recommended_start(n_frames: int, batch_size: int = 1, device: torch.device | str | None = None) -> Tensor:
    """Where a fit of all 54 numbers should begin, [batch_size, n_frames, 54]: each has a gradient here.

    Both decks at 0.7, low-passes at 10 kHz, high-passes at 40 Hz, a little of both effects. At the neutral
    settings a fader that is down hides its strip, and a closed send its feedback.
    """
    return _curves([START[label.split(".")[1]] for label in LABELS], n_frames, batch_size, device)


def get_param_info() -> dict[str, object]:
    """Counts, names, ranges and the layout in words."""
    return {
        "total_params": N_TOTAL_PARAMS,
        "params_per_track": N_PARAMS_PER_TRACK,
        "n_stems": N_STEMS,
        "stem_names": list(STEM_NAMES),
        "stem_param_names": list(STEM_PARAM_NAMES),
        "n_stem_params": N_STEM_PARAMS,
        "global_param_names": list(GLOBAL_PARAM_NAMES),
        "n_global_params": N_GLOBAL_PARAMS,
        "param_ranges": {param.name: (param.low, param.high) for param in (*STEM_PARAMS, *GLOBAL_PARAMS)},
        "layout": "\n".join(f"{place:2d} {label}" for place, label in enumerate(LABELS)),
    }


def checked(params: Tensor) -> Tensor:
    """params [B, F, 54] or [F, 54] -> [B, F, 54], shapes and values looked at, held inside their ranges.

    Raises ValueError naming the number that is NaN or infinite. What lies outside its range is held at the
    end of it; its gradient is passed on where it leads back inside and is 0 where it leads further out.
    """
    if not isinstance(params, Tensor) or params.ndim not in (2, 3) or params.shape[-1] != N_TOTAL_PARAMS:
        shape = tuple(params.shape) if isinstance(params, Tensor) else type(params).__name__
        raise ValueError(f"params: expected [B, F, {N_TOTAL_PARAMS}] or [F, {N_TOTAL_PARAMS}], got {shape}")
    params = params if params.ndim == 3 else params[None]
    if not params.numel() or not params.is_floating_point():
        raise ValueError(f"params: expected floats, got {tuple(params.shape)} of {params.dtype}")
    finite = torch.isfinite(params)
    if not finite.all():
        item, frame, number = (~finite).nonzero()[0].tolist()
        value = params[item, frame, number].item()
        raise ValueError(f"params: {LABELS[number]} is {value} in frame {frame} of item {item}")
    low, high = torch.tensor(RANGES, dtype=params.dtype, device=params.device).unbind(1)
    return _Held.apply(params, low, high)


class ParameterParser:
    """The 54 numbers by name and back: {"stems": {stem: {name: [B, F]}}, "global": {name: [B, F]}} a deck."""

    def parse(self, params: Tensor) -> tuple[dict, dict]:
        """[B, F, 54] or [F, 54] -> deck A, deck B."""
        params = checked(params)
        return tuple(self._deck(params, deck) for deck in DECK_NAMES)

    def flatten(self, deck_a: dict, deck_b: dict) -> Tensor:
        """The inverse of `parse`: [B, F, 54]."""
        columns = []
        for deck in (deck_a, deck_b):
            columns += [deck["stems"][stem][name] for stem in STEM_NAMES for name in STEM_PARAM_NAMES]
            columns += [deck["global"][name] for name in GLOBAL_PARAM_NAMES]
        return torch.stack(columns, -1)

    @staticmethod
    def _deck(params: Tensor, deck: str) -> dict:
        return {
            "stems": {
                stem: {name: params[..., index_of(deck, stem, name)] for name in STEM_PARAM_NAMES}
                for stem in STEM_NAMES
            },
            "global": {name: params[..., index_of(deck, "sends", name)] for name in GLOBAL_PARAM_NAMES},
        }


def _curves(values: list[float], n_frames: int, batch: int, device: torch.device | str | None) -> Tensor:
    return torch.tensor(values, device=device).repeat(batch, n_frames, 1)


class _Held(torch.autograd.Function):
    """Clamped; a gradient that a step of descent would follow outwards is dropped at the end."""

    @staticmethod
    def forward(ctx, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        ctx.save_for_backward(x, low, high)
        return torch.minimum(torch.maximum(x, low), high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, low, high = ctx.saved_tensors
        outwards = (x > high) & (grad < 0) | (x < low) & (grad > 0)
        return grad.masked_fill(outwards, 0.0), None, None
