"""The effects of other libraries, called as their documentation says; none is imported before it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from difffx import _torchaudio
from difffx.benchmark.measure import Controls, Run
from difffx.benchmark.peers import Peer
from difffx.processors import Processor

FORWARD, HARD = "forward only", "forward only, hard knee"
RISE = 2.2  # time constants to the 10..90 % times that torchcomp and diffFx call attack and release


def _column(value: Tensor) -> Tensor:
    """[B, 1, 1] -> [B]"""
    return value.flatten(1)[:, 0]


def _sections(processor: Processor, controls: Controls) -> Tensor:
    """The second-order sections of an equalizer, for libraries that have the recursion: [B, S, 6]."""
    return processor._sos(controls.get("gain_db", controls))


# --- scipy and pedalboard: forward only, in C and C++


def scipy_sections(processor: Processor) -> Run:
    sosfilt = import_module("scipy.signal").sosfilt

    def run(x: Tensor, controls: Controls) -> Tensor:
        sos = _sections(processor, controls).numpy()
        rows = zip(sos, x.cpu().numpy(), strict=True)
        return torch.from_numpy(np.stack([sosfilt(sections, item) for sections, item in rows]))

    return run


def pedalboard_chain(effects: Callable[[object, Mapping[str, float]], Sequence[object]]) -> Callable:
    """A board for each item of the batch; effects makes its plugins from the settings of that item."""

    def build(processor: Processor) -> Run:
        library = import_module("pedalboard")

        def run(x: Tensor, controls: Controls) -> Tensor:
            items = []
            values = {
                name: value.flatten(1).tolist() if value.ndim > 1 else value.tolist()
                for name, value in controls.items()
            }
            for i, item in enumerate(x.cpu().numpy()):
                board = library.Pedalboard(list(effects(library, {name: v[i] for name, v in values.items()})))
                items.append(board(item, processor.sample_rate))
            return torch.from_numpy(np.stack(items))

        return run

    return build


def _pedalboard_parametric(library: object, knobs: Mapping[str, list[float]]) -> list[object]:
    bands = [name.removesuffix("_gain_db") for name in knobs if name.endswith("_gain_db")]
    kinds = {"low_shelf": library.LowShelfFilter, "high_shelf": library.HighShelfFilter}
    return [
        kinds.get(band, library.PeakFilter)(
            cutoff_frequency_hz=knobs[f"{band}_hz"][0],
            gain_db=knobs[f"{band}_gain_db"][0],
            q=knobs[f"{band}_q"][0],
        )
        for band in bands
    ]


def _pedalboard_compressor(library: object, knobs: Mapping[str, list[float]]) -> list[object]:
    names = ("threshold_db", "ratio", "attack_ms", "release_ms")
    return [library.Compressor(**{name: knobs[name][0] for name in names})]


# --- grafx


def _grafx() -> object:
    _torchaudio.load()
    return import_module("grafx.processors")


def grafx_sections(backend: str) -> Callable[[Processor], Run]:
    def build(processor: Processor) -> Run:
        if backend == "lfilter" and not _torchaudio.compiled():
            raise OSError("torchaudio's compiled part does not load: its lfilter would be a loop in Python")
        _grafx()
        device_filter = import_module("grafx.processors.core.iir").IIRFilter(
            backend=backend, flashfftconv=False
        )

        def run(x: Tensor, controls: Controls) -> Tensor:
            sos = _sections(processor, controls).to(x.dtype).unsqueeze(1)
            return device_filter.to(x.device)(x, sos[..., :3], sos[..., 3:])

        return run

    return build


def grafx_compressor(processor: Processor) -> Run:
    effect = _grafx().Compressor(energy_smoother="ballistics", flashfftconv=False)

    def run(x: Tensor, controls: Controls) -> Tensor:
        threshold, ratio, knee = (
            controls[name][:, None] for name in ("log_threshold", "log_ratio", "log_knee")
        )
        return effect(x, threshold, ratio, knee, torch.stack([controls["attack"], controls["release"]], -1))

    return run


GRAFX_COMPRESSOR = {
    "log_threshold": (-4.0, 2.0), "log_ratio": (0.0, 2.0), "log_knee": (0.0, 2.0),
    "attack": (-6.0, -3.0), "release": (-9.0, -6.0),
}  # fmt: skip


# --- dasp-pytorch


def dasp(function: str, names: Callable[[Controls], Mapping[str, Tensor]]) -> Callable[[Processor], Run]:
    def build(processor: Processor) -> Run:
        effect = getattr(import_module("dasp_pytorch.functional"), function)
        return lambda x, controls: effect(x, processor.sample_rate, **names(controls))

    return build


def _dasp_parametric(controls: Controls) -> dict[str, Tensor]:
    words = {"hz": "cutoff_freq", "gain_db": "gain_db", "q": "q_factor"}
    found = {}
    for name, value in controls.items():
        band, knob = next(
            (name.removesuffix(f"_{knob}"), knob) for knob in words if name.endswith(f"_{knob}")
        )
        band = f"band{int(band[5:]) - 1}" if band.startswith("peak_") else band
        found[f"{band}_{words[knob]}"] = _column(value)
    return found


def _dasp_compressor(controls: Controls) -> dict[str, Tensor]:
    names = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db")
    found = {name: _column(controls[name]) for name in names}
    return {**found, "makeup_gain_db": _column(controls["makeup_db"])}


# --- diffFx-pytorch


def difffx_pytorch(
    family: str, name: str, names: Callable[[Controls], Mapping[str, Tensor]] = dict, **options: object
) -> Callable[[Processor], Run]:
    def build(processor: Processor) -> Run:
        _torchaudio.load()
        kind = getattr(import_module(f"diffFx_pytorch.processors.{family}"), name)
        effect = kind(processor.sample_rate, **options)
        return lambda x, controls: effect(x, dsp_params=dict(names(controls)))

    return build


def _difffx_parametric(controls: Controls) -> dict[str, Tensor]:
    words = {"hz": "frequency", "gain_db": "gain_db", "q": "q_factor"}
    found = {}
    for name, value in controls.items():
        band, knob = next(
            (name.removesuffix(f"_{knob}"), knob) for knob in words if name.endswith(f"_{knob}")
        )
        found[f"{band}_{words[knob]}"] = _column(value)
    return found


def _difffx_compressor(controls: Controls) -> dict[str, Tensor]:
    names = ("threshold_db", "ratio", "knee_db", "makeup_db")
    times = {name: RISE * _column(controls[name]) for name in ("attack_ms", "release_ms")}
    return {**{name: _column(controls[name]) for name in names}, **times}


# --- torchcomp, philtorch


def torchcomp_compressor(processor: Processor) -> Run:
    library = import_module("torchcomp")

    def run(x: Tensor, controls: Controls) -> Tensor:
        threshold_db, ratio, makeup_db = (
            _column(controls[name]) for name in ("threshold_db", "ratio", "makeup_db")
        )
        attack, release = (
            library.ms2coef(RISE * _column(controls[name]), processor.sample_rate)
            for name in ("attack_ms", "release_ms")
        )
        level = x.abs().amax(1) + 1e-8
        gain = library.compexp_gain(level, threshold_db, ratio, -150.0, 0.5, attack, release)
        return x * (gain * library.db2amp(makeup_db)[:, None])[:, None]

    return run


def philtorch_sections(processor: Processor) -> Run:
    lfilter = import_module("philtorch.lti").lfilter

    def run(x: Tensor, controls: Controls) -> Tensor:
        sos = _sections(processor, controls).to(x.dtype)
        y = x[:, 0]
        for s in range(sos.shape[1]):
            y = lfilter(sos[:, s, :3], sos[:, s, 4:], y)
        return y[:, None]

    return run


DIFFFX_PARAMETRIC = difffx_pytorch("eq", "ParametricEqualizer", _difffx_parametric, num_peak_filters=4)
DIFFFX_COMPRESSOR = difffx_pytorch("dynamics", "Compressor", _difffx_compressor, knee_type="quadratic")
EXACT_SECTIONS = (
    Peer("scipy", scipy_sections, "float64", gradient=False, same=True, note=FORWARD),
    Peer("grafx", grafx_sections("fsm"), "fsm", same=True, note="4,000 taps"),
    Peer("grafx", grafx_sections("lfilter"), "lfilter", same=True),
    Peer("philtorch", philtorch_sections, same=True),
)

PEERS: dict[str, Sequence[Peer]] = {
    "parametric EQ, 6 bands": (
        *EXACT_SECTIONS,
        Peer("dasp-pytorch", dasp("parametric_eq", _dasp_parametric), same=True, note="frequency-sampled"),
        Peer("diffFx-pytorch", DIFFFX_PARAMETRIC, same=True),
        Peer("pedalboard", pedalboard_chain(_pedalboard_parametric), gradient=False, same=True, note=FORWARD),
    ),
    "graphic EQ, 10 bands": (
        *EXACT_SECTIONS,
        Peer(
            "diffFx-pytorch",
            difffx_pytorch("eq", "GraphicEqualizer", eq_type="octave"),
            knobs={f"band_{i}_gain_db": (-12.0, 12.0) for i in range(1, 11)},
            note="bells only",
        ),
    ),
    "compressor": (
        Peer("diffFx-pytorch", DIFFFX_COMPRESSOR, same=True),
        Peer("torchcomp", torchcomp_compressor, note="hard knee, smooths the linear gain"),
        Peer("dasp-pytorch", dasp("compressor", _dasp_compressor), note="ignores the release"),
        Peer("grafx", grafx_compressor, "ballistics", knobs=GRAFX_COMPRESSOR, note="on the energy"),
        Peer("pedalboard", pedalboard_chain(_pedalboard_compressor), gradient=False, note=HARD),
    ),
}  # fmt: skip
