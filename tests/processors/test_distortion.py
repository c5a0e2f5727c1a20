from __future__ import annotations

import pytest
import torch

from difffx.processors.distortion import ChebyshevShaper, ParametricClipper, TaylorShaper

SHAPERS = [TaylorShaper, ChebyshevShaper]


def noise(*shape: int) -> torch.Tensor:
    return 0.5 * torch.randn(*shape, generator=torch.Generator().manual_seed(0)).clamp(-2.0, 2.0)


@pytest.mark.parametrize("effect", SHAPERS)
def test_a_shaper_by_default_is_the_identity_without_dc(effect):
    x = noise(2, 2, 300)
    torch.testing.assert_close(effect(44_100)(x + 0.2), x - x.mean(-1, keepdim=True), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("effect", SHAPERS)
def test_a_shaper_has_one_knob_of_24_values(effect):
    spec = effect(44_100).spec
    assert spec.names == ["coefficients"]
    assert len(spec) == 24


@pytest.mark.parametrize("effect", SHAPERS)
def test_the_negative_coefficients_turn_the_sound_upside_down(effect):
    x, p = noise(1, 1, 300), noise(1, 24, 1)
    shaper = effect(44_100)
    torch.testing.assert_close(shaper(x, coefficients=-p), -shaper(x, coefficients=p))


@pytest.mark.parametrize("effect", [*SHAPERS, ParametricClipper])
def test_a_batch_is_its_items(effect):
    effect = effect(44_100)
    x = noise(3, 2, 300)
    controls = effect.from_unit(effect.spec.sample(3, generator=torch.Generator().manual_seed(1)))
    together = effect(x, controls=controls)
    for item in range(3):
        alone = effect(
            x[item : item + 1], controls={name: v[item : item + 1] for name, v in controls.items()}
        )
        torch.testing.assert_close(together[item : item + 1], alone)


@pytest.mark.parametrize("effect", [*SHAPERS, ParametricClipper])
def test_every_knob_value_moves_the_output(effect):
    effect = effect(44_100)
    z = effect.spec.sample(1, generator=torch.Generator().manual_seed(1)).requires_grad_()
    effect(noise(1, 1, 2000), controls=effect.from_unit(z)).square().mean().backward()
    assert (z.grad.abs() > 1e-7).all()


def test_more_drive_makes_more_harmonics():
    tone = torch.sin(2.0 * torch.pi * 32 * torch.arange(4096) / 4096).view(1, 1, -1)
    clipper = ParametricClipper(44_100)
    third = [
        torch.fft.rfft(clipper(tone, drive_db=drive_db))[..., 96].abs().item()
        for drive_db in (-10.0, 0.0, 10.0)
    ]
    assert third[0] < third[1] < third[2]
