"""Where a song is in a mix and how fast it is played there, and the song put there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, interpolate, pad

from difffx.dj import observed
from difffx.dj.lags import residual_lags
from difffx.dj.stretching import stretch, varispeed
from difffx.functional.convolution import fft_length

FRAME_S = 0.023
PER_OCTAVE, FINE_PER_OCTAVE = 4, 24
SURROUND_S = 2.0
FASTEST = 0.08  # either way
SPEED_STEPS = (0.004, 0.001, 0.00025)
LOST = 6.0  # the peak must stand so many times above the RMS of all other places


@dataclass(frozen=True)
class Placed:
    """A song in line with a mix.

    deck       {stem: [C, T]}  as long as the mix, silent where the song is not
    offset_s   where the song's first sample lies in the mix; negative: before it begins
    speed      1.02: played two percent faster than it is
    pitch      "kept", "follows" as on a turntable, or "same" where the speed is 1
    clarity    how many times the place found stands above the RMS of all others
    """

    deck: dict[str, Tensor]
    offset_s: float
    speed: float
    pitch: str
    clarity: float

    def __str__(self) -> str:
        if self.pitch == "same":
            return f"begins at {self.offset_s:+.3f} s, at its own speed"
        return f"begins at {self.offset_s:+.3f} s, {100 * (self.speed - 1):+.2f} % fast, pitch {self.pitch}"


def place(deck: Mapping[str, Tensor], mix: Tensor, sample_rate: int, name: str = "song") -> Placed:
    """The song found in the mix, stretched and moved there.

    deck   stems by name, [C, T]
    mix    [C, T'], any length

    Levels of bands of a quarter octave, without their surroundings of 2 s, are correlated at speeds up to 8 %
    either way, then ever finer; onsets give the last milliseconds. Whether the pitch was kept is decided by
    which of both correlates in bands of a 24th of an octave. Raises ValueError where no place is clear.
    """
    song, target = sum(x.mean(0) for x in deck.values()), mix.mean(0)
    step_s = round(FRAME_S * sample_rate) / sample_rate
    ours, theirs = (picture(x, sample_rate) for x in (song, target))
    speeds = torch.arange(1.0 - FASTEST, 1.0 + FASTEST + 1e-9, SPEED_STEPS[0]).tolist()
    found = max((_best_place(ours, theirs, speed) for speed in speeds), key=lambda one: one[0])
    if found[0] < LOST:
        raise ValueError(f"{name}: not found in the mix, no place stands out; align it by hand")
    for step in SPEED_STEPS[1:]:
        around = [found[2] + k * step for k in range(-4, 5)]
        found = max((_best_place(ours, theirs, speed) for speed in around), key=lambda one: one[0])
    clarity, first, speed = found
    offset_s = first * step_s
    for _ in range(2):
        offset_s, speed = _finer(song, target, sample_rate, offset_s, speed)
    speed, pitch = _at_ease(deck, mix, sample_rate, offset_s, speed)
    moved = at_speed(deck, sample_rate, speed, pitch)
    moved = {stem: put(x, offset_s, sample_rate, mix.shape[-1]) for stem, x in moved.items()}
    return Placed(moved, offset_s, speed, pitch, clarity)


def picture(x: Tensor, sample_rate: int, per_octave: int = PER_OCTAVE) -> Tensor:
    """Sound [T] -> levels of bands, each without its surroundings, [N, M]."""
    hop = round(FRAME_S * sample_rate)
    where = observed.grid(len(x), sample_rate, 2 * hop, hop, per_octave=per_octave, lowest_hz=50.0)
    spectrum = observed.spectra(x[None, None], where)
    level = observed.products(spectrum, spectrum, where)[0].T  # [N, M]
    level = (level + 1e-4 * level.mean(1, keepdim=True) + 1e-10).log()
    reach = min(round(SURROUND_S / FRAME_S) // 2, (level.shape[1] - 1) // 2)
    around = avg_pool1d(pad(level[None], (reach, reach), mode="replicate"), 2 * reach + 1, 1)[0]
    level = level - around
    return level / level.square().mean().sqrt().clamp(min=1e-9)


def _best_place(ours: Tensor, theirs: Tensor, speed: float) -> tuple[float, int, float]:
    """How clear the best place of pictures [N, M] at this speed is, the place in frames, the speed."""
    ours = interpolate(ours[None], size=max(2, round(ours.shape[1] / speed)), mode="linear")[0]
    size = fft_length(ours.shape[1] + theirs.shape[1])
    cross = torch.fft.rfft(theirs, size) * torch.fft.rfft(ours, size).conj()
    lags = torch.fft.irfft(cross.sum(0), size)
    clarity = lags.max() / lags.square().mean().sqrt().clamp(min=1e-9)
    first = int(lags.argmax())
    return clarity.item(), first if first < theirs.shape[1] else first - size, speed


def _finer(song: Tensor, mix: Tensor, sample_rate: int, offset_s: float, speed: float) -> tuple[float, float]:
    """Offset and speed after a look at how late onsets come, time by time: a straight line through it."""
    placed = put(varispeed(song[None], speed), offset_s, sample_rate, len(mix))[0]
    times, lags = residual_lags(placed, mix, sample_rate)
    if len(times) < 3:
        return offset_s + lags.median().item(), speed
    slopes = (lags[:, None] - lags) / (times[:, None] - times).where(times[:, None] != times, torch.inf)
    slope = slopes[torch.triu_indices(len(times), len(times), 1).unbind()].median().item()
    level = (lags - slope * times).median().item()
    # what lies at t in the placed song belongs to t + level + slope t
    return offset_s + level + slope * offset_s, speed / (1.0 + slope)


def _at_ease(
    deck: Mapping[str, Tensor], mix: Tensor, sample_rate: int, offset_s: float, speed: float
) -> tuple[float, str]:
    """The speed, or 1 where it is as good as that; and what the pitch does."""
    if abs(speed - 1.0) * mix.shape[-1] / sample_rate < 0.005:
        return 1.0, "same"
    theirs, scores = picture(mix.mean(0), sample_rate, FINE_PER_OCTAVE), {}
    song = {"other": sum(x.mean(0, keepdim=True) for x in deck.values())}
    for pitch in ("kept", "follows"):
        moved = put(at_speed(song, sample_rate, speed, pitch)["other"], offset_s, sample_rate, mix.shape[-1])
        scores[pitch] = (picture(moved[0], sample_rate, FINE_PER_OCTAVE) * theirs).mean().item()
    return speed, max(scores, key=scores.__getitem__)


def at_speed(deck: Mapping[str, Tensor], sample_rate: int, speed: float, pitch: str) -> dict[str, Tensor]:
    """All stems faster, turned alike, so that they still add up."""
    if pitch == "same":
        return dict(deck)
    if pitch == "follows":
        return {stem: varispeed(x, speed) for stem, x in deck.items()}
    channels = max(x.shape[0] for x in deck.values())
    stacked = torch.cat([x.expand(channels, -1) for x in deck.values()])
    return dict(zip(deck, stretch(stacked, sample_rate, speed).split(channels), strict=True))


def put(x: Tensor, offset_s: float, sample_rate: int, samples: int) -> Tensor:
    """x [C, T] beginning at offset_s of so many samples, silence around it."""
    first = round(offset_s * sample_rate)
    x = x[:, max(0, -first) :]
    x = pad(x, (max(0, first), 0))[:, :samples]
    return pad(x, (0, samples - x.shape[1]))
