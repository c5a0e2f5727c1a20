import pytest
import torch

from difffx.functional import reverb

FS = 44_100


def column(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1, 1)


def decay_time_s(ir, from_db=-5.0, to_db=-35.0):
    """Schroeder: the slope of the energy still to come, ir [..., N] summed over all its rows."""
    energy = ir.double().square().reshape(-1, ir.shape[-1]).sum(0).flip(0).cumsum(0).flip(0)
    level_db = 10 * torch.log10(energy / energy[0])
    n = torch.nonzero((level_db < from_db) & (level_db > to_db)).squeeze(1).double()
    y = level_db[n.long()]
    slope = ((n - n.mean()) * (y - y.mean())).sum() / (n - n.mean()).square().sum()
    return (-60.0 / slope / FS).item()


@pytest.mark.parametrize("decay_s", [0.05, 0.4, 0.9])
def test_the_measured_decay_time_is_the_knob(decay_s):
    noise = reverb.band_noise(12, 65_536, FS)
    ir = reverb.noise_ir(column(*[0.0] * 12), column(*[decay_s] * 12), noise, FS)
    assert decay_time_s(ir) == pytest.approx(decay_s, rel=0.02)


@pytest.mark.parametrize("band", [2, 5, 8, 11])
def test_every_band_decays_in_its_own_time_and_passes_its_own_level(band):
    noise = reverb.band_noise(12, 32_768, FS, channels=16)
    decays = [0.2 + 0.02 * k for k in range(12)]
    gains = [-100.0] * 12
    gains[band] = -6.0
    ir = reverb.noise_ir(column(*gains), column(*decays), noise, FS)
    assert decay_time_s(ir) == pytest.approx(decays[band], rel=0.02)
    power = noise[:, band].double().square().mean()
    energy = ir.double().square().sum(-1).mean()
    assert 10 * torch.log10(energy / power).item() == pytest.approx(-6.0, abs=0.2)


@pytest.mark.parametrize("decay_s", [0.02, 1.5, 40.0])
def test_the_decay_is_a_straight_line_of_db_to_the_last_tap(decay_s):
    noise = torch.ones(1, 1, 65_536, dtype=torch.float64)
    ir = reverb.noise_ir(column(0.0), column(decay_s), noise, FS)[0, 0]
    n = torch.arange(65_536, dtype=torch.float64)
    heard = ir > 0.0
    found_db = 20 * torch.log10(ir[heard] / ir[0])
    torch.testing.assert_close(found_db, (-60.0 * n / (decay_s * FS))[heard], rtol=1e-9, atol=1e-9)


def test_the_bands_add_up_to_white_noise_and_hold_their_frequencies():
    noise = reverb.band_noise(12, 65_536, FS)
    white = noise.sum(1)
    assert white.square().mean().item() == pytest.approx(1.0, rel=0.01)
    third = torch.fft.rfft(white).abs().square()[:, : 3 * 10_000].reshape(2, 3, -1).mean((0, 2))
    assert (10 * torch.log10(third / third.mean())).abs().max() < 0.2
    centers = reverb.band_centers_hz(12, FS)
    frequencies = torch.fft.rfftfreq(65_536, 1 / FS)
    power = torch.fft.rfft(noise).abs().square()
    for k in range(1, 11):
        outside = (frequencies < centers[k - 1]) | (frequencies > centers[k + 1])
        assert power[:, k, outside].sum() < 1e-9 * power[:, k].sum()


def test_the_same_seed_is_the_same_hall_and_another_seed_another():
    first, again, other = (reverb.band_noise(4, 3000, FS, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    sides = first.sum(1)
    assert (sides[0] @ sides[1]).abs() < 0.1 * sides[0].square().sum()
    assert ((first - other).norm() / first.norm()) > 1.0


def test_gradients_over_several_tiles_equal_finite_differences():
    noise = reverb.band_noise(3, 700, FS).double()
    gain_db, decay_s = column(0.0, -7.0, 3.0), column(0.01, 0.003, 0.02)
    gain_db, decay_s = (torch.cat((k, k + 0.001)).requires_grad_() for k in (gain_db, decay_s))
    torch.autograd.gradcheck(
        lambda g, d: reverb.noise_ir(g, d, noise, FS), (gain_db, decay_s), atol=1e-6, fast_mode=True
    )


def test_width_keeps_the_power_and_at_zero_both_sides_are_the_same():
    wet = torch.randn(1, 2, 200_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(reverb.across(wet, torch.ones(1, 1, 1)), wet)
    narrow = reverb.across(wet, torch.zeros(1, 1, 1))
    torch.testing.assert_close(narrow[:, 0], narrow[:, 1])
    for width in (0.0, 0.5):
        power = reverb.across(wet, torch.full((1, 1, 1), width)).square().mean()
        assert power.item() == pytest.approx(wet.square().mean().item(), rel=0.01)


def test_two_different_channels_stay_two():
    x = torch.zeros(1, 2, 4000, dtype=torch.float64)
    x[0, 0, 100] = 1.0
    knobs = {
        "gain_db": column(*[0.0] * 4),
        "decay_s": column(*[0.05] * 4),
        "predelay_ms": column(0.0),
        "mix": column(1.0),
        "noise": reverb.band_noise(4, 3000, FS),
    }
    wide = reverb.noise_reverb(x, FS, width=column(1.0), **knobs)
    assert wide[0, 0].abs().max() > 0.01 and wide[0, 1].abs().max() < 1e-12
    led = reverb.noise_reverb(x, FS, width=column(0.5), **knobs)
    assert led[0, 1].abs().max() > 0.001
