"""What is measured: every effect, each item of the batch with settings of its own."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from difffx import processors
from difffx.benchmark.references import REFERENCES, Reference
from difffx.params import unknown
from difffx.processors import Processor

SAMPLE_RATE = 44_100
CHAIN = "chain"
NOT_MEASURED = {
    "Processor",
    "HybridProxy",
}  # the contract; and what in evaluation is the effect it stands for
CHECKED_ITEMS, CHECKED_SAMPLES = 4, 32_768  # long enough for every decay to show, short enough for numpy


@dataclass(frozen=True)
class Case:
    """One effect as it is measured.

    name      as in the table, and what `--only` looks for
    kind      the class
    options   of its constructor
    channels  2 for what is about stereo
    ranges    narrower than the knobs' own, where a whole range would be an odd choice
    """

    name: str
    kind: str
    options: Mapping[str, object] = field(default_factory=dict)
    channels: int = 1
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def processor(self) -> Processor:
        if self.kind == CHAIN:
            return _Chain(processor_of(kind) for kind in ("ParametricEQ", "Compressor", "SoftClip"))
        return processor_of(self.kind, ranges=self.ranges or None, **self.options)

    @property
    def reference(self) -> Reference | None:
        return REFERENCES.get(self.kind)

    @property
    def against(self) -> str:
        """What the errors are errors against."""
        return "its own torch tier in float64" if self.reference is None else "a float64 reference in numpy"


HEADLINES = (
    Case("parametric EQ, 6 bands", "ParametricEQ", {"num_peaks": 4}),
    Case("graphic EQ, 10 bands", "GraphicEQ"),
    Case("compressor", "Compressor"),
    Case("limiter", "Limiter"),
    Case("gate", "NoiseGate"),
    Case("3-band compressor", "MultibandCompressor"),
    Case("feedback delay, 100 ms to 1 s", "FeedbackDelay", ranges={"delay_ms": (100.0, 1_000.0)}),
    Case("feedback delay, 1 to 10 ms", "FeedbackDelay", ranges={"delay_ms": (1.0, 10.0)}),
    Case("4-tap delay", "MultiTapDelay"),
    Case("chorus", "Chorus"),
    Case("flanger", "Flanger"),
    Case("phaser, 4 stages", "Phaser"),
    Case("delay network, 6 lines", "FeedbackDelayNetwork", {"lines": 6}),
    Case("noise reverb, 65,536 taps", "NoiseReverb", {"num_taps": 65_536}),
    Case("tanh", "Tanh"),
    Case("widener", "StereoWidener", channels=2),
    Case("EQ + compressor + clipper", CHAIN),
)


def cases(only: Sequence[str] = ()) -> list[Case]:
    """The effects of the comparison first, then every other public one; `only` keeps some of them.

    Raises ValueError where a word fits none.
    """
    covered = {case.kind for case in HEADLINES} | NOT_MEASURED
    found = [*HEADLINES, *(Case(name, name) for name in processors.__all__ if name not in covered)]
    lost = [word for word in only if not any(_fits(word, case) for case in found)]
    if lost:
        raise ValueError(f"no effect {unknown(lost[0], [case.name for case in found])}")
    return [case for case in found if not only or any(_fits(word, case) for word in only)]


def processor_of(name: str, sample_rate: int = SAMPLE_RATE, **options: object) -> Processor:
    """An effect by its public name; what wraps another effect gets one to wrap.

    Raises ValueError where there is none of this name.
    """
    public = [each for each in processors.__all__ if each != "Processor"]
    if name not in public:
        raise ValueError(f"no effect {unknown(name, public)}")
    kind = getattr(processors, name)
    first = next(iter(inspect.signature(kind).parameters))
    return kind(sample_rate if first == "sample_rate" else _wrapped(name, sample_rate), **_given(options))


def settings(processor: Processor, batch: int, seed: int = 0) -> dict[str, Tensor]:
    """Random physical settings, one set an item: {knob: [B, K, 1]}."""
    z = processor.spec.sample(batch, generator=torch.Generator().manual_seed(seed))
    return processor.from_unit(z)


def sound(batch: int, channels: int, samples: int, seed: int = 0) -> Tensor:
    """Noise with bursts 30 dB deep, five a second: every detector has something to do, [B, C, T]."""
    generator = torch.Generator().manual_seed(seed)
    phase = torch.rand(batch, 1, 1, generator=generator)
    seconds = torch.arange(samples) / SAMPLE_RATE
    level = 10.0 ** (-1.5 * ((5.0 * seconds + phase) % 1.0))
    return 0.3 * level * torch.randn(batch, channels, samples, generator=generator)


def _fits(word: str, case: Case) -> bool:
    """A class by its whole name, else a part of what stands in the table."""
    if word.lower() in {name.lower() for name in processors.__all__}:
        return word.lower() == case.kind.lower()
    return word.lower() in case.name.lower()


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _wrapped(name: str, sample_rate: int) -> Processor:
    return processors.Compressor(sample_rate)


class _Chain(Processor):
    """Effects in a row, their knobs prefixed by their place: 0_low_shelf_hz, ..."""

    def __init__(self, effects: Iterable[Processor]) -> None:
        super().__init__(SAMPLE_RATE)
        self.effects = nn.ModuleList(effects)
        self.params = tuple(
            replace(param, name=f"{i}_{param.name}")
            for i, effect in enumerate(self.effects)
            for param in effect.params
        )

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        for i, effect in enumerate(self.effects):
            x = effect(x, controls={param.name: knobs[f"{i}_{param.name}"] for param in effect.params})
        return x
