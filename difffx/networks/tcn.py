"""Causal dilated convolutions steered by knobs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difffx.networks.film import Conditioner, FiLM


class CausalBlock(nn.Module):
    """Dilated convolution that looks back only, FiLM, PReLU, added to its input; [B, C, F] -> [B, C, F]."""

    def __init__(self, channels: int, kernel: int, dilation: int, size: int) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation
        self.conv = nn.Conv1d(channels, channels, kernel, dilation=dilation, bias=False)
        self.film = FiLM(size, channels)
        self.activation = nn.PReLU(channels)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return x + self.activation(self.film(self.conv(F.pad(x, (self.reach, 0))), c))


class MultiRateTCN(nn.Module):
    """A causal network that thinks once a frame and speaks at every sample.

    x        [B, 1, T]  what the effect listens to, such as a level
    z        [B, K]     knobs in 0..1
    returns  [B, 1, T]  no sample depends on a later one

    frame       samples that the dilated convolutions see as one; T may be any length
    channels, kernel, dilations
                of the convolutions over frames; together they look back `receptive_field` samples
    condition   size of the vector made of the knobs
    features    bent copies of x that are summed up for each frame
    smooth      frames that are weighed for each curve, so that it does not jitter
    lanes, taps bent copies of x, each against a curve from the frames, through a filter at the full rate

    The frames give `lanes + 1` curves, which run in straight lines between frames, one frame late. The first
    is the slow part of the answer; the others are what x is compared with to give its fast part. The straight
    lines matter: a curve that steps from frame to frame fills the faint high bands of the spectrum.
    """

    def __init__(
        self,
        knobs: int,
        frame: int = 32,
        channels: int = 12,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 4, 16, 64, 256, 512),
        condition: int = 8,
        features: int = 3,
        lanes: int = 2,
        taps: int = 64,
        smooth: int = 8,
    ) -> None:
        super().__init__()
        if taps > 2 * frame + 1:
            raise ValueError(f"taps: expected at most {2 * frame + 1}, two frames and a sample, got {taps}")
        self.sizes = {
            "frame": frame,
            "channels": channels,
            "kernel": kernel,
            "dilations": list(dilations),
            "condition": condition,
            "features": features,
            "lanes": lanes,
            "taps": taps,
            "smooth": smooth,
        }
        self.frame, self.features, self.lanes = frame, features, lanes
        self.taps, self.smooth = taps, smooth
        self.receptive_field = frame * (2 + smooth + (kernel - 1) * sum(dilations)) + taps - 1
        self.conditioner = Conditioner(knobs, condition)
        self.bend = nn.Linear(condition, 2 * (features + lanes))
        self.front = nn.Conv1d(features, channels, frame, stride=frame)
        self.blocks = nn.ModuleList(CausalBlock(channels, kernel, d, condition) for d in dilations)
        self.curves = nn.Conv1d(channels, 1 + lanes, smooth)
        self.filters = nn.Parameter(torch.zeros(lanes, taps))
        self.depth = nn.Linear(condition, 1)
        self._start()

    def _start(self) -> None:
        """Bends at several heights, front an average of each frame, no fast part."""
        heights = torch.cat([torch.linspace(0.0, -1.6, self.features), torch.full((self.lanes,), -0.5)])
        with torch.no_grad():
            self.bend.weight.mul_(0.3)
            self.bend.bias.copy_(torch.stack([torch.ones_like(heights), heights], 1).flatten())
            self.front.weight.copy_(
                torch.randn_like(self.front.weight[..., :1]) / self.frame
                + 0.3 * torch.randn_like(self.front.weight) / self.frame
            )
            self.filters.copy_(0.002 * torch.exp(-torch.arange(self.taps) / 30.0) * torch.ones(self.lanes, 1))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        batch, samples, c = len(x), x.shape[-1], self.conditioner(z)
        frames = -(-samples // self.frame)
        x = F.pad(x, (0, frames * self.frame - samples)).reshape(batch, frames, self.frame)
        bends = self.bend(c).view(batch, -1, 2, 1, 1).unbind(1)
        h = self._summed(x, bends[: self.features])
        for block in self.blocks:
            h = block(h, c)
        knots = self.curves(F.pad(h, (self.smooth - 1, 0))) * (1.0 + self.depth(c).unsqueeze(-1))
        slow, *levels = (self._between_frames(curve) for curve in knots.unbind(1))
        lanes = zip(bends[self.features :], levels, strict=True)
        bent = [torch.addcmul(bend[:, 1] - level, x, bend[:, 0]).relu() for bend, level in lanes]
        return (slow + self._filtered(bent)).reshape(batch, 1, -1)[..., :samples]

    # Below, channels are separate tensors and everything is a product of matrices: with convolutions and
    # slices of one tensor the backward pass took 1.5 to 1.9 times as long.

    def _summed(self, x: Tensor, bends: Sequence[Tensor]) -> Tensor:
        """The strided convolution over bent copies of x: [B, F, frame] -> [B, C, F]."""
        weights = self.front.weight.permute(1, 2, 0).unbind(0)
        h = self.front.bias
        for bend, weight in zip(bends, weights, strict=True):
            h = h + torch.addcmul(bend[:, 1], x, bend[:, 0]).relu() @ weight
        return h.mT.contiguous()

    def _between_frames(self, knots: Tensor) -> Tensor:
        """Straight lines through values of the frames before: [B, F] -> [B, F, frame]."""
        late = F.pad(knots, (2, 0))
        step = torch.arange(1, self.frame + 1, device=knots.device, dtype=knots.dtype) / self.frame
        return torch.stack([late[:, :-2], late[:, 1:-1]], -1) @ torch.stack([1.0 - step, step])

    def _filtered(self, lanes: Sequence[Tensor]) -> Tensor:
        """Each lane through its filter, summed; every one [B, F, frame] -> [B, F, frame]."""
        frame, spread = self.frame, 0.0
        for lane, band in zip(lanes, self._bands(lanes[0].device), strict=True):
            spread = spread + lane @ band
        spread = F.pad(spread, (0, 0, 2, 0))
        now, before, long_before = spread.split(frame, -1)
        return now[:, 2:] + before[:, 1:-1] + long_before[:, :-2]

    def _bands(self, device: torch.device) -> Tensor:
        """What sample i of a frame adds to sample k of this frame and the two that follow: filter[k - i]."""
        lag = torch.arange(3 * self.frame, device=device) - torch.arange(self.frame, device=device)[:, None]
        padded = F.pad(self.filters, (1, 3 * self.frame - self.taps))
        return padded[:, (lag + 1).clamp(min=0)]


def weight_count(module: nn.Module) -> int:
    """How many numbers a network has learned."""
    return sum(math.prod(p.shape) for p in module.parameters())
