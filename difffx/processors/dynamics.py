"""Compressors: what is louder than a threshold is turned down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from difffx.functional import dynamics
from difffx.params import Controls, Param
from difffx.processors.base import Processor


class _StaticCurve:
    """What both compressors show of themselves in a plot."""

    def static_response(self, controls: Controls, levels_db: Tensor) -> Tensor:
        """The level a steady sound leaves with, makeup included: levels_db [N] -> [B, N]."""
        curve = [controls[name] for name in ("threshold_db", "ratio", "knee_db")]
        makeup_db = controls["makeup_db"][..., :1]
        levels_db = torch.as_tensor(levels_db, dtype=curve[0].dtype, device=curve[0].device).reshape(1, 1, -1)
        return (dynamics.static_curve(levels_db, *curve) + makeup_db)[:, 0]


class Compressor(_StaticCurve, Processor):
    """Feed-forward compressor, true attack and release; all channels share one gain, so the image stays put.

    sidechain  True: a second input, `key`, is listened to, and the first is turned down

    Ranges may be widened to ratio 1, knee 0, attack 0.1 ms and release 5000 ms.
    """

    wants_proxy = True
    params = (
        Param("threshold_db", -40.0, 0.0, default=-18.0),
        Param("ratio", 2.0, 10.0, default=4.0, scale="log"),
        Param("attack_ms", 1.0, 60.0, default=10.0, scale="log"),
        Param("release_ms", 10.0, 500.0, default=100.0, scale="log"),
        Param("knee_db", 0.0, 12.0, default=6.0),
        Param("makeup_db", 0.0, 20.0, default=0.0, dynamic=True),
    )

    def __init__(
        self,
        sample_rate: int,
        ranges: Mapping[str, Sequence[float]] | None = None,
        sidechain: bool = False,
    ) -> None:
        super().__init__(sample_rate, ranges)
        if sidechain:
            self.inputs = ("audio", "key")

    def process(self, audio: Tensor, key: Tensor | None = None, **controls: Tensor) -> Tensor:
        return dynamics.compressor(audio, self.sample_rate, key=key, **controls)


class SimpleCompressor(_StaticCurve, Processor):
    """Feed-forward compressor with one time constant for both ways; one gain for all channels."""

    params = (
        Param("threshold_db", -40.0, 0.0, default=-18.0),
        Param("ratio", 2.0, 10.0, default=4.0),
        Param("time_ms", 1.0, 500.0, default=30.0, scale="log"),
        Param("knee_db", 0.0, 12.0, default=6.0),
        Param("makeup_db", 0.0, 20.0, default=0.0, dynamic=True),
    )

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return dynamics.simple_compressor(audio, self.sample_rate, **controls)
