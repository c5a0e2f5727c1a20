"""Other libraries, called as they say; each is imported when its first effect is built."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

import numpy as np
import torch
from torch import Tensor

from difffx import _torchaudio
from difffx.benchmark.measure import Controls, Run
from difffx.processors import Processor

RISE = 2.2  # time constants to the 10..90 % times that torchcomp and diffFx call attack and release


def column(value: Tensor) -> Tensor:
    """[B, 1, 1] -> [B]"""
    return value.flatten(1)[:, 0]


def sections(processor: Processor, controls: Controls) -> Tensor:
    """The second-order sections of an equalizer, for libraries that have the recursion: [B, S, 6]."""
    return processor._sos(controls.get("gain_db", controls))


# --- scipy and pedalboard: forward only, in C and C++


def scipy_sections(processor: Processor) -> Run:
    sosfilt = import_module("scipy.signal").sosfilt

    def run(x: Tensor, controls: Controls) -> Tensor:
        sos = sections(processor, controls).numpy()
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


def pedalboard_parametric(library: object, knobs: Mapping[str, list[float]]) -> list[object]:
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


def pedalboard_compressor(library: object, knobs: Mapping[str, list[float]]) -> list[object]:
    names = ("threshold_db", "ratio", "attack_ms", "release_ms")
    return [library.Compressor(**{name: knobs[name][0] for name in names})]


def plugin(name: str) -> Callable[[Processor], Run]:
    """One plugin of pedalboard whose settings are its own."""
    return pedalboard_chain(lambda library, knobs: [getattr(library, name)(**knobs)])


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
            sos = sections(processor, controls).to(x.dtype).unsqueeze(1)
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


def dasp_parametric(controls: Controls) -> dict[str, Tensor]:
    words = {"hz": "cutoff_freq", "gain_db": "gain_db", "q": "q_factor"}
    found = {}
    for name, value in controls.items():
        band, knob = next(
            (name.removesuffix(f"_{knob}"), knob) for knob in words if name.endswith(f"_{knob}")
        )
        band = f"band{int(band[5:]) - 1}" if band.startswith("peak_") else band
        found[f"{band}_{words[knob]}"] = column(value)
    return found


def dasp_compressor(controls: Controls) -> dict[str, Tensor]:
    names = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db")
    found = {name: column(controls[name]) for name in names}
    return {**found, "makeup_gain_db": column(controls["makeup_db"])}


def dasp_width(controls: Controls) -> dict[str, Tensor]:
    return {"width": controls["width"][:, 0] / 2.0}


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


def difffx_parametric(controls: Controls) -> dict[str, Tensor]:
    words = {"hz": "frequency", "gain_db": "gain_db", "q": "q_factor"}
    found = {}
    for name, value in controls.items():
        band, knob = next(
            (name.removesuffix(f"_{knob}"), knob) for knob in words if name.endswith(f"_{knob}")
        )
        found[f"{band}_{words[knob]}"] = column(value)
    return found


def difffx_compressor(controls: Controls) -> dict[str, Tensor]:
    names = ("threshold_db", "ratio", "knee_db", "makeup_db")
    times = {name: RISE * column(controls[name]) for name in ("attack_ms", "release_ms")}
    return {**{name: column(controls[name]) for name in names}, **times}


# --- torchcomp, philtorch


def torchcomp_compressor(processor: Processor) -> Run:
    library = import_module("torchcomp")

    def run(x: Tensor, controls: Controls) -> Tensor:
        threshold_db, ratio, makeup_db = (
            column(controls[name]) for name in ("threshold_db", "ratio", "makeup_db")
        )
        attack, release = (
            library.ms2coef(RISE * column(controls[name]), processor.sample_rate)
            for name in ("attack_ms", "release_ms")
        )
        level = x.abs().amax(1) + 1e-8
        gain = library.compexp_gain(level, threshold_db, ratio, -150.0, 0.5, attack, release)
        return x * (gain * library.db2amp(makeup_db)[:, None])[:, None]

    return run


def philtorch_sections(processor: Processor) -> Run:
    lfilter = import_module("philtorch.lti").lfilter

    def run(x: Tensor, controls: Controls) -> Tensor:
        sos = sections(processor, controls).to(x.dtype).repeat_interleave(x.shape[1], 0)
        y = x.reshape(-1, x.shape[-1])
        for s in range(sos.shape[1]):
            y = lfilter(sos[:, s, :3], sos[:, s, 4:], y)
        return y.view(x.shape)

    return run


def torchcomp_limiter(processor: Processor) -> Run:
    library = import_module("torchcomp")

    def run(x: Tensor, controls: Controls) -> Tensor:
        attack, release = (
            library.ms2coef(controls[name], processor.sample_rate) for name in ("attack_ms", "release_ms")
        )
        return x * library.limiter_gain(x.abs().amax(1), controls["threshold_db"], attack, release)[:, None]

    return run


# --- torch itself, flamo


def torch_tanh(processor: Processor) -> Run:
    return lambda x, controls: torch.tanh(x)


def flamo_network(lines: int) -> Callable[[Processor], Run]:
    """A network of delays, sampled in frequency; one setting for all items, held by the model itself."""

    def build(processor: Processor) -> Run:
        dsp, system = import_module("flamo.processor.dsp"), import_module("flamo.processor.system")
        models: dict[int, object] = {}

        def model(samples: int, device: torch.device) -> object:
            learned = {"nfft": samples, "requires_grad": True, "device": str(device)}
            delays = dsp.parallelDelay(
                size=(lines,),
                max_len=2100,
                nfft=samples,
                isint=True,
                fs=processor.sample_rate,
                device=str(device),
            )
            delays.assign_value(delays.sample2s(torch.linspace(997, 2099, lines, device=device).round()))
            feedback = system.Series(
                OrderedDict(
                    mixing=dsp.Matrix(size=(lines, lines), matrix_type="orthogonal", **learned),
                    attenuation=dsp.parallelGain(size=(lines,), **learned),
                )
            )
            feedback[1].assign_value(torch.full((lines,), 0.9, device=device))
            core = system.Series(
                OrderedDict(
                    input=dsp.Gain(size=(lines, 1), **learned),
                    loop=system.Recursion(fF=delays, fB=feedback),
                    output=dsp.Gain(size=(1, lines), **learned),
                )
            )
            return system.Shell(core=core, input_layer=dsp.FFT(samples), output_layer=dsp.iFFT(samples))

        def run(x: Tensor, controls: Controls) -> Tensor:
            samples = x.shape[-1]
            if samples not in models:
                models[samples] = model(samples, x.device)
            return models[samples](x.mT).mT

        return run

    return build


# --- more of grafx


def grafx_gate(processor: Processor) -> Run:
    effect = _grafx().NoiseGate(energy_smoother="ballistics", flashfftconv=False)

    def run(x: Tensor, controls: Controls) -> Tensor:
        threshold, ratio, knee = (
            controls[name][:, None] for name in ("log_threshold", "log_ratio", "log_knee")
        )
        return effect(x, threshold, ratio, knee, torch.stack([controls["attack"], controls["release"]], -1))

    return run


def grafx_taps(processor: Processor) -> Run:
    """Four taps of integer delay, each somewhere in its own 500 ms of 2 s."""
    options = {"segment_len": 22_050, "num_segments": 4, "zp_filter_per_tap": False}
    effect = _grafx().MultitapDelay(processor_channel="mono", flashfftconv=False, **options)

    def run(x: Tensor, controls: Controls) -> Tensor:
        angles = torch.stack([controls[f"angle_{k}"] for k in range(4)], -1)
        return effect(x, torch.stack([angles.cos(), angles.sin()], -1))[0]

    return run


def grafx_noise(processor: Processor) -> Run:
    effect = _grafx().STFTMaskedNoiseReverb(ir_len=65_536, flashfftconv=False)

    def run(x: Tensor, controls: Controls) -> Tensor:
        bins = torch.ones(1, 2, effect.num_bins, device=x.device)
        first, fade = (controls[name][:, None, None] * bins for name in ("level", "fade"))
        return effect.to(x.device)(x, first, fade)

    return run


def grafx_tanh(processor: Processor) -> Run:
    effect = _grafx().TanhDistortion(inverse_post_gain=False, pre_post_gain=False)
    return lambda x, controls: effect(x)


def grafx_imager(processor: Processor) -> Run:
    effect = _grafx().SideGainImager()
    return lambda x, controls: effect(x, column(controls["width"]).clamp_min(1e-6).log()[:, None])
