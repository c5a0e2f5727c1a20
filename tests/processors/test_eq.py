from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from difffx.processors.eq import GraphicEQ, ParametricEQ

FS = 44_100
SLIDERS_HZ = [31.25 * 2**k for k in range(10)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency_hz: float, seconds: float = 1.0) -> Tensor:
    return torch.sin(2 * math.pi * frequency_hz * torch.arange(int(seconds * FS), dtype=torch.float64) / FS)[
        None, None
    ]


def level_change_db(y: Tensor, x: Tensor) -> float:
    """Over the second half, after the filter has settled."""
    half = x.shape[-1] // 2
    return 20 * math.log10(float(y[..., half:].norm() / x[..., half:].norm()))


def cookbook(kind: str, frequency_hz: float, gain_db: float, q: float) -> np.ndarray:
    """Audio EQ Cookbook, written once more from its analog prototypes."""
    root = 10 ** (gain_db / 40)
    bend = math.sqrt(root) / q
    analog = {
        "peak": ([1, root / q, 1], [1, 1 / (root * q), 1]),
        "low_shelf": ([root, root * bend, root**2], [root, bend, 1]),
        "high_shelf": ([root**2, root * bend, root], [1, bend, root]),
    }[kind]
    return np.concatenate(scipy.signal.bilinear(*analog, fs=0.5 / math.tan(math.pi * frequency_hz / FS)))


def reference(bands: list[tuple[str, float, float, float]], x: Tensor) -> Tensor:
    sos = np.stack([cookbook(*band) for band in bands])
    return torch.from_numpy(scipy.signal.sosfilt(sos, x.double().numpy()))


def error_db(y: Tensor, expected: Tensor) -> float:
    return 20 * math.log10(float((y.double() - expected).norm() / expected.norm()) + 1e-20)


def bands_of(
    eq: ParametricEQ, controls: dict[str, Tensor], item: int
) -> list[tuple[str, float, float, float]]:
    knobs = ("hz", "gain_db", "q")
    return [
        (
            band.rsplit("_", 1)[0] if band.startswith("peak") else band,
            *(float(controls[f"{band}_{k}"][item]) for k in knobs),
        )
        for band in eq.bands
    ]


def test_the_default_table_is_the_published_one():
    eq = ParametricEQ(FS)
    hz = [(p.low, p.high) for p in eq.params if p.name.endswith("_hz")]
    assert hz == [(30, 160), (100, 2000), (500, 6000), (2000, 16_000), (5000, 20_000)]
    assert eq.spec.names[:4] == ["low_shelf_hz", "low_shelf_gain_db", "low_shelf_q", "peak_1_hz"]
    assert eq.spec.names[-3:] == ["high_shelf_hz", "high_shelf_gain_db", "high_shelf_q"]
    assert all(p.scale == ("log" if p.name.endswith("_hz") else "linear") for p in eq.params)
    assert {(p.low, p.high) for p in eq.params if p.name.endswith("_gain_db")} == {(-15, 15)}
    assert {(p.low, p.high) for p in eq.params if p.name.endswith("_q")} == {(0.1, 2)}


@pytest.mark.parametrize("num_peaks", [0, 1, 2, 3, 8])
def test_any_number_of_bells_covers_the_range_without_gaps(num_peaks):
    eq = ParametricEQ(FS, num_peaks=num_peaks)
    assert len(eq.spec) == 3 * (num_peaks + 2)
    spans = [(p.low, p.high) for p in eq.params if p.name.startswith("peak") and p.name.endswith("_hz")]
    assert all(low < reach for (_, reach), (low, _) in pairwise(spans))
    assert not spans or (spans[0][0], spans[-1][1]) == pytest.approx((100, 16_000))
    assert eq(noise(2, 2, 300), high_shelf_gain_db=6.0).shape == (2, 2, 300)


def test_ranges_can_be_narrowed_and_a_negative_number_of_bells_is_refused():
    eq = ParametricEQ(FS, ranges={"peak_2_gain_db": [-3, 3]})
    assert next(p for p in eq.params if p.name == "peak_2_gain_db").high == 3
    with pytest.raises(ValueError, match="num_peaks must be 0 or more, got -1"):
        ParametricEQ(FS, num_peaks=-1)


@pytest.mark.parametrize("num_peaks", [1, 3, 6])
def test_random_settings_of_the_whole_range_equal_the_recursion_of_scipy(num_peaks):
    eq = ParametricEQ(FS, num_peaks=num_peaks)
    controls = eq.from_unit(eq.spec.sample(30, generator=torch.Generator().manual_seed(num_peaks)))
    x = noise(30, 2, 6000)
    y = eq(x, controls=controls)
    assert y.dtype == torch.float32
    worst = max(error_db(y[i], reference(bands_of(eq, controls, i), x[i])) for i in range(30))
    assert worst < -130


@pytest.mark.parametrize("corner", range(8))
def test_every_corner_of_the_range_equals_the_recursion_of_scipy(corner):
    eq = ParametricEQ(FS)
    ends = [corner & 1, corner >> 1 & 1, corner >> 2 & 1]
    controls = eq.from_unit(torch.tensor(ends * 5, dtype=torch.float64).reshape(1, 15, 1))
    x = noise(1, 1, 44_100).double()
    expected = reference(bands_of(eq, controls, 0), x[0])
    assert error_db(eq(x, controls=controls)[0], expected) < -150


