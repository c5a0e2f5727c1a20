"""The laws of effects, for the two the mixer is made of; and the graph from YAML."""

import pytest
import torch
from hydra.utils import instantiate

from difffx.dj import ChannelStrip, MixerConfig, Sends, mixer_graph
from difffx.dj.layout import START

RATE = 16_000
NODES = {"strip": ChannelStrip, "sends": Sends}


def noise(*shape):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=NODES.values(), ids=NODES)
def node(request):
    return request.param(RATE, MixerConfig(RATE, tempo_bpm=240.0, beats=0.5))


@pytest.mark.parametrize("channels", [1, 2])
def test_shape_and_finiteness_of_sound_and_silence(node, channels):
    controls = node.from_unit(node.spec.sample(2, 5, torch.Generator().manual_seed(0)))
    for x in (noise(2, channels, 3000), torch.zeros(2, channels, 3000)):
        y = node(x, controls=controls)
        assert y.shape == (2, 2 if node.stereo else channels, 3000) and torch.isfinite(y).all()
    assert y.abs().max() == 0.0


def test_a_constant_curve_is_a_static_control(node):
    x, controls = noise(2, 2, 4000), node.from_unit(node.spec.sample(2, 1, torch.Generator().manual_seed(1)))
    curves = {name: value.expand(-1, -1, 7) for name, value in controls.items()}
    assert torch.allclose(node(x, controls=controls), node(x, controls=curves), atol=1e-6)


def test_every_knob_moves_the_output(node):
    controls = {name: torch.full((1, 1, 1), START[name]).requires_grad_() for name in node.spec.names}
    node(noise(1, 2, 2 * RATE), controls=controls).square().mean().backward()
    assert all(value.grad.abs().max() > 1e-9 for value in controls.values())


def test_the_neutral_settings_are_the_identity(node):
    x = noise(2, 2, 5000)
    assert (node(x, **node.neutral) - x).norm() < 1e-6 * x.norm()


def test_knobs_as_plain_numbers():
    x = noise(1, 2, 3000)
    assert torch.allclose(ChannelStrip(RATE)(x, gain=0.5), 0.5 * x, atol=1e-7)


def test_the_mixer_is_a_graph_that_yaml_can_name_and_set():
    written = {"_target_": "difffx.dj.mixer_graph", "sample_rate": RATE, "tempo_bpm": 126.0, "limiter": True}
    graph = instantiate(written)
    assert graph.processors["b_sends"].config.tempo_bpm == 126.0 and len(graph.spec) == 54
    assert list(graph.processors)[-1] == "limiter"


def test_a_graph_takes_a_whole_configuration_too():
    graph = mixer_graph(config=MixerConfig(RATE, beats=1.0), tempo_bpm=100.0)
    assert graph.sample_rate == RATE
    assert graph.processors["a_sends"].config.echo_samples() == round(0.6 * RATE)
    with pytest.raises(ValueError, match="compat=True, are no graph"):
        mixer_graph(compat=True)
