import math

import pytest
import torch

from difffx.graph import GraphError, ProcessorGraph, require_gradient
from difffx.params import Param
from difffx.processors import Gain, GraphicEQ, ParametricEQ
from difffx.processors.base import Processor
from difffx.processors.mixing import Mix, Sum

RATE = 8000


class Level(Processor):
    """A gain in plain numbers: easy to follow through a graph."""

    params = (Param("gain", 0.0, 10.0, default=1.0, dynamic=True),)

    def process(self, x, gain):
        return x * gain


class Duck(Processor):
    """Two inputs: the audio, less a share of the key."""

    inputs = ("audio", "key")
    params = (Param("share", 0.0, 1.0, default=0.5),)

    def process(self, audio, key, share):
        return audio - share * key


class Wall(Level):
    differentiable = False


def level(**options):
    return Level(RATE, **options)


def at(graph, value):
    return graph.from_unit(torch.full((2, len(graph.spec), 1), value))


@pytest.fixture
def x():
    return torch.randn(2, 1, 64, generator=torch.Generator().manual_seed(0))


def test_a_chain_needs_no_wires(x):
    graph = ProcessorGraph({"a": level(), "b": level()})
    assert torch.allclose(graph(x, controls=at(graph, 0.3)), x * 9.0)
    assert str(graph) == "dry -> a (1) -> b (1)"


def test_a_dag_adds_its_branches_whatever_the_order_in_the_file(x):
    nodes = {"mix": Sum(RATE), "b": level(), "a": level()}
    graph = ProcessorGraph(nodes, wires={"mix": ["a", "b"], "a": ["dry"], "b": ["a"]}, output="mix")
    assert torch.allclose(graph(x, controls=at(graph, 0.2)), x * (2.0 + 4.0))


def test_a_sidechain_hears_its_own_input(x):
    graph = ProcessorGraph(
        {"duck": Duck(RATE)}, wires={"duck": {"key": "voice", "audio": "music"}}, inputs=("music", "voice")
    )
    music, voice = x, x.flip(-1)
    expected = music - 0.25 * voice
    assert torch.allclose(graph(music, voice, controls=at(graph, 0.25)), expected)
    assert torch.allclose(graph({"voice": voice, "music": music}, controls=at(graph, 0.25)), expected)


def test_several_outputs_come_by_name_and_nest(x):
    inner = ProcessorGraph(
        {"a": level(), "b": level()}, wires={"a": ["dry"], "b": ["dry"]}, output={"main": "a", "send": "b"}
    )
    outputs = inner(x, controls=at(inner, 0.2))
    assert set(outputs) == {"main", "send"}
    outer = ProcessorGraph(
        {"strip": inner, "mix": Mix(RATE)}, wires={"strip": "dry", "mix": ["strip.main", "strip.send"]}
    )
    assert outer.spec.names == ["strip.a.gain", "strip.b.gain", "mix.gain_db"]
    controls = outer.from_unit(outer.spec.defaults(2))
    assert torch.allclose(outer(x, controls=controls), 2 * x, atol=1e-5)


def test_a_nested_graph_is_a_processor_with_its_own_knobs(x):
    inner = ProcessorGraph({"a": level(), "b": level()}, set={"b": {"gain": 2.0}})
    outer = ProcessorGraph({"strip": inner, "c": level()}, set={"c": {"gain": {"same_as": "strip.a.gain"}}})
    assert outer.spec.names == ["strip.a.gain"]
    assert torch.allclose(outer(x, controls=at(outer, 0.3)), x * 3 * 2 * 3)
    assert [path for path, _ in outer.leaves()] == ["strip.a", "strip.b", "c"]


def test_a_fixed_knob_is_not_predicted(x):
    graph = ProcessorGraph({"a": level(), "b": level()}, set={"a": {"gain": 5}})
    assert graph.spec.names == ["b.gain"]
    assert torch.allclose(graph(x, controls=at(graph, 0.2)), x * 10)


