"""The DJ's mixer as its first publication has it, formula by formula, to be compared with.

Three round trips through an STFT for each stem, cutoffs interpolated in Hz, a reverb whose level is taken
from the whole batch, echoes that are cut off after four, two clippers in a row. Neutral settings change the
sound, items of a batch hear each other, and 25 of the 54 numbers have no gradient at the default settings:
use it for comparison only. The published reverb is made of unseeded noise; here it has a seed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, interpolate, pad

from difffx.dj.config import MixerConfig
from difffx.dj.layout import ParameterParser

REVERB_TAPS = 44_100  # whatever the sample rate
SMOOTHING = 17  # samples
OCTAVES_PER_SLOPE = 4.0  # the width of a sigmoid is a quarter of the transition
PUBLISHED_TRANSITION = 0.5  # octaves; what the configuration says is not looked at
PUBLISHED_RANGE_HZ = 20.0, 20_000.0
EPSILON = 1e-8


class PublishedMixer(nn.Module):
    """Gain, EQ, low-pass and high-pass for each stem; sum, reverb and delay for each deck; tanh over both."""

    def __init__(self, config: MixerConfig) -> None:
        super().__init__()
        self.config = config
        hz = torch.fft.rfftfreq(config.n_fft, 1.0 / config.sample_rate)
        self.register_buffer("octaves", torch.log2(hz.clamp(min=1.0)), persistent=False)
        self.register_buffer("bands", _bands(hz), persistent=False)
        self.register_buffer("ir", _response(config), persistent=False)

    def forward(
        self,
        track_a: dict[str, Tensor],
        track_b: dict[str, Tensor],
        params: Tensor,
        return_intermediates: bool,
    ) -> tuple[Tensor, dict | None]:
        """Checked tracks {stem: [B, C, T]}, params [B, F, 54] -> [B, 2, T] and what `DJMixer` returns."""
        decks = ParameterParser().parse(params)
        found = {}
        for name, track, deck in zip("ab", (track_a, track_b), decks, strict=True):
            stems = {stem: self._strip(x, deck["stems"][stem]) for stem, x in track.items()}
            summed = sum(stems.values())
            summed = summed.expand(-1, 2, -1)
            final = self._delay(self._reverb(summed, deck["global"]["reverb_send"]), deck["global"])
            found[f"track_{name}"] = {"stems": stems, "summed": summed, "final": final}
        mixed = torch.tanh(found["track_a"]["final"] + found["track_b"]["final"])
        return mixed, {**found, "params_a": decks[0], "params_b": decks[1]} if return_intermediates else None

    def _strip(self, x: Tensor, knobs: dict[str, Tensor]) -> Tensor:
        gain = _drawn(knobs["gain"], x.shape[-1])
        x = x * avg_pool1d(gain, SMOOTHING, stride=1, padding=SMOOTHING // 2)
        levels = torch.stack([knobs[name] for name in ("eq_low", "eq_mid", "eq_high")], 1)
        x = self._masked(x, lambda frames: torch.einsum("bkf,kn->bnf", _drawn(levels, frames), self.bands))
        x = self._masked(x, lambda frames: self._sweep(knobs["lpf"], frames, -1.0))
        return self._masked(x, lambda frames: self._sweep(knobs["hpf"], frames, 1.0))

    def _sweep(self, position: Tensor, frames: int, sign: float) -> Tensor:
        low, high = PUBLISHED_RANGE_HZ
        hz = _drawn(low * (high / low) ** position, frames)  # [B, 1, frames]
        distance = self.octaves[:, None] - torch.log2(hz.clamp(min=1.0))
        return torch.sigmoid(sign * distance * OCTAVES_PER_SLOPE / PUBLISHED_TRANSITION)

    def _masked(self, x: Tensor, mask_of) -> Tensor:
        batch, channels, samples = x.shape
        window = torch.hann_window(self.config.n_fft, dtype=x.dtype, device=x.device)
        plan = {"n_fft": self.config.n_fft, "hop_length": self.config.hop_length, "window": window}
        spectrum = torch.stft(x.flatten(0, 1), **plan, return_complex=True)
        mask = mask_of(spectrum.shape[-1]).to(x.dtype)
        spectrum = spectrum.unflatten(0, (batch, channels)) * mask.unsqueeze(1)
        return torch.istft(spectrum.flatten(0, 1), **plan, length=samples).view(x.shape)

    def _reverb(self, dry: Tensor, send: Tensor) -> Tensor:
        samples, ir = dry.shape[-1], self.ir.to(dry)
        length = 2 ** math.ceil(math.log2(samples + len(ir) - 1))
        wet = torch.fft.irfft(torch.fft.rfft(dry, length) * torch.fft.rfft(ir, length), length)[..., :samples]
        wet = wet * (dry.abs().max() / (wet.abs().max() + EPSILON))
        mix = _drawn(send, samples)
        return dry * (1.0 - mix) + wet * mix

    def _delay(self, x: Tensor, knobs: dict[str, Tensor]) -> Tensor:
        samples, distance = x.shape[-1], int(self.config.delay_default_ms / 1000.0 * self.config.sample_rate)
        feedback = self.config.delay_max_feedback * knobs["delay_feedback"].mean(-1).reshape(-1, 1, 1)
        echoes = torch.zeros_like(x)
        for tap in range(1, self.config.delay_n_taps + 1):
            if tap * distance < samples:
                echoes = echoes + feedback**tap * pad(x[..., : samples - tap * distance], (tap * distance, 0))
        return torch.tanh(x + _drawn(knobs["delay_send"], samples) * echoes)


def _drawn(curve: Tensor, count: int) -> Tensor:
    """[B, F] or [B, K, F] -> [B, 1 or K, count] in straight lines, ends on ends."""
    curve = curve.unsqueeze(1) if curve.ndim == 2 else curve
    return interpolate(curve, size=count, mode="linear", align_corners=True)


def _bands(hz: Tensor) -> Tensor:
    """Shares of bass, mid and treble, [3, N]."""
    low, high = torch.sigmoid(-(hz - 300.0) / 25.0), torch.sigmoid((hz - 4000.0) / 25.0)
    bands = torch.stack((low, torch.relu(1.0 - low - high), high))
    return bands / (bands.sum(0) + EPSILON)


def _response(config: MixerConfig) -> Tensor:
    """Noise that fades, 20 ms late, its peak at 1: [44100]."""
    time_s = torch.arange(REVERB_TAPS) / config.sample_rate
    noise = torch.randn(REVERB_TAPS, generator=torch.Generator().manual_seed(config.seed))
    fading = noise * torch.exp(-3.0 * time_s / config.reverb_decay_time)
    fading = fading * torch.exp(-10.0 * config.reverb_damping * time_s)
    before = int(config.reverb_pre_delay_ms / 1000.0 * config.sample_rate)
    response = pad(fading[: REVERB_TAPS - before], (before, 0))
    return response / response.abs().max()
