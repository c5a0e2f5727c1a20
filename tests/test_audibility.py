"""What can be known of a knob."""

import torch

from difffx.audibility import audibility, explained, unknowable
from difffx.graph import ProcessorGraph
from difffx.params import ControlSpec, Param
from difffx.processors import Compressor, Gain, Peak

RATE = 16_000


def test_a_knob_that_level_alone_carries_is_not_heard_and_a_filter_is():
    graph = ProcessorGraph({"peak": Peak(RATE), "gain": Gain(RATE)})
    generator = torch.Generator().manual_seed(0)
    dry = 0.1 * torch.randn(2, 1, 2 * RATE, generator=generator)
    z = graph.spec.sample(2, generator=generator)
    heard = audibility(graph, [{"dry": dry, "z": z}])
    assert list(heard) == graph.spec.labels
    assert heard["gain.gain_db"] < 1e-3
    assert heard["peak.gain_db"] > 0.05


def test_the_mean_is_over_all_items_however_they_are_batched():
    graph = ProcessorGraph({"comp": Compressor(RATE)})
    generator = torch.Generator().manual_seed(1)
    dry, z = torch.randn(3, 1, RATE, generator=generator), graph.spec.sample(3, generator=generator)
    whole = audibility(graph, [{"dry": dry, "z": z}])
    parts = audibility(graph, [{"dry": dry[i : i + 1], "z": z[i : i + 1]} for i in range(3)])
    for label in whole:
        assert abs(whole[label] - parts[label]) < 1e-5


def test_explained_variance_is_one_for_the_truth_none_for_the_mean_and_three_quarters_for_half_the_error():
    spec = ControlSpec({"a": Param("a", 0.0, 1.0, default=0.0)})
    z = torch.rand(100, 1, 1, generator=torch.Generator().manual_seed(0))
    middle = z.mean(0, keepdim=True).expand_as(z)
    for guess, share in ((z, 1.0), (middle, 0.0), (0.5 * (z + middle), 0.75)):
        assert abs(explained(spec, z, guess)["a"] - share) < 1e-5


def test_what_cannot_be_known_is_named_with_its_evidence():
    heard, found = {"a": 0.001, "b": 0.2, "c": 0.2}, {"a": 0.9, "b": 0.01, "c": 0.5}
    reasons = unknowable(heard, found)
    assert list(reasons) == ["a", "b"]
    assert reasons["a"].endswith("not heard") and "1%" in reasons["b"]
