"""How far off an estimated transition is: in the gains that are heard, in the moment of the swap, by ear."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from difffx.dj.config import MixerConfig
from difffx.dj.layout import DECK_NAMES, STEM_NAMES
from difffx.dj.mel_distance import mel_distance
from difffx.dj.responses import (
    Bands,
    deck_levels,
    in_db,
    line_levels,
    sends,
    stem_levels,
    strip_masks,
    strips,
)
from difffx.metrics.audio import si_sdr

CUT_DB = 1.0  # a filter that takes less of its stem is not heard
NOBODY_DB = -30.0  # a deck that is lower is not there
ALIKE_DB = 1.0  # decks that differ by less are both in front
FINER = 8  # points between control points, where levels are followed
FAINT_DB = -40.0  # of a stem's level: its filters are not heard
UNITS = {
    "response_db": "dB",
    "gain": "",
    "cutoff_octaves": "octaves",
    "sends": "",
    "feedback": "",
    "swap_ms": "ms",
    "mel_db": "dB",
    "si_sdr": "dB",
}


@torch.no_grad()
def transition_metrics(
    found: Tensor,
    true: Tensor,
    energies: Tensor,
    bands: Bands,
    config: MixerConfig,
    seconds: float,
    echo_s: Tensor,
) -> dict[str, Tensor]:
    """Distances of curves, each item by itself; NaN where there is nothing to compare. All lower is better.

    found, true      [B, F, 54]
    energies         [B, F, 2, 4, K]  of the stems, see `difffx.dj.responses.stem_energies`
    seconds, echo_s  length of the mix; [B], from a sound to its echo
    returns          name -> [B]

    response_db      difference of the gain of each stem in each band, nothing below -60 dB, weighted by the
                     power of the stem there before the mixer; of all stems, and of each: response_db/a_drums
    gain             of the amplitude of each stem, 1 as it is, weighted by its power
    cutoff_octaves   of low- and high-passes, where either takes 1 dB or more of a stem that is heard in truth
    sends            of what arrives in hall and echo, as amplitude: sends times the level of the deck
    feedback         while something is in the line
    swap_ms          of the moment when B's level overtakes A's, mean of bass, mid and treble;
                     a swap that is not found is off by the longer side of it
    """
    masks, goal = (strip_masks(x, bands, config) for x in (found, true))
    apart = (in_db(masks) - in_db(goal)).abs()
    scores = {"response_db": _mean(apart, energies, (1, 2, 3, 4))}
    gains = (stem_levels(masks, energies) - stem_levels(goal, energies)).abs()
    scores["gain"] = _mean(gains, energies.sum(-1), (1, 2, 3))
    scores["cutoff_octaves"] = _cutoffs(found, true, energies, bands, config)
    levels = [deck_levels(mask, energies) for mask in (masks, goal)]
    scores |= _effects(sends(found), sends(true), levels, seconds, echo_s, config)
    scores["swap_ms"] = _swaps(masks, goal, energies, bands, config, seconds)
    by_stem = _mean(apart, energies, (1, 4))
    for d, deck in enumerate(DECK_NAMES):
        scores |= {f"response_db/{deck}_{stem}": by_stem[:, d, s] for s, stem in enumerate(STEM_NAMES)}
    return scores


@torch.no_grad()
def mix_metrics(found: Tensor, true: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Distances of two renders [B, 2, T], each item: mel_db, see `mel_distance`; si_sdr, more is better."""
    pairs = zip(found, true, strict=True)
    mel_db = found.new_tensor([mel_distance(*pair, sample_rate)["all"] for pair in pairs])
    return {"mel_db": mel_db, "si_sdr": si_sdr(found, true)}


