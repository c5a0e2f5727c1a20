"""Who else makes the effects: the peers of each, with settings as near to ours as they allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from difffx.benchmark import adapters as by
from difffx.benchmark.peers import Peer

FORWARD = "forward only"
HARD = "forward only, hard knee"
COMPRESSOR = {
    "log_threshold": (-4.0, 2.0), "log_ratio": (0.0, 2.0), "log_knee": (0.0, 2.0),
    "attack": (-6.0, -3.0), "release": (-9.0, -6.0),
}  # fmt: skip
NOISE = {f"band{k}_{knob}": (0.1, 1.0) for knob in ("gain", "decay") for k in range(12)} | {"mix": (0.2, 1.0)}
TAPS = {f"{k}_tap_delays_ms": (50.0, 500.0) for k in range(4)} | {
    f"{k}_tap_gains": (0.1, 1.0) for k in range(4)
}
BANDS = {
    f"band{k}_{knob}": span
    for k in range(3)
    for knob, span in {
        "threshold_db": (-40.0, -1.0), "ratio": (2.0, 10.0), "knee_db": (0.0, 12.0),
        "attack_ms": (1.0, 60.0), "release_ms": (10.0, 500.0), "makeup_db": (0.0, 12.0),
    }.items()
}  # fmt: skip
CROSSOVERS = {"crossover0_freq": (110.0, 800.0), "crossover1_freq": (800.0, 5_000.0)}


def _theirs(
    family: str, name: str, knobs: Mapping[str, Sequence[float]], note: str = "", **options: object
) -> Peer:
    return Peer("diffFx-pytorch", by.difffx_pytorch(family, name, **options), knobs=knobs, note=note)


def _plugin(name: str, knobs: Mapping[str, Sequence[float]], note: str = FORWARD) -> Peer:
    return Peer("pedalboard", by.plugin(name), knobs=knobs, gradient=False, note=note)


SECTIONS = (
    Peer("scipy", by.scipy_sections, "float64", gradient=False, same=True, note=FORWARD),
    Peer("grafx", by.grafx_sections("fsm"), "fsm", same=True, note="4,000 taps"),
    Peer("grafx", by.grafx_sections("lfilter"), "lfilter", same=True),
    Peer("philtorch", by.philtorch_sections, same=True),
)

PEERS: dict[str, Sequence[Peer]] = {
    "parametric EQ, 6 bands": (
        *SECTIONS,
        Peer(
            "dasp-pytorch",
            by.dasp("parametric_eq", by.dasp_parametric),
            same=True,
            note="frequency-sampled",
        ),
        Peer(
            "diffFx-pytorch",
            by.difffx_pytorch("eq", "ParametricEqualizer", by.difffx_parametric, num_peak_filters=4),
            same=True,
        ),
        Peer(
            "pedalboard",
            by.pedalboard_chain(by.pedalboard_parametric),
            gradient=False,
            same=True,
            note=FORWARD,
        ),
    ),
    "graphic EQ, 10 bands": (
        *SECTIONS,
        _theirs(
            "eq",
            "GraphicEqualizer",
            {f"band_{k}_gain_db": (-12.0, 12.0) for k in range(1, 11)},
            "bells only",
            eq_type="octave",
        ),
    ),
    "compressor": (
        Peer(
            "diffFx-pytorch",
            by.difffx_pytorch("dynamics", "Compressor", by.difffx_compressor, knee_type="quadratic"),
            same=True,
            note="one level for both channels, their mean",
        ),
        Peer("torchcomp", by.torchcomp_compressor, note="hard knee, smooths the linear gain"),
        Peer("dasp-pytorch", by.dasp("compressor", by.dasp_compressor), note="ignores the release"),
        Peer("grafx", by.grafx_compressor, "ballistics", knobs=COMPRESSOR, note="on the energy"),
        Peer("pedalboard", by.pedalboard_chain(by.pedalboard_compressor), gradient=False, note=HARD),
    ),
    "limiter": (
        _theirs(
            "dynamics",
            "Limiter",
            {
                "threshold_db": (-24.0, -1.0),
                "ratio": (20.0, 100.0),
                "knee_db": (0.1, 1.0),
                "attack_ms": (0.1, 1.0),
                "release_ms": (50.0, 300.0),
                "makeup_db": (0.0, 1.0),
            },
            "no ceiling",
        ),
        Peer(
            "torchcomp",
            by.torchcomp_limiter,
            knobs={"threshold_db": (-24.0, -1.0), "attack_ms": (0.5, 2.0), "release_ms": (50.0, 300.0)},
            note="no ceiling",
        ),
        _plugin("Limiter", {"threshold_db": (-24.0, -1.0), "release_ms": (50.0, 300.0)}),
    ),
    "gate": (
        _theirs(
            "dynamics",
            "NoiseGate",
            {
                "threshold_db": (-60.0, -20.0),
                "ratio": (2.0, 50.0),
                "knee_db": (0.1, 6.0),
                "attack_ms": (0.1, 20.0),
                "release_ms": (5.0, 1_000.0),
            },
            "no hold, no hysteresis",
        ),
        Peer("grafx", by.grafx_gate, "ballistics", knobs=COMPRESSOR, note="on the energy"),
        _plugin(
            "NoiseGate",
            {
                "threshold_db": (-60.0, -20.0),
                "ratio": (2.0, 50.0),
                "attack_ms": (0.1, 20.0),
                "release_ms": (5.0, 1_000.0),
            },
        ),
    ),
    "3-band compressor": (
        _theirs("dynamics", "MultiBandCompressor", BANDS | CROSSOVERS, "its sum is not flat"),
    ),
    "feedback delay, 100 ms to 1 s": (
        _theirs(
            "delay",
            "BasicFeedbackDelay",
            {"delay_ms": (100.0, 1_000.0), "mix": (0.1, 1.0), "fb_gain": (0.1, 0.9), "ff_gain": (0.1, 0.9)},
            "runs backward in time",
        ),
        _plugin("Delay", {"delay_seconds": (0.1, 1.0), "feedback": (0.0, 0.95), "mix": (0.0, 1.0)}),
    ),
    "4-tap delay": (
        _theirs("delay", "MultiTapDelay", TAPS | {"mix": (0.1, 1.0)}, "wraps around"),
        Peer(
            "grafx",
            by.grafx_taps,
            knobs={f"angle_{k}": (-3.1, 3.1) for k in range(4)},
            note="whole samples",
        ),
    ),
    "chorus": (
        _theirs(
            "modulation",
            "Chorus",
            {"delay_ms": (10.0, 25.0), "rate": (0.1, 5.0), "depth": (0.05, 0.25), "mix": (0.1, 1.0)},
            "a wrong delay",
        ),
        _plugin("Chorus", {"rate_hz": (0.1, 5.0), "centre_delay_ms": (5.0, 40.0), "mix": (0.1, 1.0)}),
    ),
    "flanger": (
        _theirs(
            "modulation",
            "Flanger",
            {"delay_ms": (1.0, 10.0), "rate": (0.1, 2.0), "depth": (0.1, 1.0), "mix": (0.1, 1.0)},
            "a wrong delay",
        ),
    ),
    "phaser, 4 stages": (
        _theirs(
            "modulation",
            "Phaser",
            {
                "frequency": (300.0, 2_000.0),
                "q_factor": (0.1, 1.0),
                "feedback": (0.1, 0.9),
                "mix": (0.1, 1.0),
            },
            "stands still",
        ),
        _plugin(
            "Phaser", {"rate_hz": (0.1, 5.0), "depth": (0.1, 1.0), "centre_frequency_hz": (300.0, 2_000.0)}
        ),
    ),
    "delay network, 6 lines": (
        Peer("flamo", by.flamo_network(6), knobs={}, note="wraps around, one setting for all"),
        _plugin("Reverb", {"room_size": (0.1, 0.9), "damping": (0.1, 0.9)}, "forward only, Freeverb"),
    ),
    "noise reverb, 65,536 taps": (
        Peer("dasp-pytorch", by.dasp("noise_shaped_reverberation", dict), knobs=NOISE),
        _theirs("reverb", "NoiseShapedReverb", NOISE),
        Peer(
            "grafx",
            by.grafx_noise,
            "STFT mask",
            knobs={"level": (-1.0, 1.0), "fade": (-4.0, 0.0)},
            note="resampled by a sample",
        ),
    ),
    "tanh": (
        Peer("torch", by.torch_tanh, knobs={}, note="torch.tanh alone"),
        Peer("dasp-pytorch", by.dasp("distortion", dict), knobs={"drive_db": (-12.0, 36.0)}),
        _theirs("distortion", "TanHDist", {"mix": (0.0, 1.0)}, "no drive"),
        Peer("grafx", by.grafx_tanh, knobs={}, note="no drive"),
        _plugin("Distortion", {"drive_db": (0.0, 36.0)}),
    ),
    "widener": (
        Peer("grafx", by.grafx_imager, same=True),
        Peer("dasp-pytorch", by.dasp("stereo_widener", by.dasp_width), note="mid turned down"),
        _theirs("spatial", "StereoWidener", {"width": (0.0, 1.0)}, "mid turned down"),
    ),
}