def test_a_learned_knob_is_trained_and_stays_inside_its_range(x):
    graph = ProcessorGraph({"a": level()}, set={"a": {"gain": "learned"}})
    assert len(graph.spec) == 0
    assert torch.allclose(graph(x), x, atol=1e-6)
    optimizer = torch.optim.Adam(graph.parameters(), lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        (graph(x) - 100 * x).square().mean().backward()
        optimizer.step()
    gain = (graph(x) / x).mean().item()
    assert 9.0 < gain <= 10.0 + 1e-5


def test_a_tied_knob_follows_its_source_and_passes_the_gradient_of_both(x):
    graph = ProcessorGraph({"a": level(), "b": level()}, set={"b": {"gain": {"same_as": "a.gain"}}})
    z = torch.full((2, 1, 1), 0.3, requires_grad=True)
    graph(x, controls=graph.from_unit(z)).sum().backward()
    expected = (2 * 3.0 * 10.0 * x).sum((1, 2), keepdim=True)  # d (10 z)^2 x / dz
    assert torch.allclose(z.grad, expected, rtol=1e-4)


def test_a_trace_shows_every_signal_and_every_control(x):
    graph = ProcessorGraph({"a": level(), "b": level()}, set={"b": {"gain": 4.0}})
    trace = graph.trace(x, controls=at(graph, 0.2))
    assert list(trace.signals) == ["dry", "a", "b"]
    assert torch.allclose(trace.signals["a"], 2 * x)
    assert trace.controls["b"]["gain"].item() == 4.0
    assert torch.equal(trace.output, trace.signals["b"])


def test_the_list_form_of_ddsp_gives_the_same_graph(x):
    nodes = [(level(), ["dry"]), (level(), ["level"]), (Sum(RATE), ["level", "level_2"])]
    graph = ProcessorGraph.from_list(nodes)
    assert list(graph.processors) == ["level", "level_2", "sum"]
    assert torch.allclose(graph(x, controls=at(graph, 0.2)), x * 6)


def test_an_empty_chain_changes_nothing(x):
    graph = ProcessorGraph({})
    assert torch.equal(graph(x), x) and len(graph.spec) == 0


def test_without_controls_every_knob_is_at_its_default(x):
    assert torch.allclose(ProcessorGraph({"a": level(), "b": level()})(x), x, atol=1e-6)


def test_a_curve_reaches_a_knob_that_may_move(x):
    graph = ProcessorGraph({"a": level()})
    z = torch.linspace(0, 1, 64).expand(2, 1, 64)
    assert torch.allclose(graph(x, controls=graph.from_unit(z)), x * 10 * z, atol=1e-5)


def test_state_survives_saving(x):
    make = lambda: ProcessorGraph({"a": level()}, set={"a": {"gain": "learned"}})  # noqa: E731
    one, two = make(), make()
    with torch.no_grad():
        next(iter(one.parameters())).fill_(math.log(0.5 / 0.5))
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(x), two(x)) and torch.allclose(two(x), 5 * x)


