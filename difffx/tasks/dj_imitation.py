"""Play it as the rule would: two decks and the beat in, the curves of a transition out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import soxr
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from difffx.dj import TRANSITIONS, DJMixer, transition
from difffx.dj.baselines import drawn_anew, fixed_answers
from difffx.dj.layout import DECK_NAMES, N_STEMS, N_TOTAL_PARAMS, STEM_NAMES
from difffx.dj.meeting import Meeting
from difffx.dj.responses import Bands, bands_of, echo_seconds, known_tempo, stem_energies
from difffx.encoders.stem_pair import stretched
from difffx.losses.dj import Transition, TransitionLoss
from difffx.networks.rnn import FrameLSTM
from difffx.params import unknown
from difffx.tasks.base import seeded
from difffx.tasks.dj import BEATS_PER_BAR, DJTask, beat_grid

PER_OCTAVE = 1.0
POINTS_PER_SECOND = 4.0
GRID_FEATURES = 7
UNTOLD = 0.1
"""How often a network is not told the rule in training, to have an answer for those who do not say."""


class DJImitation(DJTask):
    """params_hat = network(levels of the stems, beat grid, rule), against the rule's own curves.

    mixer     for hearing the answers; the loss need not listen
    network   (width) -> what looks along time: `FrameLSTM`, `FrameTransformer`, `FrameConvolutions`
    rules     names of `difffx.dj.TRANSITIONS`; None: all

    The rule takes all whole bars of the segment, from the first downbeat on, with its usual options. The
    network hears each stem in ten bands, octave by octave, and counts along: phase of beat and bar, place
    among those bars, how many there are.
    """

    def __init__(
        self,
        mixer: DJMixer,
        loss: TransitionLoss,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        seed: int = 0,
        network: Callable[[int], nn.Module] = FrameLSTM,
        width: int = 96,
        rules: Sequence[str] | None = None,
    ) -> None:
        super().__init__(mixer, loss, optimizer, scheduler, seed)
        self.rules = tuple(TRANSITIONS if rules is None else rules)
        for name in self.rules:
            if name not in TRANSITIONS:
                raise ValueError(f"DJImitation: no rule {unknown(name, TRANSITIONS)}")
        self.heard = bands_of(mixer.config, PER_OCTAVE)
        levels = 2 * N_STEMS * len(self.heard)
        self.inputs = nn.Linear(levels + GRID_FEATURES + len(self.rules), width)
        self.network = network(width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, N_TOTAL_PARAMS))

    @property
    def bands(self) -> Bands:
        """In which answers are compared."""
        return self.loss.bands

    def step(self, batch: Mapping, stage: str, index: int) -> Tensor:
        stems, target, rules = self.scene(batch, stage, index)
        with self.timed("encoder"):
            params = self(stems, batch["beats"], rules, told(stage, len(stems), self.seed, self.global_step))
        pred = Transition(params)
        if self.loss.listens:
            tempo_bpm = known_tempo(batch["tempo_bpm"], self.mixer.config)
            target = self._rendered(target, stems, tempo_bpm)
            pred = self._rendered(pred, stems, tempo_bpm)
        terms = self.loss(pred, target)
        if stage == "train":
            self.remember(target.params)
        return self.log_terms(stage, terms, self.loss.total(terms), len(params))

    def forward(
        self, stems: Tensor, beats: Tensor, rules: Sequence[str | None], told: Tensor | None = None
    ) -> Tensor:
        """Curves [B, F, 54] for stems [B, 2, 4, C, T] on a beat grid [B, F, 2], phases of beat and bar.

        rules   a name for each item, or None: whatever the network thinks fit
        told    [B]  0 where the rule is kept from the network
        """
        with torch.no_grad():
            mono, frames = stems.mean(3), beats.shape[1]
            powers = stem_energies(mono, frames, self.heard, self.mixer.config)
            loudest = powers.amax((1, 2, 3, 4), keepdim=True) + 1e-12
            levels = (1.0 + (powers / loudest + 1e-8).log10() / 4.0).flatten(2)
            names = torch.tensor([[float(rule == name) for name in self.rules] for rule in rules]).to(levels)
            names = names if told is None else names * told.to(names)[:, None]
            names = names[:, None].expand(-1, frames, -1)
            features = torch.cat((levels, grid_features(beats), names), -1)
        rows = self.network(self.inputs(features).mT).mT
        return self.params_of(stretched(self.head(rows)).mT)

    @torch.no_grad()
    def scene(self, batch: Mapping, stage: str, index: int = 0) -> tuple[Tensor, Transition, list[str]]:
        """Stems, the curves of a rule drawn for each item, and the names of the rules."""
        stems = torch.stack((batch["a"], batch["b"]), 1)
        seconds, frames = stems.shape[-1] / self.sample_rate, batch["beats"].shape[1]
        rules = [self.rule_of(name, stage, index) for name in batch["name"]]
        grids = zip(batch["tempo_bpm"].tolist(), batch["beats"][:, 0, 1].tolist(), rules, strict=True)
        rows = [rule_curves(rule, frames, seconds, *grid) for *grid, rule in grids]
        tempo_bpm = known_tempo(batch["tempo_bpm"], self.mixer.config)
        energies = stem_energies(stems.mean(3), frames, self.bands, self.mixer.config)
        echo_s = echo_seconds(tempo_bpm, self.mixer.config)
        return stems, Transition(torch.stack(rows).to(stems), None, energies, seconds, echo_s), rules

    def rule_of(self, name: str, stage: str, index: int) -> str:
        """The rule of an item: the same in every epoch, but for training."""
        turn = (self.current_epoch, index) if stage == "train" else ()
        generator = seeded(self.seed, stage, "rule", name, *turn)
        return self.rules[int(torch.randint(len(self.rules), (1,), generator=generator))]

    @torch.no_grad()
    def predict(
        self,
        deck_a: Mapping[str, Tensor],
        deck_b: Mapping[str, Tensor],
        beats: Tensor,
        rule: str | None = None,
    ) -> Tensor:
        """Curves for two decks that are aligned already: [F, 54].

        deck_a, deck_b   stems by name, [C, T], at the rate of the task; some may be missing
        beats            [F, 2]  phases of beat and bar in 0..1, the first at the first sample, the last at
                         the last; F is the number of points wanted, about four a second
        rule             one of `rules`; None: whatever the network thinks fit
        """
        if rule is not None and rule not in self.rules:
            raise ValueError(f"no rule {unknown(rule, self.rules)}")
        stems = torch.stack([_stacked(name, deck) for name, deck in (("deck_a", deck_a), ("deck_b", deck_b))])
        self.eval()
        return self(stems[None].to(self.device), beats[None].to(self.device), [rule])[0].cpu()

    def answer(self, batch: Mapping, stage: str) -> tuple[Transition, Transition]:
        stems, target, rules = self.scene(batch, stage)
        tempo_bpm = known_tempo(batch["tempo_bpm"], self.mixer.config)
        pred = Transition(self(stems, batch["beats"], rules))
        return self._rendered(target, stems, tempo_bpm), self._rendered(pred, stems, tempo_bpm)

    @torch.no_grad()
    def answers(
        self, batch: Mapping, stage: str = "test", fitted: int = 0
    ) -> tuple[Transition, dict[str, Transition]]:
        """The rule's curves; the imitation and what it must beat."""
        target, pred = self.answer(batch, stage)
        stems = torch.stack((batch["a"], batch["b"]), 1)
        items, frames = target.params.shape[:2]
        found = fixed_answers(frames, items, self.device)
        found["untold"] = self(stems, batch["beats"], [None] * items)
        if self.mean_count > 0:
            found["mean"] = drawn_anew(self.mean_curves[None], frames).expand(items, -1, -1)
        tempo_bpm = known_tempo(batch["tempo_bpm"], self.mixer.config)
        others = {name: self._rendered(Transition(x), stems, tempo_bpm) for name, x in found.items()}
        return target, {"estimate": pred} | others

    def _rendered(self, what: Transition, stems: Tensor, tempo_bpm: Tensor) -> Transition:
        audio = self.render(stems, what.params, tempo_bpm)
        return Transition(what.params, audio, what.energies, what.seconds, what.echo_s)


