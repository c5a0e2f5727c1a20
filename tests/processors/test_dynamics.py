from __future__ import annotations

import pytest
import torch

from difffx.processors.dynamics import Compressor, DeEsser, Limiter, SimpleCompressor
from difffx.processors.gating import Expander, NoiseGate

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


def test_the_options_of_the_compressor_leave_its_default_as_it_is():
    x = bursts(2, 2)
    by_name = Compressor(SAMPLE_RATE, detector="peak", topology="forward", lookahead_ms=0.0)
    torch.testing.assert_close(by_name(x), Compressor(SAMPLE_RATE)(x), rtol=0.0, atol=0.0)
    assert by_name.wants_proxy


@pytest.mark.parametrize(
    "options", [{"detector": "rms"}, {"topology": "feedback"}, {"lookahead_ms": 2.0}], ids=str
)
def test_a_compressor_with_options_sounds_different_and_wants_no_proxy_of_the_plain_one(options):
    comp, x = Compressor(SAMPLE_RATE, **options), bursts(1, 1)
    assert not comp.wants_proxy
    assert ("rms_ms" in comp.spec.names) == (options.get("detector") == "rms")
    plain, z = Compressor(SAMPLE_RATE)(x), torch.full((1, len(comp.spec), 1), 0.4, requires_grad=True)
    assert (comp(x) - plain).abs().max() > 1e-3
    comp(x, controls=comp.from_unit(z)).square().mean().backward()
    assert (z.grad.abs() > 1e-9).all()


def test_options_that_do_not_exist_or_do_not_go_together_are_refused():
    wrong = [
        {"detector": "average"},
        {"topology": "backward"},
        {"lookahead_ms": -1.0},
        {"topology": "feedback", "sidechain": True},
        {"topology": "feedback", "lookahead_ms": 1.0},
    ]
    for options in wrong:
        with pytest.raises(ValueError, match="Compressor"):
            Compressor(SAMPLE_RATE, **options)
    with pytest.raises(ValueError, match="DeEsser: mode"):
        DeEsser(SAMPLE_RATE, mode="narrow")


@pytest.mark.parametrize("lookahead_ms", [0.0, 2.0, 10.0])
def test_the_limiter_keeps_its_ceiling(lookahead_ms):
    limiter = Limiter(SAMPLE_RATE, lookahead_ms=lookahead_ms)
    x = bursts(4, 2)
    controls = limiter.from_unit(limiter.spec.sample(4, generator=torch.Generator().manual_seed(1)))
    y = limiter(x, controls=controls)
    assert (y.abs().amax((1, 2), keepdim=True) <= 10.0 ** (controls["ceiling_db"] / 20.0)).all()


def test_but_for_the_look_ahead_the_limiter_is_causal():
    limiter, x = Limiter(SAMPLE_RATE), bursts(1, 1)
    short, long = limiter(x[..., :2000], drive_db=12.0), limiter(x, drive_db=12.0)[..., :2000]
    torch.testing.assert_close(short[..., :1912], long[..., :1912])


def test_the_wide_de_esser_has_a_neutral_setting_and_the_split_one_has_not():
    x = bursts(1, 2)
    assert DeEsser(SAMPLE_RATE).neutral is None
    wide = DeEsser(SAMPLE_RATE, mode="wide")
    torch.testing.assert_close(wide(x, **wide.neutral), x)


@pytest.mark.parametrize("kind", [Expander, NoiseGate])
def test_a_key_opens_expander_and_gate(kind):
    gate = kind(SAMPLE_RATE, sidechain=True)
    assert gate.inputs == ("audio", "key")
    x, key = torch.full((1, 2, 6000), 0.3), torch.zeros(1, 1, 6000)
    key[..., 3000:] = 0.9
    y = gate(x, key)
    assert y[..., :3000].abs().max() < 0.3 * 10.0 ** (-39.0 / 20.0)
    torch.testing.assert_close(y[..., -100:], x[..., -100:], rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("effect", COMPRESSORS)
def test_a_threshold_that_moves_decides_when_the_compressor_works(effect):
    comp, seconds = effect(SAMPLE_RATE, ranges={"threshold_db": (-60.0, 0.0)}), 2
    tone = 0.25 * torch.sin(torch.arange(seconds * SAMPLE_RATE) * 0.3).view(1, 1, -1)
    threshold_db = torch.cat((torch.zeros(1, 1, 500), torch.full((1, 1, 500), -32.04)), 2)
    y = comp(tone, threshold_db=threshold_db, ratio=4.0, knee_db=0.0)
    half = SAMPLE_RATE // 2
    torch.testing.assert_close(y[..., :half], tone[..., :half])
    late_db = 20.0 * torch.log10(y[..., -half:].norm() / tone[..., -half:].norm())
    still_db = 20.0 * torch.log10(
        comp(tone, threshold_db=-32.04, ratio=4.0, knee_db=0.0)[..., -half:].norm() / tone[..., -half:].norm()
    )
    assert late_db.item() == pytest.approx(still_db.item(), abs=0.01) and still_db < -10.0
