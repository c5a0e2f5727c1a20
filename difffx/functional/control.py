"""Control curves: from frames to samples."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import interpolate


def at_audio_rate(control: Tensor, num_samples: int) -> Tensor:
    """A curve drawn with straight lines; the first frame is the first sample, the last frame the last.

    control   [B, K, F]
    returns   [B, K, num_samples]; a static control, F = 1, comes back as it is, to broadcast without a copy
    """
    if control.shape[-1] == 1:
        return control
    return interpolate(control, size=num_samples, mode="linear", align_corners=True)