def by_run(task: object, rule: str | None = None) -> Callable[[Meeting, int], Tensor]:
    """What draws a transition as a trained task thinks it should be, for `difffx.dj.handover.hand_over`.

    task   of a run of task=dj_imitation, see `difffx.runs.load_run`
    rule   one of its rules; None: whatever the network thinks fit

    Drawn with four points a second, as it was learned, and then as finely as asked for.
    """
    if not isinstance(task, DJImitation):
        raise ValueError("this run draws no transitions: expected one of task=dj_imitation")
    if rule is not None and rule not in task.rules:
        raise ValueError(f"the run knows no rule {unknown(rule, task.rules)}")

    def curves(meeting: Meeting, frames: int) -> Tensor:
        decks = [
            {
                stem: _at_rate(x, meeting.sample_rate, task.sample_rate)
                for stem, x in meeting.part(deck, meeting.first, meeting.last).items()
            }
            for deck in DECK_NAMES
        ]
        points = max(2, round(POINTS_PER_SECOND * meeting.seconds))
        bars = torch.linspace(0.0, float(meeting.bars), points)
        beats = torch.stack((bars * BEATS_PER_BAR, bars), -1) % 1.0
        return drawn_anew(task.predict(*decks, beats, rule)[None], frames)[0]

    return curves


