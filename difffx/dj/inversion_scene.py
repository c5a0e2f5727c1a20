"""Two decks and a mix, brought together and compared: what an inversion looks at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from difffx.dj import observed
from difffx.dj.convex import convex_faders, drawn_levels, outer_levels
from difffx.dj.crossfader import SimpleCrossfader
from difffx.dj.lags import moved
from difffx.dj.layout import LABELS
from difffx.dj.mel_distance import mel_distance
from difffx.dj.mixer import DJMixer
from difffx.dj.powers import master_basis
from difffx.dj.tracks import checked_track
from difffx.dj.transitions import transition
from difffx.functional import short_time

Lags = tuple[Tensor, Tensor]
SILENCE = 1e-10  # mean square, -100 dBFS
LOUDEST = 0.98  # share of levels that must stay below what faders can do
FAR = 2.0  # a level twice or half of what faders can do is no fader's


@dataclass(frozen=True)
class Scene:
    """Decks {stem: [C, T]} and mix [C, T] of one length; songs are the decks' mono sums, [T]."""

    decks: list[dict[str, Tensor]]
    mix: Tensor
    mixer: DJMixer
    songs: list[Tensor]

    @property
    def sample_rate(self) -> int:
        return self.mixer.config.sample_rate

    def later(self, lags: list[Lags]) -> Scene:
        """The same with decks moved by what was found of `residual_lags`."""
        rate = self.sample_rate
        decks = [
            {stem: moved(x, *lag, rate) for stem, x in deck.items()}
            for deck, lag in zip(self.decks, lags, strict=True)
        ]
        return replace(self, decks=decks, songs=[song_of(deck) for deck in decks])

    @torch.no_grad()
    def rendered(self, curves: Tensor, master_db: Tensor | None = None) -> Tensor:
        """The decks through the mixer with curves [1, F, 54], and a master [knots] in dB: [2, T]."""
        decks = [{stem: x[None] for stem, x in deck.items()} for deck in self.decks]
        mixed = self.mixer(*decks, curves)[0][0]
        return mixed if master_db is None else mastered(mixed, master_db, self.mixer)

    def distance(self, rendered: Tensor) -> dict[str, float]:
        """From what was rendered to the mix, see `mel_distance`."""
        return mel_distance(rendered, self.mix, self.sample_rate)


def open_scene(
    deck_a: Mapping[str, Tensor], deck_b: Mapping[str, Tensor], mix: Tensor, mixer: DJMixer
) -> Scene:
    """Raises ValueError in one line where they do not belong together or are silent."""
    decks = []
    for name, deck in (("deck_a", deck_a), ("deck_b", deck_b)):
        stems = checked_track(name, {stem: x[None] for stem, x in deck.items()})
        decks.append({stem: x[0] for stem, x in stems.items()})
    mix = checked_track("mix", {"other": mix[None]})["other"][0]
    songs = [song_of(deck) for deck in decks]
    for name, song in zip(("deck_a", "deck_b", "mix"), (*songs, mix.mean(0)), strict=True):
        if len(song) != mix.shape[-1]:
            raise ValueError(f"{name} has {len(song)} samples, the mix has {mix.shape[-1]}")
        if not song.square().mean() > SILENCE:
            raise ValueError(f"{name} is silent: there is nothing to be found")
    if mix.shape[-1] < mixer.config.sample_rate:
        raise ValueError(
            f"too short: {mix.shape[-1] / mixer.config.sample_rate:.2f} s, at least 1 s is needed"
        )
    return Scene(decks, mix, mixer, songs)


def song_of(deck: Mapping[str, Tensor]) -> Tensor:
    """The mono sum of stems [C, T], [T]."""
    return sum(x.mean(0) for x in deck.values())


def baselines(scene: Scene, frames: int) -> dict[str, Tensor]:
    """What is usually compared with, curves [1, frames, 54]: linear, equal_power, bass_swap, and convex, the
    published three bands by least squares; songs at the levels of the mix's ends."""
    mix = scene.mix.mean(0)
    levels = outer_levels(*scene.songs, mix, scene.sample_rate)
    found = {name: SimpleCrossfader(name)(frames) for name in ("linear", "equal_power")}
    found["bass_swap"] = transition("bass_swap", frames)[None]
    found = {name: at_levels(curves, levels) for name, curves in found.items()}
    songs = [song * level for song, level in zip(scene.songs, levels, strict=True)]
    convex = convex_faders(*songs, mix, scene.sample_rate)
    return {**found, "convex": drawn_levels(convex, frames, levels)}


def at_levels(curves: Tensor, levels: tuple[float, float]) -> Tensor:
    """Curves [1, F, 54], one deck's faders taken down so that decks stand to each other as these levels."""
    curves = curves.clone()
    for deck, level in zip("ab", levels, strict=True):
        places = [k for k, label in enumerate(LABELS) if label[0] == deck and label.endswith(".gain")]
        curves[..., places] *= level / max(levels)
    return curves


def mastered(x: Tensor, master_db: Tensor, mixer: DJMixer) -> Tensor:
    """Sound [C, T] through an equalizer that stands still, without a turn of phase, and a gain in it."""
    n_fft, hop = mixer.config.n_fft, mixer.config.hop_length
    hz = torch.fft.rfftfreq(n_fft, 1.0 / mixer.config.sample_rate, dtype=torch.float64).clamp(min=1.0)
    gains = 10.0 ** ((master_db.double().cpu() @ master_basis(hz.log())) / 20.0)
    return short_time.from_spectrum(
        short_time.to_spectrum(x, n_fft, hop) * gains.to(x), x.shape[-1], n_fft, hop
    )


def explained(scene: Scene) -> tuple[float, float]:
    """How much of the mix's energy sums of the decks make, 0..1, and the level at which they do.

    Sums of all stems, anew three times a second and in each octave: next to all in a mix of these very
    sounds, little where they were stretched. A level of 1 is what faders can do, between half and twice.
    """
    rate, n_fft = scene.sample_rate, scene.mixer.config.n_fft
    hop = n_fft // 2
    block = max(2, round(rate / 3 / hop))
    where = observed.grid(scene.mix.shape[-1], rate, n_fft, hop, block, per_octave=1)
    mix, *stems = (
        observed.spectra(x.mean(0)[None, None], where)
        for x in (scene.mix, *(x for deck in scene.decks for x in deck.values()))
    )
    own = torch.stack([torch.stack([observed.products(x, y, where) for y in stems], -1) for x in stems], -1)
    shared = torch.stack([observed.products(x, mix, where) for x in stems], -1)
    power = observed.products(mix, mix, where)
    ridge = 1e-3 * own.diagonal(dim1=-2, dim2=-1).mean(-1) + 1e-9
    gains = torch.linalg.solve(own + torch.diag_embed(ridge[..., None].expand_as(shared)), shared)
    share = (gains * shared).sum() / power.sum()
    heard = own.diagonal(dim1=-2, dim2=-1).flatten()
    order = gains.flatten().argsort()
    weights = (heard * gains.flatten().clamp(min=0.0).square())[order].cumsum(0)
    level = gains.flatten()[order][int((weights < LOUDEST * weights[-1]).sum().clamp(max=len(order) - 1))]
    return share.clamp(0.0, 1.0).item(), level.clamp(min=1e-6).item()
