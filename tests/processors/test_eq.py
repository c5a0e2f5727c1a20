from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from difffx.functional.dynamics import compressor_gain_db
from difffx.processors.eq import DynamicEQ, GraphicEQ, LinearPhaseEQ, ParametricEQ, ToneStack
from difffx.processors.filters import Peak

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
        "band_pass": ([0, 1 / q, 0], [1, 1 / q, 1]),
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


def test_linear_phase_has_the_magnitude_of_the_parametric_equalizer_within_its_resolution():
    linear, recursive = LinearPhaseEQ(FS), ParametricEQ(FS)
    z = linear.spec.sample(6, generator=torch.Generator().manual_seed(0)).double()
    hz = torch.logspace(math.log10(20), math.log10(20_000), 200, dtype=torch.float64)
    drawn = linear.response(linear.from_unit(z), hz)
    wanted = recursive.response(recursive.from_unit(z), hz)
    assert (drawn - wanted)[:, hz > 200].abs().max() < 0.2
    assert (drawn - wanted).abs().max() < 3


def test_linear_phase_delays_every_frequency_alike():
    eq = LinearPhaseEQ(FS, num_taps=1023)
    controls = eq.from_unit(eq.spec.sample(1, generator=torch.Generator().manual_seed(1)).double())
    x = torch.zeros(1, 1, 1023, dtype=torch.float64)
    x[..., 0] = 1
    y = eq(x, controls=controls)
    assert eq.latency == 511
    assert int(y.abs().argmax()) == 511
    torch.testing.assert_close(y, y.flip(-1), rtol=0, atol=1e-12)


def test_zero_phase_is_the_same_filter_without_the_delay():
    late, now = LinearPhaseEQ(FS), LinearPhaseEQ(FS, zero_phase=True)
    x = noise(2, 2, 5000).double()
    controls = now.from_unit(now.spec.sample(2, generator=torch.Generator().manual_seed(2)).double())
    aligned = late(x, controls=controls)[..., late.latency :]
    torch.testing.assert_close(now(x, controls=controls)[..., : -late.latency], aligned)
    assert now.latency == 0
    flat = {knob: 0.0 for knob in now.neutral}
    torch.testing.assert_close(now(x, **flat), x, rtol=0, atol=1e-12)


def test_linear_phase_with_an_even_number_of_taps_is_refused():
    with pytest.raises(ValueError, match="num_taps must be odd, 3 or more, got 512"):
        LinearPhaseEQ(FS, num_taps=512)


@pytest.mark.parametrize("amp", ["fender_bassman", "marshall_jcm800", "vox_ac30"])
def test_a_tone_stack_scoops_the_middle(amp):
    stack = ToneStack(FS, amp=amp)
    flat = {"bass": 0.5, "middle": 0.0, "treble": 0.5}
    levels = [level_change_db(stack(tone(hz), **flat), tone(hz)) for hz in (80, 600, 8000)]
    assert levels[1] < levels[0] and levels[1] < levels[2]
    controls = {name: torch.full((1, 1, 1), value) for name, value in flat.items()}
    response = stack.response(controls, torch.tensor([80.0, 600.0, 8000.0]))
    torch.testing.assert_close(response[0], torch.tensor(levels, dtype=torch.float64), rtol=0, atol=0.02)


def test_an_unknown_amplifier_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"'fender_basman' \(did you mean 'fender_bassman'\?\)"):
        ToneStack(FS, amp="fender_basman")


def dynamic_bell(
    threshold_db: float, ratio: float = 4.0, **knobs: float
) -> tuple[DynamicEQ, dict[str, float]]:
    eq = DynamicEQ(FS, num_bands=1)
    band = {"hz": 1000.0, "q": 2.0, "gain_db": 0.0, "threshold_db": threshold_db, "ratio": ratio}
    return eq, {"knee_db": 0.0, **{f"band_1_{name}": value for name, value in (band | knobs).items()}}


def test_a_dynamic_bell_turns_down_a_loud_tone_by_the_law_of_the_compressor():
    eq, knobs = dynamic_bell(-20.0, attack_ms=1.0, release_ms=1000.0)
    loud = tone(1000)
    # full scale is 20 dB over: 4:1 takes 15 dB; the slow release holds that between the crests
    assert level_change_db(eq(loud, **knobs), loud) == pytest.approx(-15, abs=0.3)
    quiet = 10 ** (-30 / 20) * loud
    torch.testing.assert_close(eq(quiet, **knobs), quiet, rtol=0, atol=1e-12)


def test_a_dynamic_bell_does_not_move_for_what_is_loud_elsewhere():
    eq, knobs = dynamic_bell(-20.0)
    elsewhere = 0.5 * tone(9000)
    assert level_change_db(eq(elsewhere, **knobs), elsewhere) == pytest.approx(0, abs=0.1)


def test_a_dynamic_bell_at_ratio_1_is_the_static_one():
    eq, knobs = dynamic_bell(-40.0, ratio=1.0, gain_db=7.0)
    x = noise(1, 2, 3000).double()
    torch.testing.assert_close(eq(x, **knobs), Peak(FS)(x, frequency_hz=1000.0, q=2.0, gain_db=7.0))


