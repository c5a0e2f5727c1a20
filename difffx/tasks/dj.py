"""What did the DJ do? Two decks of stems and their mix in, 54 curves out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from difffx.dj import DJMixer
from difffx.dj.baselines import by_gradient, by_least_squares, decks_of, drawn_anew, fixed_answers
from difffx.dj.drawing import Beats, draw_curves
from difffx.dj.layout import N_TOTAL_PARAMS, RANGES
from difffx.dj.regression import Known, explain, known
from difffx.dj.responses import Bands, echo_seconds, known_tempo
from difffx.encoders.stem_pair import StemPair, StripHead
from difffx.losses.dj import Transition, TransitionLoss
from difffx.tasks.base import Task, seeded

MEAN_POINTS = 64
BEATS_PER_BAR = 4


@dataclass(frozen=True)
class TransitionExamples:
    """One batch as people want to see and hear it.

    sounds       name -> [B, 2, T]: both decks without a mixer, the mix, the mix as it was understood
    true, found  [B, F, 54]
    seconds      length
    """

    sounds: dict[str, Tensor]
    true: Tensor
    found: Tensor
    seconds: float
    names: list[str]


@dataclass(frozen=True)
class Scene:
    """A batch as the task works on it: R mixes of each of B pairs of decks.

    stems       [B, 2, 4, C, T]
    target      the mixes and what was done, R * B of them
    known       of the decks, to least squares
    tempo_bpm   [B], a usual one where it is not known
    """

    stems: Tensor
    target: Transition
    known: Known
    tempo_bpm: Tensor


class DJTask(Task):
    """What tasks on two decks share: a mixer, and the mean of all curves they were trained on.

    mixer   54 curves and two decks in, a mix out; what the gradient goes through
    loss    of 54 curves, against those that made the mix
    """

    hears = ("a", "b", "params", "name")
    data = "data=dj_pairs"

    def __init__(
        self,
        mixer: DJMixer,
        loss: TransitionLoss,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(optimizer, scheduler, seed)
        if not isinstance(loss, TransitionLoss):
            raise ValueError(
                f"{type(self).__name__}: {type(loss).__name__} is no loss of transitions; choose loss=dj, "
                "dj_audio, dj_params or dj_curves"
            )
        self.mixer, self.loss = mixer, loss
        self.register_buffer("mean_curves", torch.zeros(MEAN_POINTS, N_TOTAL_PARAMS))
        self.register_buffer("mean_count", torch.zeros(()))
        self.register_buffer("highest", torch.tensor(RANGES)[:, 1], persistent=False)

    @property
    def sample_rate(self) -> int:
        return self.mixer.config.sample_rate

    def params_of(self, z: Tensor) -> Tensor:
        """z [B, 54, F] in 0..1 -> [B, F, 54], each in its own range, all of which begin at 0."""
        return z.mT * self.highest

    @torch.no_grad()
    def remember(self, params: Tensor) -> None:
        """Curves of a batch of training, [B, F, 54], go into the mean of all."""
        self.mean_count += len(params)
        drawn = drawn_anew(params, MEAN_POINTS)
        self.mean_curves += (drawn - self.mean_curves).sum(0) / self.mean_count

    def render(self, stems: Tensor, params: Tensor, tempo_bpm: Tensor) -> Tensor:
        """Mixes of stems [B, 2, 4, C, T] with params [R * B, F, 54], R in turn for each: [R * B, 2, T]."""
        if len(stems) == len(params):
            return self.mixer(*decks_of(stems), params, tempo_bpm=tempo_bpm)[0]
        with torch.no_grad():
            tracks = [[self.mixer.prepare(deck) for deck in decks_of(item)] for item in stems.split(1)]
        groups = params.split(len(params) // len(stems))
        rows = zip(tracks, groups, tempo_bpm.tolist(), strict=True)
        return torch.cat([self.mixer(*decks, group, tempo_bpm=tempo)[0] for decks, group, tempo in rows])

    @torch.no_grad()
    def examples(self, batch: Mapping, stage: str = "val") -> TransitionExamples:
        """Fixed mixes and the present answers."""
        target, found = self.answer(batch, stage)
        decks = {deck: batch[deck].sum(1).expand(-1, 2, -1) for deck in "ab"}
        sounds = decks | {"mix": target.audio, "mix_hat": found.audio}
        names = list(batch["name"])
        return TransitionExamples(sounds, target.params, found.params, target.seconds, names)

    def answer(self, batch: Mapping, stage: str) -> tuple[Transition, Transition]:
        """The truth and the answer, both rendered. Subclasses write this."""
        raise NotImplementedError

    def __str__(self) -> str:
        weights = sum(p.numel() for p in self.parameters() if p.requires_grad)
        return f"{type(self).__name__}, {weights:,} weights to train"


class DJEstimation(DJTask):
    """mix = mixer(a, b, params);  params_hat = head(encoder(a, b, mix)).

    encoder   a `StemPair`
    repeats   how many mixes are made of each pair of decks in training, the first with the curves of the
              data, the others with curves drawn here: what is known of the decks is computed once for all
    degrade   what else happens to mix and stems, such as `difffx.dj.degradations.Degrade`: a mix then is made
              of each pair once only; None: nothing
    fit_items   how many items of an evaluation are also fitted by gradient, which takes its time

    The answer is a move away from fader and isolator by least squares. The mix must be in line with the decks
    to the sample.
    """

    def __init__(
        self,
        mixer: DJMixer,
        encoder: StemPair,
        loss: TransitionLoss,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        seed: int = 0,
        repeats: int = 4,
        degrade: Callable[[Tensor, Tensor, Tensor, torch.Generator], tuple[Tensor, ...]] | None = None,
        fit_items: int = 4,
    ) -> None:
        super().__init__(mixer, loss, optimizer, scheduler, seed)
        if not isinstance(encoder, StemPair):
            raise ValueError(
                f"DJEstimation: {type(encoder).__name__} hears one sound; choose encoder=stem_pair"
            )
        if repeats < 1:
            raise ValueError(f"DJEstimation: repeats must be 1 or more, got {repeats}")
        self.encoder, self.head = encoder, StripHead(encoder.width)
        self.repeats, self.degrade, self.fit_items = 1 if degrade else repeats, degrade, fit_items

    @property
    def bands(self) -> Bands:
        """In which answers are compared."""
        return self.encoder.bands

    def step(self, batch: Mapping, stage: str, index: int) -> Tensor:
        scene = self.scene(batch, stage, index)
        with self.timed("encoder"):
            params = self.guess(scene.known, scene.target.audio)
        pred = Transition(params)
        if self.loss.listens:
            with self.timed("afx"):
                pred = Transition(params, self.render(scene.stems, params, scene.tempo_bpm))
        with self.timed("loss"):
            terms = self.loss(pred, scene.target)
        if stage == "train":
            self.remember(scene.target.params)
        return self.log_terms(stage, terms, self.loss.total(terms), len(params))

    @torch.no_grad()
    def scene(self, batch: Mapping, stage: str, index: int = 0) -> Scene:
        """The mixes of a batch, in training several of each pair, and all that is known of its decks."""
        stems = torch.stack((batch["a"], batch["b"]), 1)
        tempo_bpm = known_tempo(batch["tempo_bpm"], self.mixer.config)
        echo_s, samples = echo_seconds(tempo_bpm, self.mixer.config), stems.shape[-1]
        params = self.curves(batch, stage, index, samples / self.sample_rate)
        repeats = len(params) // len(stems)
        with self.timed("sfx"):
            mixes, heard = self.render(stems, params, tempo_bpm), stems
            if self.degrade is not None:
                turn = (self.current_epoch, index) if stage == "train" else tuple(batch["name"])
                mixes, *decks = self.degrade(mixes, *stems.unbind(1), seeded(self.seed, stage, *turn))
                heard = torch.stack(decks, 1)
        with self.timed("known"):
            decks = known(heard.mean(3), self.mixer, self.bands, params.shape[1], echo_s)
        target = Transition(
            params,
            mixes,
            decks.energies.repeat_interleave(repeats, 0),
            samples / self.sample_rate,
            echo_s.repeat_interleave(repeats, 0),
        )
        return Scene(heard, target, decks, tempo_bpm)

    def curves(self, batch: Mapping, stage: str, index: int, seconds: float) -> Tensor:
        """Those of the batch, and in training others beside them: [R * B, F, 54]."""
        own, repeats = batch["params"], self.repeats if stage == "train" else 1
        if repeats == 1:
            return own
        rows, frames = [], own.shape[1]
        for item, first in enumerate(own.cpu()):
            entropy = seeded(
                self.seed, stage, self.current_epoch, index, self.global_rank, item
            ).initial_seed()
            rng = np.random.default_rng(entropy)
            beats = beat_grid(batch["tempo_bpm"][item].item(), batch["beats"][item, 0, 1].item())
            rows += [first, *(draw_curves(rng, frames, seconds, beats)[0] for _ in range(repeats - 1))]
        return torch.stack(rows).to(own)

    def guess(self, decks: Known, mixes: Tensor) -> Tensor:
        """Curves [R * B, F, 54] heard in mixes [R * B, 2, T] of known decks."""
        with torch.no_grad():
            heard = explain(decks, mixes.mean(1))
        return self.params_of(self.head(self.encoder(heard), self.encoder.first_guess(heard)))

    @torch.no_grad()
    def estimate(self, stems: Tensor, mix: Tensor, frames: int, tempo_bpm: Tensor | None = None) -> Tensor:
        """Curves [B, frames, 54] heard in mixes [B, C, T] of stems [B, 2, 4, C, T], in line to the sample.

        tempo_bpm   [B], for echoes in time; None or 0: not known
        """
        tempo_bpm = stems.new_zeros(len(stems)) if tempo_bpm is None else tempo_bpm
        echo_s = echo_seconds(known_tempo(tempo_bpm, self.mixer.config), self.mixer.config)
        return self.guess(known(stems.mean(3), self.mixer, self.bands, frames, echo_s), mix)

    def answer(self, batch: Mapping, stage: str) -> tuple[Transition, Transition]:
        scene = self.scene(batch, stage)
        params = self.guess(scene.known, scene.target.audio)
        return scene.target, Transition(params, self.render(scene.stems, params, scene.tempo_bpm))

    @torch.no_grad()
    def answers(
        self, batch: Mapping, stage: str = "test", fitted: int = 0
    ) -> tuple[Transition, dict[str, Transition]]:
        """The truth; the estimate and what it must beat.

        fitted   how many of the items are also fitted by gradient; the answer "fit" has so many items
        """
        scene = self.scene(batch, stage)
        stems, target = scene.stems, scene.target
        items, frames = target.params.shape[:2]
        found = {"estimate": self.guess(scene.known, target.audio)}
        found |= fixed_answers(frames, items, self.device)
        if self.mean_count > 0:
            found["mean"] = drawn_anew(self.mean_curves[None], frames).expand(items, -1, -1)
        found["least_squares"] = by_least_squares(stems, target.audio, self.mixer, self.bands, frames)
        answers = {
            name: Transition(params, self.render(stems, params, scene.tempo_bpm))
            for name, params in found.items()
        }
        if fitted:
            one = slice(0, fitted)
            params = by_gradient(stems[one], target.audio[one], self.mixer, frames, scene.tempo_bpm[one])
            answers["fit"] = Transition(params, self.render(stems[one], params, scene.tempo_bpm[one]))
        return target, answers


def beat_grid(tempo_bpm: float, bar_phase: float) -> Beats | None:
    """The grid under a segment whose first sample lies at this share of a bar; None without a tempo."""
    if not tempo_bpm > 0:
        return None
    return Beats(tempo_bpm, -bar_phase * BEATS_PER_BAR * 60.0 / tempo_bpm)
