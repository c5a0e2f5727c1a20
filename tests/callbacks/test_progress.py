"""How far training has come."""

import sys

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import TQDMProgressBar
from torch.utils.data import DataLoader

from difffx.callbacks import ProgressLines, progress
from difffx.callbacks.progress import _clock


class Falling(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def training_step(self, batch, batch_idx):
        self.log("loss", self.weight.detach()[0])
        return self.weight.square().sum()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", 0.125)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore")
def test_a_file_gets_plain_lines_with_epoch_share_loss_and_time(tmp_path, capsys):
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[ProgressLines(seconds=0.0)],
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    loader = DataLoader(range(4), batch_size=1)
    trainer.fit(Falling(), loader, loader)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert len(lines) == 2 * (4 + 1)
    assert lines[0].startswith("epoch 1/2  25 %  loss 1  0:00")
    assert lines[4].startswith("epoch 1/2  100 %  val/loss 0.125")
    assert lines[-1].endswith("0:00 left")
    assert not any("\r" in line for line in lines)


def test_a_terminal_gets_a_bar_and_a_file_gets_lines(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(progress(), TQDMProgressBar)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert isinstance(progress(), ProgressLines)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00"), (125, "2:05"), (3_725, "1:02:05"), (-3, "0:00")]
)
def test_a_clock_reads_as_clocks_do(seconds, shown):
    assert _clock(seconds) == shown
