"""A trained estimator at work on files: settings from a wet sound, the same settings on a dry one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import soxr
import torch
from rich.table import Table
from torch import Tensor, nn

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.graph import ProcessorGraph
from difffx.metrics import audio_metrics
from difffx.params import ControlSpec, Preset, flatten_tree
from difffx.refine import Refinement, refine_sound

MINIMUM_SECONDS = 1.0
WINDOW_SECONDS = 10.0
SILENCE = 1e-5  # RMS, -100 dBFS
QUIET_DB = 30.0  # windows this far under the loudest say nothing about the settings

Progress = Callable[[Iterable], Iterable]


def open_sound(
    path: str | Path, sample_rate: int | None = None, channels: int | None = None
) -> tuple[Tensor, int]:
    """A whole file [C, T] and its rate; AudioError, with its name, where no settings can be heard in it."""
    audio, rate = audio_io.load(
        path, sample_rate=sample_rate, channels=channels, minimum_seconds=MINIMUM_SECONDS
    )
    try:
        return checked(audio, rate), rate
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from None


def open_dry(path: str | Path, wet: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, list[str]]:
    """The dry file of a wet sound [C, T]: both at the rate and with the channels of wet, cut to the shorter,
    and in words what was done to them."""
    source = audio_io.info(path)
    dry, _ = open_sound(path, sample_rate, len(wet))
    length = min(dry.shape[1], wet.shape[1])
    notes = []
    if source.sample_rate != sample_rate:
        notes.append(f"dry is resampled from {source.sample_rate} to {sample_rate} Hz")
    if source.channels != len(wet):
        notes.append(f"dry has {source.channels} channel(s), wet {len(wet)}: dry is brought to {len(wet)}")
    if dry.shape[1] != wet.shape[1]:
        seconds = [f"{x.shape[1] / sample_rate:.2f}" for x in (dry, wet)]
        notes.append(f"dry lasts {seconds[0]} s, wet {seconds[1]} s: both are cut to the shorter")
    return dry[:, :length], wet[:, :length], notes


def estimate(
    task: nn.Module,
    audio: Tensor,
    sample_rate: int,
    window_seconds: float = WINDOW_SECONDS,
    progress: Progress = iter,
) -> tuple[Tensor, Preset]:
    """The settings heard in a sound [C, T] of any rate and length: z [1, P, 1] and a preset.

    A long sound is heard in windows, see `estimate_windows`; the answer is their mean in z, where equal steps
    are equally far apart on every knob. Raises AudioError for less than a second, NaN or silence.
    """
    windows = estimate_windows(task, audio, sample_rate, window_seconds, progress)
    z = windows.mean(0, keepdim=True)
    return z, task.afx.spec.preset(z)


@torch.no_grad()
def estimate_windows(
    task: nn.Module,
    audio: Tensor,
    sample_rate: int,
    window_seconds: float = WINDOW_SECONDS,
    progress: Progress = iter,
) -> Tensor:
    """One answer a window, z [N, P, 1]: windows of one length, at most `window_seconds`, without overlap.

    Windows 30 dB below the loudest are left out. progress goes around the windows, as `rich.progress.track`.
    """
    checked(audio, sample_rate)
    windows = loud_windows(resample(audio, sample_rate, task.sample_rate), task.sample_rate, window_seconds)
    device = next(task.parameters()).device
    return torch.cat([task.estimate(window.to(device)).cpu() for window in progress(windows)])


@torch.no_grad()
def render(task: nn.Module, dry: Tensor, sample_rate: int, z: Tensor) -> Tensor:
    """Dry sound [C, T] of any rate through the effects at settings z [1, P, 1] -> [C, T], at its own rate.

    The level is what the effects make it; `at_level_of` brings it to that of another sound.
    """
    checked(dry, sample_rate)
    device = next(task.parameters()).device
    wet = task.apply(resample(dry, sample_rate, task.sample_rate)[None].to(device), z.to(device))[0].cpu()
    wet = resample(wet, task.sample_rate, sample_rate)[:, : dry.shape[-1]]
    return nn.functional.pad(wet, (0, dry.shape[-1] - wet.shape[-1]))


def match(
    task: nn.Module, dry: Tensor, wet: Tensor, sample_rate: int, z: Tensor, refined_from: Tensor | None = None
) -> tuple[Tensor, dict[str, dict[str, float]]]:
    """Dry, brought to wet by settings z [1, P, 1]: the matched sound at the RMS of wet, and the distances to
    wet before (dry), of the estimate that z was refined from, if any, and after (matched).

    All sounds are [C, T] of one shape; distances are measured at the rate of the run.
    """
    matched = at_level_of(render(task, dry, sample_rate, z), wet)
    sounds = {"before": dry, "after": matched}
    if refined_from is not None:
        estimated = render(task, dry, sample_rate, refined_from)
        sounds = {"before": dry, "estimate": estimated, "after": matched}
    target = resample(wet, sample_rate, task.sample_rate)
    return matched, {
        name: distances(resample(sound, sample_rate, task.sample_rate), target, task.sample_rate)
        for name, sound in sounds.items()
    }


def refined(
    task: nn.Module,
    dry: Tensor,
    wet: Tensor,
    sample_rate: int,
    z: Tensor,
    **limits: object,
) -> tuple[Refinement, list[str]]:
    """Settings z [1, P, 1] polished through the effects until dry sounds like wet, see `refine_sound`.

    dry, wet  [C, T] of one shape, any rate and length, in line
    limits    renders, seconds, seed, progress as there
    """
    graph = task.sfx if task.same_knobs else task.afx
    device = next(task.parameters()).device
    sounds = (resample(checked(sound, sample_rate), sample_rate, task.sample_rate) for sound in (dry, wet))
    dry, wet = (sound[None].to(device) for sound in sounds)
    return refine_sound(graph, dry, wet, z.to(device), **limits)


def distances(
    pred: Tensor, target: Tensor, sample_rate: int, window_seconds: float = WINDOW_SECONDS
) -> dict[str, float]:
    """How far two sounds [C, T] are apart: the mean of each metric over the windows with sound."""
    if pred.shape != target.shape:
        raise ValueError(f"expected two sounds of one shape: {tuple(pred.shape)}, {tuple(target.shape)}")
    both = loud_windows(torch.cat([target, pred]), sample_rate, window_seconds, heard=len(target))
    scores = [audio_metrics(w[:, len(target) :], w[:, : len(target)], sample_rate) for w in both]
    return {name: torch.cat([score[name] for score in scores]).mean().item() for name in scores[0]}


def settings(task: nn.Module, z: Tensor) -> dict:
    """{node: {knob: {"value": number or list, "unit": "dB"}}}: every knob of the graph, ready for JSON.

    A knob that is not estimated says why: "fixed", "learned" or "tied" is true.
    """
    return ControlSpec.tree(dict(_knobs(task.afx, task.afx.from_unit(z.detach().cpu().double()))))


def _knobs(graph: ProcessorGraph, controls: dict, prefix: str = "") -> Iterable[tuple[str, dict]]:
    complete = flatten_tree(graph.settings.complete(graph.spec, controls, like=torch.zeros(1)))
    for path, setting in graph.settings.settings.items():
        node = path.split(".")[0]
        inner = graph.processors[node]
        if isinstance(inner, ProcessorGraph):
            continue
        value = complete[path].detach().flatten().tolist()
        knob = {"value": value[0] if len(value) == 1 else value, "unit": setting.param.unit}
        yield f"{prefix}{path}", knob if setting.kind == "predicted" else {**knob, setting.kind: True}
    tree = ControlSpec.tree(complete)
    for name, inner in graph.processors.items():
        if isinstance(inner, ProcessorGraph):
            yield from _knobs(inner, tree.get(name, {}), f"{prefix}{name}.")


def checked(audio: Tensor, sample_rate: int, minimum_seconds: float = MINIMUM_SECONDS) -> Tensor:
    """The audio [C, T], or AudioError: not [C, T], too short, NaN, silent."""
    if audio.ndim != 2:
        raise AudioError(f"expected audio [C, T], got {tuple(audio.shape)}")
    if audio.shape[1] < minimum_seconds * sample_rate:
        have = audio.shape[1] / sample_rate
        raise AudioError(f"too short: {have:.2f} s, at least {minimum_seconds:g} s are needed")
    if not torch.isfinite(audio).all():
        raise AudioError("has samples that are NaN or infinite")
    if rms(audio) < SILENCE:
        raise AudioError("is silent (below -100 dBFS): there is nothing to hear the settings in")
    return audio


def loud_windows(
    audio: Tensor, sample_rate: int, seconds: float = WINDOW_SECONDS, heard: int | None = None
) -> list[Tensor]:
    """audio [C, T] -> windows [1, C, T'] of one length, those 30 dB below the loudest left out.

    heard   how many channels, from the first, decide what is quiet; None: all
    """
    count = max(1, -(-audio.shape[1] // round(seconds * sample_rate)))
    length = audio.shape[1] // count
    windows = [audio[None, :, i * length : (i + 1) * length] for i in range(count)]
    levels = [rms(window[:, :heard]) for window in windows]
    floor = max(levels) * 10 ** (-QUIET_DB / 20)
    return [window for window, level in zip(windows, levels, strict=True) if level >= floor]


def resample(audio: Tensor, source: int, target: int) -> Tensor:
    """[C, T] at another rate, soxr HQ; the same tensor where the rates agree."""
    if source == target:
        return audio
    samples = soxr.resample(audio.T.contiguous().numpy(), source, target, quality="HQ")
    return torch.from_numpy(samples.T.copy())


def at_level_of(audio: Tensor, reference: Tensor) -> Tensor:
    """audio at the RMS of reference; silence stays silence."""
    return audio * (rms(reference) / max(rms(audio), 1e-9))


def rms(audio: Tensor) -> float:
    return audio.double().square().mean().sqrt().item()


def tables(task: nn.Module, z: Tensor, scores: dict[str, dict[str, float]] | None = None) -> list[Table]:
    """The settings, and where there are any the distances before and after, for a terminal.

    Of an effect that can be off they say how sure it is that it is on; what is more likely off is off.
    """
    refined = "estimate" in (scores or {})
    knobs = Table("effect", "knob", "value", "", title=f"{'refined' if refined else 'estimated'} settings")
    spec, sure = task.afx.spec, z.flatten().tolist()
    switches = {spec.labels[place]: sure[place] >= 0.5 for place in spec.switches}
    off = {path.rpartition(".")[0] for path, on in switches.items() if not on}
    for path, knob in _flat_settings(settings(task, z)):
        node, _, name = path.rpartition(".")
        values = knob["value"] if isinstance(knob["value"], list) else [knob["value"]]
        number = ", ".join(_readable(value, knob["unit"]) for value in values)
        aside = next((kind for kind in ("fixed", "learned", "tied") if kind in knob), "")
        if path in switches:
            number, aside = f"{knob['value']:.0%}", "is on" if switches[path] else "is off"
        elif node in off:
            aside = "not heard"
        knobs.add_row(node, name, f"{number} {knob['unit']}".strip(), aside)
    if not scores:
        return [knobs]
    answers = ("dry", "estimate", "refined") if refined else ("dry", "matched")
    sounds = Table("distance to wet", *answers, title="lower is better, but for si_sdr")
    for name in scores["after"]:
        sounds.add_row(name, *(f"{scores[answer][name]:.3f}" for answer in scores))
    return [knobs, sounds]


def _flat_settings(tree: dict, prefix: str = "") -> Iterable[tuple[str, dict]]:
    for name, branch in tree.items():
        if "value" in branch and "unit" in branch:
            yield f"{prefix}{name}", branch
        else:
            yield from _flat_settings(branch, f"{prefix}{name}.")


def _readable(value: float, unit: str) -> str:
    if unit == "dB" or abs(value) >= 100:
        return f"{value:.{1 if unit == 'dB' else 0}f}"
    return f"{value:.3g}"
