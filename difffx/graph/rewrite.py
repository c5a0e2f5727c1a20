"""Graph in, graph out: the ways to make a chain of effects differentiable, or simpler."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from difffx.graph.core import GraphError, ProcessorGraph
from difffx.params import ControlSpec, flatten_tree
from difffx.processors import (
    ChebyshevShaper,
    Compressor,
    HybridProxy,
    NeuralProxy,
    ParametricClipper,
    Processor,
    SimpleCompressor,
    Switch,
    TaylorShaper,
)

SHAPERS = {"taylor": TaylorShaper, "chebyshev": ChebyshevShaper}


def proxied(
    graph: ProcessorGraph, nodes: Sequence[str] | None = None, hybrid: bool = False
) -> ProcessorGraph:
    """The graph with neural proxies in place of the nodes that want one.

    nodes   which ones, by dotted path; None: all that say they want a proxy (recursive dynamics, black boxes)
    hybrid  True: the true effect in evaluation, the proxy in training only

    Raises GraphError where there is nothing to replace, or a node is unknown.
    """
    make = HybridProxy if hybrid else NeuralProxy
    known = [path for path, _ in graph.leaves()]
    wrong = [
        f"nodes: there is no processor {path!r}; known: {', '.join(known)}"
        for path in nodes or []
        if path not in known
    ]
    if wrong:
        raise GraphError(wrong)

    def swap(path: str, node: Processor) -> Processor:
        wanted = node.wants_proxy if nodes is None else path in nodes
        return make(node) if wanted else node

    return _swapped(graph, swap, "proxy: no node of this graph wants one; use afx=same")


def simplified(graph: ProcessorGraph) -> ProcessorGraph:
    """The graph with SimpleCompressor, one time constant, in place of each Compressor."""
    return _swapped(
        graph,
        lambda path, node: SimpleCompressor(node.sample_rate) if isinstance(node, Compressor) else node,
        "simple: there is no compressor in this graph; use afx=same",
    )


def switched(graph: ProcessorGraph, bypass: float) -> ProcessorGraph:
    """The graph with a switch on each effect that has knobs to predict. 0: the graph as it is.

    bypass  how often each effect is off when settings are drawn
    """
    if not 0.0 <= bypass <= 1.0:
        raise GraphError([f"bypass: expected a chance in 0..1, got {bypass}"])
    if bypass == 0.0:
        return graph
    wanted = {path.rpartition(".")[0] for path in graph.spec.names}
    return _rebuilt(graph, lambda path, node: Switch(node, 1.0 - bypass) if path in wanted else node, "")


def shaped(graph: ProcessorGraph, shaper: str) -> ProcessorGraph:
    """The graph with a polynomial in place of each clipper. shaper: taylor or chebyshev."""
    if shaper not in SHAPERS:
        raise GraphError([f"shaper: {shaper!r} is none of {', '.join(SHAPERS)}"])
    return _swapped(
        graph,
        lambda path, node: SHAPERS[shaper](node.sample_rate) if isinstance(node, ParametricClipper) else node,
        f"{shaper}: there is no clipper in this graph; use afx=same",
    )


def _swapped(
    graph: ProcessorGraph, swap: Callable[[str, Processor], Processor], nothing: str
) -> ProcessorGraph:
    before = dict(graph.leaves())
    after = _rebuilt(graph, swap, "")
    if all(leaf is before.get(path) for path, leaf in after.leaves()):
        raise GraphError([nothing])
    return after


def _rebuilt(
    graph: ProcessorGraph, swap: Callable[[str, Processor], Processor], prefix: str
) -> ProcessorGraph:
    """The same wires around other nodes; what `set` says of knobs that are gone is dropped."""
    nodes = {
        name: _rebuilt(node, swap, f"{prefix}{name}.")
        if isinstance(node, ProcessorGraph)
        else swap(f"{prefix}{name}", node)
        for name, node in graph.processors.items()
    }
    alive = {f"{name}.{path}" for name, node in nodes.items() for path in node.spec.entries}
    kept = {
        path: value
        for path, value in flatten_tree(graph.written["set"] or {}).items()
        if _applies(path, value, alive)
    }
    return ProcessorGraph(nodes, **{**graph.written, "set": ControlSpec.tree(kept)})


def _applies(path: str, value: object, alive: set[str]) -> bool:
    stem, _, last = path.rpartition(".")
    return stem in alive and value in alive if last == "same_as" else path in alive
