"""The contract of every encoder."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """A sound in, a fixed number of features out, the same at any level.

    embed_dim        E
    minimum_seconds  shorter audio is refused

    Channels are averaged, and the average is divided by its peak: a network hears what was done to the sound
    and not how loud the file is. A subclass writes `embed`.
    """

    minimum_seconds: float = 1.0

    def __init__(self, sample_rate: int, embed_dim: int) -> None:
        super().__init__()
        self.sample_rate = int(sample_rate)
        self.embed_dim = int(embed_dim)

    def embed(self, x: Tensor) -> Tensor:
        """x [B, 1, T], peak 1 or silent -> [B, E]. Subclasses write this."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, T] -> [B, E, 1]."""
        name = type(self).__name__
        if x.ndim != 3:
            raise ValueError(f"{name}: expected audio [B, C, T], got {tuple(x.shape)}")
        seconds = x.shape[-1] / self.sample_rate
        if seconds < self.minimum_seconds:
            raise ValueError(
                f"{name}: needs at least {self.minimum_seconds:g} s of audio, got {seconds:.3f} s"
            )
        return self.embed(at_full_scale(x.mean(1, keepdim=True)))[..., None]


def at_full_scale(x: Tensor) -> Tensor:
    """Each item divided by its peak; silence stays silence."""
    peak = x.abs().amax((-2, -1), keepdim=True)
    return x / peak.where(peak > 1e-20, peak.new_ones(()))
