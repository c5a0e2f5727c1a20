"""Who sets a knob: predicted by a network, fixed, learned, or tied to another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from difffx.params import Controls, ControlSpec, Param, flatten_tree, unknown


@dataclass(frozen=True)
class Setting:
    """How one knob is set: kind is predicted, fixed (value), learned or tied (source)."""

    param: Param
    kind: str = "predicted"
    value: float | tuple[float, ...] | None = None
    source: str | None = None


def read_settings(specs: Mapping[str, ControlSpec], written: Mapping) -> tuple[dict[str, Setting], list[str]]:
    """The `set` of a graph against the specs of its nodes -> {node.knob: Setting}, and the problems."""
    settings = {
        f"{node}.{path}": Setting(p) for node, spec in specs.items() for path, p in spec.entries.items()
    }
    problems: list[str] = []
    for path, value in _flat_set(written).items():
        node = path.split(".")[0]
        if node not in specs:
            problems.append(f"set.{path}: there is no processor {unknown(node, specs)}")
        elif path not in settings:
            knobs = [known for known in settings if known.startswith(f"{node}.")]
            problems.append(f"set.{path}: no knob {unknown(path, knobs)}")
        else:
            settings[path], wrong = _read(path, settings[path].param, value, settings)
            problems += wrong
    for path, setting in settings.items():
        seen = [path]
        while setting.kind == "tied" and setting.source in settings and setting.source not in seen:
            seen.append(setting.source)
            setting = settings[setting.source]
        if setting.kind == "tied" and setting.source in seen:
            problems.append(f"set.{path}: tied in a circle, {' -> '.join([*seen, setting.source])}")
    return settings, problems


def _flat_set(written: Mapping) -> dict[str, object]:
    flat: dict[str, object] = {}
    for path, value in flatten_tree(written).items():
        stem, _, last = path.rpartition(".")
        flat.update({stem: {"same_as": value}} if last == "same_as" else {path: value})
    return flat


def _read(
    path: str, param: Param, value: object, settings: Mapping[str, Setting]
) -> tuple[Setting, list[str]]:
    if value in ("predicted", "learned"):
        return Setting(param, str(value)), []
    if isinstance(value, Mapping):
        source = str(value["same_as"])
        if source not in settings:
            return Setting(param), [f"set.{path}.same_as: no knob {unknown(source, settings)}"]
        other = settings[source].param
        if other.size != param.size or other.low < param.low or other.high > param.high:
            theirs, mine = (f"{p.size} value(s) {p.low:g}..{p.high:g}" for p in (other, param))
            return Setting(param), [f"set.{path}.same_as: {source} does not fit, {theirs} against {mine}"]
        return Setting(param, "tied", source=source), []
    numbers = (
        tuple(value)
        if isinstance(value, (list, tuple)) or (hasattr(value, "__iter__") and not isinstance(value, str))
        else (value,)
    )
    if len(numbers) not in (1, param.size) or not all(isinstance(n, (int, float)) for n in numbers):
        kinds = "a number" if param.size == 1 else f"a number or {param.size} of them"
        return Setting(param), [
            f"set.{path}: expected {kinds}, 'learned', 'predicted' or {{same_as: node.knob}}, got {value!r}"
        ]
    try:
        for number in numbers:
            param.check(number)
    except ValueError as error:
        return Setting(param), [f"set.{path}: {error}"]
    return Setting(param, "fixed", value=tuple(float(n) for n in numbers)), []


class KnobSettings(nn.Module):
    """Adds to the predicted controls those that are fixed, learned or tied.

    A learned knob is one trainable number for all items, kept inside its range by a sigmoid; it starts at its
    default.
    """

    def __init__(self, settings: Mapping[str, Setting]) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.learned = nn.ParameterDict()
        for path, setting in self.settings.items():
            if setting.kind == "learned":
                start = setting.param.to_unit(torch.tensor(setting.param.defaults)).reshape(1, -1, 1)
                self.learned[path.replace(".", "/")] = nn.Parameter(torch.logit(start.clamp(0.02, 0.98)))

    @property
    def predicted(self) -> dict[str, Param]:
        return {path: s.param for path, s in self.settings.items() if s.kind == "predicted"}

    def complete(
        self, spec: ControlSpec, controls: Controls | None, like: Tensor | None
    ) -> dict[str, Controls]:
        """Predicted controls, nested -> every node's controls, nested by node."""
        like = torch.zeros(1) if like is None else like
        if controls is None:
            controls = spec.unflatten(spec.defaults().to(like)) if len(spec) else {}
        predicted = spec.check(controls)
        flat = {path: self._value(path, predicted, like) for path in self.settings}
        return ControlSpec.tree(flat)

    def _value(self, path: str, predicted: Mapping[str, Tensor], like: Tensor) -> Tensor:
        setting = self.settings[path]
        if setting.kind == "tied":
            return self._value(setting.source, predicted, like)
        if setting.kind == "learned":
            return setting.param.from_unit(torch.sigmoid(self.learned[path.replace(".", "/")])).to(like)
        if setting.kind == "fixed":
            return (
                torch.tensor(setting.value, dtype=like.dtype, device=like.device)
                .reshape(1, -1, 1)
                .expand(1, setting.param.size, 1)
            )
        return predicted[path]