def _effects(
    found: Tensor, true: Tensor, levels: list[Tensor], seconds: float, echo_s: Tensor, config: MixerConfig
) -> dict[str, Tensor]:
    """Of sends [B, F, 2, 3] of decks that are so loud, [B, F, 2]."""
    sent = [level[..., None] * values[..., :2] for level, values in zip(levels, (found, true), strict=True)]
    frame_s = seconds / max(true.shape[1] - 1, 1)
    line = line_levels(levels[1] * true[..., 1], true[..., 2], frame_s, echo_s, config)
    line = torch.where(line > 0.01, line, torch.zeros_like(line))
    apart = (found[..., 2] - true[..., 2]).abs()
    return {"sends": (sent[0] - sent[1]).abs().mean((1, 2, 3)), "feedback": _mean(apart, line, (1, 2))}


def swap_times(masks: Tensor, energies: Tensor, bands: Bands, config: MixerConfig, seconds: float) -> Tensor:
    """When deck B's level overtakes deck A's in bass, mid and treble, in seconds, [B, 3].

    masks   [B, F, 2, 4, K] from `strip_masks`

    Levels are those of the strips on the mean spectrum of each stem, each deck relative to itself unmixed. Of
    a stretch where both are equally loud, within 1 dB, or both more than 30 dB down, the middle counts; where
    they change places more than once, all of the time that A is ahead. NaN where one of them is ahead all the
    time.
    """
    mean = energies.mean(1, keepdim=True)
    hz = torch.tensor(bands.hz, device=masks.device)
    edges = (0.0, config.eq_low_hz, config.eq_high_hz, math.inf)
    found = []
    for low, high in itertools.pairwise(edges):
        inside = ((hz >= low) & (hz < high)).to(masks)
        whole = (inside * mean).sum((-1, -2)).clamp(min=1e-12)
        level = ((inside * mean * masks.square()).sum((-1, -2)) / whole).sqrt()
        found.append(_crossing(level, seconds))
    return torch.stack(found, 1)


def _swaps(
    masks: Tensor, goal: Tensor, energies: Tensor, bands: Bands, config: MixerConfig, seconds: float
) -> Tensor:
    """In ms; who swaps nowhere although there is a swap is off by the longer side of it."""
    found, true = (swap_times(mask, energies, bands, config, seconds) for mask in (masks, goal))
    missed = torch.maximum(true, seconds - true)
    return 1000.0 * (found - true).abs().where(found.isfinite(), missed).nanmean(1)


def _crossing(level: Tensor, seconds: float) -> Tensor:
    """How long A is ahead of B, levels [B, F, 2]: [B] seconds, NaN where nobody overtakes."""
    points = FINER * (level.shape[1] - 1) + 1
    level = interpolate(level.mT, size=points, mode="linear", align_corners=True)
    a, b = in_db(level, NOBODY_DB).unbind(1)
    share = (0.5 + 0.5 * (a - b) / ALIKE_DB).clamp(0.0, 1.0)  # of A
    times = torch.trapezoid(share, dim=1) * (seconds / max(points - 1, 1))
    overtaken = (share.amax(1) > 0.5) & (share.amin(1) < 0.5)
    return times.where(overtaken, times.new_tensor(math.nan))


def _cutoffs(found: Tensor, true: Tensor, energies: Tensor, bands: Bands, config: MixerConfig) -> Tensor:
    """Mean difference of the cutoffs that are heard, in octaves, [B]."""
    spans = (math.log2(config.lpf_max / config.lpf_min), math.log2(config.hpf_max / config.hpf_min))
    error = (strips(found)[..., 4:] - strips(true)[..., 4:]).abs() * found.new_tensor(spans)
    level = stem_levels(strip_masks(true, bands, config), energies)
    heard = []
    for knob, opened in ((4, 1.0), (5, 0.0)):
        without = true.clone()
        strips(without)[..., knob] = opened
        other = stem_levels(strip_masks(without, bands, config), energies)
        heard.append((20.0 * (other / level).log10() > CUT_DB) & (20.0 * level.log10() > FAINT_DB))
    return _mean(
        error, torch.stack(heard, -1).to(found) * energies.sum(-1, keepdim=True).sqrt(), (1, 2, 3, 4)
    )


def _mean(value: Tensor, weight: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Weighted mean over dims; NaN where nothing weighs."""
    return (value * weight).sum(dims) / weight.sum(dims)
