"""Processors wired into a checked, directed graph without loops; the graph is itself a processor."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from torch import Tensor, nn

from difffx.graph.knobs import KnobSettings, read_settings
from difffx.params import Controls, ControlSpec, unknown
from difffx.processors.base import Processor

Wire = str | Sequence[str] | Mapping[str, str]


class GraphError(ValueError):
    """Everything that is wrong with a graph, at once, in the words of its YAML.

    Hydra prints the repr of an exception, so the repr is the message.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n  ".join([f"{len(self.problems)} problem(s) in this graph", *self.problems]))

    def __repr__(self) -> str:
        return f"GraphError: {self}"


@dataclass(frozen=True)
class Trace:
    """What went through a graph: every signal by name (inputs included), every node's physical controls."""

    signals: dict[str, Tensor | dict[str, Tensor]]
    controls: dict[str, Controls]
    output: Tensor | dict[str, Tensor]


class ProcessorGraph(Processor):
    """Named processors, named wires, one or several named outputs.

    processors  name -> Processor, another graph included. In any order where wires are given
    wires       name -> what it hears: a list in the order of the processor's inputs, or {input: signal};
                a signal is a graph input, a node, or node.output where a node has several. None: a chain
    inputs      names of the signals the graph is given
    output      one node, or {name: node} for several outputs; default: the only node that nobody hears
    set         node -> knob -> a value (fixed), "learned" (one trainable value for all items, kept inside its
                range), "predicted" (the default), or {"same_as": "node.knob"} (tied)

    `spec` holds the predicted knobs only. Raises GraphError with every problem found.
    """

    def __init__(
        self,
        processors: Mapping[str, Processor],
        wires: Mapping[str, Wire] | None = None,
        inputs: Sequence[str] = ("dry",),
        output: str | Mapping[str, str] | None = None,
        set: Mapping[str, Mapping] | None = None,
    ) -> None:
        problems = _wrong_names(processors, inputs)
        if problems:
            raise GraphError(problems)
        self.inputs = tuple(inputs)
        plan, problems = _plan(processors, wires, self.inputs)
        outputs, more = _outputs(processors, plan, self.inputs, output)
        problems += more
        problems += _unreached(plan, outputs, self.inputs) if not problems else []
        order, more = _order(plan)
        problems += more + _mixed_rates(processors)
        settings, more = read_settings({name: p.spec for name, p in processors.items()}, set or {})
        problems += more
        if problems:
            raise GraphError(problems)

        super().__init__(next((p.sample_rate for p in processors.values()), 44_100))
        self.processors = nn.ModuleDict({name: processors[name] for name in processors})
        self.settings = KnobSettings(settings)
        self.plan, self.order = plan, order
        self.outputs: dict[str, str] = outputs
        self.written = {"wires": wires, "inputs": tuple(inputs), "output": output, "set": set}

    @classmethod
    def from_list(cls, nodes: Sequence[tuple[Processor, Sequence[str]]], **options: object) -> ProcessorGraph:
        """DDSP's form: [(processor, [what it hears]), ...].

        A node's name is its class in snake case, numbered where it repeats: parametric_eq, parametric_eq_2.
        """
        processors: dict[str, Processor] = {}
        wires: dict[str, Sequence[str]] = {}
        for processor, heard in nodes:
            stem = re.sub(
                r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(processor).__name__
            ).lower()
            count = sum(name == stem or name.startswith(f"{stem}_") for name in processors)
            name = f"{stem}_{count + 1}" if count else stem
            processors[name], wires[name] = processor, heard
        return cls(processors, wires=wires, **options)

    @property
    def spec(self) -> ControlSpec:
        """The predicted knobs, node.knob, in file order."""
        return ControlSpec(self.settings.predicted)

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """False where one node inside is not."""
        return all(leaf.differentiable for _, leaf in self.leaves())

    def leaves(self) -> Iterator[tuple[str, Processor]]:
        """Every effect with its dotted path, nested graphs opened."""
        for name, processor in self.processors.items():
            if isinstance(processor, ProcessorGraph):
                yield from ((f"{name}.{path}", leaf) for path, leaf in processor.leaves())
            else:
                yield name, processor

    def forward(
        self, *inputs: Tensor | Mapping[str, Tensor], controls: Controls | None = None
    ) -> Tensor | dict[str, Tensor]:
        """inputs [B, C, T] in the order of `inputs`, or one {name: [B, C, T]}; controls as from `from_unit`.

        Returns the output, or {name: output} where the graph has several. Without controls every predicted
        knob stands at its default. Raises ValueError naming missing and surplus signals and controls.
        """
        return self.trace(*inputs, controls=controls).output

    def trace(self, *inputs: Tensor | Mapping[str, Tensor], controls: Controls | None = None) -> Trace:
        """The same, with every node's signal and physical controls."""
        signals: dict[str, Tensor | dict[str, Tensor]] = dict(self._signals(inputs))
        heard = next(iter(signals.values()), None)
        complete = self.settings.complete(self.spec, controls, like=heard)
        for name in self.order:
            sources = [_signal(signals, source) for source in self.plan[name].values()]
            try:
                signals[name] = self.processors[name](*sources, controls=complete.get(name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        ends = {name: _signal(signals, source) for name, source in self.outputs.items()}
        return Trace(signals, complete, ends.get("", ends))

    def response(self, controls: Controls, frequencies_hz: Tensor) -> Tensor:
        """Decibels of all nodes that know their response added up, as in a chain: [N] in Hz -> [B, N].

        Other nodes count nothing. Raises ValueError where no node knows its response.
        """
        complete = self.settings.complete(self.spec, controls, like=frequencies_hz)
        curves = [
            processor.response(complete[name], frequencies_hz)
            for name, processor in self.processors.items()
            if any(hasattr(leaf, "response") for leaf in _leaves(processor))
        ]
        if not curves:
            raise ValueError(
                f"no node knows its frequency response: {', '.join(self.processors) or 'none there'}"
            )
        return sum(curves[1:], curves[0])

    def _signals(self, inputs: Sequence[Tensor | Mapping[str, Tensor]]) -> dict[str, Tensor]:
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            given = dict(inputs[0])
            wrong = [f"no signal {unknown(name, self.inputs)}" for name in given if name not in self.inputs]
            wrong += [f"missing signal {name!r}" for name in self.inputs if name not in given]
            if wrong:
                raise ValueError("; ".join(wrong))
            return {name: given[name] for name in self.inputs}
        if len(inputs) != len(self.inputs):
            raise ValueError(f"expected {len(self.inputs)} signal(s) {list(self.inputs)}, got {len(inputs)}")
        return dict(zip(self.inputs, inputs, strict=True))

    def __str__(self) -> str:
        """dry -> peq (15) -> comp (5): the knobs that are predicted. One line a node where it is no chain."""
        counts = {name: sum(path.split(".")[0] == name for path in self.spec.names) for name in self.order}
        chain = [
            next(iter(self.plan[name].values()), None) for name in self.order if len(self.plan[name]) == 1
        ]
        if chain == [*self.inputs, *self.order[:-1]] and list(self.outputs) in ([""], []):
            return " -> ".join([*self.inputs, *(f"{name} ({counts[name]})" for name in self.order)])
        heard = {
            name: ", ".join(f"{p}: {source}" for p, source in self.plan[name].items()) for name in self.order
        }
        lines = [f"{name} ({counts[name]}) <- {heard[name]}" for name in self.order]
        ends = ", ".join(f"{name}: {source}" if name else source for name, source in self.outputs.items())
        return "\n".join([*lines, f"-> {ends}"])


def _leaves(processor: Processor) -> list[Processor]:
    return [leaf for _, leaf in processor.leaves()] if isinstance(processor, ProcessorGraph) else [processor]


def require_gradient(graph: Processor) -> None:
    """Raises GraphError naming the nodes no gradient passes through, and the ways out."""
    leaves = graph.leaves() if isinstance(graph, ProcessorGraph) else [(type(graph).__name__, graph)]
    stuck = [path for path, leaf in leaves if not leaf.differentiable]
    if stuck:
        ways = "choose afx=proxy, afx=half_proxy, or a graph of differentiable effects"
        raise GraphError([f"{path}: no gradient passes through it; {ways}" for path in stuck])


def _signal(signals: Mapping[str, Tensor | dict[str, Tensor]], source: str) -> Tensor:
    node, _, port = source.partition(".")
    return signals[node][port] if port else signals[node]


def _wrong_names(processors: Mapping, inputs: Sequence[str]) -> list[str]:
    problems: list[str] = []
    if isinstance(inputs, str):
        return [f"inputs: expected a list of names, got the text {inputs!r}"]
    for name, processor in processors.items():
        if not isinstance(processor, Processor):
            problems.append(f"processors.{name}: expected a processor, got {type(processor).__name__}")
        if hasattr(nn.ModuleDict, str(name)) or str(name) in ("training", ""):
            problems.append(f"processors.{name}: this name is taken by the framework; choose another")
        if name in inputs:
            problems.append(f"processors.{name}: the graph has an input of the same name")
    problems += [f"{name}: a name must not hold a dot" for name in [*processors, *inputs] if "." in str(name)]
    problems += [
        f"inputs: {name!r} is there twice" for name in {n for n in inputs if list(inputs).count(n) > 1}
    ]
    return problems


def _plan(
    processors: Mapping[str, Processor], wires: Mapping[str, Wire] | None, inputs: Sequence[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Node -> {its input: the signal it hears}."""
    names = list(processors)
    if wires is None:
        wires = _chain(processors, inputs)
    problems = [
        f"wires.{name}: there is no processor {unknown(name, names)}"
        for name in wires
        if name not in processors
    ]
    plan: dict[str, dict[str, str]] = {}
    known = {**dict.fromkeys(inputs), **processors}
    for name, processor in processors.items():
        if name not in wires:
            problems.append(f"wires.{name}: missing; say what {name} hears, of: {', '.join(known)}")
            continue
        plan[name], wrong = _ports(name, processor, wires[name])
        problems += wrong
        for source in plan[name].values():
            problems += _unknown_source(f"wires.{name}", source, known)
    return plan, problems


def _chain(processors: Mapping[str, Processor], inputs: Sequence[str]) -> dict[str, list[str]]:
    before, wires = list(inputs[:1]), {}
    for name, processor in processors.items():
        wires[name] = before if processor.inputs or processor.variadic else []
        before = [name]
    return wires


def _ports(name: str, processor: Processor, wire: Wire) -> tuple[dict[str, str], list[str]]:
    ports = list(processor.inputs)
    if isinstance(wire, Mapping):
        wrong = (
            []
            if processor.variadic
            else [f"wires.{name}: no input {unknown(p, ports)}" for p in wire if p not in ports]
        )
        wrong += (
            []
            if processor.variadic
            else [f"wires.{name}: nothing goes to its input {p!r}" for p in ports if p not in wire]
        )
        order = wire if processor.variadic or wrong else ports
        return {port: str(wire[port]) for port in order}, wrong
    heard = [wire] if isinstance(wire, str) else [str(source) for source in wire]
    if processor.variadic:
        wrong = [] if heard else [f"wires.{name}: hears nothing; it takes at least one signal"]
        return {str(i): source for i, source in enumerate(heard)}, wrong
    if len(heard) != len(ports):
        text = f"wires.{name}: hears {len(heard)} signal(s), {type(processor).__name__} takes {len(ports)}"
        return dict(zip(ports, heard, strict=False)), [f"{text}: {', '.join(ports) or 'none'}"]
    return dict(zip(ports, heard, strict=True)), []


def _unknown_source(where: str, source: str, known: Mapping[str, Processor | None]) -> list[str]:
    node, _, port = source.partition(".")
    if node not in known:
        return [f"{where}: unknown signal {unknown(node, known)}"]
    ends = [end for end in getattr(known[node], "outputs", {}) if end]
    if port and port not in ends:
        return [f"{where}: {node} has no output {unknown(port, ends)}"]
    if ends and not port:
        return [
            f"{where}: {node} has several outputs, name one: {', '.join(f'{node}.{end}' for end in ends)}"
        ]
    return []


def _outputs(
    processors: Mapping[str, Processor],
    plan: Mapping[str, Mapping[str, str]],
    inputs: Sequence[str],
    output: str | Mapping[str, str] | None,
) -> tuple[dict[str, str], list[str]]:
    """{output name: signal}; the name of a single output is empty."""
    if output is None:
        heard = {source.partition(".")[0] for ports in plan.values() for source in ports.values()}
        ends = [name for name in processors if name not in heard]
        if not processors and inputs:
            return {"": inputs[0]}, []
        if len(ends) != 1:
            which = "no node is left unheard" if not ends else f"several nodes go nowhere: {', '.join(ends)}"
            return {}, [f"output: {which}; name the output, or several as {{name: node}}"]
        nested = [end for end in getattr(processors[ends[0]], "outputs", {}) if end]
        return ({end: f"{ends[0]}.{end}" for end in nested} if nested else {"": ends[0]}), []
    chosen = (
        {"": output} if isinstance(output, str) else {str(name): str(node) for name, node in output.items()}
    )
    problems: list[str] = []
    for source in chosen.values():
        node = source.partition(".")[0]
        if node not in processors:
            problems.append(f"output: there is no processor {unknown(node, processors)}")
        else:
            problems += _unknown_source("output", source, dict(processors))
    return chosen, problems


def _unreached(
    plan: Mapping[str, Mapping[str, str]], outputs: Mapping[str, str], inputs: Sequence[str]
) -> list[str]:
    reached: set[str] = set()
    todo = [source.partition(".")[0] for source in outputs.values()]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += [source.partition(".")[0] for source in plan.get(name, {}).values()]
    lost = [f"processors.{name}: never reaches the output" for name in plan if name not in reached]
    return lost + [f"inputs: nobody hears {name!r}" for name in inputs if name not in reached]


def _order(plan: Mapping[str, Mapping[str, str]]) -> tuple[list[str], list[str]]:
    sources = {name: [s.partition(".")[0] for s in ports.values()] for name, ports in plan.items()}
    try:
        return [name for name in TopologicalSorter(sources).static_order() if name in plan], []
    except CycleError as error:
        return [], [f"wires: a loop {' -> '.join(error.args[1])}"]


def _mixed_rates(processors: Mapping[str, Processor]) -> list[str]:
    rates = {name: p.sample_rate for name, p in processors.items()}
    if len({*rates.values()}) <= 1:
        return []
    return [f"sample rates differ: {', '.join(f'{name} {rate}' for name, rate in rates.items())}"]
