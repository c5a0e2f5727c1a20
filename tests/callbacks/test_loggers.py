"""Where the numbers of a run go."""

import csv

import pytest
import torch

from difffx.callbacks import MetricsTable, Wandb
from difffx.callbacks.loggers import _has_key


def rows(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_is_on_disk_after_every_row_and_lies_in_the_run_folder(tmp_path):
    table = MetricsTable(tmp_path / "run")
    table.log_metrics({"train/loss": 0.5, "epoch": 0}, step=9)
    assert rows(tmp_path / "run") == [{"epoch": "0", "step": "9", "train/loss": "0.5"}]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["metrics.csv"]


def test_metrics_of_one_step_share_a_row_and_new_ones_get_a_column(tmp_path):
    table = MetricsTable(tmp_path)
    table.log_metrics({"val/loss": 0.7, "epoch": 0}, step=9)
    table.log_metrics({"train/loss": 0.5, "epoch": 0}, step=9)
    table.log_metrics({"val/loss": 0.6, "epoch": 1}, step=19)
    assert rows(tmp_path) == [
        {"epoch": "0", "step": "9", "train/loss": "0.5", "val/loss": "0.7"},
        {"epoch": "1", "step": "19", "train/loss": "", "val/loss": "0.6"},
    ]


def test_a_resumed_run_keeps_its_rows_and_drops_those_it_repeats(tmp_path):
    before = MetricsTable(tmp_path)
    for epoch in range(3):
        before.log_metrics({"val/loss": 1.0 - epoch / 10, "epoch": epoch}, step=10 * epoch + 9)
    after = MetricsTable(tmp_path)
    after.log_metrics({"val/loss": 0.1, "epoch": 2}, step=29)
    after.log_metrics({"val/loss": 0.05, "epoch": 3}, step=39)
    assert [(row["step"], row["val/loss"]) for row in rows(tmp_path)] == [
        ("9", "1.0"),
        ("19", "0.9"),
        ("29", "0.1"),
        ("39", "0.05"),
    ]


def test_a_tensor_is_written_as_a_number(tmp_path):
    MetricsTable(tmp_path).log_metrics({"loss": torch.tensor(0.25)}, step=0)
    assert rows(tmp_path)[0]["loss"] == "0.25"


@pytest.fixture
def stranger(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_BASE_URL", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path


def test_online_wandb_without_an_account_is_refused_at_once(stranger):
    with pytest.raises(ValueError, match="needs an account"):
        Wandb(stranger / "run", offline=False, project="difffx")
    assert not (stranger / "run").exists()


def test_offline_wandb_needs_no_account(stranger):
    assert Wandb(stranger / "run", project="difffx").save_dir == str(stranger / "run")


def test_an_account_is_found_where_wandb_login_leaves_it(stranger, monkeypatch):
    assert not _has_key()
    (stranger / "netrc").write_text("machine api.wandb.ai\n  login user\n  password x\n")
    assert _has_key()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not _has_key()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert _has_key()
