"""Where the numbers of a run go: a table in its folder, a dashboard."""

from __future__ import annotations

import csv
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor


class MetricsTable(Logger):
    """metrics.csv in the run folder: a row a step, a column a metric, written after every row.

    A resumed run goes on in the same file; rows of steps that it repeats are dropped. (Lightning's CSVLogger
    deletes the file of a folder that it is started in again.)
    """

    def __init__(self, folder: str | Path, filename: str = "metrics.csv") -> None:
        super().__init__()
        self.path = Path(folder) / filename
        self.rows: list[dict[str, object]] | None = None

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: object, *args: object, **kwargs: object) -> None:
        """The run folder has config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """One row; metrics of the same step and epoch share it."""
        if self.rows is None:
            self.rows = [row for row in self._read() if step is None or int(row["step"]) < step]
        numbers = {k: v.item() if isinstance(v, Tensor) else v for k, v in metrics.items()}
        row = {"step": step if step is not None else len(self.rows), **numbers}
        last = self.rows[-1] if self.rows else {}
        if last.get("step") == row["step"] and last.get("epoch") == row.get("epoch", last.get("epoch")):
            last.update(row)
        else:
            self.rows.append(row)
        self._write()

    def _read(self) -> list[dict[str, object]]:
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file) if row.get("step")]

    def _write(self) -> None:
        names = dict.fromkeys(name for row in self.rows for name in row)
        columns = [name for name in ("epoch", "step") if name in names]
        columns += sorted(name for name in names if name not in columns)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(part, self.path)


class Wandb(WandbLogger):
    """Weights & Biases, offline unless told otherwise: nothing is asked, nothing leaves the machine.

    offline  True: recorded under save_dir/wandb; wandb says at the end how to upload it. False: the API key
             must be there beforehand, else a ValueError says so at once, where wandb would ask and wait
    """

    def __init__(self, save_dir: str | Path, offline: bool = True, **options: object) -> None:
        if not offline and not _has_key():
            raise ValueError(
                "logger.wandb.offline=false needs an account: set WANDB_API_KEY or run `wandb login` first, "
                "or leave it offline and upload later with `wandb sync`"
            )
        Path(save_dir).mkdir(parents=True, exist_ok=True)
        super().__init__(save_dir=str(save_dir), offline=offline, **options)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Closes the run, so that the next one of a sweep gets its own."""
        super().finalize(status)
        if self._experiment is not None:
            self._experiment.finish(exit_code=0 if status in ("success", "finished") else 1)
            self._experiment = None


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    path = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    if not path.is_file():
        return False
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    return host in netrc.netrc(path).hosts
