import math

import pytest
import torch

from difffx.dj.degradations import Degrade, bled, coded, equalized, misaligned, noisy

RATE = 44_100
KINDS = ("misalignment", "bleed", "master_eq", "limiter", "codec", "noise")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=seeded(seed))


def tone(hz, seconds=1.0, rate=RATE):
    return torch.sin(2.0 * math.pi * hz * torch.arange(round(seconds * rate), dtype=torch.float64) / rate)


def level_db(x):
    return 10.0 * torch.log10(x.double().square().mean())


def power_db(x, low_hz, high_hz):
    """Of [T], between two frequencies."""
    power = torch.fft.rfft(x.double()).abs().square()
    hz = torch.fft.rfftfreq(len(x), 1.0 / RATE, dtype=torch.float64)
    return 10.0 * torch.log10(power[(hz >= low_hz) & (hz < high_hz)].sum())


@pytest.fixture(scope="module")
def batch():
    """A mix and the stems of both decks, six items of half a second."""
    return noise(6, 2, 22_050), noise(6, 4, 2, 22_050, seed=1), noise(6, 4, 2, 22_050, seed=2)


def test_without_chances_nothing_happens(batch):
    assert all(x is y for x, y in zip(batch, Degrade(RATE)(*batch, seeded()), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_each_degradation_keeps_shapes_and_touches_what_it_is_about(batch, kind):
    before = [x.clone() for x in batch]
    found = Degrade(RATE, **{kind: 1.0})(*batch, seeded())
    of_stems = kind in ("misalignment", "bleed")
    for place, (x, y) in enumerate(zip(batch, found, strict=True)):
        assert x.shape == y.shape and y.dtype == torch.float32 and y.isfinite().all()
        changed = [not torch.equal(a, b) for a, b in zip(x, y, strict=True)]
        assert changed == [of_stems == (place > 0)] * 6
    assert all(torch.equal(x, y) for x, y in zip(batch, before, strict=True))


def test_the_generator_decides_everything(batch):
    degrade = Degrade(RATE, **dict.fromkeys(KINDS, 0.5))
    first, again, other = (degrade(*batch, seeded(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_chance_is_a_share_of_the_items():
    mix, stems = noise(400, 1, 64), noise(400, 4, 1, 64)
    found, _, _ = Degrade(RATE, noise=0.3)(mix, stems, stems, seeded())
    share = (found != mix).any(-1).any(-1).double().mean().item()
    assert share == pytest.approx(0.3, abs=0.07)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_stays_finite(kind):
    silence = torch.zeros(2, 2, 5000), torch.zeros(2, 4, 2, 5000), torch.zeros(2, 4, 2, 5000)
    assert all(x.abs().max() < 1e-4 for x in Degrade(RATE, **{kind: 1.0})(*silence, seeded()))


def test_a_chance_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"bleed is a chance from 0 to 1, got 1.5"):
        Degrade(RATE, bleed=1.5)


@pytest.mark.parametrize("late_ms", [-20.0, -3.37, 0.0, 12.5])
def test_an_offset_delays_all_stems_of_a_deck_alike(late_ms):
    at = 0.4 * RATE
    time = torch.arange(RATE, dtype=torch.float64)
    bump = torch.exp(-0.5 * ((time - at) / 30.0) ** 2).expand(1, 4, 2, -1)
    found = misaligned(bump, RATE, offset_ms=torch.tensor([late_ms]), stretch=torch.zeros(1))
    center = (found * time).sum(-1) / found.sum(-1)
    assert torch.allclose(center, torch.full_like(center, at + late_ms * RATE / 1000.0), atol=0.01)


@pytest.mark.parametrize("stretch", [-0.01, 0.004, 0.01])
def test_a_stretch_keeps_the_middle_and_lowers_the_pitch(stretch):
    x = tone(1000.0).expand(1, 4, 1, -1)
    found = misaligned(x, RATE, offset_ms=torch.zeros(1), stretch=torch.tensor([stretch]))
    inner = slice(2000, -2000)
    time = torch.arange(RATE, dtype=torch.float64)
    middle = 0.5 * (RATE - 1)
    expected = torch.sin(2.0 * math.pi * 1000.0 * (middle + (time - middle) / (1.0 + stretch)) / RATE)
    assert (found[0, 2, 0] - expected)[inner].abs().max() < 1e-4


def test_misalignment_stays_within_its_limits():
    time = torch.arange(8000, dtype=torch.float64)
    bump = torch.exp(-0.5 * ((time - 4000.0) / 30.0) ** 2).expand(64, 4, 1, -1).float()
    _, a, b = Degrade(RATE, misalignment=1.0)(bump[:, 0], bump, bump, seeded())
    late_ms = [(x[:, 0, 0] * (time - 4000.0)).sum(-1) / x[:, 0, 0].sum(-1) / RATE * 1000.0 for x in (a, b)]
    for late in late_ms:
        assert late.abs().max() < 20.0 * 1.011 and late.min() < -15.0 and late.max() > 15.0
    assert (late_ms[0] - late_ms[1]).abs().max() > 20.0


def test_bleed_is_as_loud_as_it_says_and_the_stem_itself_stays():
    stems = torch.eye(4).view(1, 4, 1, 4).repeat(1, 1, 2, 1)
    found = bled(stems, torch.full((1, 4, 4), -20.0))
    assert torch.allclose(found[0, :, 0], torch.eye(4) + 0.1 * (1.0 - torch.eye(4)))
    _, a, _ = Degrade(RATE, bleed=1.0)(stems[:, 0], stems, stems, seeded())
    off = 20.0 * torch.log10(a[0, :, 0][~torch.eye(4, dtype=torch.bool)])
    assert off.min() >= -30.0 and off.max() <= -15.0 and off.std() > 1.0


def test_the_master_equalizer_follows_its_cosines():
    impulse = torch.zeros(1, 1, RATE, dtype=torch.float64)
    impulse[..., RATE // 2] = 1.0
    found = equalized(impulse, RATE, weights=torch.tensor([[1.0, 0.0]]), most_db=torch.tensor([3.0]))
    gain_db = 20.0 * torch.log10(torch.fft.rfft(found[0, 0]).abs())
    middle = round(math.sqrt(20.0 * 0.5 * RATE))  # halfway in octaves
    assert gain_db[20].item() == pytest.approx(3.0, abs=0.05)
    assert gain_db[middle].item() == pytest.approx(0.0, abs=0.05)
    assert gain_db[22_000].item() == pytest.approx(-3.0, abs=0.05)


def test_the_master_equalizer_moves_no_band_by_more_than_3_db(batch):
    mix, *stems = batch
    found, _, _ = Degrade(RATE, master_eq=1.0)(mix, *stems, seeded())
    moved = torch.stack(
        [
            power_db(y[0], f, 2 * f) - power_db(x[0], f, 2 * f)
            for x, y in zip(mix, found, strict=True)
            for f in (60.0, 250.0, 1000.0, 4000.0, 10_000.0)
        ]
    )
    assert moved.abs().max() < 3.05 and moved.std() > 0.3


def test_the_limiter_takes_peaks_down_and_leaves_the_rest(batch):
    mix, *stems = batch
    found, _, _ = Degrade(RATE, limiter=1.0)(mix, *stems, seeded())
    down_db = 20.0 * torch.log10(mix.abs().amax((1, 2)) / found.abs().amax((1, 2)))
    assert (down_db > 0.99).all() and (down_db < 6.01).all() and down_db.std() > 0.3
    assert 0.0 < level_db(mix) - level_db(found) < 3.0


def test_a_codec_cuts_the_top_and_adds_noise_where_there_is_sound():
    x = noise(1, 1, RATE, seed=5)
    found = coded(
        x, RATE, cutoff_hz=torch.tensor([16_000.0]), noise_db=torch.tensor([-20.0]), generator=seeded()
    )
    assert power_db(found[0, 0], 16_200.0, 22_000.0) - power_db(x[0, 0], 16_200.0, 22_000.0) < -40.0
    error, inside = (found - x)[0, 0], (200.0, 15_800.0)
    assert (power_db(error, *inside) - power_db(x[0, 0], *inside)).item() == pytest.approx(-20.0, abs=1.5)
    low = torch.fft.irfft(torch.fft.rfft(x)[..., :3000], RATE)  # nothing above 3 kHz
    found = coded(
        low, RATE, cutoff_hz=torch.tensor([20_000.0]), noise_db=torch.tensor([-20.0]), generator=seeded()
    )
    assert power_db(found[0, 0], 5000.0, 20_000.0) - power_db(low[0, 0], 0.0, 3000.0) < -60.0


@pytest.mark.parametrize(("slope", "octave_db"), [(0.0, 3.01), (0.5, 0.0)])
def test_noise_is_as_loud_as_it_says_and_white_or_pink(slope, octave_db):
    x = noise(2, 2, RATE, seed=6)
    found = noisy(x, level_db=torch.tensor([-30.0, -50.0]), slope=torch.full((2,), slope), generator=seeded())
    for item, expected in enumerate((-30.0, -50.0)):
        added = found[item] - x[item]
        assert (level_db(added) - level_db(x[item])).item() == pytest.approx(expected, abs=0.02)
        rise = power_db(added[0], 4000.0, 8000.0) - power_db(added[0], 1000.0, 2000.0)
        assert rise.item() == pytest.approx(2.0 * octave_db, abs=0.6)


def test_a_short_sound_can_be_coded():
    assert coded(
        noise(2, 1, 100), 8000, cutoff_hz=torch.full((2,), 3000.0), noise_db=torch.full((2,), -20.0)
    ).shape == (2, 1, 100)
