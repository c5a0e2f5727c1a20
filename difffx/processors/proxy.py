"""Neural networks that stand in for an effect whose own gradient is missing or slow."""

from __future__ import annotations

from difffx.processors.base import Processor


class NeuralProxy(Processor):
    """A network that has learned to sound like its target."""

    def __init__(self, target: Processor, weights: str | None = "auto") -> None:
        raise ValueError(f"there are no weights for {type(target).__name__} yet")


class HybridProxy(Processor):
    """The proxy while training, the true effect in evaluation."""

    def __init__(self, target: Processor, weights: str | None = "auto") -> None:
        raise ValueError(f"there are no weights for {type(target).__name__} yet")
