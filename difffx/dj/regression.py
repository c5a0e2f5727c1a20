"""How much of each stem is in a mix, band by band, by least squares: what can be had without learning."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.dj.config import MixerConfig
from difffx.dj.layout import DECK_NAMES, N_STEMS, RANGES
from difffx.dj.mixer import DJMixer
from difffx.dj.nodes import hall
from difffx.dj.responses import Bands, hats, joined
from difffx.functional import short_time, stem_masks
from difffx.functional.convolution import convolve

N_STRIPS = len(DECK_NAMES) * N_STEMS
ECHOES = 2
N_RETURNS = 1 + ECHOES  # of a deck: its hall, its echoes
N_SOUNDS = N_STRIPS + len(DECK_NAMES) * N_RETURNS
RIDGE = 1e-3
LEAST = 1e-3  # share of a stem's power below which a band of it is like the others
SHY = 0.02  # share of the power that a filter must explain for its whole way
LOW_PASSES = tuple(1.0 - 0.07 * n for n in range(13))
HIGH_PASSES = tuple(0.07 * n for n in range(13))
FAINT = 1e-7  # of the loudest band of the clip: less is silence


@dataclass(frozen=True)
class Known:
    """What is known of two decks before their mix is heard; enough for many mixes of them.

    The sounds are 8 stems, deck A's then B's, then hall and echoes of deck A, then those of B.

    planes    [B, S, 2, M, N]  their short spectra
    weights   [F, M]  how much each of those belongs to each control point
    powers    [B, F, K, S]  in each band around each control point
    inverse   [B, F, K, S, S]  of their inner products, with a ridge
    sure      [B, F, K, S]  0: nothing can be known of it, as of silence; 1: it stands apart from all else
    bands     first bins, see `difffx.dj.responses.Bands`
    frames    n_fft and hop
    """

    planes: Tensor
    weights: Tensor
    powers: Tensor
    inverse: Tensor
    sure: Tensor
    bands: tuple[int, ...]
    frames: tuple[int, int]

    @property
    def energies(self) -> Tensor:
        """Of the stems, [B, F, 2, 4, K]."""
        return self.powers[..., :N_STRIPS].mT.unflatten(2, (len(DECK_NAMES), N_STEMS))


@dataclass(frozen=True)
class Explained:
    """A mix as a sum of known sounds, in each band around each control point.

    gains    [B, F, K, S]  factor of each sound
    sure     [B, F, K, S]  as in `Known`
    powers   [B, F, K, S]  of the sounds
    power    [B, F, K]     of the mix
    rest     [B, F, K]     share of it that no sum of the sounds makes
    """

    gains: Tensor
    sure: Tensor
    powers: Tensor
    power: Tensor
    rest: Tensor


def known(stems: Tensor, mixer: DJMixer, bands: Bands, frames: int, echo_s: Tensor) -> Known:
    """Two decks and what the effects would give back of the plain sum of each.

    stems    [B, 2, 4, T]  both decks, mono
    echo_s   [B]  from a sound to its echo

    A ridge keeps what cannot be told apart near 0.
    """
    config = mixer.config
    plan = config.n_fft, config.n_fft // 2
    sounds = torch.cat((stems.flatten(1, 2), returns(stems, mixer, echo_s)), 1)
    planes = short_time.to_spectrum(sounds, *plan)
    weights = hats(sounds.shape[-1], frames, config, plan[1]).to(sounds)
    own = gram(planes, planes, weights, bands.first)
    powers = own.diagonal(dim1=-2, dim2=-1)
    ridge = RIDGE * powers.mean(-1, keepdim=True) + FAINT * powers.amax((1, 2, 3), keepdim=True) + 1e-12
    inverse = torch.linalg.inv(own + torch.diag_embed(ridge.expand_as(powers)))
    sure = (1.0 - ridge * inverse.diagonal(dim1=-2, dim2=-1)).clamp(0.0, 1.0)
    return Known(planes, weights, powers, inverse, sure, bands.first, plan)


def explain(decks: Known, mixes: Tensor) -> Explained:
    """Mixes of known decks by least squares; settings are taken as constant from point to point.

    mixes   [R * B, T]  mono, in line with the stems to the sample; R mixes of each pair of decks in turn
    """
    batch = len(decks.planes)
    repeats = len(mixes) // batch
    planes = short_time.to_spectrum(mixes, *decks.frames).unflatten(0, (batch, repeats))
    shared = gram(decks.planes, planes, decks.weights, decks.bands)  # [B, F, K, S, R]
    gains = decks.inverse @ shared
    power = _powers(planes, decks.weights, decks.bands)  # [B, F, K, R]
    floor = FAINT * power.amax((1, 2), keepdim=True) + 1e-12
    rest = (1.0 - (gains * shared).sum(-2) / (power + floor)).clamp(0.0, 1.0)
    sure, powers = (x.repeat_interleave(repeats, 0) for x in (decks.sure, decks.powers))
    gains, power, rest = (x.movedim(-1, 1).flatten(0, 1) for x in (gains, power, rest))
    return Explained(gains, sure, powers, power, rest)


def returns(stems: Tensor, mixer: DJMixer, echo_s: Tensor) -> Tensor:
    """What the effects would give back of each deck with everything open: [B, 2 * (1 + ECHOES), T]."""
    decks, samples = stems.sum(2), stems.shape[-1]
    ir = hall(mixer.config).mean(1, keepdim=True).to(stems)
    halls = convolve(decks.flatten(0, 1)[:, None], ir).view_as(decks)
    delays = [round(seconds * mixer.config.sample_rate) for seconds in echo_s.tolist()]
    echoes = [
        torch.stack([_later(deck, count * delay) for deck, delay in zip(decks, delays, strict=True)])
        for count in range(1, ECHOES + 1)
    ]
    return torch.stack((halls, *echoes), 2).flatten(1, 2)[..., :samples]


def gram(first: Tensor, second: Tensor, weights: Tensor, bands: tuple[int, ...]) -> Tensor:
    """Inner products of short spectra [B, S, 2, M, N] and [B, R, 2, M, N] in each band around each control
    point, weights [F, M]: [B, F, K, S, R]."""
    found = []
    for a, b in itertools.pairwise(bands):
        rows, columns = (x[..., a:b].permute(0, 3, 1, 2, 4).flatten(3) for x in (first, second))
        products = rows @ columns.mT  # [B, M, S, R]
        found.append((weights @ products.flatten(2)).unflatten(2, products.shape[2:]))
    return torch.stack(found, 2)


def _powers(planes: Tensor, weights: Tensor, bands: tuple[int, ...]) -> Tensor:
    """[B, R, 2, M, N] -> [B, F, K, R]."""
    power = planes.square().sum(2)
    pieces = [power[..., a:b].sum(-1) for a, b in itertools.pairwise(bands)]
    return torch.einsum("fm,brmk->bfkr", weights, torch.stack(pieces, -1))


def least_squares(stems: Tensor, mix: Tensor, mixer: DJMixer, bands: Bands, frames: int) -> Tensor:
    """The baseline of estimators: gains of bass, mid and treble of all stems at once, [B, F, 54].

    stems   [B, 2, 4, T]  both decks, mono
    mix     [B, T]        mono, in line with them to the sample

    24 unknowns around each control point, through the bands of the mixer's own isolator; what is outside of
    0..2 is held there. Filters stay open, sends closed.
    """
    config = mixer.config
    sounds = torch.cat((stems.flatten(1, 2), mix[:, None]), 1)
    planes = short_time.to_spectrum(sounds, config.n_fft, config.n_fft // 2)
    weights = hats(sounds.shape[-1], frames, config, config.n_fft // 2).to(sounds)
    products = gram(planes, planes, weights, bands.first)
    order = stem_masks.steepness(config.filter_transition_octaves)
    log_hz = torch.tensor(bands.hz, dtype=torch.float64).log()
    shares = stem_masks.isolator_bands(log_hz, config.eq_low_hz, config.eq_high_hz, order).to(products)
    own = torch.einsum("lk,mk,bfkrs->bfrlsm", shares, shares, products[..., :-1, :-1])
    own = own.flatten(4, 5).flatten(2, 3)
    shared = torch.einsum("lk,bfkr->bfrl", shares, products[..., :-1, -1]).flatten(2, 3)
    scale = own.diagonal(dim1=-2, dim2=-1)
    ridge = 1e-4 * scale.mean(-1, keepdim=True) + FAINT * scale.amax((1, 2), keepdim=True) + 1e-12
    levels = torch.linalg.solve(own + torch.diag_embed(ridge.expand_as(scale)), shared)
    return from_levels(levels.unflatten(2, (len(DECK_NAMES), N_STEMS, 3)))


def from_levels(levels: Tensor) -> Tensor:
    """Gains of bass, mid and treble of each strip, [B, F, 2, 4, 3] -> [B, F, 54] as loud, all else open.

    The fader stands at the largest of the three, as far as it goes.
    """
    levels = levels.clamp(0.0, RANGES[1][1])
    gain = levels.amax(-1, keepdim=True).clamp(max=1.0)
    equal = torch.where(gain > 1e-6, levels / gain.clamp(min=1e-6), torch.ones_like(levels))
    rest = torch.cat((torch.ones_like(gain), torch.zeros_like(gain)), -1)
    return joined(torch.cat((gain, equal, rest), -1), torch.zeros_like(levels[..., 0, :]))


def strips_from(gains: Tensor, weight: Tensor, bands: Bands, config: MixerConfig) -> Tensor:
    """Strips whose response comes near gains of a stem in each band: knobs [..., 6], in their own units.

    gains    [..., K]
    weight   [..., K]  how much each of them counts; a band that does not count is like the others of its stem

    First the low-pass is looked for among a dozen, then the high-pass, each with the isolator that suits it
    best; a filter that explains little more than none is left open.
    """
    order = stem_masks.steepness(config.filter_transition_octaves)
    log_hz = gains.new_tensor(bands.hz, dtype=torch.float64).log()
    shares = stem_masks.isolator_bands(log_hz, config.eq_low_hz, config.eq_high_hz, order).to(gains)
    weight = weight / weight.sum(-1, keepdim=True).clamp(min=1e-20)
    masks = torch.ones_like(gains[..., None, :])  # one candidate so far
    chosen = []
    for knob, places in (("lpf", LOW_PASSES), ("hpf", HIGH_PASSES)):
        tried = masks * _filters(knob, places, log_hz, order, config).to(gains)  # [..., N, K]
        error = _fitted(gains[..., None, :], weight[..., None, :], tried, shares)[1]
        moved = gains.new_tensor([abs(place - places[0]) for place in places])
        power = (weight * gains.square()).sum(-1, keepdim=True)
        best = (error + SHY * power * moved).argmin(-1, keepdim=True)  # [..., 1]
        masks = tried.gather(-2, best[..., None].expand(*best.shape, tried.shape[-1]))
        chosen.append(gains.new_tensor(places)[best])
    levels = _fitted(gains[..., None, :], weight[..., None, :], masks, shares)[0][..., 0, :]
    levels = levels.clamp(0.0, RANGES[1][1])
    gain = levels.amax(-1, keepdim=True).clamp(max=1.0)
    equal = torch.where(gain > 1e-6, levels / gain.clamp(min=1e-6), torch.ones_like(levels))
    return torch.cat((gain, equal, *chosen), -1)


def _filters(knob: str, places: Sequence[float], log_hz: Tensor, order: float, config: MixerConfig) -> Tensor:
    """Responses of a filter at N places, [N, K]; those of the first, where it is open, are 1."""
    low, high = (config.lpf_min, config.lpf_max) if knob == "lpf" else (config.hpf_min, config.hpf_max)
    cutoff = math.log(low) + log_hz.new_tensor(places)[:, None] * math.log(high / low)
    masks = torch.sigmoid(order * (cutoff - log_hz) * (1.0 if knob == "lpf" else -1.0))
    return torch.cat((torch.ones_like(masks[:1]), masks[1:]))


def _fitted(gains: Tensor, weight: Tensor, masks: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Isolator levels that come nearest behind filters, band by band, [..., N, 3], and how far, [..., N]."""
    through = weight * masks
    top, bottom = (through * gains) @ shares.T, (through * masks) @ shares.T
    whole = top.sum(-1, keepdim=True) / bottom.sum(-1, keepdim=True).clamp(min=1e-20)
    levels = ((top + LEAST * whole) / (bottom + LEAST)).clamp(min=0.0)
    return levels, (weight * (gains - masks * (levels @ shares)).square()).sum(-1)


def _later(x: Tensor, samples: int) -> Tensor:
    return pad(x, (samples, 0))[..., : x.shape[-1]]
