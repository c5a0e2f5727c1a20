"""A recurrent network along frames."""

from __future__ import annotations

from torch import Tensor, nn


class FrameLSTM(nn.Module):
    """Long short-term memory that reads frames forwards and backwards, [B, width, F] -> [B, width, F].

    width    features, half of them from each direction
    layers   one on top of the other
    """

    def __init__(self, width: int = 96, layers: int = 2) -> None:
        super().__init__()
        if width % 2 or layers < 1:
            raise ValueError(f"FrameLSTM: width must be even and layers 1 or more, got {width} and {layers}")
        self.width = width
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTM(width, width // 2, layers, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.lstm(self.norm(x.mT))[0].mT
