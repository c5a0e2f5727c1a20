"""Score a run: python evaluate.py run=runs/blind/... [data=folder data.root=...] [checkpoint=last]."""

from __future__ import annotations

from omegaconf import DictConfig

from difffx.runs import build, command_line, load_run, run_data


def evaluate(config: DictConfig) -> None:
    """The tables of a run on its own test set, or on other data."""
    from difffx.evaluation import report

    run = load_run(config.run, config.checkpoint)
    name, settings = run_data(config, run)
    data = build(settings)
    if config.data is None:
        data.setup("fit")  # what was trained on stays out of the test set
    data.setup("test")
    report(run, data.test_dataloader(), name)


if __name__ == "__main__":
    command_line("evaluate", evaluate)
