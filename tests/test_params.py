import json

import pytest
import torch

from difffx.params import ControlSpec, Param, with_ranges

KNOBS = {
    "peq.freq_hz": Param("freq_hz", 20.0, 20_000.0, default=1000.0, scale="log"),
    "peq.gain_db": Param("gain_db", -15.0, 15.0, default=0.0, size=3),
    "comp.ratio": Param("ratio", 1.0, 20.0, default=4.0),
}


@pytest.fixture
def spec():
    return ControlSpec(KNOBS)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_units_round_trip_and_ends_are_the_range(scale):
    param = Param("cutoff_hz", 20.0, 20_000.0, default=500.0, scale=scale)
    z = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert torch.allclose(param.to_unit(param.from_unit(z)), z, atol=1e-12)
    assert param.from_unit(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([20.0, 20_000.0], rel=1e-6)


def test_float32_never_leaves_the_range():
    param = Param("cutoff_hz", 0.1, 19_999.9, default=1.0, scale="log")
    z = torch.rand(100_000, generator=torch.Generator().manual_seed(0)).round(decimals=3)
    values = param.from_unit(z)
    assert values.min() >= torch.tensor(0.1) and values.max() <= torch.tensor(19_999.9)


def test_equal_steps_of_a_log_knob_are_equal_ratios():
    param = Param("cutoff_hz", 10.0, 1000.0, default=100.0, scale="log")
    assert param.from_unit(torch.tensor(0.5)).item() == pytest.approx(100.0, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("g", 1.0, 1.0, 1.0), "empty"),
        (("g", 0.0, 1.0, 2.0), "default 2"),
        (("g", 0.0, 1.0, 0.5, "log"), "above zero"),
        (("g", 0.0, 1.0, 0.5, "exp"), "neither"),
        (("g", 0.0, float("nan"), 0.5), "finite"),
        (("g", 0.0, 1.0, 0.5, "linear", 0), "size"),
    ],
)
def test_an_impossible_knob_is_refused(arguments, word):
    with pytest.raises(ValueError, match=word):
        Param(*arguments)


@pytest.mark.parametrize(
    ("name", "unit"), [("gain_db", "dB"), ("attack_ms", "ms"), ("f_hz", "Hz"), ("mix", "")]
)
def test_the_name_tells_the_unit(name, unit):
    assert Param(name, 0.0, 1.0, default=0.5).unit == unit


def test_the_length_counts_values_not_names(spec):
    assert len(spec) == 5
    assert spec.names == ["peq.freq_hz", "peq.gain_db", "comp.ratio"]
    assert spec.labels == ["peq.freq_hz", "peq.gain_db[0]", "peq.gain_db[1]", "peq.gain_db[2]", "comp.ratio"]
    assert spec.slices["comp.ratio"] == slice(4, 5)


def test_unflatten_and_flatten_are_inverse(spec):
    z = spec.sample(4, frames=7, generator=torch.Generator().manual_seed(1)).double()
    controls = spec.unflatten(z)
    assert controls["peq"]["gain_db"].shape == (4, 3, 7)
    assert torch.allclose(spec.flatten(controls), z, atol=1e-12)


def test_a_static_knob_beside_a_curve_is_held(spec):
    controls = spec.unflatten(spec.defaults(2))
    controls["comp"]["ratio"] = torch.linspace(1.0, 20.0, 5).expand(2, 1, 5)
    z = spec.flatten(controls)
    assert z.shape == (2, 5, 5)
    assert torch.equal(z[:, 0, 0], z[:, 0, 4])


def test_a_wrong_z_says_what_was_expected(spec):
    with pytest.raises(ValueError, match=r"expected \[B, 5, F\], got \(2, 4, 1\)"):
        spec.unflatten(torch.zeros(2, 4, 1))


def test_missing_and_surplus_controls_are_named_at_once(spec):
    controls = spec.unflatten(spec.defaults())
    del controls["comp"]["ratio"]
    controls["peq"]["freq"] = torch.zeros(1, 1, 1)
    with pytest.raises(ValueError, match=r"missing control comp.ratio.*did you mean 'peq.freq_hz'"):
        spec.flatten(controls)


def test_a_preset_survives_json(spec):
    z = spec.sample(1, generator=torch.Generator().manual_seed(2))
    preset = json.loads(json.dumps(spec.preset(z[0])))
    assert isinstance(preset["comp"]["ratio"], float) and len(preset["peq"]["gain_db"]) == 3
    assert torch.allclose(spec.from_preset(preset), z, atol=1e-6)


@pytest.mark.parametrize("value", [99.0, -1.0, float("nan"), "loud"])
def test_a_preset_out_of_range_names_the_knob(spec, value):
    preset = spec.preset(spec.defaults())
    preset["comp"]["ratio"] = value
    with pytest.raises(ValueError, match=r"comp\.ratio"):
        spec.from_preset(preset)


def test_the_same_generator_gives_the_same_settings(spec):
    one, two = (spec.sample(3, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, two) and one.std() > 0.1


def test_differences_name_what_differs(spec):
    other = dict(KNOBS)
    other["comp.ratio"] = other["comp.ratio"].with_range(2.0, 8.0)
    del other["peq.freq_hz"]
    found = spec.differences(ControlSpec(other))
    assert found == ["peq.freq_hz only here", "comp.ratio has another range, scale or size"]
    assert spec == ControlSpec(KNOBS) and spec != ControlSpec(other)


def test_a_narrowed_range_moves_the_default_inside():
    (ratio,) = with_ranges([KNOBS["comp.ratio"]], {"ratio": [8, 12]})
    assert (ratio.low, ratio.high, ratio.default) == (8.0, 12.0, 8.0)


@pytest.mark.parametrize("ranges", [{"ration": [1, 2]}, {"ratio": [1, 2, 3]}, {"ratio": [3, 2]}])
def test_a_wrong_range_is_refused_by_name(ranges):
    with pytest.raises(ValueError, match="ratio"):
        with_ranges([KNOBS["comp.ratio"]], ranges)