def _at_rate(x: Tensor, before: int, after: int) -> Tensor:
    """[C, T] at another sample rate."""
    if before == after:
        return x
    return torch.from_numpy(soxr.resample(x.T.cpu().numpy(), before, after).T.copy())


def told(stage: str, items: int, seed: int, step: int) -> Tensor | None:
    """Whether each item's rule is told to the network, [B] of 0 and 1; None: to all."""
    if stage != "train":
        return None
    return (torch.rand(items, generator=seeded(seed, "told", step)) >= UNTOLD).float()


def rule_curves(rule: str, frames: int, seconds: float, tempo_bpm: float, bar_phase: float) -> Tensor:
    """A rule's curves over all whole bars from the first downbeat of a segment on, [frames, 54].

    Without a tempo, 0, and where not a bar fits, over the whole segment.
    """
    beats = beat_grid(tempo_bpm, bar_phase)
    bar_s = math.inf if beats is None else 60.0 * BEATS_PER_BAR / beats.tempo_bpm
    start_s = -bar_phase % 1.0 * bar_s if beats else 0.0
    bars = math.floor((seconds - start_s) / bar_s + 1e-6)
    if bars < 1:
        return transition(rule, frames, bars=4.0)
    return transition(rule, frames, float(bars), seconds=seconds, tempo_bpm=tempo_bpm, start_s=start_s)


def grid_features(beats: Tensor) -> Tensor:
    """Phases of beat and bar [B, F, 2] -> where one is, [B, F, 7].

    Sines and cosines of both, the place among the whole bars from the first downbeat on, 0..1, how many they
    are, and whether one is among them. Without a grid, all phases 0, one bar is as long as everything.
    """
    turns = 2.0 * math.pi * beats
    step = beats[..., 1].diff(dim=1) % 1.0
    step = torch.where(step > 0.5, step - 1.0, step)  # rounding, at a standstill
    bars = torch.nn.functional.pad(step.cumsum(1), (1, 0)) - (-beats[:, :1, 1] % 1.0)
    whole = (bars[:, -1:] + 1e-4).floor()
    missing = whole < 1.0
    steady = torch.linspace(0.0, 1.0, beats.shape[1]).to(beats).expand_as(bars)
    place = torch.where(missing, steady, (bars / whole.clamp(min=1.0)).clamp(0.0, 1.0))
    inside = ((place > 0.0) & (place < 1.0)).to(beats)
    count = torch.log2(whole.clamp(min=1.0)).expand_as(place) / 4.0
    return torch.cat((turns.sin(), turns.cos(), torch.stack((place, inside, count), -1)), -1)


def _stacked(name: str, deck: Mapping[str, Tensor]) -> Tensor:
    """Stems by name -> [4, C, T], silence where one is missing."""
    for stem in deck:
        if stem not in STEM_NAMES:
            raise ValueError(f"{name}: no stem {unknown(stem, STEM_NAMES)}")
    if not deck:
        raise ValueError(f"{name}: no stems; expected at least one of {', '.join(STEM_NAMES)}")
    like = max(deck.values(), key=lambda x: x.shape[0])
    return torch.stack([deck[s].expand_as(like) if s in deck else torch.zeros_like(like) for s in STEM_NAMES])