def test_neutral_settings_change_nothing():
    x = noise(2, 2, 5000)
    assert torch.equal(ParametricEQ(FS)(x), x)
    assert torch.equal(GraphicEQ(FS)(x), x)


def test_a_bass_shelf_lifts_the_bass_and_leaves_the_treble():
    eq = ParametricEQ(FS)
    bass, treble = tone(40), tone(5000)
    assert level_change_db(eq(bass, low_shelf_hz=160.0, low_shelf_gain_db=12.0), bass) == pytest.approx(
        12, abs=0.3
    )
    assert level_change_db(eq(treble, low_shelf_hz=160.0, low_shelf_gain_db=12.0), treble) == pytest.approx(
        0, abs=0.01
    )


def test_a_bell_moves_its_own_tone_by_its_gain():
    x = tone(1000)
    y = ParametricEQ(FS)(x, peak_2_hz=1000.0, peak_2_gain_db=-9.0, peak_2_q=2.0)
    assert level_change_db(y, x) == pytest.approx(-9, abs=0.01)


@pytest.mark.parametrize("make", [ParametricEQ, GraphicEQ])
def test_the_drawn_response_is_what_a_tone_hears(make):
    eq = make(FS)
    controls = eq.from_unit(eq.spec.sample(1, generator=torch.Generator().manual_seed(3)))
    frequencies_hz = torch.tensor([60.0, 440.0, 3000.0, 12_000.0])
    drawn = eq.response(controls, frequencies_hz)
    assert drawn.shape == (1, 4)
    heard = [level_change_db(eq(tone(float(f)), controls=controls), tone(float(f))) for f in frequencies_hz]
    assert drawn[0].tolist() == pytest.approx(heard, abs=0.02)


@pytest.mark.parametrize("make", [ParametricEQ, GraphicEQ])
def test_a_batch_is_its_items_and_stereo_is_two_monos(make):
    eq, x = make(FS), noise(4, 2, 1000)
    z = eq.spec.sample(4, generator=torch.Generator().manual_seed(0))
    y = eq(x, controls=eq.from_unit(z))
    for i in range(4):
        for c in range(2):
            alone = eq(x[i : i + 1, c : c + 1], controls=eq.from_unit(z[i : i + 1]))
            torch.testing.assert_close(y[i : i + 1, c : c + 1], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "make", [lambda: ParametricEQ(FS, num_peaks=1), lambda: GraphicEQ(FS)], ids=["peq", "geq"]
)
def test_gradients_for_signal_and_all_knobs_equal_finite_differences(make):
    eq = make()
    z = eq.spec.sample(2, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    x = noise(2, 1, 40).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, z: eq(x, controls=eq.from_unit(z)), (x, z), atol=1e-5, rtol=1e-3
    )


def test_an_octave_slider_has_the_published_q():
    published = [0.667, 0.667, 0.667, 0.667, 0.667, 0.664, 0.656, 0.626, 0.508, 0.127]
    assert GraphicEQ(FS).q == pytest.approx(published, abs=1e-3)


def test_one_slider_lifts_its_own_band_by_its_gain():
    eq = GraphicEQ(FS)
    for k in range(1, 9):
        gain_db = torch.zeros(1, 10, 1)
        gain_db[:, k] = 7.0
        at_hz = torch.tensor([SLIDERS_HZ[k], SLIDERS_HZ[0] / 8])
        assert eq.response({"gain_db": gain_db}, at_hz)[0].tolist() == pytest.approx([7.0, 0.0], abs=0.2)


def test_a_slider_is_two_octaves_wide_at_half_its_gain():
    eq, gain_db = GraphicEQ(FS), torch.zeros(1, 10, 1)
    gain_db[:, 4] = 10.0
    assert eq.response({"gain_db": gain_db}, torch.tensor([250.0, 1000.0]))[0].tolist() == pytest.approx(
        [5, 5], abs=0.05
    )


def test_graphic_eq_equals_the_recursion_of_scipy():
    eq, x = GraphicEQ(FS), noise(20, 1, 6000)
    gain_db = 30 * torch.rand(20, 10, 1, generator=torch.Generator().manual_seed(0)) - 15
    y = eq(x, gain_db=gain_db)
    kinds = ["low_shelf", *["peak"] * 8, "high_shelf"]
    for i in range(20):
        bands = [
            (k, hz, float(g), q)
            for k, hz, g, q in zip(kinds, SLIDERS_HZ, gain_db[i, :, 0], eq.q, strict=True)
        ]
        assert error_db(y[i], reference(bands, x[i])) < -130


@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 96_000])
def test_other_sample_rates_stay_finite_and_every_slider_is_heard(sample_rate):
    eq, x = GraphicEQ(sample_rate), noise(1, 1, 4000)
    for k in range(10):
        gain_db = torch.zeros(1, 10, 1)
        gain_db[:, k] = 15.0
        y = eq(x, gain_db=gain_db)
        assert y.isfinite().all()
        assert (y - x).norm() > 1e-3 * x.norm()
