"""Two decks and a mix without phases: what a DJ did, from powers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj import observed
from difffx.dj.config import MixerConfig
from difffx.dj.gradient_fit import strips_of
from difffx.dj.layout import DECK_NAMES, ENTRIES, LABELS, STEM_NAMES, index_of

PER_OCTAVE = 12
MASTER_KNOTS = 25
MASTER_HZ = (30.0, 20_000.0)
FAINT = 1e-5  # of a band's mean power: differences below are not heard
SMEARED = 8  # frames
ROUGHNESS, WIGGLES, FILTERS, EQUALS, FADERS, MASTER = 0.02, 0.2, 0.01, 0.01, 0.01, 0.02


@dataclass(frozen=True)
class Powers:
    """What is measured once of decks and mix, mono.

    where   the grid of M blocks and N bands
    decks   of each deck the products of its stems, [1, P, M, N]
    rows    of each deck its (deck, stem) pairs
    mix     [1, M, N]
    """

    where: observed.Grid
    decks: tuple[Tensor, Tensor]
    rows: tuple[list[tuple[int, int]], list[tuple[int, int]]]
    mix: Tensor

    def predicted(self, curves: Tensor, config: MixerConfig) -> Tensor:
        """Power of the mix under curves [1, F, 54], [1, M, N].

        Stems of a deck add up as they are, so that leaks between them cancel as they should; decks add up as
        if they had nothing in common.
        """
        total = None
        for rows, pairs in zip(self.rows, self.decks, strict=True):
            masks = observed.strip_masks(strips_of(curves, rows), self.where, config)
            power = observed.quadratic(masks, pairs).clamp(min=0.0)
            total = power if total is None else total + power
        return total

    def coarser(self, block: int) -> Powers:
        """The same with so many blocks in one."""
        if block == 1:
            return self
        n_fft, hop, size = self.where.frames
        where = observed.Grid(
            observed.gathered(self.where.at, block, mean=True),
            self.where.log_hz,
            self.where.gather,
            (n_fft, hop, size * block),
            self.where.samples,
        )
        decks = tuple(observed.gathered(x, block) for x in self.decks)
        return Powers(where, decks, self.rows, observed.gathered(self.mix, block))


def measured(
    deck_a: Mapping[str, Tensor], deck_b: Mapping[str, Tensor], mix: Tensor, sample_rate: int
) -> Powers:
    """Stems and mix, [C, T], summed to mono; frames of 46 ms, half as far apart."""
    n_fft = MixerConfig(sample_rate).n_fft
    where = observed.grid(mix.shape[-1], sample_rate, n_fft, n_fft // 2, per_octave=PER_OCTAVE)
    decks, rows = [], []
    for number, deck in enumerate((deck_a, deck_b)):
        sounds = [observed.spectra(x.mean(0)[None, None], where) for x in deck.values()]
        decks.append(observed.gram(sounds, where))
        rows.append([(number, STEM_NAMES.index(stem)) for stem in deck])
    target = observed.spectra(mix.mean(0)[None, None], where)
    return Powers(where, tuple(decks), tuple(rows), observed.products(target, target, where))


class Objective:
    """How unlike two mixes sound, and how unlikely the moves are; a number to go down from.

    Differences of logarithms of power, frame by frame and over 0.2 s, in bands of a 12th of an octave: none
    of mel bands, dB and 23 ms, in which inversions are compared. On top moves that shake, filters that
    are not open, isolators that are not at rest and faders that are up count a little, so that what cannot be
    heard rests there.
    """

    def __init__(self, powers: Powers, config: MixerConfig, frozen: Tensor) -> None:
        self.powers, self.config, self.frozen = powers, config, frozen
        mean = powers.mix.mean((0, 1))
        self.floor = FAINT * (mean + 1e-3 * mean.mean()) + 1e-12
        self.target = (powers.mix + self.floor).log()
        self.smeared = (_smeared(powers.mix, self._reach) + self.floor).log()
        self.master = master_basis(powers.where.log_hz).to(powers.mix)
        self.rest = torch.tensor([ENTRIES[label].default for label in LABELS]).to(powers.mix)
        self.gains = _places("gain")
        self.filters = _places("lpf", "hpf")
        self.equals = _places("eq_low", "eq_mid", "eq_high")
        self.strips = _places("gain", "eq_low", "eq_mid", "eq_high", "lpf", "hpf")

    def coarser(self, block: int) -> Objective:
        """The same on blocks of so many frames."""
        return self if block == 1 else Objective(self.powers.coarser(block), self.config, self.frozen)

    @property
    def _reach(self) -> int:
        return max(1, SMEARED // self.powers.where.frames[2])

    def __call__(self, curves: Tensor, master: Tensor) -> Tensor:
        """curves [1, F, 54], master [knots] in dB."""
        return self.difference(curves, master) + self.priors(curves, master)

    def difference(self, curves: Tensor, master: Tensor) -> Tensor:
        """Mean absolute difference of ln power."""
        power = self.powers.predicted(self.held(curves), self.config) * torch.exp(
            (master @ self.master) * 0.2302585
        )
        fine = ((power + self.floor).log() - self.target).abs().mean()
        if self._reach == 1:
            return fine
        return (
            0.5 * fine + 0.5 * ((_smeared(power, self._reach) + self.floor).log() - self.smeared).abs().mean()
        )

    @torch.no_grad()
    def level(self, curves: Tensor) -> Tensor:
        """A master that brings curves [1, F, 54] to the level of the mix and is flat, [knots] in dB."""
        power = self.powers.predicted(self.held(curves), self.config)
        off_db = 10.0 * (self.powers.mix.sum() / power.sum().clamp(min=1e-20)).log10()
        return off_db.expand(MASTER_KNOTS).clone()

    def held(self, curves: Tensor) -> Tensor:
        """The same with all that is frozen at rest."""
        return torch.where(self.frozen, self.rest, curves)

    def priors(self, curves: Tensor, master: Tensor) -> Tensor:
        """What speaks against these moves, whatever the mix."""
        strips, off = curves[..., self.strips], (curves - self.rest).abs()
        steps = strips.diff(dim=1)
        shaking = ROUGHNESS * steps.abs().sum(1).mean() + WIGGLES * steps.diff(dim=1).abs().mean()
        idle = FILTERS * off[..., self.filters].mean() + EQUALS * off[..., self.equals].mean()
        gains = curves[..., self.gains]
        idle = idle + FADERS * gains.mean() / gains.max().clamp(min=1e-3)
        return shaking + idle + MASTER * master.diff().diff().abs().mean()


def master_basis(log_hz: Tensor) -> Tensor:
    """Straight lines in log frequency through knots, level beyond them: [knots, N]."""
    low, high = torch.tensor(MASTER_HZ, dtype=torch.float64).log()
    at = ((log_hz.double() - low) / (high - low)).clamp(0.0, 1.0) * (MASTER_KNOTS - 1)
    return (1.0 - (at - torch.arange(MASTER_KNOTS)[:, None]).abs()).clamp(min=0.0)


def master_hz() -> list[float]:
    """Where the master's knots are."""
    low, high = torch.tensor(MASTER_HZ, dtype=torch.float64).log()
    return torch.linspace(low, high, MASTER_KNOTS, dtype=torch.float64).exp().tolist()


def frozen_numbers(bands: int) -> Tensor:
    """[54], True for what stands still: the sends; with one band, all but the faders."""
    names = ("gain",) if bands == 1 else ("gain", "eq_low", "eq_mid", "eq_high", "lpf", "hpf")
    return torch.tensor([label.split(".")[1] not in names for label in LABELS])


def _places(*names: str) -> list[int]:
    return [index_of(deck, stem, name) for deck in DECK_NAMES for stem in STEM_NAMES for name in names]


def _smeared(power: Tensor, reach: int) -> Tensor:
    """Means over so many blocks, [1, M, N], half of them apart."""
    if reach == 1:
        return power
    size = min(reach, power.shape[1])
    return torch.nn.functional.avg_pool1d(power.mT, size, max(1, size // 2)).mT
