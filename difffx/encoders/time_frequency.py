"""Two views of one constant-Q spectrogram: what happens in time, and what is where in frequency."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difffx.encoders.base import Encoder
from difffx.encoders.cqt import LogCQT
from difffx.encoders.histograms import Histograms
from difffx.functional.spectra import envelope_db
from difffx.networks.cnn import RunningNorm, conv_block, feature_norm, kaiming, known_statistics, pool_time


class TimeFrequencyEncoder(Encoder):
    """Hears the curve of an equalizer at its place on the frequency axis, and movement wherever it happens.

    channels          of the two branches of convolutions; 0, the default, leaves both out: in the time they
                      take, more examples teach more
    time_kernel       frames of the first convolution of the time branch; its maximum over frequency goes on
    time_context      frames of the second
    frequency_kernel  bins of the first convolution of the frequency branch, whose statistics over time go on
    statistics        of time, see `pool_time`
    hop               samples between frames
    envelope          channels of a branch on the level in steps of 1.5 ms, for attack and release; 0 leaves
                      it out
    spectrum          the statistics over time of every bin go straight into the embedding
    histograms        of amplitudes, levels and their moves go straight into the embedding, see `Histograms`
    standardize       the logarithm of the spectrogram at equal loudness, and the statistics of every bin,
                      brought to about -1..1
    norm              of the features: "layer", or "batch" as published

    Published (Peladeau and Peeters, ICASSP 2024; 453,700 parameters): channels 64, time_kernel 128,
    time_context 31, statistics [max], hop 512, envelope 0, spectrum false, standardize false, norm batch.
    """

    def __init__(
        self,
        sample_rate: int,
        channels: int = 0,
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
        histograms: bool = False,
    ) -> None:
        if not (channels or envelope or spectrum or histograms):
            raise ValueError(
                "TimeFrequencyEncoder: hears nothing; give channels, envelope, spectrum or histograms"
            )
        statistics = known_statistics(statistics)
        features = bins * len(statistics)
        counted = histograms * Histograms.features
        super().__init__(sample_rate, 2 * channels + 2 * envelope + spectrum * features + counted)
        self.statistics = statistics
        self.front = LogCQT(sample_rate, bins=bins, hop=hop, standardize=standardize)
        self.convolutions = (
            ConvolutionBranches(channels, time_kernel, time_context, frequency_kernel, statistics, bins, norm)
            if channels
            else None
        )
        self.envelope = EnvelopeBranch(sample_rate, envelope) if envelope else None
        self.spectrum = (
            RunningNorm(features) if spectrum and standardize else nn.Identity() if spectrum else None
        )
        self.histograms = Histograms(sample_rate) if histograms else None
        kaiming(self)

    def embed(self, x: Tensor) -> Tensor:
        parts = []
        if self.convolutions is not None or self.spectrum is not None:
            spectrogram = self.front(x)
        if self.convolutions is not None:
            parts.append(self.convolutions(spectrogram))
        if self.envelope is not None:
            parts.append(self.envelope(x))
        if self.spectrum is not None:
            parts.append(self.spectrum(pool_time(spectrogram, self.statistics).flatten(1)))
        if self.histograms is not None:
            parts.append(self.histograms(x))
        return torch.cat(parts, 1)


class ConvolutionBranches(nn.Module):
    """What happens in time at any pitch, and what is where in frequency at any time.

    spectrogram  [B, 1, bins, frames] -> [B, 2 * channels]
    """

    def __init__(
        self,
        channels: int,
        time_kernel: int,
        time_context: int,
        frequency_kernel: int,
        statistics: Sequence[str],
        bins: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.statistics = tuple(statistics)
        self.frames = time_kernel + time_context + 6  # leaves 8 frames to average
        self.time = conv_block(nn.Conv2d(1, channels, (1, time_kernel)))
        self.time_context = conv_block(nn.Conv1d(channels, channels, time_context))
        self.frequency = conv_block(nn.Conv2d(1, channels, (frequency_kernel, 1)))
        places = bins - frequency_kernel + 1
        self.places = nn.Conv1d(channels * len(self.statistics), channels, places)
        self.places_out = nn.Sequential(feature_norm(norm, channels), nn.PReLU())

    def forward(self, spectrogram: Tensor) -> Tensor:
        times = at_least_frames(spectrogram, self.frames)
        when = self.time_context(self.time(times).amax(2)).mean(-1)
        where = self.places(pool_time(self.frequency(spectrogram), self.statistics))[..., 0]
        return torch.cat([when, self.places_out(where)], 1)


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
