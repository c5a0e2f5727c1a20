"""What every task shares: drawing settings, logging named terms, optimizers."""

from __future__ import annotations

import inspect
import math
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext

import lightning
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from difffx.params import ControlSpec


def seeded(*parts: object) -> torch.Generator:
    """A generator that depends on its arguments alone: the same on every machine."""
    return torch.Generator().manual_seed(zlib.crc32("/".join(map(str, parts)).encode()))


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup: float = 0.05) -> LambdaLR:
    """The learning rate rises linearly over a share of all steps, then falls to zero along half a cosine.

    It depends on the step alone, so a run that is resumed to be longer follows the longer curve from there.
    """

    def factor(step: int) -> float:
        done = step / max(total_steps, 1)
        return min((step + 1) / (warmup * total_steps + 1), 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0))))

    return LambdaLR(optimizer, factor)


class Task(lightning.LightningModule):
    """A LightningModule whose subclasses write `step(batch, stage, index) -> loss`.

    hears       the keys that its batches must have; other data is refused in one line that names `data`

    optimizer   parameters -> Optimizer
    scheduler   Optimizer -> scheduler, stepped every batch (told `total_steps` where it asks for it) or, for
                ReduceLROnPlateau, once an epoch on val/loss
    seed        of everything this task draws; validation and test draw the same targets every epoch
    """

    hears: tuple[str, ...] = ("dry", "name")
    data = "data=synthetic, folder, musdb18 or blend"

    def __init__(
        self,
        optimizer: Callable[[Iterable[Tensor]], Optimizer],
        scheduler: Callable[..., object] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.make_optimizer, self.make_scheduler, self.seed = optimizer, scheduler, seed

    def step(self, batch: Mapping, stage: str, index: int) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Mapping, batch_idx: int) -> Tensor:
        return self.step(self.checked(batch), "train", batch_idx)

    def validation_step(self, batch: Mapping, batch_idx: int) -> Tensor:
        return self.step(self.checked(batch), "val", batch_idx)

    def checked(self, batch: Mapping) -> Mapping:
        """The batch; raises ValueError where it is of data for another task."""
        missing = [key for key in self.hears if key not in batch]
        if missing:
            raise ValueError(
                f"{type(self).__name__} hears {', '.join(self.hears)}, the batches of this data hold "
                f"{', '.join(batch)}: choose {self.data}"
            )
        return batch

    def draw(self, spec: ControlSpec, batch: Mapping, stage: str, index: int) -> Tensor:
        """Uniform settings z [B, P, 1]. Training: new ones in every step, the same after a resumed start.
        Validation and test: one fixed setting an item, whatever the batch size or the order."""
        names = batch["name"]
        if stage == "train":
            generator = seeded(self.seed, stage, self.current_epoch, index, self.global_rank)
            z = spec.sample(len(names), generator=generator)
        else:
            items = [spec.sample(1, generator=seeded(self.seed, stage, name)) for name in names]
            z = torch.cat(items)
        return z.to(batch["dry"].device)

    def untouched(self, batch: Mapping) -> tuple[Tensor, Tensor] | None:
        """Sounds that need no answer, and the answer to them; None where a task has none."""
        return None

    def surprise(self, target: object, stage: str = "test") -> Tensor | None:
        """How unlikely the truth was to this task, in nats a value, [B]; None where it gives one answer."""
        return None

    def log_terms(self, stage: str, terms: Mapping[str, Tensor], total: Tensor, batch_size: int) -> Tensor:
        """Logs every term as stage/term and what is optimized as stage/loss; returns the latter."""
        values = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
        values[f"{stage}/loss"] = total.detach()
        self.log_dict(values, batch_size=batch_size, on_step=False, on_epoch=True, sync_dist=True)
        if stage == "train":
            self.log("loss", total.detach(), prog_bar=True, logger=False, batch_size=batch_size)
        else:
            self.log(f"{stage}_loss", total.detach(), prog_bar=True, logger=False, batch_size=batch_size)
        return total

    def timed(self, name: str) -> AbstractContextManager:
        """Books the time of a block under its name; debug=profile prints the table."""
        return self.trainer.profiler.profile(f"[task]{name}") if self._trainer else nullcontext()

    def configure_optimizers(self) -> dict:
        optimizer = self.make_optimizer([p for p in self.parameters() if p.requires_grad])
        if self.make_scheduler is None:
            return {"optimizer": optimizer}
        kind = getattr(self.make_scheduler, "func", self.make_scheduler)
        if kind is ReduceLROnPlateau:
            schedule = {
                "scheduler": self.make_scheduler(optimizer),
                "monitor": "val/loss",
                "interval": "epoch",
            }
        else:
            asks = "total_steps" in inspect.signature(kind).parameters
            more = {"total_steps": self.trainer.estimated_stepping_batches} if asks else {}
            schedule = {"scheduler": self.make_scheduler(optimizer, **more), "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}
