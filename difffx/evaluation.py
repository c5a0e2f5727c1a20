"""How good an estimator is: its answers beside doing nothing, the middle of every knob, and chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from difffx import dj_evaluation
from difffx.audibility import audibility, audibility_table, explained, unknowable
from difffx.callbacks import write_results
from difffx.losses import Estimate
from difffx.metrics import audio_metrics, knob_errors, knob_units
from difffx.params import ControlSpec
from difffx.plots import knob_scatter, save_figure
from difffx.runs import Run, write_json
from difffx.tasks import DJTask, Task
from difffx.tasks.likelihood import around, dequantized, nats_per_value

BASELINES = ("dry", "midpoint", "random")
CURVE = ("best of 2", "best of 4")  # in the results, not in the tables
UNITS = {"mel": "", "mrstft": "", "si_sdr": "dB", "third_octave_db": "dB", "envelope_db": "dB"}


def report(run: Run, batches: Iterable[Mapping], data: str) -> dict:
    """Scores a run, prints the tables, writes evaluations/<data>.json, figures and audio into the run folder.

    evaluation.json in the run folder is the latest one.
    """
    if isinstance(run.task, DJTask):
        return dj_evaluation.report(run, batches, data)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    results, guesses = evaluate(run.task.to(device), batches)
    if guesses is not None and "clips" in results:  # a benchmark: every batch brings its settings
        results |= knowledge(run.task, batches, *guesses)
    results = {"run": str(run.folder), "checkpoint": run.checkpoint.name, "data": data, **results}
    write_json(run.folder / "evaluations" / f"{data}.json", results)
    write_json(run.folder / "evaluation.json", results)
    write_results(run.task, next(iter(batches)), run.folder / "results" / data)
    if guesses is not None:
        scatter = knob_scatter(run.task.sfx.spec, *guesses)
        save_figure(scatter, run.folder / "results" / data / "figures" / "knobs.png")
    console = Console()
    for table in tables(results):
        console.print(table)
    console.print(
        f"{summary(results)}\nwritten to {run.folder / 'evaluation.json'}", soft_wrap=True, highlight=False
    )
    return results


@torch.inference_mode()
def evaluate(
    task: Task, batches: Iterable[Mapping], stage: str = "test"
) -> tuple[dict, tuple[Tensor, Tensor] | None]:
    """Scores a task on batches of dry audio, each item at one fixed setting drawn from its name.

    Which answers there are, the task says: `estimate` and the baselines to compare it with.
    Returns {"metrics": {metric: {answer: mean}}, "knobs": {knob: {answer: mean error, "unit": unit}},
    "items": N, "per_item": {name: {metric: {answer: value}}}}, with "clips": {clip: [name]} where batches say
    whose excerpt an item is, "untouched", means of `sounds_left_alone`, where effects can be off, and "nll",
    see `likelihoods`; and the true and the estimated settings [N, P, 1] of all, or None where they cannot be
    compared.
    """
    task.eval()
    scores: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    errors: dict[str, dict[str, list[Tensor]]] = defaultdict(lambda: defaultdict(list))
    names: list[str] = []
    clips: dict[str, list[str]] = defaultdict(list)
    guesses: list[tuple[Tensor, Tensor]] = []
    untouched: list[dict[str, float]] = []
    surprises: list[Tensor] = []
    for batch in track(list_like(batches), description="evaluating", console=Console(stderr=True)):
        batch = {
            key: value.to(task.device) if isinstance(value, Tensor) else value for key, value in batch.items()
        }
        names += batch["name"]
        for name, clip in zip(batch["name"], batch.get("clip", ()), strict=False):
            clips[clip].append(name)
        untouched += sounds_left_alone(task, batch)
        target, answers = task.answers(batch, stage)
        nats = task.surprise(target, stage)
        surprises += [] if nats is None else [nats.cpu()]
        for answer, found in answers.items():
            for metric, values in audio_metrics(found.audio, target.audio, task.sample_rate).items():
                scores[metric][answer].append(values.cpu())
            if found.z is not None and found.z is not target.z:
                for knob, values in heard_errors(task.sfx.spec, found.z, target).items():
                    errors[knob][answer].append(values.cpu())
                if answer == "estimate":
                    guesses.append((target.z.cpu(), found.z.cpu()))
    if not names:
        raise ValueError("there is nothing to evaluate on: the test set is empty")
    table = {m: {a: torch.cat(values) for a, values in row.items()} for m, row in scores.items()}
    units = knob_units(task.sfx.spec)
    results = {
        "metrics": {m: {a: values.mean().item() for a, values in row.items()} for m, row in table.items()},
        "knobs": {
            k: {**{a: torch.cat(v).mean().item() for a, v in row.items()}, "unit": units[k]}
            for k, row in errors.items()
            if len(torch.cat(next(iter(row.values()))))
        },
        "items": len(names),
        "per_item": {
            name: {m: {a: values[i].item() for a, values in row.items()} for m, row in table.items()}
            for i, name in enumerate(names)
        },
    }
    if untouched:
        results["untouched"] = {
            key: sum(row[key] for row in untouched) / len(untouched) for key in untouched[0]
        }
    if clips:
        results["clips"] = dict(clips)
    pairs = tuple(torch.cat(values) for values in zip(*guesses, strict=True))
    return results | likelihoods(task.sfx.spec, pairs, surprises), pairs or None


def likelihoods(spec: ControlSpec, pairs: Sequence[Tensor], surprises: Sequence[Tensor]) -> dict:
    """{"nll": {"point": nats a value, "posterior": ...}}: how unlikely the true settings were.

    A point is read as a density as wide as its errors on the other items. Empty where knobs differ.
    """
    if not pairs or len(pairs[0]) < 2:
        return {}
    z = dequantized(spec, pairs[0], torch.Generator().manual_seed(0))
    found = {"point": nats_per_value(around(pairs[1], z), z).mean().item()}
    if surprises:
        found["posterior"] = torch.cat(list(surprises)).mean().item()
    return {"nll": found}


def heard_errors(spec: ControlSpec, z: Tensor, target: Estimate) -> dict[str, Tensor]:
    """`knob_errors` of the items in which a knob can be heard: {label: [up to B]}."""
    errors = knob_errors(spec, z, target.z)
    if target.heard is None:
        return errors
    heard = dict(zip(spec.labels, (target.heard.amax(-1) > 0).unbind(1), strict=True))
    return {knob: values[heard[knob]] for knob, values in errors.items()}


def sounds_left_alone(task: Task, batch: Mapping) -> list[dict[str, float]]:
    """One row a sound to which nothing was done, where effects can be off.

    "mel" is how far the estimate bends it, "left alone" is 1 where all effects are called off, and each
    effect has the network's word for being on.
    """
    rows = slice(0, 1) if "clip" in batch else slice(None)  # a benchmark repeats its sound for each setting
    found = task.untouched({**batch, "dry": batch["dry"][rows], "name": batch["name"][rows]})
    if found is None:
        return []
    sound, z = found
    spec = task.afx.spec
    mel = audio_metrics(task.apply(sound, z), sound, task.sample_rate)["mel"].tolist()
    sure = {spec.labels[i].rpartition(".")[0]: z[:, i, 0].tolist() for i in spec.switches}
    return [
        {"mel": mel[k], "left alone": float(all(p[k] < 0.5 for p in sure.values()))}
        | {node: p[k] for node, p in sure.items()}
        for k in range(len(sound))
    ]


def list_like(batches: Iterable) -> Iterable:
    """rich wants a length; a DataLoader has one."""
    return batches if hasattr(batches, "__len__") else list(batches)


def summary(results: Mapping) -> str:
    """One line: the mel distance of the estimate against the better baseline."""
    mel = results["metrics"]["mel"]
    best = min((name for name in BASELINES if name in mel), key=mel.get)
    share = mel["estimate"] / mel[best]
    return f"mel {mel['estimate']:.3f}, {share:.2f} of the best baseline ({best} {mel[best]:.3f})"


def tables(results: Mapping) -> list[Table]:
    """The results for a terminal."""
    audio = Table(title=f"{results['items']} items; lower is better, but for si_sdr")
    audio.add_column("metric")
    answers = [answer for answer in results["metrics"]["mel"] if answer not in CURVE]
    for answer in answers:
        audio.add_column(answer, justify="right")
    for metric, row in results["metrics"].items():
        unit = UNITS.get(metric, "")
        audio.add_row(f"{metric} [{unit}]" if unit else metric, *(f"{row[answer]:.3f}" for answer in answers))
    clips = [per_clip(results)] if "clips" in results else []
    clips += [audibility_table(results)] if "audible" in results else []
    clips += [left_alone(results["untouched"])] if "untouched" in results else []
    clips += [nats(results["nll"])] if "posterior" in results.get("nll", ()) else []
    if not results["knobs"]:
        return [audio, *clips]
    knobs = Table(title="mean error of each knob")
    columns = list(next(iter(results["knobs"].values())))
    for column in ("knob", *columns):
        knobs.add_column(column, justify="left" if column in ("knob", "unit") else "right")
    for knob, row in results["knobs"].items():
        knobs.add_row(knob, *(v if isinstance(v, str) else f"{v:.2f}" for v in row.values()))
    return [audio, *clips, knobs]


def left_alone(row: Mapping[str, float]) -> Table:
    """What the estimator does to sounds to which nothing was done."""
    table = Table(
        title="where nothing was done: mel between the sound and the estimate, share, how sure of each"
    )
    for column in row:
        table.add_column(column, justify="right")
    table.add_row(*(f"{value:.3f}" for value in row.values()))
    return table


def nats(row: Mapping[str, float]) -> Table:
    """How unlikely the true settings were to the density, and to its best answer alone."""
    table = Table(title="surprise at the true settings, nats a value; 0: nothing known, lower is better")
    for column in row:
        table.add_column(column, justify="right")
    table.add_row(*(f"{value:.3f}" for value in row.values()))
    return table


def knowledge(task: Task, batches: Iterable[Mapping], z: Tensor, z_hat: Tensor) -> dict[str, dict]:
    """{"audible", "explained": {label: number}, "unknowable": {label: why}}: see `difffx.audibility`."""
    rows = track(list_like(batches), description="each knob", console=Console(stderr=True))
    heard = audibility(task.sfx, rows, task.device)
    found = explained(task.sfx.spec, z, z_hat)
    return {"audible": heard, "explained": found, "unknowable": unknowable(heard, found)}


def per_clip(results: Mapping) -> Table:
    """The mel distance of every answer, a row a clip: the mean over its items."""
    answers = [answer for answer in results["metrics"]["mel"] if answer not in CURVE]
    table = Table(title="mel of each clip")
    table.add_column("clip")
    for answer in answers:
        table.add_column(answer, justify="right")
    for clip, names in results["clips"].items():
        scores = [results["per_item"][name]["mel"] for name in names]
        table.add_row(
            clip, *(f"{sum(row[answer] for row in scores) / len(scores):.3f}" for answer in answers)
        )
    return table
