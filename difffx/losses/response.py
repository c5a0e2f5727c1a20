"""A loss that looks at what settings do, without rendering anything."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from difffx.functional.spectra import mel_bank, normalize_rms, stft_magnitude
from difffx.graph import ProcessorGraph
from difffx.losses.base import Loss
from difffx.losses.estimate import Estimate
from difffx.params import ControlSpec


class Response(Loss):
    """How far apart two settings of a chain bend the spectrum, at equal loudness; other knobs by distance.

    Knobs of an effect that is off do not count; whether it is on, only as far as the spectrum shows it.

    graph         whose settings are compared; those of its nodes that know their `response` add up, in dB
    other_weight  of the mean squared distance in 0..1 of the knobs of all other nodes

    `response` is the mean absolute difference of the two curves at the centers of the bands of `Mel`, in
    natural logarithms, after taking off what both gain in RMS with the spectrum of the target: what `Mel`
    reads for two equalizers, except for what a compressor makes of it. Costs no rendering and no backward
    pass through effects, so that a step of training is several times cheaper than one with `Mel`.
    """

    def __init__(
        self,
        graph: ProcessorGraph,
        sample_rate: int,
        n_fft: int = 4096,
        bands: int = 128,
        weight: float = 1.0,
        other_weight: float = 3.0,
    ) -> None:
        super().__init__({"response": weight, "others": other_weight})
        self.graph = (graph,)  # not a part of this module: its weights belong to the task
        self.n_fft = n_fft
        bank = mel_bank(sample_rate, n_fft, bands)
        bank = bank / bank.sum(1, keepdim=True)
        centers_hz = bank @ torch.linspace(0.0, sample_rate / 2, bank.shape[1])
        self.register_buffer("bank", bank, persistent=False)
        self.register_buffer("centers_hz", centers_hz, persistent=False)
        self.register_buffer(
            "widths", centers_hz.diff(append=centers_hz[-1:]).clamp(min=1.0), persistent=False
        )
        curved = tuple(f"{path}." for path, leaf in graph.leaves() if hasattr(leaf, "response"))
        labels, switches = graph.spec.labels, graph.spec.switches
        apart = [i for i, label in enumerate(labels) if not label.startswith(curved)]
        self.others = [i for i in apart if i not in switches]
        self.curved = len(apart) < len(labels)

    def require(self, sfx: ControlSpec, afx: ControlSpec) -> None:
        found = [problem for spec in (sfx, afx) for problem in self.graph[0].spec.differences(spec)]
        if found:
            raise ValueError(
                f"Response compares settings of one graph, and here they differ: {'; '.join(found)}"
            )

    def measure(self, pred: Estimate, target: Estimate) -> dict[str, Tensor]:
        if pred.z is None or target.z is None:
            raise ValueError("Response: both estimates need z; this data has sound only, choose loss=mel")
        if pred.z.shape != target.z.shape:
            raise ValueError(f"Response: z {tuple(pred.z.shape)} against {tuple(target.z.shape)}")
        zero = pred.z.new_zeros(())
        terms = {"response": zero, "others": zero}
        if self.others:
            terms["others"] = target.mean_squared_distance(pred.z, self.others)
        if self.curved:
            with torch.no_grad():
                power, goal = self._power(target.audio), self._curve(target.z)
            apart = self._curve(pred.z) - goal
            louder = 0.5 * (power * torch.exp(2.0 * apart)).sum(-1, keepdim=True).log()
            terms["response"] = (apart - louder).abs().mean()
        return terms

    def _curve(self, z: Tensor) -> Tensor:
        """z [B, P, 1] -> [B, bands], the natural logarithm of the amplitude response."""
        graph = self.graph[0]
        return graph.response(graph.from_unit(z), self.centers_hz).to(z.dtype) * (math.log(10.0) / 20.0)

    def _power(self, audio: Tensor) -> Tensor:
        """[B, C, T] -> [B, bands], the share of each band in the power of the whole."""
        lines = stft_magnitude(normalize_rms(audio), self.n_fft, self.n_fft).square().mean((1, 3))
        power = lines @ self.bank.to(lines).T * self.widths
        return power / power.sum(-1, keepdim=True)
