"""What happens to a sound between the effects and whoever hears its recording."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import Tensor

from difffx.data.audio_io import BLOCK
from difffx.functional.convolution import fft_length
from difffx.functional.stereo import left_right, mid_side

SLOPES = (0.0, 0.5, 1.0)  # of the amplitude, over frequency: white, pink, brown
NOISE_SECONDS = 30.0
LOWEST_HZ = 20.0  # below it noise grows no more
BAND_SLOPE = 0.05  # a band ends over this share of its edge
LIMITS = {
    "noise_db": (-math.inf, 0.0),
    "band_hz": (LOWEST_HZ, math.inf),
    "level_db": (-90.0, 0.0),
    "kbit_s": (32.0, 500.0),
}
LATE_MS, LATE_DB = (3.0, 15.0), (-30.0, -14.0)
MP3_DELAY = 1105  # samples, of encoder and decoder, where the file has no room for a note of them
MP3_KBIT_S = {8000: (8, 64), 16_000: (8, 160), 32_000: (32, 320)}  # from a rate on: least and most
MP3_RATES = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
VORBIS_KBIT_S = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 500)  # stereo, at quality 0 to 1


class Recordings:
    """The same music as it is found: turned over, folded, hissing, dull, quieter, squeezed into a small file.

    Each part has its own chance for each item of a batch, in this order:

    polarity  the sound upside down
    stereo    two channels: the sides at 0 to 2 times their level, or left and right swapped, or one channel
              only, or their mean. One channel: with a late copy of itself (3 to 15 ms, -30 to -14 dB, of
              either sign), which is what width leaves in a mono sum. Encoders here average channels, so that
              of the four only the lonely channel changes what they hear
    noise     a white, pink or brown floor, so many dB below the sound's RMS: `noise_db`
    band      nothing above an edge, drawn evenly in octaves from `band_hz`; one above Nyquist does nothing
    level     its peak so many dB below full scale, `level_db`, and the 16 bits of a file: encoders undo the
              level and not the rounding
    codec     to MP3 or Ogg Vorbis and back, lined up to the sample, at `kbit_s` for two channels, half of
              that for one; for rates other than 44.1 kHz in proportion. At its level, or at full scale if it
              is louder; MP3 where there is one for the rate

    (wet [B, C, T], generator) -> [B, C, T], wet itself where nothing was drawn. The draws of a part depend on
    the generator alone, not on the chances of the others.

    Milliseconds of one core for 8 sounds of 3 s in mono, if all of them are taken: polarity 2, stereo 6,
    noise 7, band 14, level 4, codec 290 (Vorbis 22 a sound, MP3 54; a thread for each core shares them).
    At the chances given here 23: 15 % of a step of 150 ms. In training by settings a batch is `repeats` times
    as large, and so is the cost: a chance of the codec of 0.25 would more than double such steps.

    Rooms, loudspeakers and telephones are not in it: what they do to the spectrum is what an equalizer does,
    and an estimator that must not hear the one cannot name the other.
    """

    def __init__(
        self,
        sample_rate: int,
        polarity: float = 0.5,
        stereo: float = 0.25,
        noise: float = 0.25,
        band: float = 0.25,
        level: float = 0.5,
        codec: float = 0.04,
        noise_db: Sequence[float] = (-70.0, -35.0),
        band_hz: Sequence[float] = (11_000.0, 20_000.0),
        level_db: Sequence[float] = (-24.0, 0.0),
        kbit_s: Sequence[float] = (96.0, 320.0),
    ) -> None:
        ranges = {"noise_db": noise_db, "band_hz": band_hz, "level_db": level_db, "kbit_s": kbit_s}
        for name, bounds in ranges.items():
            lowest, highest = LIMITS[name]
            if len(bounds) != 2 or not lowest <= bounds[0] <= bounds[1] <= highest:
                raise ValueError(
                    f"Recordings: {name} is [least, most] within {lowest:g}..{highest:g}, got {list(bounds)}"
                )
        self.sample_rate = int(sample_rate)
        self.parts: dict[str, tuple[float, Callable[..., Tensor]]] = {
            "polarity": (polarity, upside_down),
            "stereo": (stereo, in_other_channels),
            "noise": (noise, partial(with_noise, noise_db=tuple(noise_db))),
            "band": (band, partial(within_band, band_hz=tuple(band_hz))),
            "level": (level, partial(at_another_level, level_db=tuple(level_db))),
            "codec": (codec, partial(through_codec, kbit_s=tuple(kbit_s))),
        }
        for name, (chance, _) in self.parts.items():
            if not 0.0 <= chance <= 1.0:
                raise ValueError(f"Recordings: {name} is a chance and must lie in 0..1, got {chance}")

    @torch.no_grad()
    def __call__(self, wet: Tensor, generator: torch.Generator) -> Tensor:
        seeds = torch.randint(2**62, (len(self.parts),), generator=generator).tolist()
        for seed, (chance, part) in zip(seeds, self.parts.values(), strict=True):
            own = torch.Generator().manual_seed(seed)
            rows = torch.nonzero(torch.rand(len(wet), generator=own) < chance)[:, 0].to(wet.device)
            if len(rows):
                wet = wet.index_copy(0, rows, part(wet[rows], self.sample_rate, own).to(wet.dtype))
        return wet


def upside_down(x: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """[B, C, T] -> [B, C, T] of the other polarity."""
    return -x


def in_other_channels(x: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Two channels wider, narrower, swapped, one of them or their mean; one with a late copy of itself.

    x  [B, C, T], C = 1 or 2
    """
    if x.shape[1] == 1:
        return torch.cat([with_late_copy(item, sample_rate, generator) for item in x.split(1)])
    if x.shape[1] != 2:
        raise ValueError(f"Recordings: stereo knows one or two channels, got {tuple(x.shape)}")
    ways = torch.randint(4, (len(x),), generator=generator).tolist()
    widths, sides = uniform(len(x), (0.0, 2.0), generator), uniform(len(x), (0.0, 1.0), generator)
    items = []
    for item, way, width, side in zip(x.split(1), ways, widths, sides, strict=True):
        mid, apart = mid_side(item)
        only = item[:, round(side) : round(side) + 1].expand(-1, 2, -1)
        items.append((left_right(mid, width * apart), item.flip(1), only, mid.expand(-1, 2, -1))[way])
    return torch.cat(items)


