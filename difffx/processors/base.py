"""The contract of every effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from difffx.params import Controls, ControlSpec, Param, unknown, with_ranges


class Processor(nn.Module):
    """Audio in, named controls in, audio out.

    A subclass gives a table of `params` and a `process`; it holds no audio parameters of its own.

    params          the knobs, in the order a network sees them
    inputs          the names of the signals it hears, in order; ("audio", "key") for a sidechain
    variadic        True where any number of inputs is taken, such as a sum
    differentiable  False where the gradient must come from a proxy or from perturbation
    wants_proxy     True for what afx=proxy replaces: black boxes and recursive dynamics
    stereo          True for what needs two channels: mono comes in as two equal ones, stereo goes out
    neutral         settings at which the sound passes unchanged, the other knobs anywhere; None if none do

    ranges at construction narrow or widen knobs: Compressor(44_100, ranges={"ratio": [2, 8]}).

    Docstrings end with what an effect costs: nanoseconds for each sample of eight items, static knobs, two
    cores, compiled where there is a kernel (`python scripts/benchmark.py effects --no-peers`); and how many
    bytes of each sample of float32 are kept for the gradient, its own four among them.
    """

    params: tuple[Param, ...] = ()
    inputs: tuple[str, ...] = ("audio",)
    variadic: bool = False
    differentiable: bool = True
    wants_proxy: bool = False
    stereo: bool = False
    neutral: Mapping[str, float] | None = None

    def __init__(self, sample_rate: int, ranges: Mapping[str, Sequence[float]] | None = None) -> None:
        super().__init__()
        if int(sample_rate) != sample_rate or sample_rate <= 0:
            raise ValueError(
                f"{type(self).__name__}: sample_rate must be a positive whole number, got {sample_rate!r}"
            )
        self.sample_rate = int(sample_rate)
        try:
            self.params = with_ranges(self.params, ranges)
        except ValueError as error:
            raise ValueError(f"{type(self).__name__}: {error}") from None

    @property
    def spec(self) -> ControlSpec:
        """The knobs a network may set."""
        return ControlSpec({param.name: param for param in self.params})

    def from_unit(self, z: Tensor) -> Controls:
        """z [B, P, F] in 0..1 -> physical controls."""
        return self.spec.unflatten(z)

    def to_unit(self, controls: Controls) -> Tensor:
        """Physical controls -> z [B, P, F]."""
        return self.spec.flatten(controls)

    def as_stereo(self, x: Tensor) -> Tensor:
        """What a `stereo` effect hears of x [B, 1 or 2, T]; overridden where mono is a case of its own."""
        return x.expand(-1, 2, -1)

    def process(self, *inputs: Tensor, **controls: Tensor) -> Tensor:
        """inputs [B, C, T], controls [B or 1, K, F] in physical units -> [B, C, T]. Subclasses write this."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor, controls: Controls | None = None, **knobs: float | Tensor) -> Tensor:
        """inputs [B, C, T]; knobs as floats, [B, K, F] tensors, or in one dictionary.

        Missing knobs take their default. Names and shapes are checked; a check of values would stop a GPU.
        """
        given = {**(controls or {}), **knobs}
        self._check_inputs(inputs)
        names = {param.name: param for param in self.params}
        for name in given:
            if name not in names:
                raise ValueError(f"{type(self).__name__}: no knob {unknown(name, names)}")
        like = inputs[0] if inputs else torch.zeros(1)
        batch = max([x.shape[0] for x in inputs], default=None)
        values = {
            name: self._control(param, given.get(name, param.default), like, batch)
            for name, param in names.items()
        }
        if self.stereo:
            inputs = tuple(self.as_stereo(x) for x in inputs)
        return self.process(*inputs, **values)

    def _check_inputs(self, inputs: Sequence[Tensor]) -> None:
        name = type(self).__name__
        if not self.variadic and len(inputs) != len(self.inputs):
            raise ValueError(
                f"{name}: expected {len(self.inputs)} input(s) {list(self.inputs)}, got {len(inputs)}"
            )
        if self.variadic and not inputs:
            raise ValueError(f"{name}: expected at least one input")
        for x in inputs:
            if not isinstance(x, Tensor) or x.ndim != 3:
                shape = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
                raise ValueError(f"{name}: expected audio [B, C, T], got {shape}")
            if x.shape[-1] == 0:
                raise ValueError(f"{name}: the audio is empty, [B, C, 0]")
            if self.stereo and x.shape[1] not in (1, 2):
                raise ValueError(f"{name}: expected mono or stereo audio, got {x.shape[1]} channels")
            if (x.shape[0], x.shape[2]) != (inputs[0].shape[0], inputs[0].shape[2]):
                shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
                raise ValueError(f"{name}: the inputs differ in batch or length: {shapes}")

    def _control(self, param: Param, value: float | Tensor, like: Tensor, batch: int | None) -> Tensor:
        name = f"{type(self).__name__}.{param.name}"
        if not isinstance(value, Tensor) or value.ndim == 0:
            value = torch.as_tensor(value, dtype=like.dtype, device=like.device).reshape(1, -1, 1)
            value = value.expand(1, param.size, 1) if value.shape[1] == 1 else value
        rows = value.shape[0] if batch is None or value.shape[0] == 1 else batch
        if value.ndim != 3 or value.shape[0] != rows or value.shape[1] != param.size:
            raise ValueError(f"{name}: expected [{batch or 'B'}, {param.size}, F], got {tuple(value.shape)}")
        if value.shape[2] != 1 and not param.dynamic:
            raise ValueError(
                f"{name} is static: expected [{batch or 'B'}, {param.size}, 1], got {tuple(value.shape)}"
            )
        return value
