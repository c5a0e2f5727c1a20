"""Ranges, units, order and names of the knobs: one file, read by everybody."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

Controls = dict[str, "Tensor | Controls"]
Preset = dict[str, "float | list[float] | Preset"]

UNITS = {"db": "dB", "hz": "Hz", "ms": "ms"}


@dataclass(frozen=True)
class Param:
    """One knob of an effect: what it is called, where it may stand, how a network's 0..1 maps onto it.

    name      with its unit: cutoff_hz, attack_ms, gain_db; no unit means 0..1 or a plain number
    low, high the closed range, in that unit
    default   the neutral or usual value; one number, or one for each of the K
    scale     "linear", or "log": equal ratios for equal steps of the unit interval
    size      K values behind one name, such as the gains of a graphic equalizer
    dynamic   True where the knob may move over time, F > 1
    chance    of a switch, whose settings are 0 or 1: how often it is drawn as 1. None: no switch

    Raises ValueError where the default lies outside the range or a logarithmic range reaches zero.
    """

    name: str
    low: float
    high: float
    default: float | tuple[float, ...]
    scale: str = "linear"
    size: int = 1
    dynamic: bool = False
    chance: float | None = None

    def __post_init__(self) -> None:
        if not all(math.isfinite(v) for v in (self.low, self.high, *self.defaults)):
            raise ValueError(
                f"{self.name}: range {self.low}..{self.high}, default {self.default}: not finite"
            )
        if not self.low < self.high:
            raise ValueError(f"{self.name}: the range {self.low:g}..{self.high:g} is empty")
        if not all(self.low <= v <= self.high for v in self.defaults):
            raise ValueError(f"{self.name}: default {self.default} is outside {self.low:g}..{self.high:g}")
        if self.scale not in ("linear", "log"):
            raise ValueError(f"{self.name}: scale {self.scale!r} is neither 'linear' nor 'log'")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"{self.name}: a logarithmic range must be above zero, got {self.low:g}")
        if self.size < 1:
            raise ValueError(f"{self.name}: size must be at least 1, got {self.size}")
        if len(self.defaults) != self.size:
            raise ValueError(f"{self.name}: expected {self.size} defaults, got {len(self.defaults)}")
        if self.chance is not None and not ((self.low, self.high) == (0, 1) and 0 <= self.chance <= 1):
            raise ValueError(f"{self.name}: a switch goes from 0 to 1 with a chance in 0..1")

    @property
    def defaults(self) -> tuple[float, ...]:
        """The default of each of the K values."""
        return self.default if isinstance(self.default, tuple) else (self.default,) * max(self.size, 1)

    @property
    def unit(self) -> str:
        """dB, Hz, ms, or nothing."""
        return UNITS.get(self.name.rsplit("_", 1)[-1], "")

    def from_unit(self, z: Tensor) -> Tensor:
        """0..1 to physical; any shape. Stays inside the range although float32 rounds."""
        if self.scale == "log":
            value = torch.exp(math.log(self.low) + z * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + z * (self.high - self.low)
        return value.clamp(self.low, self.high)

    def to_unit(self, value: Tensor) -> Tensor:
        """Physical to 0..1; any shape."""
        if self.scale == "log":
            return (torch.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return (value - self.low) / (self.high - self.low)

    def with_range(self, low: float, high: float) -> Param:
        """The same knob on another range; a default that falls outside moves to the nearer end."""
        low, high = float(low), float(high)
        inside = tuple(min(max(value, low), high) for value in self.defaults)
        default = inside if isinstance(self.default, tuple) else inside[0]
        return replace(self, low=low, high=high, default=default)

    def check(self, value: float) -> None:
        """Raises ValueError where a value read from a file or typed by hand is out of range."""
        if not self.low <= value <= self.high:
            raise ValueError(f"{value:g} is outside {self.low:g}..{self.high:g} {self.unit}".rstrip())


def with_ranges(params: Sequence[Param], ranges: Mapping[str, Sequence[float]] | None) -> tuple[Param, ...]:
    """The table with some ranges replaced; an unknown knob is refused with the nearest name."""
    known = {param.name: param for param in params}
    for name, pair in (ranges or {}).items():
        if name not in known:
            raise ValueError(f"ranges: no knob {unknown(name, known)}")
        if len(pair) != 2:
            raise ValueError(f"ranges.{name}: expected [low, high], got {list(pair)}")
        known[name] = known[name].with_range(*pair)
    return tuple(known.values())


def unknown(name: str, known: Sequence[str] | Mapping) -> str:
    """'tresh' (did you mean 'threshold_db'?); known: ... : the tail of every such message."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.5)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return f"{name!r}{hint}; known: {', '.join(known) or 'none'}"


