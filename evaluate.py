"""Score a run: python evaluate.py run=FOLDER | model=NAME [data=folder data.root=...] [benchmark=blind]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from omegaconf import DictConfig

from difffx.runs import Run, RunError, build, command_line, load_run, run_data


def benchmark(config: DictConfig, run: Run) -> Iterable[Mapping]:
    """The batches of a benchmark: stored settings on the music of data.root."""
    from difffx.blind_benchmark import BlindBenchmark
    from difffx.tasks import BlindEstimation

    if config.benchmark != "blind":
        raise RunError(f"benchmark={config.benchmark}: there is one benchmark, blind")
    if not isinstance(run.task, BlindEstimation):
        raise RunError(f"benchmark=blind: {run.folder} is no run of task=blind")
    root = config.data.get("root") if config.data is not None else None
    if root is None:
        raise RunError("benchmark=blind: on which music? add data=folder data.root=FOLDER")
    return BlindBenchmark(root, run.task.sfx.spec, run.task.sample_rate, run.config.data.get("channels", 1))


def evaluate(config: DictConfig) -> None:
    """The tables of a run on its own test set, or on other data."""
    from difffx.evaluation import report
    from difffx.pretrained import load_estimator

    if (config.run is None) == (config.model is None):
        raise RunError("of what? give run=FOLDER, or model=NAME of an estimator that ships, and not both")
    run = load_estimator(config.model) if config.run is None else load_run(config.run, config.checkpoint)
    if config.benchmark:
        report(run, benchmark(config, run), config.benchmark)
        return
    name, settings = run_data(config, run)
    data = build(settings)
    if config.data is None:
        data.setup("fit")  # what was trained on stays out of the test set
    data.setup("test")
    report(run, data.test_dataloader(), name)


if __name__ == "__main__":
    command_line("evaluate", evaluate)
