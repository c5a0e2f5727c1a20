"""What is measured: every effect, each item of the batch with settings of its own."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from difffx import processors
from difffx.benchmark.references import REFERENCES, Reference
from difffx.params import unknown
from difffx.processors import Processor

SAMPLE_RATE = 44_100
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
        return processor_of(self.kind, ranges=self.ranges or None, **self.options)

    @property
    def reference(self) -> Reference | None:
        return REFERENCES.get(self.kind)


HEADLINES = (
    Case("parametric EQ, 6 bands", "ParametricEQ", {"num_peaks": 4}),
    Case("graphic EQ, 10 bands", "GraphicEQ"),
    Case("compressor", "Compressor"),
)


def cases(only: Sequence[str] = ()) -> list[Case]:
    """The effects of the comparison first, then every other public one; `only` keeps some of them.

    Raises ValueError where a word fits none.
    """
    found = [case for case in HEADLINES if hasattr(processors, case.kind)]
    covered = {case.kind for case in found} | {"Processor", *_stand_ins()}
    found += [Case(name, name) for name in processors.__all__ if name not in covered]
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
    return word.lower() in case.name.lower() or word.lower() == case.kind.lower()


def _given(options: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _stand_ins() -> set[str]:
    return {"HybridProxy"}  # in evaluation it is the effect that it stands for


def _wrapped(name: str, sample_rate: int) -> Processor:
    return processors.Compressor(sample_rate)
