"""Effects around effects: dry beside wet, mid apart from side, a send.

The knobs of what they hold are theirs too, with a prefix: wet_threshold_db, mid_gain_db. A graph can be held
like any effect; the dots in its knobs become underscores: wet_comp_threshold_db.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from difffx.functional.control import at_audio_rate
from difffx.functional.stereo import left_right, mid_side
from difffx.params import Controls, ControlSpec, Param
from difffx.processors.base import Processor


class DryWet(Processor):
    """Any effect beside the sound as it was; its knobs begin with wet_.

    processor   the effect; of several inputs, the first is the dry one
    ranges      of mix and of the knobs by their names here
    """

    neutral: ClassVar = {"mix": 0.0}
    params = (Param("mix", 0.0, 1.0, default=0.5, dynamic=True),)

    def __init__(self, processor: Processor, ranges: Mapping[str, Sequence[float]] | None = None) -> None:
        _check(type(self).__name__, processor=processor)
        self.params = (*self.params, *_prefixed("wet_", processor))
        self.inputs = processor.inputs
        _check_names(type(self).__name__, self.params)
        super().__init__(processor.sample_rate, ranges)
        self.processor = processor
        self.stereo, self.differentiable = _is_stereo(processor), processor.differentiable

    def as_stereo(self, x: Tensor) -> Tensor:
        return x

    def process(self, *inputs: Tensor, mix: Tensor, **controls: Tensor) -> Tensor:
        wet = self.processor(*inputs, controls=_inner("wet_", self.processor, controls))
        dry, wet = torch.broadcast_tensors(inputs[0], wet)
        return torch.lerp(dry, wet, at_audio_rate(mix.to(wet.dtype), wet.shape[-1]))


class Switch(Processor):
    """Any effect that may be off; its knobs keep their names.

    processor   the effect; of several inputs, the first is what passes when it is off
    chance      how often it is on when settings are drawn
    ranges      of the knobs

    `active` is 0 or 1 when drawn. A network's answer between them is how sure it is, and sounds as that much
    of the effect beside the sound as it was, so that a gradient passes. `response`, where the effect knows
    its own, is then that share of the decibels: exact at 0 and 1.
    """

    neutral: ClassVar = {"active": 0.0}
    params = (Param("active", 0.0, 1.0, default=1.0, chance=0.5),)

    def __init__(
        self,
        processor: Processor,
        chance: float = 0.5,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        _check(type(self).__name__, processor=processor)
        (active,) = self.params
        self.params = (replace(active, chance=float(chance)), *_prefixed("", processor))
        self.inputs = processor.inputs
        _check_names(type(self).__name__, self.params)
        super().__init__(processor.sample_rate, ranges)
        self.processor = processor
        self.stereo, self.differentiable = _is_stereo(processor), processor.differentiable
        if hasattr(processor, "response"):
            self.response = self._response

    def as_stereo(self, x: Tensor) -> Tensor:
        return x

    def process(self, *inputs: Tensor, active: Tensor, **controls: Tensor) -> Tensor:
        wet = self.processor(*inputs, controls=_inner("", self.processor, controls))
        dry, wet = torch.broadcast_tensors(inputs[0], wet)
        return torch.lerp(dry, wet, active.to(wet.dtype))

    def _response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        held = {name: value for name, value in controls.items() if name != "active"}
        curve = self.processor.response(_inner("", self.processor, held), frequencies_hz)
        return controls["active"][..., 0].to(curve) * curve


class Send(Processor):
    """The sound, and what a share of it that is sent to an effect comes back as.

    processors   one effect, whose knobs begin with wet_ and whose level is send; or {name: effect}, such as
                 {"reverb": ..., "delay": ...}: levels reverb_send, delay_send, knobs reverb_..., delay_...
    ranges       of the levels and of the knobs by their names here

    The level stands before the effect, as on a desk, so one with a threshold is driven by it.
    """

    neutral: ClassVar = {"send": 0.0}
    params = (Param("send", 0.0, 1.0, default=0.25, dynamic=True),)

    def __init__(
        self,
        processors: Processor | Mapping[str, Processor],
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        name, (level,) = type(self).__name__, self.params
        if isinstance(processors, Mapping):
            held = {f"{key}_": processor for key, processor in processors.items()}
            self.levels = tuple(f"{key}_send" for key in processors)
            self.neutral = dict.fromkeys(self.levels, 0.0)
        else:
            held, self.levels = {"wet_": processors}, ("send",)
        _check(name, **{prefix.rstrip("_"): processor for prefix, processor in held.items()})
        for processor in held.values():
            if len(processor.inputs) != 1:
                raise ValueError(f"{name}: a send has one input, {type(processor).__name__} takes several")
        self.params = tuple(
            param
            for own, (prefix, processor) in zip(self.levels, held.items(), strict=True)
            for param in (replace(level, name=own), *_prefixed(prefix, processor))
        )
        _check_names(name, self.params)
        super().__init__(next(iter(held.values())).sample_rate, ranges)
        self.prefixes, self.processors = tuple(held), nn.ModuleList(held.values())
        self.stereo = any(_is_stereo(processor) for processor in held.values())
        self.differentiable = all(processor.differentiable for processor in held.values())

    def as_stereo(self, x: Tensor) -> Tensor:
        return x

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        y = audio
        for level, prefix, processor in zip(self.levels, self.prefixes, self.processors, strict=True):
            sent = audio * at_audio_rate(controls[level].to(audio.dtype), audio.shape[-1])
            y = y + processor(sent, controls=_inner(prefix, processor, controls))
        return y


class MidSide(Processor):
    """The middle and the sides, each through an effect; knobs begin with mid_ and side_.

    processor   the same effect for both, each with settings of its own; or
    mid, side   one for each; where none is given, that part passes as it is

    mid = (L + R) / 2, side = (L - R) / 2: a threshold means for the mid what it means for a mono sound.
    """

    stereo = True

    def __init__(
        self,
        processor: Processor | None = None,
        mid: Processor | None = None,
        side: Processor | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        name = type(self).__name__
        if (processor is None) == (mid is None and side is None):
            raise ValueError(f"{name}: expected one effect for both, or mid and side")
        if processor is not None:
            mid = side = processor
        held = {part: effect for part, effect in (("mid", mid), ("side", side)) if effect is not None}
        _check(name, **held)
        for part, effect in held.items():
            if _is_stereo(effect) or len(effect.inputs) != 1:
                kind = type(effect).__name__
                raise ValueError(f"{name}: {part} is a mono sound, which {kind} cannot take by itself")
        self.params = tuple(param for part in held for param in _prefixed(f"{part}_", held[part]))
        _check_names(name, self.params)
        super().__init__(next(iter(held.values())).sample_rate, ranges)
        self.mid, self.side = mid, side
        self.differentiable = all(effect.differentiable for effect in held.values())

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        mid, side = mid_side(audio)
        if self.mid is not None:
            mid = self.mid(mid, controls=_inner("mid_", self.mid, controls))
        if self.side is not None:
            side = self.side(side, controls=_inner("side_", self.side, controls))
        return left_right(mid, side)


def _check(name: str, **held: Processor) -> None:
    if not held:
        raise ValueError(f"{name}: expected at least one effect")
    for part, processor in held.items():
        if not isinstance(processor, Processor):
            raise ValueError(f"{name}: {part}: expected an effect, got {type(processor).__name__}")
        outputs = [end for end in getattr(processor, "outputs", {}) if end]
        if processor.variadic or not processor.inputs or outputs:
            kind = type(processor).__name__
            raise ValueError(
                f"{name}: {part}: expected an effect with fixed inputs and one output, got {kind}"
            )
    rates = {processor.sample_rate for processor in held.values()}
    if len(rates) > 1:
        raise ValueError(f"{name}: the effects differ in sample rate: {sorted(rates)}")


def _check_names(name: str, params: Sequence[Param]) -> None:
    names = [param.name for param in params]
    twice = sorted({knob for knob in names if names.count(knob) > 1})
    if twice:
        raise ValueError(f"{name}: two knobs would be called {', '.join(twice)}")


def _is_stereo(processor: Processor) -> bool:
    """Whether it, or anything in it, makes two channels of one."""
    return any(getattr(module, "stereo", False) for module in processor.modules())


def _prefixed(prefix: str, processor: Processor) -> tuple[Param, ...]:
    """The knobs of what is held, under their names outside."""
    return tuple(replace(param, name=_outer(prefix, path)) for path, param in processor.spec.entries.items())


def _inner(prefix: str, processor: Processor, controls: Mapping[str, Tensor]) -> Controls:
    """The way back: what is held gets its own names, nested where it is a graph."""
    return ControlSpec.tree({path: controls[_outer(prefix, path)] for path in processor.spec.entries})


def _outer(prefix: str, path: str) -> str:
    return prefix + path.replace(".", "_")