def test_a_dynamic_equalizer_listens_to_its_key():
    eq = DynamicEQ(FS, num_bands=1, sidechain=True)
    _, knobs = dynamic_bell(-30.0)
    x, silence = 0.5 * tone(1000), torch.zeros(1, 1, FS, dtype=torch.float64)
    torch.testing.assert_close(eq(x, silence, **knobs), x)
    assert level_change_db(eq(0.001 * x, x, **knobs), 0.001 * x) < -10


@pytest.mark.parametrize("num_bands", [1, 2, 5])
def test_a_dynamic_equalizer_equals_a_sample_loop_band_by_band(num_bands):
    eq = DynamicEQ(FS, num_bands=num_bands)
    controls = eq.from_unit(
        0.1 + 0.6 * eq.spec.sample(2, generator=torch.Generator().manual_seed(4)).double()
    )
    x = 0.5 * noise(2, 2, 700).double()
    expected = x.clone()
    for band in eq.bands:
        knobs = {name: controls[f"{band}_{name}"] for name in ("hz", "q", "gain_db")}
        curve = {n: controls[f"{band}_{n}"] for n in ("threshold_db", "ratio", "attack_ms", "release_ms")}
        for i in range(2):
            own = {name: float(knob[i]) for name, knob in knobs.items()}
            heard = reference([("band_pass", own["hz"], 0.0, own["q"])], x[i : i + 1])
            item = {name: knob[i : i + 1] for name, knob in curve.items()}
            reduction_db = compressor_gain_db(heard, FS, **item, knee_db=controls["knee_db"][i : i + 1])
            gain_db = reduction_db[0, 0] + own["gain_db"]
            expected[i] = bell_loop(expected[i], own["hz"], own["q"], gain_db)
    assert error_db(eq(x, controls=controls), expected) < -150


def bell_loop(x: Tensor, hz: float, q: float, gain_db: Tensor) -> Tensor:
    """A state-variable bell, one sample after the other: x [C, T], gain_db [T]."""
    g, root = math.tan(math.pi * hz / FS), 10 ** (gain_db.numpy() / 40)
    s, r = np.zeros(x.shape[0]), np.zeros(x.shape[0])
    y = np.empty(x.shape)
    for n, sample in enumerate(x.numpy().T):
        k = 1 / (q * root[n])
        band = (s + g * (sample - r)) / (1 + g * (g + k))
        low = r + g * band
        s, r = 2 * band - s, 2 * low - r
        y[:, n] = sample + k * (root[n] ** 2 - 1) * band
    return torch.from_numpy(y)


def test_bands_of_a_dynamic_equalizer_may_move_one_by_one():
    eq = DynamicEQ(FS, num_bands=2)
    sweep = torch.linspace(500, 2000, 9)[None, None]
    assert eq(noise(2, 1, 1000), band_1_hz=sweep).isfinite().all()


def test_a_slider_that_moves_takes_its_tone_along():
    eq, seconds = GraphicEQ(FS), 2.0
    gain_db = torch.zeros(1, 10, 3)
    gain_db[0, 5] = torch.tensor([-12.0, 0.0, 12.0])  # 1 kHz, in a straight line of dB
    x = tone(1_000.0, seconds)
    y = eq(x, gain_db=gain_db)
    for share, expected_db in ((0.25, -6.0), (0.5, 0.0), (0.75, 6.0)):
        now = slice(int(share * x.shape[-1]) - 441, int(share * x.shape[-1]) + 441)
        found_db = 20 * math.log10(float(y[..., now].norm() / x[..., now].norm()))
        assert found_db == pytest.approx(expected_db, abs=0.2)


@pytest.mark.parametrize("knob", ["low_shelf_gain_db", "peak_2_hz", "high_shelf_q"])
def test_a_moving_knob_of_the_parametric_equalizer_moves_from_setting_to_setting(knob):
    eq, x = ParametricEQ(FS), noise(1, 1, FS).double()
    controls = eq.from_unit(eq.spec.sample(2, generator=torch.Generator().manual_seed(3)).double())
    still = [{name: value[item : item + 1] for name, value in controls.items()} for item in (0, 1)]
    first, last = still[0], {**still[0], knob: still[1][knob]}
    jump = torch.cat([first[knob].expand(1, 1, 500), last[knob].expand(1, 1, 500)], 2)
    y = eq(x, controls={**first, knob: jump})
    before, after = (eq(x, controls=each) for each in (first, last))
    assert error_db(y[..., : FS // 2 - 100], before[..., : FS // 2 - 100]) < -120.0
    assert error_db(y[..., -FS // 8 :], after[..., -FS // 8 :]) < -80.0
    assert error_db(after[..., -FS // 8 :], before[..., -FS // 8 :]) > -50.0


def test_the_linear_phase_equalizer_stands_still():
    with pytest.raises(ValueError, match="static"):
        LinearPhaseEQ(FS)(noise(1, 1, 100), peak_1_gain_db=torch.zeros(1, 1, 5))
