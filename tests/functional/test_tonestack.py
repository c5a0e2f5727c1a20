from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from difffx.functional import filters
from difffx.functional.tonestack import AMPS, Circuit, tone_stack, tone_stack_sos

FS = 44_100


def number(value: float) -> Tensor:
    return torch.tensor([[[value]]], dtype=torch.float64)


def node_voltage(circuit: Circuit, bass: float, middle: float, treble: float, s: complex) -> complex:
    """Kirchhoff's current law at every node of the schematic, 1 volt in: what stands at the treble wiper."""
    names = ["in", "top", "wiper", "bottom", "middle_top", "middle_wiper", "slope"]
    low = math.exp(3.4 * (bass - 1)) * circuit.bass_pot
    parts = [
        ("in", "top", s * circuit.treble_cap),
        ("top", "wiper", 1 / ((1 - treble) * circuit.treble_pot)),
        ("wiper", "bottom", 1 / (treble * circuit.treble_pot)),
        ("in", "slope", 1 / circuit.slope),
        ("slope", "bottom", s * circuit.bass_cap),
        ("bottom", "middle_top", 1 / low),
        ("middle_top", "middle_wiper", 1 / ((1 - middle) * circuit.middle_pot)),
        ("slope", "middle_wiper", s * circuit.middle_cap),
        ("middle_wiper", None, 1 / (middle * circuit.middle_pot)),
    ]
    currents = np.zeros((len(names), len(names)), complex)
    for first, second, admittance in parts:
        ends = [names.index(name) for name in (first, second) if name]
        for i in ends:
            currents[i, i] += admittance
        if len(ends) == 2:
            currents[ends[0], ends[1]] -= admittance
            currents[ends[1], ends[0]] -= admittance
    return np.linalg.solve(currents[1:, 1:], -currents[1:, 0])[names.index("wiper") - 1]


@pytest.mark.parametrize("amp", AMPS)
def test_the_filter_is_the_bilinear_transform_of_the_schematic(amp):
    hz = torch.tensor([20.0, 150, 700, 3000, 15_000], dtype=torch.float64)
    warped = 2j * FS * np.tan(math.pi * hz.numpy() / FS)
    for knobs in [(0.5, 0.5, 0.5), (0.02, 0.9, 0.3), (0.98, 0.03, 0.97), (0.3, 0.98, 0.02)]:
        sos = tone_stack_sos(*(torch.tensor([k], dtype=torch.float64) for k in knobs), FS, AMPS[amp])
        expected = np.array([node_voltage(AMPS[amp], *knobs, s) for s in warped])
        torch.testing.assert_close(
            filters.frequency_response(sos, hz, FS)[0], torch.from_numpy(expected), rtol=1e-8, atol=0
        )


@pytest.mark.parametrize("amp", AMPS)
def test_every_amplifier_is_stable_and_finite_at_all_ends_of_its_pots(amp):
    ends = torch.cartesian_prod(*3 * [torch.tensor([0.0, 0.5, 1.0])]).unbind(-1)
    knobs = [knob.double().requires_grad_() for knob in ends]
    sos = tone_stack_sos(*knobs, FS, AMPS[amp])
    poles = [np.abs(np.roots(section[3:])).max() for section in sos.detach().flatten(0, 1).numpy()]
    assert max(poles) < 1
    sos.square().sum().backward()
    assert all(knob.grad.isfinite().all() for knob in knobs)


def test_a_network_of_resistors_and_capacitors_never_adds_level():
    ends = torch.cartesian_prod(*3 * [torch.linspace(0, 1, 4)]).unbind(-1)
    hz = torch.logspace(1, 4.3, 40)
    levels = [filters.magnitude_db(tone_stack_sos(*ends, FS, amp), hz, FS).max() for amp in AMPS.values()]
    assert max(levels) < 0.3


def test_a_second_of_noise_equals_the_recursion_of_third_order():
    x = torch.randn(1, 1, FS, generator=torch.Generator().manual_seed(0))
    knobs = {"bass": number(0.7), "middle": number(0.2), "treble": number(0.6)}
    y = tone_stack(x, FS, **knobs, circuit=AMPS["fender_bassman"])
    sos = tone_stack_sos(*(knob[:, 0, 0] for knob in knobs.values()), FS, AMPS["fender_bassman"])
    b, a = scipy.signal.sos2tf(sos[0].numpy())
    reference = torch.from_numpy(scipy.signal.lfilter(b, a, x.double().numpy()))
    assert 20 * math.log10(float((y - reference).norm() / reference.norm())) < -140


def test_knobs_turn_what_they_are_named_after():
    def level_db(hz: float, **turned: float) -> float:
        knobs = {"bass": 0.5, "middle": 0.5, "treble": 0.5, **turned}
        sos = tone_stack_sos(*(torch.tensor([k]) for k in knobs.values()), FS, AMPS["fender_bassman"])
        return float(filters.magnitude_db(sos, torch.tensor([hz]), FS))

    assert level_db(60, bass=1) > level_db(60, bass=0) + 7
    assert level_db(500, middle=1) > level_db(500, middle=0) + 5
    assert level_db(6000, treble=1) > level_db(6000, treble=0) + 10
    assert abs(level_db(6000, bass=1) - level_db(6000, bass=0)) < 3


def test_gradients_equal_finite_differences():
    knobs = [torch.tensor([0.3, 0.9], dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *k: tone_stack_sos(*k, FS, AMPS["sovtek_mig100"]), knobs)
