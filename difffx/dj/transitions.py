"""How DJs go from one track to the next: rules that draw the 54 curves, counted in bars."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from difffx.dj.crossfader import FADES, fade
from difffx.dj.layout import STEM_NAMES, get_default_params, index_of
from difffx.params import unknown

BEATS_PER_BAR = 4


class Curves:
    """The 54 curves of a transition while they are drawn; what is not drawn stays neutral, both faders up."""

    def __init__(self, frames: int) -> None:
        self.values = get_default_params(frames)[0].double()
        self.stems(("b",), "gain", torch.ones(frames))

    def stems(
        self, decks: Sequence[str], name: str, curve: Tensor, stems: Sequence[str] = STEM_NAMES
    ) -> None:
        for deck in decks:
            for stem in stems:
                self.values[:, index_of(deck, stem, name)] = curve.double()

    def send(self, deck: str, name: str, curve: Tensor) -> None:
        self.values[:, index_of(deck, "sends", name)] = curve.double()

    def swap(self, name: str, gains: tuple[Tensor, Tensor], stems: Sequence[str] = STEM_NAMES) -> None:
        """One curve of deck A and one of deck B."""
        for deck, gain in zip("ab", gains, strict=True):
            self.stems((deck,), name, gain, stems)


def cut(at: Tensor, bars: float, *, point: float = 0.5, beats: float = 0.0) -> Curves:
    """Deck B instead of deck A, at once or within some beats that end on the downbeat.

    point   share of the transition; moved to the nearest downbeat
    """
    curves, downbeat = Curves(len(at)), _downbeat(point, bars)
    curves.swap("gain", fade(_ramp(at, downbeat - beats / BEATS_PER_BAR, downbeat), "linear"))
    return curves


def crossfade(at: Tensor, bars: float, *, fade_type: str = "equal_power") -> Curves:
    """The horizontal fader from one end to the other."""
    if fade_type not in FADES:
        raise ValueError(f"no fade_type {unknown(fade_type, FADES)}")
    curves = Curves(len(at))
    curves.swap("gain", fade(_ramp(at, 0.0, bars), fade_type))
    return curves


def bass_swap(
    at: Tensor,
    bars: float,
    *,
    point: float = 0.5,
    swap_bars: float = 1.0,
    enter: tuple[float, float] = (0.1, 0.4),
    leave: tuple[float, float] = (0.6, 0.9),
) -> Curves:
    """Deck B comes in without its bass; on a downbeat the basses change places; A leaves without its own.

    point          share of the transition where the bass of B is all there; moved to the nearest downbeat
    swap_bars      how long the change takes, before it
    enter, leave   shares between which B comes in and A goes out
    """
    curves, downbeat = Curves(len(at)), _downbeat(point, bars)
    curves.swap("eq_low", fade(_ramp(at, max(downbeat - swap_bars, 0.0), downbeat), "linear"))
    curves.stems("b", "gain", fade(_ramp(at, enter[0] * bars, enter[1] * bars), "equal_power")[1])
    curves.stems("a", "gain", fade(_ramp(at, leave[0] * bars, leave[1] * bars), "equal_power")[0])
    return curves


def filter_sweep(at: Tensor, bars: float, *, lowest: float = 0.25, highest: float = 0.6) -> Curves:
    """Deck A goes under a falling low-pass while deck B comes out of a high-pass that opens downwards.

    lowest    where A's low-pass ends, 0..1: 0.25 is 112 Hz
    highest   where B's high-pass begins, 0..1: 0.6 is 1262 Hz
    """
    curves = Curves(len(at))
    curves.stems("b", "hpf", highest * (1.0 - _ramp(at, 0.0, 0.6 * bars)))
    curves.stems("b", "gain", fade(_ramp(at, 0.0, 0.25 * bars), "equal_power")[1])
    curves.stems("a", "lpf", 1.0 - (1.0 - lowest) * _ramp(at, 0.4 * bars, 0.9 * bars))
    curves.stems("a", "gain", fade(_ramp(at, 0.75 * bars, bars), "equal_power")[0])
    return curves


def echo_out(
    at: Tensor,
    bars: float,
    *,
    point: float = 0.5,
    throw_bars: float = 1.0,
    send: float = 0.8,
    feedback: float = 0.8,
) -> Curves:
    """The last bar of deck A is thrown into the echo, A is cut, and its echoes fade over deck B.

    point        share of the transition where A ends and B begins; moved to the nearest downbeat
    throw_bars   how long before it the send is open
    send         how much is thrown
    feedback     how long it rings; taken down over the last quarter
    """
    curves, downbeat = Curves(len(at)), _downbeat(point, bars)
    start = max(downbeat - throw_bars, 0.0)
    curves.swap("gain", fade(_ramp(at, downbeat, downbeat), "linear"))
    opened = _ramp(at, start, 0.5 * (start + downbeat)) * (1.0 - _ramp(at, downbeat, downbeat))
    curves.send("a", "delay_send", send * opened)
    rings = _ramp(at, start, start) * (1.0 - _ramp(at, max(0.75 * bars, downbeat), bars))
    curves.send("a", "delay_feedback", feedback * rings)
    return curves


def spectral_handover(
    at: Tensor,
    bars: float,
    *,
    low: float = 0.25,
    mid: float = 0.65,
    high: float = 0.45,
    width: float = 0.3,
) -> Curves:
    """Bass, treble and middle change hands one after the other, each at equal power.

    low, mid, high   shares of the transition where each is half way
    width            share that each of them takes
    """
    curves = Curves(len(at))
    for name, center in (("eq_low", low), ("eq_mid", mid), ("eq_high", high)):
        ends = max(center - 0.5 * width, 0.0) * bars, min(center + 0.5 * width, 1.0) * bars
        curves.swap(name, fade(_ramp(at, *ends), "equal_power"))
    curves.swap("gain", ((at < bars).double(), (at > 0.0).double()))
    return curves


def vocal_safe(at: Tensor, bars: float, *, point: float = 0.5, fade_bars: float = 2.0) -> Curves:
    """A crossfade in which two voices are never heard together: A's is gone before B's begins.

    point       share of the transition where the voices change; moved to the nearest downbeat
    fade_bars   how long each of them takes
    """
    curves, downbeat = crossfade(at, bars), _downbeat(point, bars)
    length = min(fade_bars, downbeat, bars - downbeat)
    out = fade(_ramp(at, downbeat - length, downbeat), "equal_power")[0]
    back = fade(_ramp(at, downbeat, downbeat + length), "equal_power")[1]
    curves.swap("gain", (out, back), ("vocals",))
    return curves


def drum_swap(at: Tensor, bars: float, *, point: float = 0.5, beats: float = 1.0) -> Curves:
    """The drums change on a downbeat, all else crossfades around them.

    point   share of the transition; moved to the nearest downbeat
    beats   how long the change takes, before it
    """
    curves, downbeat = crossfade(at, bars), _downbeat(point, bars)
    curves.swap("gain", fade(_ramp(at, downbeat - beats / BEATS_PER_BAR, downbeat), "linear"), ("drums",))
    return curves


TRANSITIONS: dict[str, Callable[..., Curves]] = {
    rule.__name__: rule
    for rule in (
        cut,
        crossfade,
        bass_swap,
        filter_sweep,
        echo_out,
        spectral_handover,
        vocal_safe,
        drum_swap,
    )
}
"""Rule -> what draws it. All begin with deck A alone and as it is, and end with deck B alone and as it is."""

OPTION_RANGES: dict[str, dict[str, tuple | list]] = {
    "cut": {"point": (0.15, 0.85), "beats": [0.0, 0.0, 0.5, 1.0, 2.0, 4.0]},
    "crossfade": {"fade_type": list(FADES)},
    "bass_swap": {
        "point": (0.25, 0.75),
        "swap_bars": [0.0, 0.25, 0.5, 1.0, 2.0],
        "enter": ((0.0, 0.2), (0.2, 0.5)),
        "leave": ((0.5, 0.8), (0.8, 1.0)),
    },
    "filter_sweep": {"lowest": (0.15, 0.6), "highest": (0.35, 0.85)},
    "echo_out": {
        "point": (0.15, 0.85),
        "throw_bars": [0.25, 0.5, 1.0, 2.0],
        "send": (0.3, 1.0),
        "feedback": (0.3, 1.0),
    },
    "spectral_handover": {
        "low": (0.15, 0.85),
        "mid": (0.15, 0.85),
        "high": (0.15, 0.85),
        "width": (0.05, 0.6),
    },
    "vocal_safe": {"point": (0.25, 0.75), "fade_bars": [0.25, 0.5, 1.0, 2.0, 4.0]},
    "drum_swap": {"point": (0.2, 0.8), "beats": [0.0, 0.5, 1.0, 2.0, 4.0]},
}
"""Rule -> option -> what it may be: (low, high), [choices], or ((low, high), (low, high)) for two numbers."""


def transition(
    name: str,
    frames: int,
    bars: float = 16.0,
    *,
    seconds: float | None = None,
    tempo_bpm: float | None = None,
    downbeats_s: Sequence[float] | Tensor | None = None,
    start_s: float = 0.0,
    **options: object,
) -> Tensor:
    """Curves of a transition by its name, [frames, 54]: transition("bass_swap", 64, bars=16).

    name          a rule of `TRANSITIONS`
    frames        points of the curves, the first at the first sample, the last at the last
    bars          how long the transition takes
    seconds       length of what is rendered; None: the transition fills it
    tempo_bpm     with seconds: where the bars are, four beats each from start_s on
    downbeats_s   with seconds: where they are, as they were found; the transition starts at the one nearest
                  to start_s
    options       of the rule, such as point=0.25

    Raises ValueError naming an unknown rule or option.
    """
    if name not in TRANSITIONS:
        raise ValueError(f"no transition {unknown(name, TRANSITIONS)}")
    if frames < 1 or not bars > 0:
        raise ValueError(
            f"transition: expected frames of 1 or more and bars above 0, got {frames} and {bars}"
        )
    known = [
        option for option in inspect.signature(TRANSITIONS[name]).parameters if option not in ("at", "bars")
    ]
    for option in options:
        if option not in known:
            raise ValueError(f"transition {name}: no option {unknown(option, known)}")
    at = bar_positions(frames, bars, seconds, tempo_bpm, downbeats_s, start_s)
    return TRANSITIONS[name](at, float(bars), **options).values.float()


def draw_options(rng: np.random.Generator, name: str) -> dict[str, object]:
    """Every option of a rule at random within `OPTION_RANGES`: what `transition` takes."""
    return {option: _drawn(rng, among) for option, among in OPTION_RANGES[name].items()}


def bar_positions(
    frames: int,
    bars: float,
    seconds: float | None = None,
    tempo_bpm: float | None = None,
    downbeats_s: Sequence[float] | Tensor | None = None,
    start_s: float = 0.0,
) -> Tensor:
    """Where each frame lies, in bars from the start of the transition, [frames] in float64."""
    if seconds is None:
        if tempo_bpm is not None or downbeats_s is not None:
            raise ValueError("a tempo or a beat grid needs the length of what is rendered: seconds=...")
        return torch.linspace(0.0, bars, frames, dtype=torch.float64)
    times = torch.linspace(0.0, seconds, frames, dtype=torch.float64)
    if downbeats_s is not None:
        grid = torch.as_tensor(downbeats_s, dtype=torch.float64)
        if grid.ndim != 1 or len(grid) < 2 or not (grid.diff() > 0).all():
            raise ValueError("downbeats_s: expected two or more times, each later than the one before")
        left = (torch.searchsorted(grid, times, right=True) - 1).clamp(0, len(grid) - 2)
        place = left + (times - grid[left]) / (grid[left + 1] - grid[left])
        return place - (grid - start_s).abs().argmin()
    if tempo_bpm is None or not tempo_bpm > 0:
        raise ValueError(f"expected tempo_bpm above 0, or downbeats_s, got {tempo_bpm!r}")
    return (times - start_s) * (tempo_bpm / 60.0 / BEATS_PER_BAR)


def _drawn(rng: np.random.Generator, among: tuple | list) -> object:
    if isinstance(among, list):
        return among[rng.integers(len(among))]
    if isinstance(among[0], tuple):
        return tuple(_drawn(rng, each) for each in among)
    return rng.uniform(*among)


def _ramp(at: Tensor, start: float, end: float) -> Tensor:
    """0 before the start, 1 from the end on; a step where they are the same."""
    if end <= start:
        return (at >= end).to(at.dtype)
    return ((at - start) / (end - start)).clamp(0.0, 1.0)


def _downbeat(point: float, bars: float) -> float:
    """The downbeat nearest to a share of the transition; of less than two bars, the share itself."""
    if not 0.0 < point < 1.0:
        raise ValueError(f"point: expected a share of the transition between 0 and 1, got {point!r}")
    return min(max(float(round(point * bars)), 1.0), bars - 1.0) if bars >= 2.0 else point * bars
