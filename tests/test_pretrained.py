"""Estimators that ship: found by name, checked by hash, good for something."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from difffx import runs
from difffx.data.synthetic import SyntheticSegments
from difffx.metrics import audio_metrics
from difffx.pretrained import card, estimators, load_estimator, ship
from difffx.runs import RunError

SHIPPED = estimators()
CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.fixture
def tiny_run(tmp_path):
    """A run of an untrained estimator of a clipper that may be off."""
    small = ["sfx=dist", "sample_rate=16000", "bypass=0.3", "encoder=histograms", "+head.hidden=[64]"]
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = compose("train", overrides=[*small, "run_name=tiny", "logger=none", "callbacks=none"])
    kept = {key: runs.plain(config[key]) for key in ("task", "data")}
    config = OmegaConf.create({**kept, "sample_rate": config.sample_rate, "seed": config.seed})
    torch.manual_seed(0)
    task = runs.build(config.task).eval()
    with torch.no_grad():
        task.head.layers[-1].weight.mul_(30.0)
    return runs.Run(task, config, tmp_path / "run", tmp_path / "run" / "best.ckpt")


def music(items=4, seconds=6.0, rate=44_100):
    data = SyntheticSegments(rate, round(seconds * rate), 1, 7, "test", items, 0.0)
    return torch.stack([data[i]["dry"] for i in range(items)])


def test_a_shipped_run_gives_the_same_answers(tiny_run, tmp_path):
    path = ship(tiny_run, "tiny", {"limits": "none"}, tmp_path)
    loaded = load_estimator("tiny", tmp_path / "results", tmp_path)
    x = 0.1 * torch.randn(2, 1, 2 * tiny_run.task.sample_rate, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(loaded.task.estimate(x), tiny_run.task.estimate(x), atol=2e-3)
    assert card("tiny", tmp_path)["limits"] == "none"
    assert loaded.folder == tmp_path / "results" / "tiny" and loaded.checkpoint == path


def test_weights_that_are_not_those_of_the_card_are_refused(tiny_run, tmp_path):
    path = ship(tiny_run, "tiny", {}, tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="not the weights that its card names"):
        load_estimator("tiny", folder=tmp_path)
    path.unlink()
    with pytest.raises(RunError, match="weights of estimator tiny are missing"):
        load_estimator("tiny", folder=tmp_path)


def test_an_unknown_name_says_which_there_are(tiny_run, tmp_path):
    ship(tiny_run, "tiny", {}, tmp_path)
    with pytest.raises(RunError, match=r"no estimator 'tinny' \(did you mean 'tiny'\?\); known: tiny"):
        load_estimator("tinny", folder=tmp_path)
