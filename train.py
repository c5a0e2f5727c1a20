"""Train: python train.py sfx=peq_comp afx=proxy. Every group and option: python train.py --help."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import suppress

from omegaconf import DictConfig

from difffx import runs


def train(config: DictConfig) -> float | None:
    """Fits the task, scores its best checkpoint, returns the metric that a sweep minimizes."""
    import lightning

    from difffx.evaluation import report

    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    runs.keep_memory()
    runs.share_cores(config.data.get("num_workers", 0))
    folder = runs.output_folder()
    data, task = runs.build(config.data), runs.build(config.task)
    callbacks, loggers = list(runs.build(config.callbacks).values()), list(runs.build(config.logger).values())
    trainer = runs.build(config.trainer, callbacks=callbacks, logger=loggers)
    last = runs.find_checkpoint(folder, "last") if config.resume else None
    runs.save_config(config, folder)
    for logger in loggers:
        logger.log_hyperparams(runs.plain(config))

    print(f"{task}\nrun folder: {folder}", flush=True)
    with suppress(SystemExit):  # Lightning's way out after Ctrl-C
        trainer.fit(task, data, ckpt_path=last)
    if trainer.interrupted:
        print(f"stopped; to go on: python train.py resume='{folder}'", file=sys.stderr)
        sys.exit(130)
    metric = trainer.callback_metrics.get(config.metric)
    if config.evaluate and trainer.is_global_zero:
        data.setup("test")
        report(runs.load_run(folder), data.test_dataloader(), "test")
    return None if metric is None else metric.item()


if __name__ == "__main__":
    runs.command_line("train", train)