def with_late_copy(x: Tensor, sample_rate: int, generator: torch.Generator) -> Tensor:
    """A sound [1, 1, T] and what comes faintly after it: a dense comb.

    It bends third octaves by under 2 dB in the bass and by under 0.6 dB from 500 Hz up: hardly a tone color.
    """
    (late_ms,), (late_db,) = uniform(1, LATE_MS, generator), uniform(1, LATE_DB, generator)
    sign = -1.0 if torch.rand((), generator=generator) < 0.5 else 1.0
    late = F.pad(x, (round(late_ms * sample_rate / 1000), 0))[..., : x.shape[-1]]
    return x + sign * 10.0 ** (late_db / 20.0) * late


def with_noise(
    x: Tensor, sample_rate: int, generator: torch.Generator, noise_db: tuple[float, float]
) -> Tensor:
    """A floor of noise, so many dB beside the RMS of each item; other noise in each channel. x [B, C, T]."""
    pool = noises(sample_rate, x.shape[-1], x.device)
    colors = torch.randint(len(pool), (len(x),), generator=generator).tolist()
    starts = torch.randint(pool.shape[1] - x.shape[-1], x.shape[:2], generator=generator).tolist()
    noise = torch.stack(
        [
            torch.stack([pool[color, start : start + x.shape[-1]] for start in places])
            for color, places in zip(colors, starts, strict=True)
        ]
    )
    levels_db = torch.tensor(uniform(len(x), noise_db, generator)).to(x)[:, None, None]
    return x + 10.0 ** (levels_db / 20.0) * rms(x) / rms(noise) * noise


@lru_cache(maxsize=4)
def noises(sample_rate: int, num_samples: int, device: torch.device) -> Tensor:
    """White, pink and brown noise, [3, samples], half a minute or four times as long as needed.

    Always the same: what differs is where a piece begins. In the frequency domain, so it is a loop without
    a seam.
    """
    size = fft_length(max(round(NOISE_SECONDS * sample_rate), 4 * num_samples))
    generator = torch.Generator().manual_seed(0)
    white = torch.fft.rfft(torch.randn(len(SLOPES), size, generator=generator))
    octaves_hz = torch.fft.rfftfreq(size, 1.0 / sample_rate).clamp(min=LOWEST_HZ) / LOWEST_HZ
    colored = white / torch.stack([octaves_hz**slope for slope in SLOPES])
    colored[:, 0] = 0.0
    return torch.fft.irfft(colored, size).to(device)


