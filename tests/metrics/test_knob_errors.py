from __future__ import annotations

import pytest
import torch

from difffx.metrics import knob_errors, knob_units
from difffx.params import ControlSpec, Param

SPEC = ControlSpec(
    {
        "eq.cutoff_hz": Param("cutoff_hz", 100, 1600, 400, scale="log"),
        "eq.gain_db": Param("gain_db", -10, 10, 0, size=2),
        "comp.attack_ms": Param("attack_ms", 1, 100, 10, scale="log"),
        "comp.mix": Param("mix", 0, 1, 1),
    }
)


def test_errors_come_in_octaves_decibels_and_factors():
    z = torch.tensor([[0.0, 0.5, 0.5, 0.5, 0.2]])[..., None]
    z_hat = torch.tensor([[0.5, 0.75, 0.5, 0.0, 0.5]])[..., None]
    errors = knob_errors(SPEC, z_hat, z)
    assert {name: value.item() for name, value in errors.items()} == pytest.approx(
        {
            "eq.cutoff_hz": 2.0,
            "eq.gain_db[0]": 5.0,
            "eq.gain_db[1]": 0.0,
            "comp.attack_ms": 10.0,
            "comp.mix": 0.3,
        },
        abs=1e-5,
    )


def test_every_error_has_its_unit():
    units = knob_units(SPEC)
    assert list(units) == SPEC.labels == list(knob_errors(SPEC, SPEC.defaults(), SPEC.defaults()))
    assert units["eq.cutoff_hz"] == "octaves"
    assert units["eq.gain_db[1]"] == "dB"
    assert units["comp.attack_ms"] == "x"
    assert units["comp.mix"] == ""


def test_items_are_kept_apart_and_curves_count_by_their_mean():
    z = torch.zeros(2, 5, 4)
    z_hat = z.clone()
    z_hat[1, 4] = torch.tensor([0.0, 0.4, 0.4, 0.0])
    torch.testing.assert_close(knob_errors(SPEC, z_hat, z)["comp.mix"], torch.tensor([0.0, 0.2]))
