from __future__ import annotations

import pytest
import torch

from difffx.graph import ProcessorGraph
from difffx.processors import (
    Compressor,
    DryWet,
    Gain,
    HybridProxy,
    MidSide,
    Mix,
    NeuralProxy,
    Panner,
    Polarity,
    Send,
    StereoWidener,
    Sum,
    Tanh,
)

RATE = 44_100


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def chain() -> ProcessorGraph:
    return ProcessorGraph({"amp": Gain(RATE), "comp": Compressor(RATE)}, set={"comp": {"makeup_db": 3.0}})


def test_dry_wet_is_the_dry_sound_at_zero_and_the_effect_at_one():
    x, tanh = noise(2, 2, 100), Tanh(RATE)
    both = DryWet(tanh)
    torch.testing.assert_close(both(x, mix=0.0, wet_drive_db=20.0), x)
    torch.testing.assert_close(both(x, mix=1.0, wet_drive_db=20.0), tanh(x, drive_db=20.0))
    torch.testing.assert_close(both(x, mix=0.3), 0.7 * x + 0.3 * tanh(x))


def test_the_knobs_of_what_is_held_have_a_prefix_and_keep_their_ranges():
    spec = DryWet(Compressor(RATE, ranges={"ratio": [2, 4]}), ranges={"wet_knee_db": [0, 3]}).spec
    assert spec.names[:2] == ["mix", "wet_threshold_db"]
    assert len(spec) == 1 + len(Compressor(RATE).spec)
    assert spec.entries["wet_ratio"].high == 4
    assert spec.entries["wet_knee_db"].high == 3


def test_a_graph_can_be_held_and_what_is_fixed_in_it_is_no_knob():
    x, graph = noise(2, 1, 500), chain()
    both = DryWet(graph)
    assert "wet_comp_ratio" in both.spec.names and "wet_comp_makeup_db" not in both.spec.names
    z = both.spec.sample(2, generator=torch.Generator().manual_seed(1))
    controls = both.from_unit(z)
    wet = graph(x, controls=graph.from_unit(z[:, 1:]))
    torch.testing.assert_close(both(x, controls=controls), torch.lerp(x, wet, controls["mix"]))


def test_what_combines_is_a_node_like_any_other():
    graph = ProcessorGraph(
        {"parallel": DryWet(Compressor(RATE)), "ms": MidSide(Gain(RATE))},
        set={"parallel": {"wet_ratio": "learned", "mix": 0.5}},
    )
    z = graph.spec.sample(2, generator=torch.Generator().manual_seed(1)).requires_grad_()
    graph(noise(2, 2, 500), controls=graph.from_unit(z)).square().sum().backward()
    assert (z.grad.abs().amax((0, 2)) > 0).all()
    assert all(p.grad.abs().sum() > 0 for p in graph.parameters())


def test_curves_reach_the_knobs_inside():
    x = torch.ones(1, 1, 101)
    y = DryWet(Gain(RATE))(x, mix=1.0, wet_gain_db=torch.tensor([[[-20.0, 0.0]]]))
    torch.testing.assert_close(y[0, 0, [0, -1]], torch.tensor([0.1, 1.0]))


def test_a_sidechain_goes_on_to_the_effect():
    x, key = noise(1, 1, 2000), torch.zeros(1, 1, 2000)
    parallel = DryWet(Compressor(RATE, sidechain=True))
    assert parallel.inputs == ("audio", "key")
    torch.testing.assert_close(parallel(x, key, mix=1.0, wet_threshold_db=-40.0), x)


@pytest.mark.parametrize("kind", [DryWet, Send])
def test_an_effect_that_makes_stereo_makes_stereo_inside(kind):
    x = noise(1, 1, 50)
    combined = kind(Panner(RATE))
    y = combined(x, **{combined.params[0].name: 1.0}, wet_pan=1.0)
    right = x[:, 0] * (1 if kind is DryWet else 2)
    torch.testing.assert_close(y[:, 1], right)
    assert combined.stereo


def test_a_send_adds_what_comes_back():
    x, tanh = noise(2, 1, 100), Tanh(RATE)
    torch.testing.assert_close(Send(tanh)(x, send=0.4), x + tanh(0.4 * x))


def test_several_sends_have_a_level_each():
    x = noise(2, 1, 100)
    sends = Send({"hot": Gain(RATE), "flip": Polarity(RATE)})
    assert sends.spec.names == ["hot_send", "hot_gain_db", "flip_send", "flip_invert"]
    y = sends(x, hot_send=1.0, hot_gain_db=20.0, flip_send=0.5, flip_invert=1.0)
    torch.testing.assert_close(y, x + 10 * x - 0.5 * x)
    assert sends.neutral == {"hot_send": 0.0, "flip_send": 0.0}


def test_mid_side_with_one_effect_has_settings_for_each():
    x = noise(2, 2, 100)
    y = MidSide(Gain(RATE))(x, mid_gain_db=0.0, side_gain_db=20.0)
    torch.testing.assert_close(y, StereoWidener(RATE, ranges={"width": [0, 10]})(x, width=10.0))


def test_mid_side_passes_a_part_that_has_no_effect():
    x = noise(2, 2, 100)
    side_only = MidSide(side=Gain(RATE))
    assert side_only.spec.names == ["side_gain_db"]
    torch.testing.assert_close(side_only(x), x)
    different = MidSide(mid=Tanh(RATE), side=Gain(RATE))
    assert different.spec.names[0] == "mid_drive_db" and different.spec.names[-1] == "side_gain_db"


def test_proxies_stand_in_for_what_combines():
    x, parallel = noise(2, 1, 300), DryWet(Compressor(RATE))
    proxy = NeuralProxy(parallel, weights=None)
    assert proxy.spec == parallel.spec
    assert proxy(x).shape == x.shape
    hybrid = HybridProxy(parallel, weights=None).eval()
    torch.testing.assert_close(hybrid(x), parallel(x))


def test_what_is_held_is_saved_and_loaded():
    torch.manual_seed(0)
    first, second = (DryWet(NeuralProxy(Compressor(RATE), weights=None)) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = noise(1, 1, 300)
    torch.testing.assert_close(second(x), first(x))


WRONG = [
    (lambda: DryWet(3), "DryWet: processor: expected an effect, got int"),
    (lambda: DryWet(Sum(RATE)), "expected an effect with fixed inputs and one output, got Sum"),
    (lambda: Send(Mix(RATE)), "a send has one input, Mix takes several"),
    (lambda: Send({}), "expected at least one effect"),
    (lambda: Send({"a": Gain(RATE), "b": Gain(48_000)}), "differ in sample rate"),
    (lambda: Send({"a": DryWet(Gain(RATE)), "a_wet": Gain(RATE)}), "two knobs would be called a_wet_gain_db"),
    (lambda: MidSide(), "expected one effect for both, or mid and side"),
    (lambda: MidSide(Gain(RATE), side=Gain(RATE)), "expected one effect for both, or mid and side"),
    (lambda: MidSide(Panner(RATE)), "mid is a mono sound, which Panner cannot take"),
    (lambda: DryWet(Gain(RATE), ranges={"gain_db": [0, 1]}), "did you mean 'wet_gain_db'"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_combination_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
