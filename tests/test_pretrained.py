"""Estimators that ship: found by name, checked by hash, good for something."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from difffx import runs
from difffx.data.synthetic import SyntheticSegments
from difffx.functional.spectra import normalize_rms
from difffx.metrics.audio import mel_distance
from difffx.pretrained import FOLDER, card, estimators, load_estimator, ship
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


def music(items=6, seconds=6.0, rate=44_100):
    data = SyntheticSegments(rate, round(seconds * rate), 1, 7, "test", items, 0.0)
    return torch.stack([data[i]["dry"] for i in range(items)])


def mel(sound, target):
    return mel_distance(normalize_rms(sound), normalize_rms(target), 44_100).mean().item()


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


def test_the_shipped_estimators_are_those_of_the_readme_and_small_together():
    assert SHIPPED == ["comp", "dist", "peq", "peq_comp_dist"]
    assert sum((FOLDER / f"{name}.safetensors").stat().st_size for name in SHIPPED) < 12e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_says_how_it_was_made_what_it_can_do_and_what_not(name):
    about = card(name)
    for key in ("command", "data", "seed", "hours", "limits", "knobs", "sha256"):
        assert about[key] not in (None, "", []), key
    assert f"experiment=estimators/{name}" in about["command"]
    for data in ("test", "blind"):
        row = about["scores"][data]["mel"]
        assert row["estimate"] < min(row["dry"], row["midpoint"])


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_estimator_comes_nearer_than_doing_nothing_and_than_the_middle(name, tmp_path):
    task, dry = load_estimator(name, tmp_path).task, music()
    spec = task.sfx.spec
    z = spec.sample(len(dry), generator=torch.Generator().manual_seed(11))
    z[:, spec.switches] = 1.0
    with torch.no_grad():
        wet = task.sfx(dry, controls=task.sfx.from_unit(z))
        found = mel(task.apply(dry, task.estimate(wet)), wet)
        middle = spec.decided(torch.full_like(z, 0.5))
        assert found < 0.85 * mel(dry, wet)
        assert found < 0.85 * mel(task.apply(dry, middle), wet)
