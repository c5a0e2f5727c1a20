"""How well transitions are heard or imitated: a task's answers beside those that need no learning."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from difffx.callbacks import write_results
from difffx.losses import Transition
from difffx.metrics.dj import UNITS, mix_metrics, transition_metrics
from difffx.runs import Run, write_json
from difffx.tasks import DJTask

WIDTH = 120  # of tables in a file
Scores = dict[str, dict[str, list[Tensor]]]


def report(run: Run, batches: Iterable[Mapping], data: str) -> dict:
    """Scores a run, prints the tables, writes evaluations/<data>.json, figures and audio into the run folder.

    evaluation.json in the run folder is the latest one.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = batches if hasattr(batches, "__len__") else list(batches)
    results = evaluate(run.task.to(device), batches)
    results = {"run": str(run.folder), "checkpoint": run.checkpoint.name, "data": data, **results}
    write_json(run.folder / "evaluations" / f"{data}.json", results)
    write_json(run.folder / "evaluation.json", results)
    write_results(run.task, next(iter(batches)), run.folder / "results" / data)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    for table in tables(results):
        console.print(table)
    console.print(
        f"{summary(results)}\nwritten to {run.folder / 'evaluation.json'}", soft_wrap=True, highlight=False
    )
    return results


@torch.no_grad()
def evaluate(task: DJTask, batches: Iterable[Mapping], stage: str = "test") -> dict:
    """Scores a task on batches of decks, see `difffx.data.DJPairs`.

    Returns {"metrics": {metric: {answer: mean}}, "items": N, "per_item": {name: {metric: {answer: value}}}};
    means leave out the items in which there is nothing to compare, such as the cutoffs of open filters. An
    answer that takes its time, such as "fit", has the first items only: "fitted" says how many.
    """
    task.eval()
    scores: Scores = defaultdict(lambda: defaultdict(list))
    names: list[str] = []
    fitted = 0
    for batch in track(batches, description="evaluating", console=Console(stderr=True)):
        batch = {key: x.to(task.device) if isinstance(x, Tensor) else x for key, x in batch.items()}
        todo = min(len(batch["name"]), max(0, getattr(task, "fit_items", 0) - fitted))
        target, answers = task.answers(batch, stage, todo)
        fitted, names = fitted + todo, [*names, *batch["name"]]
        for answer, found in answers.items():
            for metric, values in distances(task, found, target).items():
                scores[metric][answer].append(values.cpu())
    if not names:
        raise ValueError("there is nothing to evaluate on: the test set is empty")
    table = {m: {a: torch.cat(values) for a, values in row.items()} for m, row in scores.items()}
    results = {
        "metrics": {
            m: {a: _number(values.nanmean()) for a, values in row.items()} for m, row in table.items()
        },
        "items": len(names),
        "per_item": {
            name: {m: {a: _number(x[i]) for a, x in row.items() if i < len(x)} for m, row in table.items()}
            for i, name in enumerate(names)
        },
    }
    return results | ({"fitted": fitted} if fitted else {})


def distances(task: DJTask, found: Transition, target: Transition) -> dict[str, Tensor]:
    """All metrics of an answer, which may have only the first of the items."""
    count = len(found.params)
    first = slice(0, count)
    scores = transition_metrics(
        found.params,
        target.params[first],
        target.energies[first],
        task.bands,
        task.mixer.config,
        target.seconds,
        target.echo_s[first],
    )
    scores["curves"] = ((found.params - target.params[first]) / task.highest).abs().mean((1, 2))
    if found.audio is not None:
        scores |= mix_metrics(found.audio, target.audio[first], task.sample_rate)
    return scores


def _number(value: Tensor) -> float | None:
    """None where it is not a number, which JSON does not know."""
    return value.item() if value.isfinite() else None


def summary(results: Mapping) -> str:
    """One line: the response error of the estimate, of the best answer without learning, and of the fit."""
    row = results["metrics"]["response_db"]
    plain = {name: value for name, value in row.items() if name not in ("estimate", "fit")}
    best = min(plain, key=plain.get)
    line = f"response {row['estimate']:.2f} dB; best without learning {best} {plain[best]:.2f} dB"
    if "fit" not in row:
        return line
    same = [
        item["response_db"]["estimate"] for item in list(results["per_item"].values())[: results["fitted"]]
    ]
    there = sum(same) / len(same)
    return (
        f"{line}; the first {len(same)} fitted by gradient {row['fit']:.2f} dB, estimate there {there:.2f} dB"
    )


def tables(results: Mapping) -> list[Table]:
    """The results for a terminal."""
    metrics = results["metrics"]
    whole = {name: row for name, row in metrics.items() if "/" not in name}
    stems = {name.partition("/")[2]: row for name, row in metrics.items() if "/" in name}
    title = f"{results['items']} mixes; lower is better, but for si_sdr"
    return [
        _table(title, {f"{n} [{UNITS[n]}]" if UNITS.get(n) else n: row for n, row in whole.items()}, results),
        _table("response error of each stem, dB", stems, results),
    ]


def _table(title: str, rows: Mapping[str, Mapping[str, float | None]], results: Mapping) -> Table:
    table = Table(title=title)
    table.add_column("metric")
    answers = list(results["metrics"]["response_db"])
    for answer in answers:
        some = f" ({results['fitted']} only)" if answer == "fit" else ""
        table.add_column(f"{answer}{some}", justify="right")
    for name, row in rows.items():
        values = (row.get(answer) for answer in answers)
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    return table