class ControlSpec:
    """The only translator between a network's z [B, P, F] and named physical controls [B, K, F].

    entries   dotted path -> Param, in order: {"comp.threshold_db": Param(...), ...}. Controls are nested
              dictionaries along the dots; the spec of a single effect has no dots and its controls are flat.
    """

    def __init__(self, entries: Mapping[str, Param]) -> None:
        self.entries = dict(entries)
        self.slices: dict[str, slice] = {}
        start = 0
        for path, param in self.entries.items():
            self.slices[path] = slice(start, start + param.size)
            start += param.size
        self._length = start

    def __len__(self) -> int:
        return self._length

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ControlSpec) and not self.differences(other)

    __hash__ = None

    @property
    def names(self) -> list[str]:
        """One name a knob: comp.threshold_db, geq.gain_db."""
        return list(self.entries)

    @property
    def labels(self) -> list[str]:
        """One name a value, P of them: comp.threshold_db, geq.gain_db[0], ..."""
        return [
            path if param.size == 1 else f"{path}[{k}]"
            for path, param in self.entries.items()
            for k in range(param.size)
        ]

    def unflatten(self, z: Tensor) -> Controls:
        """z [B, P, F] in 0..1 -> {node: {knob: [B, K, F]}} in physical units."""
        if z.ndim != 3 or z.shape[1] != len(self):
            raise ValueError(f"z: expected [B, {len(self)}, F], got {tuple(z.shape)}")
        return self.tree(
            {path: self.entries[path].from_unit(z[:, span]) for path, span in self.slices.items()}
        )

    def flatten(self, controls: Controls) -> Tensor:
        """The inverse, {node: {knob: [B, K, F]}} -> z [B, P, F]; static knobs stretch to curves."""
        flat = self.check(controls)
        if not self.entries:
            raise ValueError("this spec has no knobs to flatten")
        parts = [param.to_unit(flat[path]) for path, param in self.entries.items()]
        batch, frames = max(p.shape[0] for p in parts), max(p.shape[-1] for p in parts)
        return torch.cat([p.expand(batch, p.shape[1], frames) for p in parts], 1)

    def sample(self, batch: int, frames: int = 1, generator: torch.Generator | None = None) -> Tensor:
        """Independent uniform settings, z [B, P, F]; switches are 0 or 1."""
        z = torch.rand(batch, len(self), frames, generator=generator)
        for path, param in self.entries.items():
            if param.chance is not None:
                z[:, self.slices[path]] = (z[:, self.slices[path]] < param.chance).to(z.dtype)
        return z

    @property
    def switches(self) -> list[int]:
        """Which of the P values are switches."""
        marks = [param.chance is not None for param in self.entries.values() for _ in range(param.size)]
        return [place for place, mark in enumerate(marks) if mark]

    def decided(self, z: Tensor) -> Tensor:
        """z [B, P, F] with every switch at 0 or 1, whichever is nearer."""
        if not self.switches:
            return z
        places = torch.tensor(self.switches, device=z.device)
        return z.index_copy(1, places, (z[:, places] >= 0.5).to(z.dtype))

    def evened(self, z: Tensor) -> Tensor:
        """z [B, P, F] whose switches hold chances to be on -> those chances had on and off been as frequent.

        What a sound says for itself, whatever the share of the data in which an effect was on (Bayes).
        """
        for path, param in self.entries.items():
            if param.chance is not None and 0.0 < param.chance < 1.0:
                place = self.slices[path]
                on, off = z[:, place] * (1.0 - param.chance), (1.0 - z[:, place]) * param.chance
                z = torch.cat([z[:, : place.start], on / (on + off), z[:, place.stop :]], 1)
        return z

    def heard(self, z: Tensor) -> Tensor:
        """z [B, P, F] -> 1 where a value can be heard, 0 for the knobs of an effect whose switch is off."""
        heard = torch.ones_like(z)
        for path, param in self.entries.items():
            if param.chance is not None:
                node = path.rpartition(".")[0]
                its = [i for i, label in enumerate(self.labels) if label.startswith(f"{node}.") or not node]
                rest = torch.tensor([i for i in its if i not in self.switches], device=z.device)
                heard = heard.index_copy(1, rest, heard[:, rest] * z[:, self.slices[path]])
        return heard

    def defaults(self, batch: int = 1) -> Tensor:
        """Every knob at its default, z [B, P, 1]."""
        parts = [param.to_unit(torch.tensor(param.defaults)) for param in self.entries.values()]
        return torch.cat(parts).reshape(1, -1, 1).repeat(batch, 1, 1) if parts else torch.zeros(batch, 0, 1)

    def preset(self, z: Tensor) -> Preset:
        """One item, z [P, F] or [1, P, F], as plain numbers: JSON, tables. Curves become lists, K > 1 too."""
        flat = self.check(self.unflatten(z.detach().cpu().double().reshape(1, len(self), -1)))
        return self.tree({path: _plain(value[0]) for path, value in flat.items()})

    def from_preset(self, preset: Preset) -> Tensor:
        """Plain numbers, checked against the ranges -> z [1, P, 1]. Raises ValueError naming the knob."""
        flat = self.check(preset)
        values: list[Tensor] = []
        for path, param in self.entries.items():
            numbers = flat[path] if isinstance(flat[path], (list, tuple)) else [flat[path]]
            if len(numbers) != param.size:
                raise ValueError(f"{path}: expected {param.size} numbers, got {len(numbers)}")
            for number in numbers:
                try:
                    param.check(float(number))
                except (TypeError, ValueError) as error:
                    raise ValueError(f"{path}: {error}") from None
            values.append(param.to_unit(torch.tensor(numbers, dtype=torch.float64)))
        return torch.cat(values).float().reshape(1, -1, 1) if values else torch.zeros(1, 0, 1)

    def differences(self, other: ControlSpec) -> list[str]:
        """What keeps two specs from being compared knob by knob; empty where they are the same."""
        found = [f"{path} only here" for path in self.entries if path not in other.entries]
        found += [f"{path} only there" for path in other.entries if path not in self.entries]
        for path, mine in self.entries.items():
            theirs = other.entries.get(path, mine)
            if (mine.low, mine.high, mine.scale, mine.size) != (
                theirs.low,
                theirs.high,
                theirs.scale,
                theirs.size,
            ):
                found.append(f"{path} has another range, scale or size")
        if not found and list(self.entries) != list(other.entries):
            found.append("the same knobs in another order")
        return found

    @staticmethod
    def tree(flat: Mapping[str, object]) -> dict:
        """{"comp.ratio": x} -> {"comp": {"ratio": x}}."""
        tree: dict = {}
        for path, value in flat.items():
            *nodes, knob = path.split(".")
            branch = tree
            for node in nodes:
                branch = branch.setdefault(node, {})
            branch[knob] = value
        return tree

    def check(self, tree: Mapping) -> dict:
        """Nested controls -> {dotted path: value}. Raises ValueError naming missing and surplus knobs."""
        flat = flatten_tree(tree)
        problems = [f"missing control {path}" for path in self.entries if path not in flat]
        problems += [f"no knob {unknown(path, self.entries)}" for path in flat if path not in self.entries]
        if problems:
            raise ValueError("; ".join(problems))
        return flat


def flatten_tree(tree: Mapping, prefix: str = "") -> dict[str, object]:
    """{"comp": {"ratio": x}} -> {"comp.ratio": x}."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        path = f"{prefix}{name}"
        flat.update(flatten_tree(value, f"{path}.") if isinstance(value, Mapping) else {path: value})
    return flat


def _plain(value: Tensor) -> float | list:
    """[K, F] -> a number, a list of K, or a list of K curves."""
    if value.shape[-1] == 1:
        value = value[..., 0]
    return value.tolist()[0] if value.shape[0] == 1 else value.tolist()
