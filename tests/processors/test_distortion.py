from __future__ import annotations

import math

import pytest
import torch

from difffx.processors.distortion import (
    ArcSinh,
    ArcTan,
    ArcTanh,
    BitCrusher,
    ChebyshevShaper,
    Cubic,
    DoubleSoftClip,
    Exponential,
    HardClip,
    ParametricClipper,
    Rectifier,
    SoftClip,
    TableShaper,
    Tanh,
    TaylorShaper,
)

RATE = 44_100
CURVES = [Tanh, HardClip, SoftClip, DoubleSoftClip, Cubic, ArcTan, ArcSinh, ArcTanh]
CURVES += [Exponential, Rectifier, BitCrusher, TableShaper]
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


def tone(hz: float, samples: int = 44_100) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(samples, dtype=torch.float64) / RATE).view(1, 1, -1)


def harmonics(y: torch.Tensor, hz: int, count: int = 5) -> torch.Tensor:
    """Amplitudes of DC and the first harmonics in one second of sound."""
    spectrum = torch.fft.rfft(y[0, 0]).abs() / RATE * 2
    return spectrum[torch.arange(count) * hz] * torch.tensor([0.5] + [1.0] * (count - 1))


@pytest.mark.parametrize("effect", CURVES)
@pytest.mark.parametrize("oversample", [1, 4])
def test_silence_stays_silence_at_any_setting(effect, oversample):
    curve = effect(RATE, oversample=oversample)
    z = curve.spec.sample(4, generator=torch.Generator().manual_seed(1))
    controls = curve.from_unit(z)
    if "table" in controls:
        controls["table"] = controls["table"] * (torch.arange(33) != 16).view(1, -1, 1)
    assert curve(torch.zeros(4, 2, 100), controls=controls).abs().max() < 1e-6


@pytest.mark.parametrize("effect", [Tanh, HardClip, SoftClip, DoubleSoftClip, Cubic, ArcTan])
def test_what_saturates_stays_below_full_scale(effect):
    y = effect(RATE)(100.0 * noise(2, 2, 300), drive_db=36.0)
    assert 0.9 < y.abs().max() <= 1.0


@pytest.mark.parametrize("effect", [HardClip, SoftClip])
def test_the_ceiling_holds(effect):
    y = effect(RATE)(noise(1, 1, 2000), drive_db=20.0, ceiling_db=-12.0)
    assert y.abs().max().item() == pytest.approx(10 ** (-12 / 20), rel=1e-4)


@pytest.mark.parametrize("effect", [Tanh, DoubleSoftClip, Cubic, ArcTan, ArcSinh])
def test_a_bias_adds_even_harmonics_and_an_offset(effect):
    straight, biased = (harmonics(effect(RATE)(tone(100), bias=bias), 100) for bias in (0.0, 0.5))
    assert straight[[0, 2, 4]].max() < 1e-6 and straight[3] > 1e-2
    assert biased[0] > 1e-2 and biased[2] > 1e-2


@pytest.mark.parametrize(
    ("effect", "knobs"),
    [(Tanh, {"bias": 0.7}), (Exponential, {"asymmetry": 3.0}), (Rectifier, {"amount": 1.0})],
)
def test_the_dc_block_takes_the_offset_away(effect, knobs):
    x = 0.5 * tone(100)
    left, blocked = (effect(RATE, dc_block=block)(x, **knobs)[..., -4410:].mean() for block in (False, True))
    assert left.abs() > 0.02
    assert blocked.abs() < 1e-3


def test_the_rectifier_sounds_an_octave_up():
    levels = harmonics(Rectifier(RATE)(tone(100), amount=1.0), 100)
    assert levels[1] < 1e-3 < 0.4 < levels[2]


def test_a_gap_thins_quiet_sounds_more_than_loud_ones():
    clip = DoubleSoftClip(RATE)
    quiet, loud = (
        (clip(level * tone(100), drive_db=12.0, gap=1.5) / level).std().item() for level in (0.01, 0.5)
    )
    assert quiet < 0.6 * loud


@pytest.mark.parametrize("effect", [HardClip, BitCrusher])
def test_oversampling_lowers_what_is_folded(effect):
    cycles, samples, knobs = 503, 4410, {"drive_db": 30.0} if effect is HardClip else {"bits": 2.0}

    def folded(oversample: int) -> float:
        y = effect(RATE, oversample=oversample)(tone(10 * cycles, 3 * samples), **knobs)[
            0, 0, samples:-samples
        ]
        spectrum = torch.fft.rfft(y).abs().square()
        spectrum[cycles::cycles] = 0.0
        return 10 * math.log10(spectrum[1:].sum())

    assert folded(8) < folded(2) - 10 < folded(1) - 16


@pytest.mark.parametrize("effect", CURVES)
def test_a_curve_over_time_is_followed_when_oversampled_too(effect):
    curve, x = effect(RATE, oversample=2), noise(1, 1, 400)
    knob = "amount" if effect is Rectifier else "mix"
    y = curve(x, **{knob: torch.tensor([[[0.0, 0.0, 1.0, 1.0]]])})
    torch.testing.assert_close(y[..., :90], x[..., :90])
    torch.testing.assert_close(y[..., 310:], curve(x, **{knob: 1.0})[..., 310:], atol=1e-5, rtol=0.0)


def test_a_table_learns_a_curve():
    x = noise(1, 1, 1000)
    target = torch.tanh(2 * x)
    shaper = TableShaper(RATE, points=17)
    table = torch.tensor(shaper.params[1].defaults).view(1, -1, 1).requires_grad_()
    optimizer = torch.optim.Adam([table], 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        (shaper(x, table=table) - target).square().mean().backward()
        optimizer.step()
    assert (shaper(x, table=table) - target).square().mean() < 1e-3 * target.square().mean()


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="Tanh: oversample must be 1, 2, 4 or 8, got 3"):
        Tanh(RATE, oversample=3)
    with pytest.raises(ValueError, match="points must be odd"):
        TableShaper(RATE, points=32)
