from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from difffx.functional.cascade import sosfilt
from difffx.functional.filters import butterworth_high_pass
from difffx.processors import (
    AllPass,
    BandPass,
    Butterworth,
    DCBlocker,
    FIRFilter,
    HighPass,
    HighShelf,
    LowPass,
    LowShelf,
    Notch,
    Peak,
    StateVariable,
)

FS = 44_100
SECTIONS = [LowPass, HighPass, BandPass, Notch, AllPass, Peak, LowShelf, HighShelf]


def tone(frequency_hz: float) -> Tensor:
    return torch.sin(2 * math.pi * frequency_hz * torch.arange(FS, dtype=torch.float64) / FS)[None, None]


def level_change_db(processor, at_hz: float, **knobs) -> float:
    """Over the second half, after the filter has settled."""
    x = tone(at_hz)
    y = processor(x, **knobs)
    return 20 * math.log10(float(y[..., FS // 2 :].norm() / x[..., FS // 2 :].norm()) + 1e-10)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_each_filter_keeps_what_its_name_says_and_takes_the_rest():
    assert level_change_db(LowPass(FS), 100, cutoff_hz=1000) == pytest.approx(0, abs=0.01)
    assert level_change_db(LowPass(FS), 10_000, cutoff_hz=1000) < -40
    assert level_change_db(HighPass(FS), 10_000, cutoff_hz=1000) == pytest.approx(0, abs=0.01)
    assert level_change_db(HighPass(FS), 100, cutoff_hz=1000) < -39
    assert level_change_db(BandPass(FS), 1000, frequency_hz=1000, q=5) == pytest.approx(0, abs=1e-3)
    assert level_change_db(BandPass(FS), 100, frequency_hz=1000, q=5) < -30
    assert level_change_db(Notch(FS), 1000, frequency_hz=1000, q=5) < -100
    assert level_change_db(AllPass(FS), 1300, frequency_hz=1000) == pytest.approx(0, abs=1e-3)
    assert level_change_db(Peak(FS), 1000, frequency_hz=1000, gain_db=9) == pytest.approx(9, abs=1e-3)
    assert level_change_db(LowShelf(FS), 30, frequency_hz=1000, gain_db=-9) == pytest.approx(-9, abs=0.05)
    assert level_change_db(HighShelf(FS), 18_000, frequency_hz=1000, gain_db=9) == pytest.approx(9, abs=0.05)
    assert level_change_db(DCBlocker(FS), 100) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("order", [1, 4, 5])
def test_a_butterworth_falls_by_6_db_an_octave_for_each_order(order):
    low, high = (Butterworth(FS, order=order, kind=kind) for kind in ("low_pass", "high_pass"))
    assert level_change_db(low, 400, cutoff_hz=100) == pytest.approx(-12 * order, abs=0.4)
    assert level_change_db(high, 200, cutoff_hz=800) == pytest.approx(-12 * order, abs=0.4)
    assert level_change_db(low, 100, cutoff_hz=100) == pytest.approx(-3, abs=0.02)


@pytest.mark.parametrize("kind", [*SECTIONS, StateVariable, Butterworth, DCBlocker, FIRFilter])
def test_the_response_is_what_a_tone_meets(kind):
    processor = kind(FS)
    z = 0.3 + 0.4 * torch.rand(1, len(processor.spec), 1, generator=torch.Generator().manual_seed(2))
    controls = processor.from_unit(z.double())
    for frequency_hz in (200.0, 3000.0):
        response = processor.response(controls, torch.tensor([frequency_hz]))
        assert response.shape == (1, 1)
        assert level_change_db(processor, frequency_hz, **controls) == pytest.approx(
            float(response), abs=0.01
        )


@pytest.mark.parametrize("kind", [*SECTIONS, StateVariable, Butterworth])
def test_every_knob_of_a_filter_may_move(kind):
    processor = kind(FS)
    assert all(param.dynamic for param in processor.params)
    z = torch.rand(2, len(processor.spec), 5, generator=torch.Generator().manual_seed(0))
    assert processor(noise(2, 2, 1000), controls=processor.from_unit(z)).isfinite().all()


def test_a_sweep_ends_as_the_filter_it_ends_at():
    x = noise(1, 1, 8000).double()
    cutoff_hz = torch.cat((torch.linspace(200, 3000, 40), torch.full((200,), 3000.0)))[None, None]
    y = LowPass(FS)(x, cutoff_hz=cutoff_hz)
    torch.testing.assert_close(
        y[..., -4000:], LowPass(FS)(x, cutoff_hz=3000.0)[..., -4000:], atol=1e-6, rtol=0
    )
    assert (y - LowPass(FS)(x, cutoff_hz=3000.0))[..., :1000].abs().max() > 0.1


def test_a_high_pass_butterworth_uses_the_sections_of_its_order():
    x = noise(2, 1, 500)
    sos = butterworth_high_pass(torch.tensor([300.0]), 5, FS)
    assert torch.equal(Butterworth(FS, order=5, kind="high_pass")(x, cutoff_hz=300.0), sosfilt(x, sos))


def test_an_offset_is_gone_after_a_second():
    y = DCBlocker(FS)(torch.full((1, 1, FS), 0.5))
    assert y[..., -1].abs() < 1e-6


def test_by_default_an_fir_filter_passes_the_sound_and_its_taps_delay_it():
    x, filter_ = noise(1, 2, 300), FIRFilter(FS, num_taps=5)
    assert torch.equal(filter_(x), x)
    second = torch.tensor([[[0.0], [0.5], [0.0], [0.0], [0.0]]])
    assert torch.equal(filter_(x, taps=second)[..., 1:], 0.5 * x[..., :-1])


def test_q_may_be_widened_to_a_hundred_at_20_hz():
    bell = Peak(FS, ranges={"q": [0.1, 100]})
    y = bell(noise(1, 1, 5000), controls=bell.from_unit(torch.tensor([[[0.0], [1.0], [1.0]]])))
    assert y.isfinite().all()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="kind must be 'low_pass' or 'high_pass', got 'band'"):
        Butterworth(FS, kind="band")
    with pytest.raises(ValueError, match="order must be a whole number"):
        Butterworth(FS, order=0)
    with pytest.raises(ValueError, match="num_taps must be 1 or more"):
        FIRFilter(FS, num_taps=0)
