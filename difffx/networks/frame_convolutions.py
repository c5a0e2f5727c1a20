"""Convolutions along frames."""

from __future__ import annotations

from torch import Tensor, nn


class FrameConvolutions(nn.Module):
    """Every frame looks at its neighbors, then at theirs, [B, width, F] -> [B, width, F].

    width    features
    layers   each adds to what it heard
    kernel   frames that a layer sees, odd
    """

    def __init__(self, width: int = 96, layers: int = 2, kernel: int = 5) -> None:
        super().__init__()
        if kernel % 2 == 0 or layers < 1:
            raise ValueError(
                f"FrameConvolutions: kernel must be odd and layers 1 or more, got {kernel} and {layers}"
            )
        self.width = width
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, width),
                nn.Conv1d(width, width, kernel, padding="same", padding_mode="replicate"),
                nn.GELU(),
                nn.Conv1d(width, width, 1),
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x
