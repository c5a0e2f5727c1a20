"""Reverbs: convolution with a response, shaped noise, a network of delays, and the classic of combs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from difffx.functional import fdn, reverb
from difffx.params import Param
from difffx.processors.base import Processor

TAPS = 65_536
PREDELAY_MS = Param("predelay_ms", 0.0, 100.0, default=10.0)
WIDTH = Param("width", 0.0, 1.0, default=0.8)
MIX = Param("mix", 0.0, 1.0, default=0.3, dynamic=True)


class ConvolutionReverb(Processor):
    """The sound in a place, or through a box, whose impulse response is known, or learned.

    ir        [1, N] or [2, N]: a response for all channels, or for left and right; [2, 2, N]: to left and
              right (first axis) from left and right; at this sample rate. None: half a second of fading noise
    learned   True: the response is trained, starting from ir

    A response for two sides makes stereo of mono. The convolution and its floor: `functional.convolution`.

    Cost: 12 ns a sample, 31 ns with all gradients; 20 bytes of each are kept.
    """

    params = (Param("gain_db", -24.0, 24.0, default=0.0), PREDELAY_MS, MIX)
    neutral: ClassVar = {"mix": 0.0}
    stereo = True

    def __init__(
        self,
        sample_rate: int,
        ir: Tensor | None = None,
        learned: bool = False,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        ir = _fading_noise(self.sample_rate) if ir is None else ir
        if ir.shape[:-1] not in ((1,), (2,), (2, 2)) or ir.shape[-1] == 0:
            raise ValueError(
                f"ConvolutionReverb: expected ir [1, N], [2, N] or [2, 2, N], got {tuple(ir.shape)}"
            )
        self.stereo = ir.shape[0] == 2
        ir = ir.detach().clone()
        if learned:
            self.ir = nn.Parameter(ir)
        else:
            self.register_buffer("ir", ir)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        return reverb.convolution_reverb(x, self.sample_rate, ir=self.ir.unsqueeze(0), **controls)


class NoiseReverb(Processor):
    """A dense hall made of fading noise, with a level and a decay for each band; stereo.

    bands      from 40 Hz to 16 kHz, or to 0.4 of a low sample rate
    num_taps   length of the response: decays go up to what fades by 60 dB within it, and end with it
    seed       of the noise: the same seed, the same hall

    Cost: 34 ns a sample, 79 ns with all gradients; 32 bytes of each are kept.
    """

    neutral: ClassVar = {"mix": 0.0}
    stereo = True

    def __init__(
        self,
        sample_rate: int,
        bands: int = 12,
        num_taps: int = TAPS,
        seed: int = 0,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        if bands < 1 or num_taps < 1:
            raise ValueError(f"NoiseReverb: bands and num_taps must be 1 or more, got {bands} and {num_taps}")
        longest = num_taps / sample_rate if sample_rate > 0 else 1.0
        decays = tuple(longest * (0.6 - 0.35 * k / max(bands - 1, 1)) for k in range(bands))
        self.params = (
            Param("gain_db", -40.0, 12.0, default=0.0, size=bands),
            Param("decay_s", 0.05 * longest, longest, default=decays, scale="log", size=bands),
            PREDELAY_MS,
            WIDTH,
            MIX,
        )
        super().__init__(sample_rate, ranges)
        noise = reverb.band_noise(bands, num_taps, self.sample_rate, seed=seed)
        self.register_buffer("noise", noise, persistent=False)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        return reverb.noise_reverb(x, self.sample_rate, noise=self.noise, **controls)


class FeedbackDelayNetwork(Processor):
    """A room of delays that feed each other; bass and treble decay in their own times, however long; stereo.

    lines     delays; more of them are denser and cost more
    size      scales the delays, 22.6 to 47.6 ms

    Cost: 9 ns a sample, 34 ns with all gradients; 28 bytes of each are kept.
    """

    params = (
        Param("decay_low_s", 0.1, 20.0, default=2.0, scale="log"),
        Param("decay_high_s", 0.1, 20.0, default=0.7, scale="log"),
        Param("damping_hz", 200.0, 16_000.0, default=3_000.0, scale="log"),
        Param("diffusion", 0.0, 1.0, default=1.0),
        PREDELAY_MS,
        WIDTH,
        MIX,
    )
    neutral: ClassVar = {"mix": 0.0}
    stereo = True

    def __init__(
        self,
        sample_rate: int,
        lines: int = 8,
        size: float = 1.0,
        ranges: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if lines < 2 or not size > 0:
            raise ValueError(
                f"FeedbackDelayNetwork: expected 2 lines or more and size > 0, got {lines} and {size}"
            )
        self.delays = fdn.delay_lengths(lines, self.sample_rate, size)
        self.register_buffer("scattering", fdn.scattering(lines), persistent=False)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        return fdn.feedback_delay_network(
            x, self.sample_rate, delays=self.delays, scattering=self.scattering, **controls
        )


class Freeverb(Processor):
    """The classic of free software: four all-passes, eight combs a side; metallic when it is long; stereo.

    size   scales all delays; 1.0 is the original

    Cost: 8 ns a sample, 32 ns with all gradients; 16 bytes of each are kept.
    """

    params = (
        Param("decay_s", 0.1, 20.0, default=2.0, scale="log"),
        Param("damping_hz", 500.0, 16_000.0, default=6_000.0, scale="log"),
        Param("diffusion", 0.0, 0.8, default=0.5),
        PREDELAY_MS,
        WIDTH,
        MIX,
    )
    neutral: ClassVar = {"mix": 0.0}
    stereo = True

    def __init__(
        self, sample_rate: int, size: float = 1.0, ranges: Mapping[str, Sequence[float]] | None = None
    ) -> None:
        super().__init__(sample_rate, ranges)
        if not size > 0:
            raise ValueError(f"Freeverb: size must be above 0, got {size}")
        self.size = float(size)

    def process(self, x: Tensor, **controls: Tensor) -> Tensor:
        return fdn.freeverb(x, self.sample_rate, size=self.size, **controls)


def _fading_noise(sample_rate: int) -> Tensor:
    """Half a second for 60 dB, [2, N], power 1."""
    noise = reverb.band_noise(1, max(sample_rate // 2, 1), sample_rate)
    level, decay = torch.zeros(1, 1, 1), torch.full((1, 1, 1), 0.5)
    return reverb.noise_ir(level, decay, noise, sample_rate)[0]
