"""Every effect by its public name. `__all__` is the registry: the laws, the lists and the README walk it."""

from difffx.processors.base import Processor
from difffx.processors.distortion import ChebyshevShaper, ParametricClipper, TaylorShaper
from difffx.processors.dynamics import Compressor, SimpleCompressor
from difffx.processors.eq import GraphicEQ, ParametricEQ
from difffx.processors.gain import Gain, Normalize
from difffx.processors.mixing import Mix, Sum
from difffx.processors.proxy import HybridProxy, NeuralProxy

__all__ = [
    "ChebyshevShaper",
    "Compressor",
    "Gain",
    "GraphicEQ",
    "HybridProxy",
    "Mix",
    "NeuralProxy",
    "Normalize",
    "ParametricClipper",
    "ParametricEQ",
    "Processor",
    "SimpleCompressor",
    "Sum",
    "TaylorShaper",
]
