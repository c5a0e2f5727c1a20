"""What a mixer's settings do to the sound, whichever knob does it: the form in which settings are compared.

Half the fader and twice the equalizer are no move at all, an open filter does nothing, a send of a silent
deck neither. Settings are therefore compared by the gain of each stem in each band, and by what arrives in
the effects.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from difffx.dj.config import MixerConfig
from difffx.dj.layout import (
    DECK_NAMES,
    N_GLOBAL_PARAMS,
    N_PARAMS_PER_TRACK,
    N_STEM_PARAMS,
    N_STEMS,
)
from difffx.functional import short_time, stem_masks

FLOOR_DB = -60.0
LOWEST_HZ = 20.0


@dataclass(frozen=True)
class Bands:
    """Neighboring bins of short spectra in groups, each about as wide in pitch as the next.

    first   the first bin of each of the K groups, and one past the last
    hz      their centers
    """

    first: tuple[int, ...]
    hz: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.hz)


def bands_of(config: MixerConfig, per_octave: float = 3.0) -> Bands:
    """From 20 Hz to half the sample rate; where bins are wider than bands, a band is one bin."""
    step = config.sample_rate / config.n_fft
    last = config.n_fft // 2
    octaves = math.log2(0.5 * config.sample_rate / LOWEST_HZ)
    count = max(1, round(per_octave * octaves))
    edges = [LOWEST_HZ * 2.0 ** (octaves * k / count) / step for k in range(count + 1)]
    first = sorted({min(max(1, round(edge)), last + 1) for edge in edges[:-1]} | {last + 1})
    hz = tuple(step * math.sqrt(a * (b - 1)) for a, b in itertools.pairwise(first))
    return Bands(tuple(first), hz)


def strips(params: Tensor) -> Tensor:
    """[B, F, 54] -> [B, F, 2, 4, 6]: deck, stem, knob."""
    decks = params.unflatten(-1, (len(DECK_NAMES), N_PARAMS_PER_TRACK))
    return decks[..., : N_STEMS * N_STEM_PARAMS].unflatten(-1, (N_STEMS, N_STEM_PARAMS))


def sends(params: Tensor) -> Tensor:
    """[B, F, 54] -> [B, F, 2, 3]: reverb send, delay send, feedback of each deck."""
    decks = params.unflatten(-1, (len(DECK_NAMES), N_PARAMS_PER_TRACK))
    return decks[..., -N_GLOBAL_PARAMS:]


def joined(strip_values: Tensor, send_values: Tensor) -> Tensor:
    """The inverse of `strips` and `sends`, [B, F, 54]."""
    return torch.cat((strip_values.flatten(-2), send_values), -1).flatten(-2)


def strip_masks(params: Tensor, bands: Bands, config: MixerConfig) -> Tensor:
    """The gain of every stem in every band, [B, F, 54] -> [B, F, 2, 4, K]: fader, isolator, both filters."""
    log_hz = params.new_tensor(bands.hz, dtype=torch.float64).log()
    order = stem_masks.steepness(config.filter_transition_octaves)
    shares = stem_masks.isolator_bands(log_hz, config.eq_low_hz, config.eq_high_hz, order).to(params)
    coefficients = stem_masks.strip_coefficients(
        *strips(params).unbind(-1),
        order=order,
        lpf_hz=(config.lpf_min, config.lpf_max),
        hpf_hz=(config.hpf_min, config.hpf_max),
    )
    levels, (p, d, q, e) = coefficients[..., :3, :], coefficients[..., 3:, :, None].unbind(-3)
    slope = (order * log_hz).to(params)
    level = torch.einsum("bfdls,lk->bfdsk", levels, shares)
    return level * (1.0 - d * torch.sigmoid(p + slope)) * (1.0 - e * torch.sigmoid(q - slope))


def in_db(gain: Tensor, floor_db: float = FLOOR_DB) -> Tensor:
    """Gains as dB, nothing below the floor."""
    return 20.0 * gain.clamp(min=10.0 ** (floor_db / 20.0)).log10()


def hats(samples: int, frames: int, config: MixerConfig, hop: int) -> Tensor:
    """How much each short spectrum belongs to each control point, [F, M]; rows add up to 1.

    A triangle from the point before to the point after, and not narrower than a short spectrum.
    """
    at = short_time.frame_positions(samples, config.n_fft, hop).clamp(0, samples - 1).double()
    points = torch.linspace(0.0, samples - 1, frames, dtype=torch.float64)
    reach = max(samples / max(frames - 1, 1), 0.5 * config.n_fft, float(hop))
    weights = (1.0 - (at - points[:, None]).abs() / reach).clamp(min=0.0)
    if frames == 1:
        weights = torch.ones_like(weights)
    return (weights / weights.sum(1, keepdim=True)).float()


def stem_energies(stems: Tensor, frames: int, bands: Bands, config: MixerConfig) -> Tensor:
    """How loud each stem is in each band around each control point.

    stems     [B, 2, 4, T]  both decks, mono
    returns   [B, F, 2, 4, K]  power, added up over the bins of a band
    """
    hop = config.n_fft // 2
    power = short_time.to_spectrum(stems, config.n_fft, hop).square().sum(-3)  # [B, 2, 4, M, N]
    pieces = [power[..., a:b].sum(-1) for a, b in itertools.pairwise(bands.first)]
    weights = hats(stems.shape[-1], frames, config, hop).to(power)
    return torch.einsum("fm,bdsmk->bfdsk", weights, torch.stack(pieces, -1))


def stem_levels(masks: Tensor, energies: Tensor) -> Tensor:
    """How much of a stem comes through its strip, as an amplitude, [B, F, 2, 4]: 1 as it is; 0 in silence."""
    through = (masks.square() * energies).sum(-1)
    return (through / energies.sum(-1).clamp(min=1e-12) + 1e-12).sqrt()


def deck_levels(masks: Tensor, energies: Tensor) -> Tensor:
    """How much of a deck comes through its strips, as an amplitude, [B, F, 2]."""
    through = (masks.square() * energies).sum((-1, -2))
    return (through / energies.sum((-1, -2)).clamp(min=1e-12) + 1e-12).sqrt()


def line_levels(
    sent: Tensor, feedback: Tensor, frame_s: float, echo_s: Tensor, config: MixerConfig
) -> Tensor:
    """How much is in each deck's echo line: what is sent now, or what still rings; all [B, F, 2].

    sent       level of the deck times its delay send
    feedback   0..1
    frame_s    seconds between control points
    echo_s     [B] seconds from a sound to its echo
    """
    kept = (config.delay_max_feedback * feedback).clamp(min=1e-6) ** (frame_s / echo_s.reshape(-1, 1, 1))
    levels = [sent[:, 0]]
    for now, rest in zip(sent.unbind(1)[1:], kept.unbind(1)[1:], strict=True):
        levels.append(torch.maximum(now, rest * levels[-1]))
    return torch.stack(levels, 1)


def known_tempo(tempo_bpm: Tensor, config: MixerConfig) -> Tensor:
    """[B] tempos, where they are not known, 0, the one at which the echo comes after delay_default_ms."""
    usual = 60_000.0 * config.beats / config.delay_default_ms
    return torch.where(tempo_bpm > 0, tempo_bpm, tempo_bpm.new_tensor(usual))


def echo_seconds(tempo_bpm: Tensor, config: MixerConfig) -> Tensor:
    """[B] tempos -> [B] seconds from a sound to its echo."""
    found = [config.echo_samples(tempo) / config.sample_rate for tempo in tempo_bpm.tolist()]
    return tempo_bpm.new_tensor(found, dtype=torch.float32)
