"""Compressors, limiter, de-esser, transient shaper: the level of a sound decides on its level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from difffx.functional import dynamics, limiting
from difffx.params import Controls, Param
from difffx.processors.base import Processor


class _StaticCurve:
    """What both compressors show of themselves in a plot."""

    def static_response(self, controls: Controls, levels_db: Tensor) -> Tensor:
        """The level a steady sound leaves with, makeup included: levels_db [N] -> [B, N]."""
        *curve, makeup_db = (
            controls[name][..., :1] for name in ("threshold_db", "ratio", "knee_db", "makeup_db")
        )
        levels_db = torch.as_tensor(levels_db, dtype=curve[0].dtype, device=curve[0].device).reshape(1, 1, -1)
        return (dynamics.static_curve(levels_db, *curve) + makeup_db)[:, 0]


class Compressor(_StaticCurve, Processor):
    """Compressor with true attack and release; all channels share one gain, so the image stays put.

    sidechain     True: a second input, `key`, is listened to, and the first is turned down
    detector      "peak", or "rms": it hears the mean square, and a knob rms_ms says over how long
    topology      "forward", or "feedback": it hears what leaves it; gentler, up to `ratio` times faster
    lookahead_ms  how far the gain runs ahead of the sound, which is not delayed; forward only

    Ranges may be widened to ratio 1, knee 0, attack 0.1 ms and release 5000 ms. The proxy that ships stands
    for the compressor without options, sidechain aside.

    Cost: 4 ns a sample, 11 ns with all gradients; 4.2 bytes of each are kept.
    """

    wants_proxy = True
    params = (
        Param("threshold_db", -40.0, 0.0, default=-18.0, dynamic=True),
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
        detector: str = "peak",
        topology: str = "forward",
        lookahead_ms: float = 0.0,
    ) -> None:
        if detector not in ("peak", "rms"):
            raise ValueError(f"Compressor: detector must be 'peak' or 'rms', got {detector!r}")
        if topology not in ("forward", "feedback"):
            raise ValueError(f"Compressor: topology must be 'forward' or 'feedback', got {topology!r}")
        if topology == "feedback" and (sidechain or lookahead_ms):
            raise ValueError("Compressor: feedback hears its own output, so no sidechain and no lookahead_ms")
        if detector == "rms":
            self.params = (*self.params, Param("rms_ms", 1.0, 100.0, default=10.0, scale="log"))
        super().__init__(sample_rate, ranges)
        self.feedback = topology == "feedback"
        self.lookahead = whole_samples("Compressor", "lookahead_ms", lookahead_ms, self.sample_rate)
        self.wants_proxy = detector == "peak" and not self.feedback and not self.lookahead
        if sidechain:
            self.inputs = ("audio", "key")

    def process(self, audio: Tensor, key: Tensor | None = None, **controls: Tensor) -> Tensor:
        return dynamics.compressor(
            audio, self.sample_rate, key=key, feedback=self.feedback, lookahead=self.lookahead, **controls
        )


class SimpleCompressor(_StaticCurve, Processor):
    """Feed-forward compressor with one time constant for both ways; one gain for all channels.

    Cost: 4 ns a sample, 11 ns with all gradients; 4.2 bytes of each are kept.
    """

    params = (
        Param("threshold_db", -40.0, 0.0, default=-18.0, dynamic=True),
        Param("ratio", 2.0, 10.0, default=4.0),
        Param("time_ms", 1.0, 500.0, default=30.0, scale="log"),
        Param("knee_db", 0.0, 12.0, default=6.0),
        Param("makeup_db", 0.0, 20.0, default=0.0, dynamic=True),
    )

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return dynamics.simple_compressor(audio, self.sample_rate, **controls)


class Limiter(Processor):
    """Limiter that looks ahead: no sample leaves above the ceiling, at any setting, and nothing is clipped.

    lookahead_ms  how long before a peak the gain begins to come down; the sound itself is not delayed
    true_peak     True: what a converter makes of the samples stays below the ceiling, too, within 0.1 dB

    `drive_db` makes the sound louder on its way in. One gain for all channels.

    Cost: 3 ns a sample, 11 ns with all gradients; 8.2 bytes of each are kept.
    """

    params = (
        Param("ceiling_db", -24.0, 0.0, default=-1.0, dynamic=True),
        Param("drive_db", 0.0, 24.0, default=0.0, dynamic=True),
        Param("release_ms", 5.0, 1000.0, default=100.0, scale="log"),
    )

    def __init__(
        self,
        sample_rate: int,
        ranges: Mapping[str, Sequence[float]] | None = None,
        lookahead_ms: float = 2.0,
        true_peak: bool = False,
    ) -> None:
        super().__init__(sample_rate, ranges)
        self.lookahead = whole_samples("Limiter", "lookahead_ms", lookahead_ms, self.sample_rate)
        self.true_peak = true_peak

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return limiting.limiter(
            audio, self.sample_rate, lookahead=self.lookahead, true_peak=self.true_peak, **controls
        )


class DeEsser(Processor):
    """De-esser: turns sharp consonants down when what lies above a frequency gets too loud.

    mode   "split": only what lies above is turned down, and the phase turns at the crossover even at rest;
           "wide": the whole sound is turned down

    Cost: 11 ns a sample, 43 ns with all gradients; 50 bytes of each are kept.
    """

    params = (
        Param("frequency_hz", 2_000.0, 12_000.0, default=6_000.0, scale="log"),
        Param("threshold_db", -60.0, 0.0, default=-30.0, dynamic=True),
        Param("ratio", 1.0, 20.0, default=4.0, scale="log"),
        Param("range_db", 0.0, 24.0, default=12.0),
        Param("attack_ms", 0.1, 20.0, default=1.0, scale="log"),
        Param("release_ms", 5.0, 300.0, default=40.0, scale="log"),
    )

    def __init__(
        self,
        sample_rate: int,
        ranges: Mapping[str, Sequence[float]] | None = None,
        mode: str = "split",
    ) -> None:
        if mode not in ("split", "wide"):
            raise ValueError(f"DeEsser: mode must be 'split' or 'wide', got {mode!r}")
        super().__init__(sample_rate, ranges)
        self.wide = mode == "wide"
        self.neutral = {"range_db": 0.0} if self.wide else None

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return dynamics.de_esser(audio, self.sample_rate, wide=self.wide, **controls)


class TransientShaper(Processor):
    """Onsets up or down by `attack_db`, tails by `sustain_db`, whatever the level; no threshold to set.

    Cost: 5 ns a sample, 13 ns with all gradients; 5.2 bytes of each are kept.
    """

    params = (
        Param("attack_db", -24.0, 24.0, default=0.0, dynamic=True),
        Param("sustain_db", -24.0, 24.0, default=0.0, dynamic=True),
        Param("attack_ms", 5.0, 200.0, default=30.0, scale="log"),
        Param("sustain_ms", 50.0, 2000.0, default=300.0, scale="log"),
    )
    neutral: ClassVar = {"attack_db": 0.0, "sustain_db": 0.0}

    def process(self, audio: Tensor, **controls: Tensor) -> Tensor:
        return dynamics.transient_shaper(audio, self.sample_rate, **controls)


def whole_samples(effect: str, name: str, time_ms: float, sample_rate: int) -> int:
    """A time that is fixed at construction, in samples."""
    if not 0.0 <= time_ms < float("inf"):
        raise ValueError(f"{effect}: {name} must be 0 or more, got {time_ms!r}")
    return round(time_ms * sample_rate / 1000.0)
