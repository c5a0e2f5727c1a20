"""Two views of one constant-Q spectrogram: what happens in time, and what is where in frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difffx.encoders.base import Encoder
from difffx.encoders.cqt import LogCQT
from difffx.functional.spectra import envelope_db
from difffx.networks.cnn import conv_block, feature_norm, kaiming, known_statistics, pool_time


class TimeFrequencyEncoder(Encoder):
    """Hears the curve of an equalizer at its place on the frequency axis, and movement wherever it happens.

    channels          of every convolution
    time_kernel       frames of the first convolution of the time branch; its maximum over frequency goes on
    time_context      frames of the second
    frequency_kernel  bins of the first convolution of the frequency branch, whose statistics over time go on
    statistics        of time, in the frequency branch: some of mean, std, max
    hop               samples between frames
    envelope          channels of a third branch on the level in steps of 1.5 ms, for attack and release;
                      0 leaves it out
    spectrum          the statistics over time of every bin go past the convolutions into the embedding: the
                      squared error of equalizer gains was 0.077 after 120 steps instead of 0.081 after 190
    standardize       the logarithm of the spectrogram shifted and scaled to about -1..1
    norm              of the features: "layer", or "batch" as published

    Published (Peladeau and Peeters, ICASSP 2024; 453,700 parameters): channels 64, time_kernel 128,
    time_context 31, statistics [max], hop 512, envelope 0, spectrum false, standardize false, norm batch.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int = 16,
        time_kernel: int = 8,
        time_context: int = 5,
        frequency_kernel: int = 37,
        statistics: Sequence[str] = ("mean", "std", "max"),
        hop: int = 2048,
        bins: int = 113,
        envelope: int = 16,
        spectrum: bool = True,
        standardize: bool = True,
        norm: str = "layer",
    ) -> None:
        statistics = known_statistics(statistics)
        super().__init__(sample_rate, 2 * channels + 2 * envelope + spectrum * bins * len(statistics))
        self.statistics = statistics
        self.spectrum = spectrum
        self.frames = time_kernel + time_context + 6  # leaves 8 frames to average
        self.front = LogCQT(sample_rate, bins=bins, hop=hop, standardize=standardize)
        self.time = conv_block(nn.Conv2d(1, channels, (1, time_kernel)))
        self.time_context = conv_block(nn.Conv1d(channels, channels, time_context))
        self.frequency = conv_block(nn.Conv2d(1, channels, (frequency_kernel, 1)))
        places = bins - frequency_kernel + 1
        self.places = nn.Conv1d(channels * len(self.statistics), channels, places)
        self.places_out = nn.Sequential(feature_norm(norm, channels), nn.PReLU())
        self.envelope = EnvelopeBranch(sample_rate, envelope) if envelope else None
        kaiming(self)

    def embed(self, x: Tensor) -> Tensor:
        spectrogram = self.front(x)
        times = at_least_frames(spectrogram, self.frames)
        parts = [
            self.time_context(self.time(times).amax(2)).mean(-1),
            self.places_out(self.places(pool_time(self.frequency(spectrogram), self.statistics))[..., 0]),
        ]
        if self.envelope is not None:
            parts.append(self.envelope(x))
        if self.spectrum:
            parts.append(pool_time(spectrogram, self.statistics).flatten(1))
        return torch.cat(parts, 1)


class EnvelopeBranch(nn.Module):
    """How the level moves, from 1.5 ms to a fifth of a second: mean and spread of learned features.

    x  [B, 1, T] -> [B, 2 * channels]
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.layers = nn.Sequential(
            conv_block(nn.Conv1d(1, channels // 2, 16, stride=2)),
            conv_block(nn.Conv1d(channels // 2, channels, 8, stride=4)),
            conv_block(nn.Conv1d(channels, channels, 8, stride=4)),
        )

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            level = envelope_db(x.float(), self.sample_rate, frame_ms=1.5, floor_db=-80.0)
        return pool_time(self.layers(level / 20.0 + 1.0), ("mean", "std"))


def at_least_frames(spectrogram: Tensor, frames: int) -> Tensor:
    """A short spectrogram repeated until a kernel fits; a long one untouched. [B, 1, bins, frames]."""
    times = -(-frames // spectrogram.shape[-1])
    return spectrogram if times == 1 else spectrogram.repeat(1, 1, 1, times)[..., :frames]
