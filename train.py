"""Train: python train.py sfx=peq_comp afx=proxy. Every group and option: python train.py --help."""

from __future__ import annotations

import logging
import warnings

from omegaconf import DictConfig

from difffx.runs import build, command_line, find_checkpoint, load_run, output_folder, plain, save_config, share_cores


def train(config: DictConfig) -> float | None:
    """Fits the task, scores its best checkpoint, returns the metric that a sweep minimizes."""
    import lightning

    from difffx.evaluation import report

    warnings.filterwarnings("ignore", module="lightning")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    share_cores(config.data.get("num_workers", 0))
    folder = output_folder()
    data, task = build(config.data), build(config.task)
    callbacks, loggers = list(build(config.callbacks).values()), list(build(config.logger).values())
    trainer = build(config.trainer, callbacks=callbacks, logger=loggers)
    last = find_checkpoint(folder, "last") if config.resume else None
    save_config(config, folder)
    for logger in loggers:
        logger.log_hyperparams(plain(config))

    print(f"{task}\nrun folder: {folder}", flush=True)
    trainer.fit(task, data, ckpt_path=last)
    if trainer.interrupted:
        raise KeyboardInterrupt
    metric = trainer.callback_metrics.get(config.metric)
    if config.evaluate and trainer.is_global_zero:
        data.setup("test")
        report(load_run(folder), data.test_dataloader(), "test")
    return None if metric is None else metric.item()


if __name__ == "__main__":
    command_line("train", train)
