"""How far training has come: a bar where somebody watches, lines in a file."""

from __future__ import annotations

import sys
import time

import lightning
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar


def progress(refresh_rate: int = 10, seconds: float = 10.0) -> ProgressBar:
    """A bar on a terminal, refreshed every so many steps; elsewhere a line every so many seconds."""
    return TQDMProgressBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else ProgressLines(seconds)


class ProgressLines(ProgressBar):
    """`epoch 3/20  45 %  loss 0.812  0:31, 4:10 left`: a line every `seconds` and after validation."""

    def __init__(self, seconds: float = 10.0) -> None:
        super().__init__()
        self.seconds, self.enabled = seconds, True
        self.start = self.last = 0.0
        self.first = 0

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        self.start = self.last = time.monotonic()
        self.first = trainer.global_step

    def on_train_batch_end(
        self, trainer: lightning.Trainer, task: lightning.LightningModule, *_: object
    ) -> None:
        if time.monotonic() - self.last >= self.seconds:
            self._line(trainer, task, "loss")

    def on_validation_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._line(trainer, task, "val/loss")

    def _line(self, trainer: lightning.Trainer, task: lightning.LightningModule, name: str) -> None:
        self.last = time.monotonic()
        if not self.enabled:
            return
        epoch = trainer.current_epoch + 1
        of = f"/{trainer.max_epochs}" if trainer.max_epochs and trainer.max_epochs > 0 else ""
        batches = trainer.num_training_batches
        part = f"{100 * trainer.fit_loop.batch_idx + 100:.0f}"
        done = f"  {float(part) / batches:.0f} %" if batches not in (0, float("inf")) else ""
        value = trainer.callback_metrics.get(name)
        shown = f"  {name} {value.item():.4g}" if value is not None else ""
        self.print(f"epoch {epoch}{of}{done}{shown}  {self._times(trainer)}", flush=True)

    def _times(self, trainer: lightning.Trainer) -> str:
        spent = time.monotonic() - self.start
        steps, total = trainer.global_step - self.first, trainer.estimated_stepping_batches
        if steps < 1 or total in (-1, float("inf")):
            return _clock(spent)
        return f"{_clock(spent)}, {_clock(spent * (total - trainer.global_step) / steps)} left"


def _clock(seconds: float) -> str:
    """125 s -> 2:05."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
