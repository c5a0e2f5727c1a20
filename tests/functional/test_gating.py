from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from difffx.functional import gating

SAMPLE_RATE = 44_100
pytestmark = pytest.mark.usefixtures("tier")
KNOBS = ("threshold_db", "ratio", "knee_db", "attack_ms", "release_ms", "range_db", "hysteresis_db")
LOW = (-80.0, 1.0, 0.0, 0.05, 5.0, 0.0, 0.0)
HIGH = (0.0, 50.0, 12.0, 100.0, 2000.0, 80.0, 12.0)


def knobs(*rows: tuple[float, ...], dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    columns = torch.tensor(rows, dtype=dtype).unbind(1)
    return {name: column.view(-1, 1, 1) for name, column in zip(KNOBS, columns, strict=True)}


def random_rows(items: int, seed: int) -> list[tuple[float, ...]]:
    u = torch.rand(items, len(KNOBS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    low, high = (torch.tensor(x, dtype=torch.float64) for x in (LOW, HIGH))
    rows = low + u * (high - low)
    rows[:, [1, 3, 4]] = (low * (high / low) ** u)[:, [1, 3, 4]]
    return [tuple(row) for row in rows.tolist()]


def phrases(items: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Noise that swells and dies away, 70 dB, a few times."""
    generator = torch.Generator().manual_seed(seed)
    swell = torch.sin(torch.arange(samples) * (9.0 / samples)).abs() ** 4
    return torch.randn(items, 2, samples, generator=generator, dtype=torch.float64) * 0.3 * (swell + 1e-4)


def reference(x: np.ndarray, row: tuple[float, ...], hold: int) -> np.ndarray:
    """The law sample by sample; x [C, T]."""
    threshold, ratio, knee, attack_ms, release_ms, range_db, width = row
    attack, release = (math.exp(-1000.0 / (ms * SAMPLE_RATE)) for ms in (attack_ms, release_ms))

    def reduction(level: float) -> float:
        under = threshold - level
        counts = max(under, 0.0)
        if abs(under) < knee / 2:
            counts = (under + knee / 2) ** 2 / (2 * knee)
        return min((ratio - 1.0) * counts, range_db)

    peak = np.abs(x).max(0)
    silence = reduction(-120.0)
    play, falling, opened, gains = -np.inf, 0.0, 0.0, []
    for n in range(len(peak)):
        level = max(20.0 * math.log10(max(peak[max(0, n - hold + 1) : n + 1].max(), 1e-6)), -120.0)
        play = max(level, min(level + width, play))
        falling = max(silence - reduction(play), release * falling)
        opened = attack * opened + (1.0 - attack) * falling
        gains.append(10.0 ** ((opened - silence) / 20.0))
    return x * np.array(gains)


def sine(level_db: float, seconds: float = 1.0, hz: float = 100.0) -> torch.Tensor:
    time = torch.arange(int(seconds * SAMPLE_RATE), dtype=torch.float64) / SAMPLE_RATE
    return (10.0 ** (level_db / 20.0) * torch.sin(2 * math.pi * hz * time)).view(1, 1, -1)


def peak_db(x: torch.Tensor) -> float:
    return 20.0 * math.log10(x.abs().max().item())


@pytest.mark.parametrize(("seed", "hold"), [(0, 1), (1, 50), (2, 900)])
def test_the_expander_is_the_float64_loop_over_the_whole_range(seed, hold):
    rows = [*random_rows(5, seed), LOW, HIGH]
    x = phrases(len(rows), 4000, seed)
    y = gating.expander(x, SAMPLE_RATE, **knobs(*rows), hold=hold)
    for item, row in enumerate(rows):
        expected = reference(x[item].numpy(), row, hold)
        np.testing.assert_allclose(y[item].numpy(), expected, rtol=1e-9, atol=1e-15, err_msg=str(row))


def test_four_to_one_turns_20_db_below_into_80_db_below():
    settings = knobs((-20.0, 4.0, 6.0, 1.0, 50.0, 90.0, 0.0))
    y = gating.expander(sine(-40.0), SAMPLE_RATE, **settings, hold=441)
    assert peak_db(y[..., -4410:]) == pytest.approx(-100.0, abs=0.01)


def test_the_range_is_as_far_as_it_goes():
    y = gating.expander(sine(-40.0), SAMPLE_RATE, **knobs((-20.0, 4.0, 6.0, 1.0, 50.0, 24.0, 0.0)), hold=441)
    assert peak_db(y[..., -4410:]) == pytest.approx(-64.0, abs=0.01)


def test_what_is_louder_than_the_threshold_passes():
    x = sine(-10.0)
    y = gating.expander(x, SAMPLE_RATE, **knobs((-20.0, 10.0, 0.0, 1.0, 50.0, 80.0, 0.0)), hold=441)
    torch.testing.assert_close(y[..., 4410:], x[..., 4410:], rtol=1e-6, atol=0.0)


def test_attack_is_how_it_opens_and_release_how_it_shuts():
    quiet, loud = 1e-4, 0.5
    x = torch.cat(
        [torch.full((1, 1, 20_000), level, dtype=torch.float64) for level in (quiet, loud, quiet)], -1
    )
    settings = knobs((-20.0, 10.0, 0.0, 10.0, 100.0, 60.0, 0.0))
    gain_db = 20.0 * (gating.expander(x, SAMPLE_RATE, **settings) / x).log10()[0, 0]
    assert gain_db[19_999].item() == pytest.approx(-60.0, abs=1e-6)
    assert gain_db[20_000 + 441 - 1].item() == pytest.approx(-60.0 * math.exp(-1.0), abs=0.01)
    assert gain_db[39_999].item() == pytest.approx(0.0, abs=1e-6)
    # The attack rounds the corner off: 100 ms and the 10 ms before it.
    assert gain_db[40_000 + 4851].item() == pytest.approx(-60.0 * (1.0 - math.exp(-1.0)), abs=1.0)


def test_the_gate_holds_and_then_shuts():
    x = torch.cat([sine(-10.0, 0.2), sine(-70.0, 0.4)], -1)
    settings = dict(zip(KNOBS, knobs((-40.0, 20.0, 0.0, 0.5, 10.0, 60.0, 4.0)).values(), strict=True))
    del settings["knee_db"]
    y = gating.noise_gate(x, SAMPLE_RATE, **settings, hold=4410)
    gain_db = 20.0 * math.log10(1e-3)
    after = 8820 + 4410
    torch.testing.assert_close(y[..., 8820 : after - 450], x[..., 8820 : after - 450], rtol=1e-3, atol=0.0)
    assert peak_db(y[..., -2000:]) == pytest.approx(-70.0 + gain_db, abs=0.01)


def test_with_hysteresis_the_gate_does_not_chatter():
    level_db = -40.0 + 1.5 * torch.sign(torch.sin(torch.arange(40_000) * 0.002))
    x = (10.0 ** (level_db.double() / 20.0)).view(1, 1, -1)
    x[..., 0] = 1.0  # open it
    shut = [
        20.0
        * (gating.expander(x, SAMPLE_RATE, **knobs((-40.0, 50.0, 0.0, 0.1, 5.0, 60.0, width))) / x).log10()
        for width in (0.0, 4.0)
    ]
    assert shut[0].min() < -50.0
    assert shut[1][..., 100:].min() > -0.1


def test_a_key_opens_the_gate_for_another_sound():
    noise, drum = 0.1 * torch.ones(1, 2, 10_000), torch.zeros(1, 1, 10_000)
    drum[..., 5000:] = 0.5
    settings = knobs((-20.0, 10.0, 0.0, 0.5, 50.0, 60.0, 0.0), dtype=torch.float32)
    y = gating.expander(noise, SAMPLE_RATE, **settings, key=drum)
    assert peak_db(y[..., :5000]) == pytest.approx(-80.0, abs=0.01)
    torch.testing.assert_close(y[..., -100:], noise[..., -100:])


@pytest.mark.parametrize("row", [LOW, HIGH, (-40.0, 1.0, 0.0, 0.05, 5.0, 80.0, 0.0)])
@pytest.mark.parametrize("samples", [1, 500])
def test_the_ends_of_the_ranges_and_silence_have_finite_gradients(row, samples):
    settings = {name: value.requires_grad_() for name, value in knobs(row, dtype=torch.float32).items()}
    for x in (torch.zeros(1, 2, samples), phrases(1, samples).float()):
        x.requires_grad_()
        y = gating.expander(x, SAMPLE_RATE, **settings, hold=100)
        y.sum().backward()
        assert y.isfinite().all() and x.grad.isfinite().all()
        assert all(value.grad.isfinite().all() for value in settings.values())


def test_a_moving_threshold_opens_and_shuts():
    x = 0.1 * torch.ones(1, 1, 20_000)
    settings = knobs((-60.0, 10.0, 0.0, 0.5, 5.0, 60.0, 0.0), dtype=torch.float32)
    settings["threshold_db"] = torch.tensor([[[-60.0, 0.0]]])
    y = gating.expander(x, SAMPLE_RATE, **settings)
    torch.testing.assert_close(y[..., 2000:5000], x[..., 2000:5000])
    assert peak_db(y[..., -1:]) < -75.0
