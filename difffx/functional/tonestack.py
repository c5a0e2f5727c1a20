"""The tone controls of guitar amplifiers: bass, middle and treble in one passive network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from difffx.functional.cascade import sosfilt

BASS_TAPER = 3.4
"""The bass pot turns exponentially: half way up it stands at a fifth, all the way down at a thirtieth."""


class Circuit(NamedTuple):
    """Ohms of the pots and of the slope resistor, farads of the capacitor that goes with each pot."""

    treble_pot: float
    bass_pot: float
    middle_pot: float
    slope: float
    treble_cap: float
    bass_cap: float
    middle_cap: float


def _circuit(r1: float, r2: float, r3: float, r4: float, c1: float, c2: float, c3: float) -> Circuit:
    """Four times kiloohms, then picofarads, then two times nanofarads, as a schematic has them."""
    return Circuit(r1 * 1e3, r2 * 1e3, r3 * 1e3, r4 * 1e3, c1 * 1e-12, c2 * 1e-9, c3 * 1e-9)


AMPS = {
    "ampeg_reverbrocket": _circuit(250, 250, 10, 100, 100, 100, 47),
    "ampeg_vl501": _circuit(250, 1000, 25, 32, 470, 22, 22),
    "bogner_triple_giant": _circuit(250, 1000, 33, 51, 220, 15, 47),
    "fender": _circuit(250, 250, 10, 100, 250, 100, 47),
    "fender_bassman": _circuit(250, 1000, 25, 56, 250, 20, 20),
    "fender_blues_junior": _circuit(250, 250, 25, 100, 250, 22, 22),
    "fender_deville": _circuit(250, 250, 25, 130, 250, 100, 22),
    "fender_princeton": _circuit(250, 250, 4.8, 100, 250, 100, 47),
    "fender_twin": _circuit(250, 250, 10, 100, 120, 100, 47),
    "gibson_gs12": _circuit(1000, 1000, 94, 270, 25, 60, 20),
    "groove_trio": _circuit(220, 1000, 22, 68, 470, 22, 22),
    "hughes_kettner_crunch": _circuit(220, 220, 10, 100, 220, 47, 47),
    "ibanez_gx20": _circuit(250, 250, 10, 100, 270, 100, 40),
    "marshall_jcm800": _circuit(220, 1000, 22, 33, 470, 22, 22),
    "marshall_jcm2000": _circuit(250, 1000, 25, 56, 500, 22, 22),
    "marshall_jtm45": _circuit(250, 1000, 25, 33, 270, 22, 22),
    "marshall_m2199": _circuit(250, 250, 25, 56, 250, 47, 47),
    "marshall_major_lead": _circuit(250, 1000, 25, 33, 500, 22, 22),
    "mesa_boogie_mark": _circuit(250, 250, 25, 100, 250, 100, 47),
    "peavey_c20": _circuit(250, 250, 20, 68, 270, 22, 22),
    "roland_cube60": _circuit(250, 250, 10, 41, 240, 33, 82),
    "soldano_slo100": _circuit(250, 1000, 25, 47, 470, 20, 20),
    "sovtek_mig100": _circuit(500, 1000, 10, 47, 470, 22, 22),
    "vox_ac15": _circuit(220, 220, 220, 100, 470, 100, 47),
    "vox_ac30": _circuit(1000, 1000, 10, 100, 50, 22, 22),
}


def tone_stack(
    x: Tensor, sample_rate: int, *, bass: Tensor, middle: Tensor, treble: Tensor, circuit: Circuit
) -> Tensor:
    """Bass, middle and treble of a guitar amplifier: each moves the others, and the middle is scooped.

    x                     [B, C, T]
    bass, middle, treble  [B, 1, 1]  0 to 1, as far as the pots are turned; all may be [1, 1, 1]
    circuit               one of AMPS, or any of this shape
    returns               [B, C, T]  quieter than x by 5 to 20 dB: the network only takes away

    The schematic's filter of third order, fed from 0 ohms, not loaded, bass pot with its taper; digital by
    the bilinear transform: what the circuit does at f is done at sample_rate / pi atan(pi f / sample_rate),
    at 44.1 kHz 2 Hz too low for 1 kHz, 13 % too low for 10 kHz. The recursion is exact: `sosfilt`, twice.
    Topology: Yeh and Smith, "Discretization of the '59 Fender Bassman tone stack" (2006). Component values:
    schematics, as collected by the CAPS and Guitarix projects.
    """
    knobs = (knob[:, 0, 0] for knob in (bass, middle, treble))
    return sosfilt(x, tone_stack_sos(*knobs, sample_rate, circuit))


def tone_stack_sos(
    bass: Tensor, middle: Tensor, treble: Tensor, sample_rate: int, circuit: Circuit
) -> Tensor:
    """Three times [...] -> [..., 2, 6] in float64: the outermost pole, then the two others.

    Poles of resistors and capacitors are real, so a cosine gives the outermost; in these circuits it stands
    well apart. A last step of Newton's method, with gradients, gives it its derivatives.
    """
    knobs = torch.broadcast_tensors(bass.double(), middle.double(), treble.double())
    above, below = _network(*knobs, sample_rate, circuit)
    pole = _outermost(*below)
    one, zero = torch.ones_like(pole), torch.zeros_like(pole)
    first = torch.stack((one, -one, zero, pole + 1, pole - 1, zero), -1) / (pole + 1).unsqueeze(-1)
    rest = (1 / pole, (below[0] - 1 / pole) / pole, below[2])
    return torch.stack((first, _bilinear(above, rest)), -2)


def _network(
    bass: Tensor, middle: Tensor, treble: Tensor, sample_rate: int, circuit: Circuit
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """u (n0 + n1 u + n2 u^2) over 1 + d1 u + d2 u^2 + d3 u^3, with u = s / (2 sample_rate) -> n, d.

    From the currents of three meshes: round the treble pot, round the bass pot, and through the middle pot to
    ground. `upper` is what the second mesh passes (bass pot, and the middle pot above its wiper), `lower` the
    middle pot below. No term is negative, so nothing cancels.
    """
    r1, r2, r3, r4 = (2.0 * sample_rate * ohms for ohms in circuit[:4])
    c1, c2, c3 = circuit[4:]
    upper = torch.exp(BASS_TAPER * (bass - 1)) * r2 + (1 - middle) * r3
    lower, tapped = middle * r3, treble * r1
    outer = r1 * r4 + (r1 + r4) * lower
    n = (
        tapped * c1 + upper * (c1 + c2) + lower * (c1 + c2 + c3),
        tapped * r4 * c1 * (c2 + c3)
        + upper * ((r1 + r4) * c1 * c2 + r4 * c1 * c3)
        + lower * ((r1 + r4) * c1 * (c2 + c3) + upper * c3 * (c1 + c2)),
        c1 * c2 * c3 * upper * (tapped * r4 + lower * (r1 + r4)),
    )
    d = (
        r1 * c1 + r4 * (c2 + c3) + upper * (c1 + c2) + lower * (c1 + c2 + c3),
        upper * ((r4 + lower) * c3 * (c1 + c2) + (r1 + r4) * c1 * c2) + outer * c1 * (c2 + c3),
        c1 * c2 * c3 * upper * outer,
    )
    return n, d


def _outermost(d1: Tensor, d2: Tensor, d3: Tensor) -> Tensor:
    """The largest p > 0 with 1 - d1 p + d2 p^2 - d3 p^3 = 0, all three roots real and positive."""

    def step(p: Tensor) -> Tensor:
        value = 1 + p * (-d1 + p * (d2 - p * d3))
        return p - value / (-d1 + p * (2 * d2 - 3 * p * d3)).detach()

    with torch.no_grad():  # p = middle + t: t^3 - 3 spread^2 t + rest = 0
        middle = d2 / (3 * d3)
        spread = (middle.square() - d1 / (3 * d3)).sqrt()
        rest = (d1 / d3 - 2 * middle.square()) * middle - 1 / d3
        angle = torch.acos((-0.5 * rest / spread**3).clamp(-1, 1))
        p = step(step(middle + 2 * spread * torch.cos(angle / 3)))
    return step(p)


def _bilinear(n: tuple[Tensor, ...], d: tuple[Tensor, ...]) -> Tensor:
    """(n0 + n1 u + n2 u^2) / (d0 + d1 u + d2 u^2) with u = (z - 1) / (z + 1) -> [..., 6]."""
    rows = [row for c0, c1, c2 in (n, d) for row in (c0 + c1 + c2, 2 * (c0 - c2), c0 - c1 + c2)]
    return torch.stack(rows, -1) / rows[3].unsqueeze(-1)
