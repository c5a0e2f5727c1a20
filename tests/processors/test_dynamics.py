from __future__ import annotations

import pytest
import torch

from difffx.processors.dynamics import Compressor, SimpleCompressor

SAMPLE_RATE = 44_100
COMPRESSORS = [Compressor, SimpleCompressor]


def bursts(items: int, channels: int, samples: int = 12_000) -> torch.Tensor:
    noise = 0.4 * torch.randn(items, channels, samples, generator=torch.Generator().manual_seed(0))
    return noise * ((torch.arange(samples) // 3000) % 2 == 0)


@pytest.mark.parametrize("effect", COMPRESSORS)
def test_a_batch_is_its_items(effect):
    comp = effect(SAMPLE_RATE)
    x = bursts(4, 2)
    controls = comp.from_unit(comp.spec.sample(4, generator=torch.Generator().manual_seed(1)))
    together = comp(x, controls=controls)
    for item in range(4):
        alone = comp(x[item : item + 1], controls={name: v[item : item + 1] for name, v in controls.items()})
        torch.testing.assert_close(together[item : item + 1], alone, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("effect", COMPRESSORS)
def test_every_knob_moves_the_output(effect):
    comp = effect(SAMPLE_RATE)
    z = torch.full((1, len(comp.spec), 1), 0.4, requires_grad=True)
    comp(bursts(1, 1), controls=comp.from_unit(z)).square().mean().backward()
    assert (z.grad.abs() > 1e-7).all()


def test_the_compressor_wants_a_proxy_and_the_simple_one_does_not():
    assert Compressor.wants_proxy
    assert not SimpleCompressor.wants_proxy


def test_the_knobs_stand_in_the_published_order():
    names = ["threshold_db", "ratio", "attack_ms", "release_ms", "knee_db", "makeup_db"]
    assert Compressor(SAMPLE_RATE).spec.names == names
    assert SimpleCompressor(SAMPLE_RATE).spec.names == [*names[:2], "time_ms", *names[4:]]


def test_ranges_may_go_to_the_edge():
    ranges = {"ratio": (1, 20), "knee_db": (0, 12), "attack_ms": (0.1, 500), "release_ms": (1, 5000)}
    comp = Compressor(SAMPLE_RATE, ranges=ranges)
    x = bursts(2, 1).requires_grad_()
    z = torch.stack([torch.zeros(6, 1), torch.ones(6, 1)]).requires_grad_()
    comp(x, controls=comp.from_unit(z)).square().sum().backward()
    assert x.grad.isfinite().all()
    assert z.grad.isfinite().all()


def test_a_sidechain_is_ducked_by_the_key_and_not_by_itself():
    comp = Compressor(SAMPLE_RATE, sidechain=True)
    assert comp.inputs == ("audio", "key")
    assert Compressor(SAMPLE_RATE).inputs == ("audio",)
    pad, kick = torch.full((1, 2, 6000), 0.5), torch.zeros(1, 1, 6000)
    kick[..., 3000:] = 1.0
    knobs = {"threshold_db": -20.0, "ratio": 4.0, "attack_ms": 1.0, "knee_db": 0.0}
    y = comp(pad, kick, **knobs)
    torch.testing.assert_close(y[..., :3000], pad[..., :3000])
    torch.testing.assert_close(y[..., -1:], pad[..., -1:] * 10.0 ** (-15.0 / 20.0), rtol=1e-4, atol=0.0)
    torch.testing.assert_close(comp(pad, pad, **knobs), Compressor(SAMPLE_RATE)(pad, **knobs))


@pytest.mark.parametrize("effect", COMPRESSORS)
def test_the_static_response_is_where_a_steady_sound_ends(effect):
    comp = effect(SAMPLE_RATE)
    controls = comp.from_unit(comp.spec.sample(3, generator=torch.Generator().manual_seed(2)))
    for name in ("attack_ms", "time_ms"):
        if name in controls:
            controls[name] = torch.full((3, 1, 1), 1.0)
    levels_db = torch.tensor([-50.0, -20.0, -3.0])
    predicted = comp.static_response(controls, levels_db)
    assert predicted.shape == (3, 3)
    for n, level_db in enumerate(levels_db):
        steady = (10.0 ** (level_db / 20.0)).expand(3, 1, 4000)
        arrived = 20.0 * comp(steady, controls=controls)[..., -1].log10()
        torch.testing.assert_close(arrived[:, 0], predicted[:, n], rtol=0.0, atol=1e-3)
