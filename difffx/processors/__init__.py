"""Every effect by its public name. `__all__` is the registry: the laws, the lists and the README walk it."""

from difffx.processors.base import Processor
from difffx.processors.delays import (
    DampedDelay,
    Delay,
    FeedbackDelay,
    MultiTapDelay,
    PingPongDelay,
    SlapbackDelay,
    TempoDelay,
)
from difffx.processors.distortion import ChebyshevShaper, ParametricClipper, TaylorShaper
from difffx.processors.dynamics import Compressor, SimpleCompressor
from difffx.processors.eq import DynamicEQ, GraphicEQ, LinearPhaseEQ, ParametricEQ, ToneStack
from difffx.processors.filters import (
    AllPass,
    BandPass,
    Butterworth,
    DCBlocker,
    FIRFilter,
    HighPass,
    HighShelf,
    LowPass,
    LowShelf,
    Notch,
    Peak,
    StateVariable,
)
from difffx.processors.gain import Gain, Normalize
from difffx.processors.mixing import Mix, Sum
from difffx.processors.proxy import HybridProxy, NeuralProxy

__all__ = [
    "AllPass",
    "BandPass",
    "Butterworth",
    "ChebyshevShaper",
    "Compressor",
    "DCBlocker",
    "DampedDelay",
    "Delay",
    "DynamicEQ",
    "FIRFilter",
    "FeedbackDelay",
    "Gain",
    "GraphicEQ",
    "HighPass",
    "HighShelf",
    "HybridProxy",
    "LinearPhaseEQ",
    "LowPass",
    "LowShelf",
    "Mix",
    "MultiTapDelay",
    "NeuralProxy",
    "Normalize",
    "Notch",
    "ParametricClipper",
    "ParametricEQ",
    "Peak",
    "PingPongDelay",
    "Processor",
    "SimpleCompressor",
    "SlapbackDelay",
    "StateVariable",
    "Sum",
    "TaylorShaper",
    "TempoDelay",
    "ToneStack",
]
