"""Teach a network to be an effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from difffx.graph import GraphError, ProcessorGraph
from difffx.losses import Estimate, Mel
from difffx.networks import weight_count
from difffx.params import Controls
from difffx.processors import NeuralProxy, Processor
from difffx.tasks.base import Task
from difffx.tasks.blind import Examples

AUDIBLE = 1e-4


class ProxyTraining(Task):
    """wet = sfx(dry, z);  wet_hat = proxy(dry, z), both with the same knobs.

    sfx      a graph with one node that wants a proxy; the nodes before it decide what it hears
    node     which one, where several or none say so
    network  sizes of the proxy's `MultiRateTCN` that differ from the defaults
    output   "gain" or "audio", see `NeuralProxy`
    weights  of the terms: gain_db, the error of the gain in dB where there is sound; mel, of the sound, since
             a rough gain fills faint high bands that ears and later losses hear; wave, the error of the
             waveform against its RMS
    settings_per_item
             how often each dry sound is in a batch, at other settings: it costs more to make music than to
             imitate an effect on it

    When training ends, proxy.safetensors is in the run folder; `NeuralProxy(effect, weights=...)` reads it.
    """

    def __init__(
        self,
        sfx: ProcessorGraph,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        node: str | None = None,
        network: Mapping | None = None,
        output: str = "gain",
        weights: Mapping[str, float] | None = None,
        settings_per_item: int = 2,
        command: str = "python train.py task=proxy",
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, scheduler, seed)
        self.sfx, self.node, self.command = sfx, _choose(sfx, node), command
        self.settings_per_item = settings_per_item
        self.proxy = NeuralProxy(self.effect, network, weights=None, output=output)
        self.mel = Mel(self.sample_rate)
        self.weights = {"gain_db": 1.0, "mel": 16.0, "wave": 5.0} if weights is None else dict(weights)
        terms = ("gain_db", "mel", "wave") if output == "gain" else ("mel", "wave")
        self.weights = {name: self.weights.get(name, 0.0) for name in terms}

    @property
    def effect(self) -> Processor:
        """The node that is imitated."""
        return self.sfx.processors[self.node]

    @property
    def sample_rate(self) -> int:
        return self.sfx.sample_rate

    def step(self, batch: Mapping, stage: str, index: int) -> Tensor:
        with self.timed("sfx"):
            heard, controls, target = self.render(batch, stage, index)
        with self.timed("afx"):
            wet_hat = self.proxy(*heard, controls=controls)
        with self.timed("loss"):
            terms = self.terms(heard[0], wet_hat, target.audio)
        total = sum(weight * terms[name] for name, weight in self.weights.items())
        return self.log_terms(stage, terms, total, len(wet_hat))

    def terms(self, dry: Tensor, wet_hat: Tensor, wet: Tensor) -> dict[str, Tensor]:
        """Every distance as a scalar."""
        terms = {"mel": self.mel(Estimate(wet_hat), Estimate(wet))["mel"]}
        rms = wet.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-6)
        terms["wave"] = ((wet_hat - wet).abs() / rms).mean()
        if "gain_db" in self.weights:
            sounding = (dry.abs() > AUDIBLE).to(dry.dtype)
            floor = 1e-3 * AUDIBLE
            error_db = 20.0 * ((wet_hat.abs() + floor).log10() - (wet.abs() + floor).log10()).abs()
            terms["gain_db"] = (error_db * sounding).sum() / sounding.sum().clamp(min=1.0)
        return terms

    @torch.no_grad()
    def render(self, batch: Mapping, stage: str, index: int = 0) -> tuple[list[Tensor], Controls, Estimate]:
        """What the node hears, its knobs drawn for this batch, and what comes out of it."""
        batch = self.repeated(batch)
        z = self.draw(self.sfx.spec, batch, stage, index)
        trace = self.sfx.trace(batch["dry"], controls=self.sfx.from_unit(z))
        heard = [trace.signals[source] for source in self.sfx.plan[self.node].values()]
        return heard, trace.controls[self.node], Estimate(trace.signals[self.node], z)

    def repeated(self, batch: Mapping) -> dict:
        """Every item `settings_per_item` times, each under a name of its own."""
        times = self.settings_per_item
        names = [f"{name}/{i}" if i else name for name in batch["name"] for i in range(times)]
        return {"dry": batch["dry"].repeat_interleave(times, 0), "name": names}

    @torch.no_grad()
    def examples(self, batch: Mapping, stage: str = "val") -> Examples:
        """Fixed targets and the present imitation of them."""
        heard, controls, target = self.render(batch, stage)
        pred = Estimate(self.proxy(*heard, controls=controls))
        shown = slice(None, None, self.settings_per_item)
        target = Estimate(target.audio[shown], target.z[shown])
        return Examples(heard[0][shown], target, Estimate(pred.audio[shown]), list(batch["name"]))

    def answers(self, batch: Mapping, stage: str = "test") -> tuple[Estimate, dict[str, Estimate]]:
        """The true effect; the imitation and what it must beat: nothing done."""
        shown = self.examples(batch, stage)
        return shown.target, {"estimate": shown.pred, "dry": Estimate(shown.dry)}

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero:
            self.export(Path(self.trainer.default_root_dir) / "proxy.safetensors")

    def export(self, path: str | Path) -> None:
        """Writes the proxy with the command that made it and its validation figures."""
        logged = self.trainer.callback_metrics if self._trainer else {}
        figures = {name: round(value.item(), 5) for name, value in logged.items() if name.startswith("val/")}
        self.proxy.save(path, command=self.command, figures=figures)

    def __str__(self) -> str:
        return (
            f"sfx  {self.sfx}\nproxy of {self.node} ({type(self.effect).__name__}), "
            f"{weight_count(self.proxy):,} weights to train"
        )


def _choose(sfx: ProcessorGraph, node: str | None) -> str:
    """The node to imitate; raises GraphError where it is not clear."""
    known = ", ".join(sfx.processors)
    if node is not None:
        if node not in sfx.processors:
            raise GraphError([f"node: there is no processor {node!r} in the sfx; known: {known}"])
        return node
    wanting = [name for name, processor in sfx.processors.items() if processor.wants_proxy]
    if len(wanting) != 1:
        which = f"{', '.join(wanting)} do" if wanting else "none does"
        raise GraphError([f"node: one node must want a proxy, {which}; name it: task.node=..., of {known}"])
    return wanting[0]
