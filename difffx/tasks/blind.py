"""Knobs from the wet sound alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from difffx.encoders import Encoder, Posterior, PosteriorHead, StaticHead
from difffx.functional.spectra import normalize_rms
from difffx.graph import ProcessorGraph, require_gradient
from difffx.losses import Estimate, Loss
from difffx.metrics.audio import mel_distance
from difffx.tasks.base import Task, seeded
from difffx.tasks.likelihood import dequantized, nats_per_value

CANDIDATES = (2, 4, 8)


@dataclass(frozen=True)
class Examples:
    """One batch as people want to see and hear it: what went in, the truth, the answer."""

    dry: Tensor
    target: Estimate
    pred: Estimate
    names: list[str]


@dataclass(frozen=True)
class SettingsFirst:
    """How training begins: settings are judged by what they do before the ear judges the sound.

    loss     of settings
    share    of all training steps that go this way
    repeats  settings drawn for each dry sound

    Nothing is rendered by the afx meanwhile and most of a step is left out, so that more examples are seen
    in the time. The same order, for synthesizers: Masuda and Saito, ISMIR 2021.
    """

    loss: Loss
    share: float = 0.75
    repeats: int = 4

    def __post_init__(self) -> None:
        if not 0.0 <= self.share <= 1.0:
            raise ValueError(f"SettingsFirst: share must lie in 0..1, got {self.share}")
        if self.repeats < 1:
            raise ValueError(f"SettingsFirst: repeats must be at least 1, got {self.repeats}")


class BlindEstimation(Task):
    """wet = sfx(dry, z);  z_hat = head(encoder(wet));  wet_hat = afx(dry, z_hat).

    sfx      what is done to the audio; may be a black box
    afx      what the gradient goes through; its predicted knobs are what the network names
    encoder  wet [B, C, T] -> embedding [B, E, F]
    head     (embed_dim, number of values) -> module, embedding -> z in 0..1
             A `PosteriorHead` is first trained by the likelihood of the true settings, then by ear: the loss
             of one sample less what its entropy is worth
    loss     named terms of (wet_hat, z_hat) against (wet, z)
    first    how training begins, if not with the loss; left out where sfx and afx have different knobs
    switch_weight   of the cross-entropy, in nats, of what the network says is on against what was; counts
             where both graphs have switches, as many, in the same order
    augment  (wet, generator) -> what the encoder hears of it in training, see `Recordings`; losses compare
             with the wet itself, and validation and test hear that

    Raises GraphError where no gradient passes through the afx, ValueError where the loss compares knobs
    and the two graphs have different ones. Peladeau, Peeters (2024), arXiv 2310.11781.
    """

    def __init__(
        self,
        sfx: ProcessorGraph,
        afx: ProcessorGraph,
        encoder: Encoder,
        loss: Loss,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        head: Callable[[int, int], nn.Module] = StaticHead,
        seed: int = 0,
        first: SettingsFirst | None = None,
        switch_weight: float = 0.1,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    ) -> None:
        super().__init__(optimizer, scheduler, seed)
        require_gradient(afx)
        loss.require(sfx.spec, afx.spec)
        self.sfx, self.afx, self.encoder, self.loss = sfx, afx, encoder, loss
        self.head = head(encoder.embed_dim, len(afx.spec))
        self.same_knobs = sfx.spec == afx.spec
        self.first = first if self.same_knobs else None
        if self.first:
            self.first.loss.require(sfx.spec, afx.spec)
        self.first_steps = 0
        self.augment = augment
        self.switches = (sfx.spec.switches, afx.spec.switches)
        self.switch_weight = switch_weight if len(set(map(len, self.switches))) == 1 else 0.0

    def on_train_start(self) -> None:
        total = self.trainer.estimated_stepping_batches
        if self.first and math.isfinite(total):
            self.first.loss.to(self.device)
            self.first_steps = round(self.first.share * total)

    @property
    def sample_rate(self) -> int:
        return self.sfx.sample_rate

    def step(self, batch: Mapping, stage: str, index: int) -> Tensor:
        if stage == "train" and self.global_step < self.first_steps:
            return self.step_by_settings(batch, index)
        target = self.render(batch, stage, index)
        sound = self.sound(target.audio, index) if stage == "train" else target.audio
        with self.timed("encoder"):
            posterior = self.posterior(sound)
            if posterior is not None and stage == "train":
                z_hat = posterior.rsample(1, self.chance("sample", stage, index))[:, 0]
            else:
                z_hat = self.best(posterior) if posterior is not None else self.guess(sound)
        with self.timed("afx"):
            pred = Estimate(self.afx(batch["dry"], controls=self.afx.from_unit(z_hat)), z_hat)
        wanted = stage != "train" or self.switches[0]
        nll = self.surprise(target, stage, index, posterior) if wanted else None
        return self.judge(self.loss, pred, target, stage, posterior, nll)

    def judge(
        self,
        loss: Loss,
        pred: Estimate,
        target: Estimate,
        stage: str,
        posterior: Posterior | None = None,
        nll: Tensor | None = None,
    ) -> Tensor:
        """The loss, and how wrong the network is about what is on, and how sure of all."""
        with self.timed("loss"):
            terms = loss(pred, target)
            total = loss.total(terms)
            true, guess = self.switches
            if nll is not None:
                terms = {**terms, "nll": nll.mean()}
                total = total + self.switch_weight * terms["nll"] if true else total
            elif true and self.switch_weight:
                unsure = nn.functional.binary_cross_entropy(pred.z[:, guess], target.z[:, true])
                terms, total = {**terms, "switches": unsure}, total + self.switch_weight * unsure
            if posterior is not None and stage == "train":
                entropy = nats_per_value(posterior, pred.z).mean()
                worth = self.head.entropy * pred.z.shape[1]
                terms, total = {**terms, "entropy": entropy}, total - worth * entropy
        return self.log_terms(stage, terms, total, len(pred.z))

    def step_by_settings(self, batch: Mapping, index: int) -> Tensor:
        """Several settings of each sound, compared with their estimates without rendering those."""
        repeats, loss = self.first.repeats, self.first.loss
        names = [name for name in batch["name"] for _ in range(repeats)]
        batch = {"dry": batch["dry"].repeat_interleave(repeats, 0), "name": names}
        target = self.render(batch, "train", index)
        sound = self.sound(target.audio, index)
        nll = self.surprise(Estimate(sound, target.z), "train", index)
        if nll is not None:
            return self.log_terms("train", {"nll": nll.mean()}, nll.mean(), len(nll))
        with self.timed("encoder"):
            z_hat = self.guess(sound)
        return self.judge(loss, Estimate(target.audio, z_hat), target, "train")

    @torch.no_grad()
    def render(self, batch: Mapping, stage: str, index: int = 0) -> Estimate:
        """The target: dry through the sfx at the batch's own settings, z [B, P, 1], or else at drawn ones."""
        with self.timed("sfx"):
            z = batch["z"] if "z" in batch else self.draw(self.sfx.spec, batch, stage, index)
            heard = self.sfx.spec.heard(z) if self.sfx.spec.switches else None
            return Estimate(self.sfx(batch["dry"], controls=self.sfx.from_unit(z)), z, heard)

    def sound(self, wet: Tensor, index: int) -> Tensor:
        """What the encoder hears of wet [B, C, T] in a step of training."""
        if self.augment is None:
            return wet
        with self.timed("augment"):
            return self.augment(wet, self.chance("augment", "train", index))

    def estimate(self, wet: Tensor) -> Tensor:
        """wet [B, C, T] -> z [B, P, 1]; at a switch, how sure it is that the effect is on.

        That is from the sound alone: as if effects were on and off equally often, see `ControlSpec.evened`.
        """
        return self.afx.spec.evened(self.guess(wet))

    def guess(self, wet: Tensor) -> Tensor:
        """The same, at a switch how sure it is for sounds like those of training."""
        posterior = self.posterior(wet)
        return self.head(self.encoder(wet)) if posterior is None else self.best(posterior)

    def posterior(self, wet: Tensor) -> Posterior | None:
        """All settings that could have made wet [B, C, T]; None where the head gives one answer only."""
        return self.head.posterior(self.encoder(wet)) if isinstance(self.head, PosteriorHead) else None

    def best(self, posterior: Posterior) -> Tensor:
        """The mean answer, z [B, P, 1], and in the place of each switch the chance that it is on."""
        z = posterior.mean()
        if not self.switches[1]:
            return z
        places = torch.tensor(self.switches[1], device=z.device)
        return z.index_copy(1, places, posterior.above_half()[:, places, None])

    def surprise(
        self, target: Estimate, stage: str = "test", index: int = 0, posterior: Posterior | None = None
    ) -> Tensor | None:
        """Negative log-likelihood of the true settings, in nats a value, [B]; 0: nothing is known.

        None where there is one answer only, or where the true settings have other knobs.
        """
        if not isinstance(self.head, PosteriorHead) or not self.same_knobs or target.z is None:
            return None
        with self.timed("encoder"):
            posterior = posterior or self.posterior(target.audio)
        z = dequantized(self.sfx.spec, target.z, self.chance("halves", stage, index))
        return nats_per_value(posterior, z)

    def chance(self, what: str, stage: str, index: int) -> torch.Generator:
        """For each step of training another one, the same after a resumed start; else always the same."""
        step = (self.current_epoch, index, self.global_rank) if stage == "train" else ()
        return seeded(self.seed, what, stage, *step)

    def apply(self, dry: Tensor, z: Tensor) -> Tensor:
        """dry [B, C, T] at estimated settings [B, P, 1].

        By the true effects where both graphs have the same knobs, else by the afx. What is more likely off
        than on is off.
        """
        graph = self.sfx if self.same_knobs else self.afx
        return graph(dry, controls=graph.from_unit(graph.spec.decided(z)))

    @torch.no_grad()
    def examples(self, batch: Mapping, stage: str = "val") -> Examples:
        """Fixed targets and the present answers to them."""
        target = self.render(batch, stage)
        z_hat = self.estimate(target.audio)
        return Examples(
            batch["dry"], target, Estimate(self.apply(batch["dry"], z_hat), z_hat), list(batch["name"])
        )

    def answers(self, batch: Mapping, stage: str = "test") -> tuple[Estimate, dict[str, Estimate]]:
        """The target of a batch; the estimate and what it must beat: nothing done, middle knobs, chance.

        Where effects can be off, also "told": the estimate if it need not find out which are. Where the batch
        brings its settings (a benchmark), also the truth itself, and each effect of a chain as estimated
        among the others as they were.
        """
        target, dry, spec = self.render(batch, stage), batch["dry"], self.sfx.spec
        z_hat = self.estimate(target.audio)
        guess = torch.cat(
            [spec.sample(1, generator=seeded(self.seed, "random", name)) for name in batch["name"]]
        )
        answers = {
            "estimate": Estimate(self.apply(dry, z_hat), z_hat if self.same_knobs else None),
            **self.told(dry, target.z, z_hat),
            **self.best_of(dry, target),
            "dry": Estimate(dry),
        }
        for name, z in {"midpoint": torch.full_like(guess, 0.5), "random": guess}.items():
            z = spec.decided(z.to(dry))
            answers[name] = Estimate(self.sfx(dry, controls=self.sfx.from_unit(z)), z)
        if "z" in batch:
            answers["oracle"] = Estimate(self.sfx(dry, controls=self.sfx.from_unit(target.z)))
            answers |= self.effect_by_effect(dry, target.z, z_hat) if self.same_knobs else {}
        return target, answers

    def told(self, dry: Tensor, z: Tensor, z_hat: Tensor) -> dict[str, Estimate]:
        """The estimated settings z_hat with the switches of the true ones, z."""
        if not self.sfx.spec.switches or not self.same_knobs:
            return {}
        places = torch.tensor(self.sfx.spec.switches, device=z.device)
        return {"told": Estimate(self.apply(dry, z_hat.index_copy(1, places, z[:, places])))}

    def untouched(self, batch: Mapping) -> tuple[Tensor, Tensor] | None:
        """Sounds to which nothing was done [B, C, T] and what the network says of them, z [B, P, 1].

        None where no effect can be off.
        """
        if not self.sfx.spec.switches:
            return None
        z = self.sfx.spec.defaults(len(batch["dry"])).to(batch["dry"])
        z[:, self.sfx.spec.switches] = 0.0
        sound = self.sfx(batch["dry"], controls=self.sfx.from_unit(z))
        return sound, self.estimate(sound)

    def best_of(self, dry: Tensor, target: Estimate) -> dict[str, Estimate]:
        """The nearest to the target, by mel, of 2, 4 and 8 answers: the estimate, then the candidates."""
        posterior = self.posterior(target.audio)
        if posterior is None:
            return {}
        z = torch.cat([self.best(posterior)[:, None], posterior.candidates(max(CANDIDATES) - 1)[0]], 1)
        sounds = torch.stack([self.apply(dry, z[:, k]) for k in range(z.shape[1])], 1)
        goal, rows = normalize_rms(target.audio), torch.arange(len(z), device=z.device)
        each = [mel_distance(normalize_rms(sound), goal, self.sample_rate) for sound in sounds.unbind(1)]
        found = {}
        for count in CANDIDATES:
            nearest = torch.stack(each[:count], 1).argmin(1)
            found[f"best of {count}"] = Estimate(sounds[rows, nearest])
        return found

    def effect_by_effect(self, dry: Tensor, z: Tensor, z_hat: Tensor) -> dict[str, Estimate]:
        """One effect as estimated and the others as they were, each in turn: who makes the distance?"""
        nodes = [label.partition(".")[0] for label in self.sfx.spec.labels]
        found = {}
        for node in dict.fromkeys(nodes):
            its = torch.tensor([name == node for name in nodes], device=z.device).view(1, -1, 1)
            mixed = self.sfx.from_unit(torch.where(its, self.sfx.spec.decided(z_hat), z))
            found[f"{node} alone"] = Estimate(self.sfx(dry, controls=mixed))
        return found if len(found) > 1 else {}

    def __str__(self) -> str:
        weights = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return (
            f"sfx  {self.sfx}\nafx  {self.afx}\n{type(self.encoder).__name__}, {weights:,} weights to train"
        )
