"""Who renders settings, says how far they are, and counts what that costs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor

from difffx.functional.spectra import log_mel, normalize_rms
from difffx.graph import ProcessorGraph
from difffx.losses import Mel

PROBE = 0.005  # how far a knob is turned, of its whole way, to hear what it does
COARSE_PROBE = 0.03  # the same where knobs may snap to steps
EXCERPT_SECONDS = 2.5
LOUD_EXCERPTS = 4
SAMPLES_AT_ONCE = 2_000_000  # larger batches spoil the caches

Progress = Callable[[int, int, float], None]


class Ended(Exception):
    """The search is over: "near", or out of "renders" or "seconds"."""


class Budget:
    """How many renders and seconds there are; what is left of them is asked for by everyone who renders."""

    def __init__(self, renders: int, seconds: float) -> None:
        self.renders, self.spent, self.deadline = renders, 0.0, time.monotonic() + seconds

    def pay(self, renders: float, free: bool) -> None:
        if not free and self.spent >= self.renders:
            raise Ended("renders")
        if not free and time.monotonic() > self.deadline:
            raise Ended("seconds")
        self.spent += renders


class Judge:
    """Renders settings, compares them with the wet sound and keeps the best.

    share  what rendering this sound costs, where it is an excerpt of the one the budget counts in
    """

    def __init__(
        self,
        graph: ProcessorGraph,
        dry: Tensor,
        wet: Tensor,
        budget: Budget,
        progress: Progress | None = None,
        share: float = 1.0,
    ) -> None:
        self.graph, self.dry, self.wet, self.budget, self.share = graph, dry, wet, budget, share
        self.progress = progress
        self.loss = Mel(graph.sample_rate).to(dry.device)
        self.probe = PROBE if graph.differentiable else COARSE_PROBE
        self.rows = max(1, SAMPLES_AT_ONCE // dry[0].numel())
        self.goal = self.picture(wet)[0]
        self.mel, self.best = math.inf, None
        self.history: list[tuple[int, float]] = []

    def picture(self, audio: Tensor) -> Tensor:
        """Ln mel magnitudes at equal level, [N, C, T] -> [N, M]."""
        return log_mel(normalize_rms(audio), self.loss.bank, self.loss.hop).flatten(1)

    @torch.no_grad()
    def measure(self, z: Tensor, free: bool = False) -> tuple[Tensor, Tensor]:
        """Settings [N, P] -> what is heard minus what should be, [N, M], and mel distances [N].

        Settings at which the effects fail to give numbers are infinitely far. Raises Ended when the budget
        is spent, unless this is free, as the first time always is.
        """
        parts, first = [], self.best is None
        for rows in z.to(self.dry).split(self.rows):
            self.budget.pay(len(rows) * self.share, free or first)
            controls = self.graph.from_unit(rows[..., None])
            parts.append(self.picture(self.graph(self.dry.expand(len(rows), -1, -1), controls=controls)))
        off = torch.cat(parts) - self.goal
        mel = off.abs().mean(1).cpu().double().nan_to_num(math.inf)
        place = int(mel.argmin())
        if first or mel[place] < self.mel:
            self.mel, self.best = mel[place].item(), z[place].clone()
            self.history.append((round(self.budget.spent), self.mel))
        if self.progress:
            self.progress(min(round(self.budget.spent), self.budget.renders), self.budget.renders, self.mel)
        return off, mel

    def excerpt(self, turn: int) -> Judge:
        """A judge of a loud excerpt, another one each turn; itself where the sound is hardly longer."""
        length, whole = round(EXCERPT_SECONDS * self.graph.sample_rate), self.dry.shape[-1]
        if whole < 1.5 * length:
            return self
        starts = torch.arange(0, whole - length + 1, length // 2)
        energy = self.dry.square().mean((0, 1)).unfold(0, length, length // 2).mean(1)
        loud = starts.to(energy.device)[energy.argsort(descending=True)]
        first = int(loud[turn % min(len(loud), LOUD_EXCERPTS)])
        dry, wet = (sound[..., first : first + length] for sound in (self.dry, self.wet))
        return Judge(self.graph, dry, wet, self.budget, self._listening, self.share * length / whole)

    def _listening(self, done: int, total: int, mel: float) -> None:
        if self.progress:
            self.progress(done, total, self.mel)