def within_band(
    x: Tensor, sample_rate: int, generator: torch.Generator, band_hz: tuple[float, float]
) -> Tensor:
    """Nothing above an edge of each item's own; all below it as it was, at its time. x [B, C, T]."""
    octaves = uniform(len(x), (math.log2(band_hz[0]), math.log2(band_hz[1])), generator)
    edges_hz = torch.tensor(octaves).exp2().to(x)[:, None, None]
    size = fft_length(x.shape[-1] + sample_rate // 50)
    frequencies_hz = torch.fft.rfftfreq(size, 1.0 / sample_rate, device=x.device)
    way = ((frequencies_hz / edges_hz - 1.0) / BAND_SLOPE + 0.5).clamp(0.0, 1.0)
    gains = (0.5 + 0.5 * torch.cos(math.pi * way)).where(edges_hz < sample_rate / 2, 1.0)
    return torch.fft.irfft(torch.fft.rfft(x, size) * gains, size)[..., : x.shape[-1]]


def at_another_level(
    x: Tensor, sample_rate: int, generator: torch.Generator, level_db: tuple[float, float]
) -> Tensor:
    """The peak of each item at another level beside full scale, then 16 bits; silence stays. x [B, C, T]."""
    levels_db = torch.tensor(uniform(len(x), level_db, generator)).to(x)[:, None, None]
    peaks = x.abs().amax((1, 2), keepdim=True)
    scaled = x * (10.0 ** (levels_db / 20.0) / peaks.where(peaks > 0.0, 1.0))
    return (scaled * 32_767.0).round() / 32_767.0


def through_codec(
    x: Tensor, sample_rate: int, generator: torch.Generator, kbit_s: tuple[float, float]
) -> Tensor:
    """Each item to MP3 or Ogg Vorbis and back, on the CPU, several at once. x [B, C, T]."""
    lossy = ("MP3", "OGG") if sample_rate in MP3_RATES else ("OGG",)
    kinds = [lossy[k] for k in torch.randint(len(lossy), (len(x),), generator=generator)]
    octaves = uniform(len(x), (math.log2(kbit_s[0]), math.log2(kbit_s[1])), generator)
    sounds = [item.T.contiguous().numpy() for item in x.detach().float().cpu()]
    jobs = [
        (sound, sample_rate, kind, 2.0**rate)
        for sound, kind, rate in zip(sounds, kinds, octaves, strict=True)
    ]
    with ThreadPoolExecutor(min(len(jobs), os.cpu_count() or 1)) as pool:
        decoded = list(pool.map(lambda job: round_trip(*job), jobs))
    return torch.from_numpy(np.stack(decoded)).transpose(1, 2).to(x)


def round_trip(sound: np.ndarray, sample_rate: int, kind: str, kbit_s: float) -> np.ndarray:
    """A sound [T, C] as a lossy file gives it back, as long and at the same time.

    kind    "MP3" or "OGG"
    kbit_s  for two channels at 44.1 kHz: as many for each sample at other rates, half for one channel
    """
    loudest = max(1.0, float(np.abs(sound).max()))
    level, subtype = compression(sound.shape[1], sample_rate, kind, kbit_s)
    mode = {"bitrate_mode": "CONSTANT"} if kind == "MP3" else {}
    memory = io.BytesIO()
    with soundfile.SoundFile(
        memory, "w", sample_rate, sound.shape[1], subtype, format=kind, compression_level=level, **mode
    ) as file:
        for begin in range(0, len(sound), BLOCK):
            file.write(sound[begin : begin + BLOCK] / loudest)
    memory.seek(0)
    decoded, _ = soundfile.read(memory, dtype="float32", always_2d=True)
    late = MP3_DELAY if len(decoded) > len(sound) else 0
    decoded = decoded[late : late + len(sound)] * np.float32(loudest)
    return np.pad(decoded, ((0, len(sound) - len(decoded)), (0, 0)))


def compression(channels: int, sample_rate: int, kind: str, kbit_s: float) -> tuple[float, str]:
    """libsndfile's number from 0, the best, to 1 for this many kbit/s; and the name of the coding."""
    if kind == "OGG":
        return 1.0 - float(np.interp(kbit_s, VORBIS_KBIT_S, np.linspace(0.0, 1.0, 11))), "VORBIS"
    least, most = MP3_KBIT_S[max(rate for rate in MP3_KBIT_S if rate <= sample_rate)]
    wanted = kbit_s * channels / 2 * sample_rate / 44_100
    return min(max((most - wanted) / (most - least), 0.0), 0.99), "MPEG_LAYER_III"


def uniform(count: int, bounds: tuple[float, float], generator: torch.Generator) -> list[float]:
    """So many numbers between two."""
    return (bounds[0] + (bounds[1] - bounds[0]) * torch.rand(count, generator=generator)).tolist()


def rms(x: Tensor) -> Tensor:
    """[B, C, T] -> [B, 1, 1], over all channels; never zero."""
    return x.square().mean((1, 2), keepdim=True).sqrt().clamp(min=1e-12)
