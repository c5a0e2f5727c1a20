"""What happens to a mix on its way to whoever studies it, and to stems that were separated and aligned."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from difffx.functional.convolution import fft_length
from difffx.functional.delays import fractional_delay
from difffx.functional.limiting import limiter

MASTER_EQ_DB = 0.5, 3.0
EQ_COSINES = 5
CUTOFF_HZ = 14_000.0, 20_000.0
CODING_NOISE_DB = -28.0, -14.0
PUSHED_DB = 1.0, 6.0
OFFSET_MS = 20.0
STRETCH = 0.01
BLEED_DB = -30.0, -15.0
NOISE_DB = -65.0, -35.0
RELEASE_MS = 100.0
LOOKAHEAD_MS = 2.0
FFT_MS, HOPS = 46.0, 4
BANDS_PER_OCTAVE = 3


class Degrade:
    """Some items of a batch as they come out of the world: degrade(mix, stems_a, stems_b, generator).

    Each argument is the chance of an item, 0 to 1, drawn for itself; 0 is never.

    misalignment   the stems of each deck up to 20 ms and 1 % of speed off what is in the mix
    bleed          each stem holds the others of its deck, -30 to -15 dB
    master_eq      the mix through a smooth equalizer, up to 3 dB up and down
    limiter        its peaks 1 to 6 dB down, by difffx's limiter
    codec          see `coded`: band limit, coding noise, holes
    noise          white or pink, -65 to -35 dB below the mix

    Everything is drawn from the generator, which may be on another device than the sound; the noises of
    two devices differ. Nothing has a gradient to learn from: call it on what is given, not on estimates.

    Cost: of 8 s in stereo a codec takes a sixth of a second on a busy core, misalignment and bleed 60 ms each
    for both decks, the rest a tenth of that codec or less but for the equalizer, some 30 ms.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        misalignment: float = 0.0,
        bleed: float = 0.0,
        master_eq: float = 0.0,
        limiter: float = 0.0,
        codec: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        self.sample_rate = int(sample_rate)
        self.chances = {
            **{"misalignment": misalignment, "bleed": bleed, "master_eq": master_eq},
            **{"limiter": limiter, "codec": codec, "noise": noise},
        }
        for name, chance in self.chances.items():
            if not 0.0 <= chance <= 1.0:
                raise ValueError(f"Degrade: {name} is a chance from 0 to 1, got {chance!r}")

    @torch.no_grad()
    def __call__(
        self, mix: Tensor, stems_a: Tensor, stems_b: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mix [B, C, T], stems [B, 4, C, T] of both decks -> the same, as shapes and as sound."""
        chosen = {
            name: (_uniform(mix.shape[:1], (0.0, 1.0), generator) < chance).nonzero()[:, 0]
            for name, chance in self.chances.items()
        }
        decks = [stems_a, stems_b]
        for name, way in (("misalignment", self._misaligned), ("bleed", self._bled)):
            decks = [_changed(stems, chosen[name], way, generator) for stems in decks]
        ways = {"master_eq": self._mastered, "limiter": self._limited}
        ways |= {"codec": self._coded, "noise": self._noisy}
        for name, way in ways.items():
            mix = _changed(mix, chosen[name], way, generator)
        return mix, *decks

    def _misaligned(self, stems: Tensor, generator: torch.Generator | None) -> Tensor:
        offset_ms = _uniform(stems.shape[:1], (-OFFSET_MS, OFFSET_MS), generator)
        stretch = _uniform(stems.shape[:1], (-STRETCH, STRETCH), generator)
        return misaligned(stems, self.sample_rate, offset_ms=offset_ms, stretch=stretch)

    def _bled(self, stems: Tensor, generator: torch.Generator | None) -> Tensor:
        return bled(stems, _uniform((len(stems), stems.shape[1], stems.shape[1]), BLEED_DB, generator))

    def _mastered(self, mix: Tensor, generator: torch.Generator | None) -> Tensor:
        weights = torch.randn(len(mix), EQ_COSINES, generator=generator, device=_device(generator))
        weights = weights.cpu() / torch.arange(1.0, EQ_COSINES + 1.0)
        most_db = _uniform((len(mix),), MASTER_EQ_DB, generator)
        return equalized(mix, self.sample_rate, weights=weights, most_db=most_db)

    def _limited(self, mix: Tensor, generator: torch.Generator | None) -> Tensor:
        peak = mix.abs().amax((1, 2)).clamp(min=1e-6)
        down_db = _uniform((len(mix),), PUSHED_DB, generator).to(mix)
        ceiling_db = (20.0 * torch.log10(peak) - down_db).view(-1, 1, 1)
        return limiter(
            mix,
            self.sample_rate,
            ceiling_db=ceiling_db,
            drive_db=torch.zeros_like(ceiling_db),
            release_ms=torch.full_like(ceiling_db, RELEASE_MS),
            lookahead=round(LOOKAHEAD_MS * self.sample_rate / 1000.0),
        )

    def _coded(self, mix: Tensor, generator: torch.Generator | None) -> Tensor:
        cutoff_hz = _uniform((len(mix),), CUTOFF_HZ, generator)
        noise_db = _uniform((len(mix),), CODING_NOISE_DB, generator)
        return coded(mix, self.sample_rate, cutoff_hz=cutoff_hz, noise_db=noise_db, generator=generator)

    def _noisy(self, mix: Tensor, generator: torch.Generator | None) -> Tensor:
        level_db = _uniform((len(mix),), NOISE_DB, generator)
        slope = torch.where(_uniform((len(mix),), (0.0, 1.0), generator) < 0.5, 0.0, 0.5)
        return noisy(mix, level_db=level_db, slope=slope, generator=generator)


def misaligned(stems: Tensor, sample_rate: int, *, offset_ms: Tensor, stretch: Tensor) -> Tensor:
    """Stems late by an offset, and played too slowly or too fast around the middle of the segment.

    stems      [B, 4, C, T]
    offset_ms  [B]  above 0: late
    stretch    [B]  0.01: one part in a hundred slower, and lower
    returns    [B, 4, C, T]  silence where nothing is known

    Read between samples by cubics: where they fall halfway, 10 kHz are 0.7 dB down and 16 kHz 4.6 dB.
    """
    samples = stems.shape[-1]
    offset = (offset_ms.double() * sample_rate / 1000.0).to(stems.device)[:, None]
    slower = stretch.double().to(stems.device)[:, None]
    ahead = int((offset.abs() + slower.abs() * samples).max()) + 4
    time = torch.arange(-ahead, samples, device=stems.device, dtype=torch.float64)
    late = offset + (time - 0.5 * (samples - 1)) * (slower / (1.0 + slower)) + ahead
    flat = pad(stems.flatten(1, 2), (0, ahead))
    return fractional_delay(flat, late.unsqueeze(1))[..., ahead:].unflatten(1, stems.shape[1:3])


def bled(stems: Tensor, level_db: Tensor) -> Tensor:
    """Each stem with some of the others in it, as separation leaves them.

    stems     [B, S, C, T]
    level_db  [B, S, S]     of stem j (columns) within stem i (rows); the diagonal is not looked at
    returns   [B, S, C, T]  their sum is louder than before

    Copies without delay and without color, where real leakage is both early and late, bright and dull.
    """
    amount = 10.0 ** (level_db.to(stems) / 20.0)
    own = torch.eye(stems.shape[1], dtype=torch.bool, device=stems.device)
    return torch.einsum("bij,bjct->bict", amount.masked_fill(own, 1.0), stems)


def equalized(x: Tensor, sample_rate: int, *, weights: Tensor, most_db: Tensor) -> Tensor:
    """Through a smooth equalizer without phase.

    x        [B, C, T]
    weights  [B, K]  of cosines over the logarithm of frequency, 20 Hz to half the rate
    most_db  [B]     how far the curve goes at its highest or lowest
    """
    length = fft_length(x.shape[-1] + 4096)
    hz = torch.fft.rfftfreq(length, 1.0 / sample_rate, device=x.device)
    place = torch.log2(hz.clamp(min=20.0) / 20.0) / math.log2(0.5 * sample_rate / 20.0)
    order = torch.arange(1, weights.shape[1] + 1, device=x.device)
    curve = weights.to(x) @ torch.cos(math.pi * order[:, None] * place).to(x)
    curve = curve * (most_db.to(x)[:, None] / curve.abs().amax(1, keepdim=True).clamp(min=1e-9))
    gain = (10.0 ** (curve / 20.0)).unsqueeze(1)
    return torch.fft.irfft(torch.fft.rfft(x, length) * gain, length)[..., : x.shape[-1]]


def coded(
    x: Tensor,
    sample_rate: int,
    *,
    cutoff_hz: Tensor,
    noise_db: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What a codec at a low rate does, roughly: nothing above a cutoff, holes, noise around what is loud.

    x          [B, C, T]
    cutoff_hz  [B]
    noise_db   [B]  of the noise within a third of an octave, relative to what sounds there in these 46 ms;
                    what lies 6 dB further down than the noise of its band is left out

    No codec: neither a psychoacoustic model nor pre-echo control, no joint stereo, no bit reservoir.
    """
    n_fft = 2 ** round(math.log2(FFT_MS * sample_rate / 1000.0))
    window = torch.hann_window(n_fft, dtype=x.dtype, device=x.device)
    plan = {"n_fft": n_fft, "hop_length": n_fft // HOPS, "window": window}
    tail = n_fft if x.shape[-1] <= n_fft // 2 else 0
    spectrum = torch.stft(pad(x, (0, tail)).flatten(0, 1), **plan, return_complex=True)
    spectrum = spectrum.unflatten(0, x.shape[:2])  # [B, C, N, M]
    hz = torch.fft.rfftfreq(n_fft, 1.0 / sample_rate, device=x.device)
    band = (BANDS_PER_OCTAVE * torch.log2(hz.clamp(min=50.0) / 50.0)).long()
    members = torch.nn.functional.one_hot(band).to(x.dtype)  # [N, bands]
    members = members[:, members.sum(0) > 0]
    power = torch.einsum("bcnm,nk->bckm", spectrum.abs().square(), members / members.sum(0))
    level = torch.einsum("bckm,nk->bcnm", power, members).sqrt()
    level = level * (10.0 ** (noise_db.to(x) / 20.0)).view(-1, 1, 1, 1)
    # each sample is in HOPS spectra whose noises differ: without the root, 6 dB of them would be lost
    noise = torch.view_as_complex(_normal((*spectrum.shape, 2), generator, x)) * math.sqrt(0.5 * HOPS)
    heard = (spectrum.abs() > 0.5 * level) & (hz[:, None] <= cutoff_hz.to(x).view(-1, 1, 1, 1))
    spectrum = (spectrum + noise * level) * heard
    y = torch.istft(spectrum.flatten(0, 1), **plan, length=x.shape[-1] + tail)
    return y[..., : x.shape[-1]].view(x.shape)


def noisy(x: Tensor, *, level_db: Tensor, slope: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """With noise of its own in each channel.

    x         [B, C, T]
    level_db  [B]  relative to the RMS of x
    slope     [B]  0: white; 0.5: pink, 3 dB less an octave
    """
    noise = torch.fft.rfft(_normal(x.shape, generator, x))
    number = torch.arange(noise.shape[-1], device=x.device).clamp(min=1).to(x.dtype)
    noise = torch.fft.irfft(noise * number ** -slope.to(x).view(-1, 1, 1), x.shape[-1])
    rms = x.square().mean((1, 2), keepdim=True).sqrt() / noise.square().mean((1, 2), keepdim=True).sqrt()
    return x + noise * rms * (10.0 ** (level_db.to(x) / 20.0)).view(-1, 1, 1)


def _changed(x: Tensor, items: Tensor, way, generator: torch.Generator | None) -> Tensor:
    """x with some of its items changed; itself where there are none."""
    if not len(items):
        return x
    items = items.to(x.device)
    return x.index_copy(0, items, way(x[items], generator).to(x.dtype))


def _device(generator: torch.Generator | None) -> torch.device | str:
    return "cpu" if generator is None else generator.device


def _uniform(shape: tuple, among: tuple[float, float], generator: torch.Generator | None) -> Tensor:
    drawn = torch.rand(shape, generator=generator, device=_device(generator)).cpu()
    return among[0] + (among[1] - among[0]) * drawn


def _normal(shape: tuple, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """Noise made where it is needed, from a seed that the generator draws."""
    seed = int(torch.randint(2**62, (), generator=generator, device=_device(generator)))
    there = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(shape, generator=there, device=like.device, dtype=like.dtype)
