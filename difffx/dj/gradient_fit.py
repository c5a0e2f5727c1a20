"""The 54 curves of a mix whose stems are known sample by sample, by gradient descent."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj import observed
from difffx.dj.layout import (
    DECK_NAMES,
    LABELS,
    N_PARAMS_PER_TRACK,
    N_STEM_PARAMS,
    RANGES,
    STEM_NAMES,
    get_default_params,
    recommended_start,
)
from difffx.dj.mixer import DJMixer, Tempo
from difffx.dj.tracks import checked_track, shared_batch
from difffx.functional import short_time

Loss = Callable[[Tensor, Tensor], Tensor]
Progress = Callable[[int, int, float], None]
STRIPS_RATE, SENDS_RATE, POLISH_RATE = 0.05, 0.1, 0.01  # of Adam, where a knob's way is 1
ROUNDS = 2  # strips, then sends
BLOCKS_PER_FRAME = 6
LONGEST_BLOCK = 8
QUIET = 1e-4  # power relative to a band's mean; errors below it say nothing
SENDS = [place for place, label in enumerate(LABELS) if "_sends." in label]


def fit(
    deck_a: Mapping[str, Tensor],
    deck_b: Mapping[str, Tensor],
    mix: Tensor,
    mixer: DJMixer,
    start: Tensor | None = None,
    steps: int = 300,
    *,
    polish: int = 20,
    loss: Loss | None = None,
    tempo_bpm: Tempo | None = None,
    progress: Progress | None = None,
    adam: Descent | None = None,
) -> Tensor:
    """Curves [B, F, 54] with which the mixer makes this mix of these stems.

    deck_a, deck_b   stems by name, [B, T] or [B, C, T], in line with the mix to the sample
    mix              [B, C, T]; where it is mono the decks are brought to mono
    start            [B or 1, F, 54], sends not looked at; None: the recommended one, a point each half second
    steps            on the strips: each takes milliseconds, since only what bands of stems have in common
                     with each other and with the mix is looked at, and no sound is rendered
    polish           twice as many steps on the sends alone, half of them midway, and at the end so many
                     through the whole mixer, a fifth of a second each for 8 s of 8 stereo stems; 0: sends off
    loss             of both of these, (rendered, mix) -> a number, or one an item; None: `spectral`
    tempo_bpm        of the echo, as the mixer takes it
    progress         called with steps done, steps in all, loss
    adam             a descent with a deadline of its own, in place of the usual one

    For mixes whose originals were stretched or coded, so that phases differ: `inversion.invert`.
    """
    decks = [checked_track(f"deck_{name}", deck) for name, deck in zip("ab", (deck_a, deck_b), strict=True)]
    curves = _started(decks, mix, mixer, start)
    if mix.shape[1] == 1:
        decks = [{stem: x.mean(1, keepdim=True) for stem, x in deck.items()} for deck in decks]
        mix = mix.expand(-1, 2, -1)
    adam = adam or Descent(steps + 3 * polish, progress)
    if not polish:
        return adam(curves, by_statistics(decks, mix, mixer, curves.shape[1]), steps, STRIPS_RATE)
    scene = Scene(decks, mix, mixer, loss or spectral, tempo_bpm)
    wet = torch.zeros_like(mix)
    for part in range(ROUNDS):
        distance = by_statistics(decks, mix - wet, mixer, curves.shape[1])
        curves = adam(curves, distance, _share(steps, part), STRIPS_RATE)
        curves, wet = _with_sends(scene, curves, adam, _share(2 * polish, part))
    tracks = [mixer.prepare(deck) for deck in decks]
    return adam(curves, lambda p: scene.distance(tracks, p), polish, POLISH_RATE)


def _share(steps: int, part: int) -> int:
    """Of so many steps those of one round."""
    return steps * (part + 1) // ROUNDS - steps * part // ROUNDS


def _started(decks: list[dict[str, Tensor]], mix: Tensor, mixer: DJMixer, start: Tensor | None) -> Tensor:
    """The first curves, [B, F, 54], sends off. Raises ValueError where sounds do not belong together."""
    sounds = {"deck_a": next(iter(decks[0].values())), "deck_b": next(iter(decks[1].values())), "mix": mix}
    batch = shared_batch(
        {name: x.shape[-1] for name, x in sounds.items()}, {name: x.shape[0] for name, x in sounds.items()}
    )
    if start is None:
        start = recommended_start(max(2, round(2.0 * mix.shape[-1] / mixer.config.sample_rate)))
    curves = start.detach().to(mix).expand(batch, -1, -1).clone()
    curves[..., SENDS] = 0.0
    return curves


@dataclass(frozen=True)
class Scene:
    """A mix and what it was made of."""

    decks: list[dict[str, Tensor]]
    mix: Tensor
    mixer: DJMixer
    loss: Loss
    tempo_bpm: Tempo | None

    def distance(self, tracks: list, curves: Tensor) -> Tensor:
        """From what the mixer makes of these tracks to the mix."""
        return self.loss(self.mixer(*tracks, curves, tempo_bpm=self.tempo_bpm)[0], self.mix)


def _with_sends(scene: Scene, curves: Tensor, adam: Descent, steps: int) -> tuple[Tensor, Tensor]:
    """The same strips with sends that bring the mix nearer, and what the effects then add to the mix.

    Only the sums of the decks are rendered in each step.
    """
    mixer, tempo = scene.mixer, scene.tempo_bpm
    with torch.no_grad():
        found = mixer(*scene.decks, curves, return_intermediates=True, tempo_bpm=tempo)[1]
        dry = [found[f"track_{name}"]["summed"] for name in DECK_NAMES]
        buses = [mixer.prepare({"other": bus}) for bus in dry]
    neutral = get_default_params(curves.shape[1], len(curves)).to(curves)
    neutral[..., LABELS.index("b_other.gain")] = 1.0
    neutral[..., SENDS] = curves[..., SENDS]
    sends = torch.zeros(curves.shape[-1], dtype=torch.bool, device=curves.device)
    sends[SENDS] = True
    moved = adam(neutral, lambda p: scene.distance(buses, torch.where(sends, p, neutral)), steps, SENDS_RATE)
    moved = torch.where(sends, moved, neutral)
    with torch.no_grad():
        wet = mixer(*buses, moved, tempo_bpm=tempo)[0] - dry[0] - dry[1]
    return torch.where(sends, moved, curves), wet


class Descent:
    """Adam in ever smaller steps on curves [B, F, 54], held inside their ranges; the best of them all.

    total      steps of all calls together
    progress   called after each with steps done, total, loss
    seconds    the longest for all calls together; then each returns what it has
    patient    Ctrl-C ends this call and all later ones in the same way; `ended` says so

    ended      "settled", "seconds" or "interrupted"
    """

    def __init__(
        self,
        total: int,
        progress: Progress | None = None,
        seconds: float = math.inf,
        patient: bool = False,
    ) -> None:
        self.total, self.progress, self.done = total, progress, 0
        self.deadline, self.patient, self.ended = time.monotonic() + seconds, patient, "settled"

    def __call__(
        self,
        curves: Tensor,
        distance: Callable[..., Tensor],
        steps: int,
        rate: float,
        others: Sequence[Tensor] = (),
    ) -> Tensor:
        """The curves nearest by distance(curves, *others); others are moved in place, freely.

        A distance of [B] keeps the best of each item, one number the best of all together.
        """
        moved = [curves.clone().requires_grad_(), *(x.requires_grad_() for x in others)]
        best = [math.inf, *(x.detach().clone() for x in moved)]
        try:
            self._descend(moved, best, distance, steps, rate)
        except KeyboardInterrupt:
            if not self.patient:
                raise
            self.ended = "interrupted"
        for other, value in zip(others, best[2:], strict=True):
            other.requires_grad_(False).copy_(value)
        return best[1]

    def _descend(self, moved: list[Tensor], best: list, distance: Callable, steps: int, rate: float) -> None:
        low, high = torch.tensor(RANGES).to(moved[0]).unbind(1)
        adam = torch.optim.Adam(moved, rate, betas=(0.8, 0.98))
        for step in range(steps + 1):
            if self.ended != "settled":
                return
            values = distance(*moved)
            value = values.sum()
            _keep(best, values.detach(), moved)
            if step == steps:
                return
            adam.param_groups[0]["lr"] = rate * (0.51 + 0.49 * math.cos(math.pi * step / steps))
            adam.zero_grad()
            value.backward()
            adam.step()
            with torch.no_grad():
                moved[0].copy_(torch.minimum(torch.maximum(moved[0], low), high))
            self.done += 1
            if self.progress:
                self.progress(self.done, self.total, value.item())
            if time.monotonic() > self.deadline:
                self.ended = "seconds"


def _keep(best: list, values: Tensor, moved: list[Tensor]) -> None:
    """Takes over what is nearer than what was best: for each item of [B] values, or all at once."""
    nearer = values < best[0]
    best[0] = torch.where(nearer, values, best[0])
    for number, x in enumerate(moved, 1):
        which = nearer.reshape(-1, *[1] * (x.ndim - 1)) if nearer.ndim else nearer
        best[number] = torch.where(which, x.detach(), best[number])


def spectral(rendered: Tensor, mix: Tensor) -> Tensor:
    """Mean magnitude of the difference in short spectra [B, C, T], each frequency at its own level, [B]."""
    size = 2 ** min(11, max(4, mix.shape[-1].bit_length() - 2))
    planes = short_time.to_spectrum(rendered.expand_as(mix) - mix, size, size // 4)
    level = short_time.to_spectrum(mix, size, size // 4).square().sum(-3).mean((1, 2), keepdim=True).sqrt()
    level = level + 1e-3 * level.mean(-1, keepdim=True) + 1e-9
    return ((planes.square().sum(-3) + 1e-12).sqrt() / level).mean((1, 2, 3))


def by_statistics(
    decks: list[dict[str, Tensor]], mix: Tensor, mixer: DJMixer, frames: int
) -> Callable[[Tensor], Tensor]:
    """Curves [B, F, 54] -> how far the strips' sum is from the mix, [B], without a sound being rendered.

    With the products of all sounds in each band and block, the power of the error is a quadratic form of the
    masks; its root counts, relative to the mean of the band. Masks stand still within a block and a band, a
    24th of an octave or a bin.
    """
    config, samples = mixer.config, mix.shape[-1]
    block = samples / config.hop_length / max(frames - 1, 1) / BLOCKS_PER_FRAME
    block = max(1, min(LONGEST_BLOCK, int(block)))
    where = observed.grid(samples, config.sample_rate, config.n_fft, config.hop_length, block)
    rows = [(d, STEM_NAMES.index(stem)) for d, deck in enumerate(decks) for stem in deck]
    stems = [x for deck in decks for x in deck.values()]
    with torch.no_grad():
        items = [_statistics([x[min(k, len(x) - 1)] for x in stems], mix[k], where) for k in range(len(mix))]
        pairs, shared, power = (torch.cat(parts) for parts in zip(*items, strict=True))
        level = power.mean(1, keepdim=True)
        level = level + 1e-6 * level.mean(-1, keepdim=True) + 1e-12

    def distance(curves: Tensor) -> Tensor:
        masks = observed.strip_masks(strips_of(curves, rows), where, config)
        error = observed.quadratic(masks, pairs) - 2.0 * (masks * shared).sum(1) + power
        return (error.clamp(min=0.0) / level + QUIET).sqrt().mean((1, 2))

    return distance


def _statistics(stems: list[Tensor], mix: Tensor, where: observed.Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Of one item, sounds [C, T]: stems with stems, stems with the mix, the mix with itself."""
    channels = max(x.shape[0] for x in (mix, *stems))
    target, *sounds = (observed.spectra(x.expand(channels, -1)[None], where) for x in (mix, *stems))
    shared = torch.stack([observed.products(x, target, where) for x in sounds], 1)
    return observed.gram(sounds, where), shared, observed.products(target, target, where)


def strips_of(curves: Tensor, rows: list[tuple[int, int]]) -> Tensor:
    """The strips of (deck, stem) pairs: curves [B, F, 54] -> [B, S, 6, F]."""
    starts = [deck * N_PARAMS_PER_TRACK + stem * N_STEM_PARAMS for deck, stem in rows]
    return torch.stack([curves[..., s : s + N_STEM_PARAMS].mT for s in starts], 1)
