"""Processors wired into checked graphs, and rewritings of them."""

from difffx.graph.core import GraphError, ProcessorGraph, Trace, require_gradient
from difffx.graph.rewrite import proxied, shaped, simplified, switched

__all__ = [
    "GraphError",
    "ProcessorGraph",
    "Trace",
    "proxied",
    "require_gradient",
    "shaped",
    "simplified",
    "switched",
]
