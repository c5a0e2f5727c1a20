from __future__ import annotations

import pytest
import torch

from difffx.processors import (
    Compressor,
    Gain,
    LinkwitzRiley,
    Multiband,
    MultibandCompressor,
    ParametricClipper,
)
from difffx.processors.multiband import MultibandExpander, MultibandGate, MultibandLimiter

SAMPLE_RATE = 44_100


def noise(items: int = 2, channels: int = 2, samples: int = 2000) -> torch.Tensor:
    return 0.3 * torch.randn(items, channels, samples, generator=torch.Generator().manual_seed(0))


def drawn(effect, items: int, seed: int = 1) -> dict[str, torch.Tensor]:
    return effect.from_unit(effect.spec.sample(items, generator=torch.Generator().manual_seed(seed)))


def test_one_effect_for_all_bands_is_the_list_of_three():
    shared = Multiband(Compressor(SAMPLE_RATE))
    listed = Multiband([Compressor(SAMPLE_RATE) for _ in range(3)])
    assert shared.spec == listed.spec
    controls = drawn(shared, 2)
    torch.testing.assert_close(shared(noise(), controls=controls), listed(noise(), controls=controls))


def test_the_sum_is_flat_where_no_band_does_anything():
    x = torch.zeros(1, 1, 1 << 14)
    x[..., 0] = 1.0
    for bands in (2, 3, 5):
        spectrum = torch.fft.rfft(LinkwitzRiley(SAMPLE_RATE, bands)(x)).abs()
        assert (20.0 * spectrum.log10()).abs().max() < 0.01


def test_only_the_band_that_is_turned_down_gets_quieter():
    time = torch.arange(20_000) / SAMPLE_RATE
    bass, treble = (torch.sin(2 * torch.pi * hz * time).view(1, 1, -1) for hz in (60.0, 12_000.0))
    crossover = LinkwitzRiley(SAMPLE_RATE)
    for x, factor in ((bass, 10.0 ** (-24.0 / 20.0)), (treble, 1.0)):
        y = crossover(x, band_1_gain_db=-24.0)
        change = y[..., -8000:].square().mean().sqrt() / x[..., -8000:].square().mean().sqrt()
        torch.testing.assert_close(change, torch.tensor(factor), rtol=0.05, atol=0.0)


def test_bands_may_hold_different_effects():
    effect = Multiband([Compressor(SAMPLE_RATE), ParametricClipper(SAMPLE_RATE)])
    assert effect.num_bands == 2
    assert effect.spec.names[:2] == ["crossover_1_hz", "band_1_threshold_db"]
    assert effect.spec.names[-1] == "band_2_shape"
    assert effect(noise(), controls=drawn(effect, 2)).shape == (2, 2, 2000)


def test_the_key_of_a_sidechain_is_split_too():
    time = torch.arange(8000) / SAMPLE_RATE
    music = noise(1, 1, 8000)
    kick = torch.sin(2 * torch.pi * 50.0 * time).view(1, 1, -1)
    ducker = Multiband(Compressor(SAMPLE_RATE, sidechain=True), num_bands=2)
    assert ducker.inputs == ("audio", "key")
    hard = {f"band_{band}_threshold_db": -40.0 for band in (1, 2)}
    y = ducker(music, kick, crossover_1_hz=800.0, **hard)
    flat = LinkwitzRiley(SAMPLE_RATE, 2)(music, crossover_1_hz=800.0)
    before, after = (torch.fft.rfft(z[..., 4000:]).abs().square()[0, 0] for z in (flat, y))
    assert after[5:30].sum() < 0.1 * before[5:30].sum()
    torch.testing.assert_close(after[800:].sum(), before[800:].sum(), rtol=0.05, atol=0.0)


def test_curves_move_in_the_bands():
    x = noise(1, 1)
    crossover = LinkwitzRiley(SAMPLE_RATE, 2)
    fade = torch.tensor([[[0.0, -24.0]]])
    y = crossover(x, band_1_gain_db=fade, band_2_gain_db=fade)
    torch.testing.assert_close(y[..., -1], crossover(x)[..., -1] * 10.0 ** (-24.0 / 20.0))
    with pytest.raises(ValueError, match="gain_db differ in length"):
        crossover(x, band_1_gain_db=fade, band_2_gain_db=fade.expand(1, 1, 2).repeat(1, 1, 2))


def test_ranges_go_by_the_names_of_the_bands():
    effect = MultibandCompressor(SAMPLE_RATE, ranges={"band_2_ratio": (1, 2), "crossover_1_hz": (100, 200)})
    assert effect.spec.entries["band_2_ratio"].high == 2.0
    assert effect.spec.entries["band_1_ratio"].high == 10.0
    assert effect.spec.entries["crossover_1_hz"].default == 200.0


@pytest.mark.parametrize(
    "kind", [MultibandCompressor, MultibandExpander, MultibandGate, MultibandLimiter, LinkwitzRiley]
)
@pytest.mark.parametrize("bands", [2, 4])
def test_the_ready_made_ones_take_a_number_of_bands(kind, bands):
    effect = kind(SAMPLE_RATE, bands)
    assert len([name for name in effect.spec.names if name.startswith("crossover")]) == bands - 1
    highs = [param.high for param in effect.params[: bands - 1]]
    lows = [param.low for param in effect.params[: bands - 1]]
    assert all(high <= low * 1.001 for high, low in zip(highs, lows[1:], strict=False))
    assert effect(noise(), controls=drawn(effect, 2)).shape == (2, 2, 2000)


def test_what_cannot_be_cut_in_bands_is_refused():
    with pytest.raises(ValueError, match="expected effects, got int"):
        Multiband(3)
    with pytest.raises(ValueError, match="2 bands or more"):
        Multiband(Gain(SAMPLE_RATE), num_bands=1)
    with pytest.raises(ValueError, match="sample rate"):
        Multiband([Gain(SAMPLE_RATE), Gain(48_000)])
    with pytest.raises(ValueError, match="same named inputs"):
        Multiband([Compressor(SAMPLE_RATE), Compressor(SAMPLE_RATE, sidechain=True)])