WRONG = {
    "unknown signal": ({"wires": {"a": ["dry"], "b": ["aa"]}}, "unknown signal 'aa' (did you mean 'a'?)"),
    "unknown output": ({"output": "c"}, "output: there is no processor 'c'"),
    "unknown node": ({"wires": {"a": ["dry"], "b": ["a"], "bb": ["a"]}}, "wires.bb: there is no processor"),
    "missing wire": ({"wires": {"a": ["dry"]}}, "wires.b: missing"),
    "too many inputs": ({"wires": {"a": ["dry"], "b": ["a", "dry"]}}, "hears 2 signal(s), Level takes 1"),
    "unknown port": ({"wires": {"a": ["dry"], "b": {"odio": "a"}}}, "wires.b: no input 'odio'"),
    "loop": ({"wires": {"a": ["b"], "b": ["a"]}, "output": "b"}, "wires: a loop"),
    "unreached": ({"wires": {"a": ["dry"], "b": ["dry"]}, "output": "b"}, "a: never reaches the output"),
    "two ends": ({"wires": {"a": ["dry"], "b": ["dry"]}}, "several nodes go nowhere: a, b"),
    "unheard input": ({"wires": {"a": ["dry"], "b": ["a"]}, "inputs": ("dry", "key")}, "nobody hears 'key'"),
    "name clash": ({"inputs": ("a",)}, "processors.a: the graph has an input of the same name"),
    "unknown node in set": ({"set": {"c": {"gain": 1.0}}}, "set.c.gain: there is no processor 'c'"),
    "unknown knob": ({"set": {"a": {"gian": 1.0}}}, "set.a.gian: no knob 'a.gian' (did you mean 'a.gain'?)"),
    "out of range": ({"set": {"a": {"gain": 11.0}}}, "set.a.gain: 11 is outside 0..10"),
    "no number": ({"set": {"a": {"gain": "loud"}}}, "set.a.gain: expected a number"),
    "unknown tie": ({"set": {"a": {"gain": {"same_as": "b.gian"}}}}, "same_as: no knob 'b.gian'"),
    "circle": (
        {"set": {"a": {"gain": {"same_as": "b.gain"}}, "b": {"gain": {"same_as": "a.gain"}}}},
        "tied in a circle",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_graph_says_what_is_wrong(case):
    options, message = WRONG[case]
    with pytest.raises(GraphError) as caught:
        ProcessorGraph({"a": level(), "b": level()}, **options)
    assert message in str(caught.value)
    assert repr(caught.value).endswith(str(caught.value))  # Hydra shows the repr


def test_all_mistakes_are_reported_at_once():
    with pytest.raises(GraphError) as caught:
        ProcessorGraph(
            {"a": level(), "b": Level(2 * RATE)},
            wires={"a": ["dri"], "b": ["a"]},
            output="c",
            set={"a": {"gain": -1.0}},
        )
    assert len(caught.value.problems) == 4
    assert "sample rates differ: a 8000, b 16000" in caught.value.problems


@pytest.mark.parametrize("name", ["a.b", "keys", "training"])
def test_a_name_that_cannot_be_a_node_is_refused(name):
    with pytest.raises(GraphError, match=name):
        ProcessorGraph({name: level()})


def test_a_tie_must_fit_the_range():
    with pytest.raises(GraphError, match=r"does not fit"):
        ProcessorGraph(
            {"a": level(), "b": level(ranges={"gain": [0, 1]})}, set={"b": {"gain": {"same_as": "a.gain"}}}
        )


def test_wrong_calls_name_the_node_and_the_knob(x):
    graph = ProcessorGraph({"a": level(), "duck": Duck(RATE)}, wires={"a": ["dry"], "duck": ["a", "dry"]})
    good = at(graph, 0.5)
    with pytest.raises(ValueError, match=r"missing control duck\.share"):
        graph(x, controls={"a": good["a"]})
    with pytest.raises(ValueError, match=r"no knob 'duck.shore' \(did you mean 'duck.share'\?\)"):
        graph(x, controls={**good, "duck": {**good["duck"], "shore": good["duck"]["share"]}})
    with pytest.raises(ValueError, match=r"duck: Duck.share is static: .* \[2, 1, 1\], got \(2, 1, 8\)"):
        graph(x, controls={**good, "duck": {"share": torch.zeros(2, 1, 8)}})
    with pytest.raises(ValueError, match=r"a: Level.gain: expected \[2, 1, F\], got \(3, 1, 1\)"):
        graph(x, controls={**good, "a": {"gain": torch.zeros(3, 1, 1)}})
    with pytest.raises(ValueError, match=r"expected audio \[B, C, T\], got \(1, 64\)"):
        graph(x[0], controls=good)
    with pytest.raises(ValueError, match="missing signal 'dry'"):
        graph({"wet": x}, controls=good)


def test_a_node_without_gradient_is_named_with_the_ways_out():
    graph = ProcessorGraph({"a": level(), "strip": ProcessorGraph({"plugin": Wall(RATE)})})
    assert not graph.differentiable
    with pytest.raises(GraphError, match=r"strip.plugin: no gradient .* afx=proxy"):
        require_gradient(graph)
    require_gradient(ProcessorGraph({"a": level()}))


def test_the_responses_of_a_chain_add_up_and_other_nodes_count_nothing():
    eq, other = ParametricEQ(44_100), GraphicEQ(44_100)
    graph = ProcessorGraph({"a": eq, "gain": Gain(44_100), "b": ProcessorGraph({"c": other}, inputs=("x",))})
    controls = graph.from_unit(graph.spec.sample(2, generator=torch.Generator().manual_seed(0)))
    hz = torch.tensor([50.0, 1000.0, 9000.0])
    parts = eq.response(controls["a"], hz) + other.response(controls["b"]["c"], hz)
    assert torch.allclose(graph.response(controls, hz), parts)


def test_a_graph_without_equalizers_has_no_response():
    graph = ProcessorGraph({"gain": Gain(44_100)})
    with pytest.raises(ValueError, match=r"no node knows.*gain"):
        graph.response(graph.from_unit(graph.spec.sample(1)), torch.tensor([1000.0]))
