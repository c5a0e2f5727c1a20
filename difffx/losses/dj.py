"""Losses of transitions: what the settings do, what is sent, where the knobs stand, how it sounds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj import DJMixer, MixerConfig
from difffx.dj.layout import ENTRIES
from difffx.dj.responses import (
    bands_of,
    deck_levels,
    joined,
    line_levels,
    sends,
    stem_levels,
    strip_masks,
)
from difffx.losses.base import Loss
from difffx.losses.estimate import Estimate
from difffx.params import ControlSpec

FLOOR = 1e-3  # -60 dB
AUDIBLE = 0.01  # of a stem's level: what is below counts less and less


@dataclass(frozen=True)
class Transition:
    """A mix of two decks and the settings that made it, or are thought to have.

    params    [B, F, 54]
    audio     [B, 2, T]; None: not rendered
    energies  [B, F, 2, 4, K]  of the stems, see `difffx.dj.responses.stem_energies`; None: as in the truth
    seconds   length of the mix
    echo_s    [B]  from a sound to its echo
    """

    params: Tensor
    audio: Tensor | None = None
    energies: Tensor | None = None
    seconds: float = 0.0
    echo_s: Tensor | None = None


class TransitionLoss(Loss):
    """How far apart two sets of 54 curves are, by what they do; for task=dj and task=dj_imitation.

    mixer      whose settings they are; None: the usual one
    response   weight of the mean difference, in dB, of the gain of each stem in each band, nothing below
               -60 dB; loud bands count more, by the square root of their power. Fader and equalizer share
               their gain as they like, filters beyond the sound cost nothing
    sends      weight of the mean difference of what arrives in hall and echo, and of the feedback while
               something is in the line
    params     weight of the mean squared difference of the knobs in 0..1, where the stem is heard; of one
               that is not, the fader alone counts, of a silent one nothing
    audio      weight of `heard`
    heard      a loss of sounds, such as Mel or MultiScale; the estimate is rendered for it

    A term of weight 0 is logged, but for the audio, which is then not rendered.
    """

    def __init__(
        self,
        sample_rate: int,
        mixer: DJMixer | None = None,
        response: float = 0.1,
        sends: float = 3.0,
        params: float = 1.0,
        audio: float = 0.0,
        heard: Loss | None = None,
        per_octave: float = 3.0,
    ) -> None:
        if audio and heard is None:
            raise ValueError("TransitionLoss: audio needs a loss of sounds: heard=Mel(sample_rate)")
        weights = {"response": response, "sends": sends, "params": params}
        super().__init__({**weights, "audio": audio} if audio else weights)
        self.config = mixer.config if mixer else MixerConfig(sample_rate)
        self.bands = bands_of(self.config, per_octave)
        self.heard = heard if audio else None
        highest = torch.tensor([param.high for param in ENTRIES.values()])
        self.register_buffer("highest", highest, persistent=False)

    @property
    def listens(self) -> bool:
        """Whether the estimate must be rendered."""
        return self.heard is not None

    def require(self, sfx: ControlSpec, afx: ControlSpec) -> None:
        if list(sfx.entries) != list(ENTRIES):
            raise ValueError("TransitionLoss judges the 54 curves of a DJ's mixer: use it with task=dj")

    def forward(self, pred: Transition, target: Transition) -> dict[str, Tensor]:
        """The terms, unweighted, as scalars."""
        if pred.params.shape != target.params.shape:
            shapes = f"{tuple(pred.params.shape)} and {tuple(target.params.shape)}"
            raise ValueError(f"TransitionLoss: expected curves of one shape [B, F, 54], got {shapes}")
        return self.measure(pred, target)

    def measure(self, pred: Transition, target: Transition) -> dict[str, Tensor]:
        with torch.no_grad():
            goal = strip_masks(target.params, self.bands, self.config)
        masks = strip_masks(pred.params, self.bands, self.config)
        terms = {
            "response": self._response(masks, goal, target.energies),
            "sends": self._sends(pred, target, deck_levels(goal, target.energies)),
            "params": self._params(pred, target, goal),
        }
        if self.heard is not None:
            found = self.heard(Estimate(pred.audio), Estimate(target.audio))
            terms["audio"] = self.heard.total(found)
        return terms

    @staticmethod
    def _response(masks: Tensor, goal: Tensor, energies: Tensor) -> Tensor:
        """In dB; a floor is added instead of cut, so that a gain that is too small still moves."""
        apart = 20.0 * ((masks.clamp(min=0.0) + FLOOR) / (goal + FLOOR)).log10().abs()
        weight = energies.sqrt()
        weight = weight / weight.mean((1, 2, 3, 4), keepdim=True).clamp(min=1e-12)
        return (weight * apart).mean()

    def _sends(self, pred: Transition, target: Transition, level: Tensor) -> Tensor:
        found, true = sends(pred.params), sends(target.params)
        apart = (found[..., :2] - true[..., :2]).abs() * level[..., None]
        frame_s = target.seconds / max(target.params.shape[1] - 1, 1)
        line = line_levels(level * true[..., 1], true[..., 2], frame_s, target.echo_s, self.config)
        return apart.mean() + ((found[..., 2] - true[..., 2]).abs() * line).mean()

    def _params(self, pred: Transition, target: Transition, goal: Tensor) -> Tensor:
        squared = ((pred.params - target.params) / self.highest).square()
        level, power = stem_levels(goal, target.energies), target.energies.sum(-1)
        there = (power / (1e-4 * power.amax((1, 2, 3), keepdim=True) + 1e-12)).clamp(max=1.0)
        heard = (level / AUDIBLE).clamp(max=1.0) * there
        strip = torch.stack((there, *[heard] * 5), -1)
        deck = (deck_levels(goal, target.energies) / AUDIBLE).clamp(max=1.0)
        line = (sends(target.params)[..., 1] * deck).clamp(max=1.0)
        weight = joined(strip, torch.stack((deck, deck, line), -1))
        return (weight * squared).sum() / weight.sum().clamp(min=1.0)


class Curves(TransitionLoss):
    """Mean absolute difference of the curves themselves, each in its own unit, heard or not.

    What an imitation of drawn curves is judged by: a fader at 0.5 in place of 0.6 reads 0.1.
    """

    def __init__(self, sample_rate: int, mixer: DJMixer | None = None, weight: float = 1.0) -> None:
        super().__init__(sample_rate, mixer)
        self.weights = {"curves": weight}

    def measure(self, pred: Transition, target: Transition) -> dict[str, Tensor]:
        return {"curves": (pred.params - target.params).abs().mean()}
