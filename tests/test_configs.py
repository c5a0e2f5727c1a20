"""Every option of every config group can be built."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import OmegaConf

CONFIGS = Path(__file__).parents[1] / "configs"
OPTIONS = sorted(
    (str(path.parent.relative_to(CONFIGS)), path.stem)
    for path in CONFIGS.rglob("*.yaml")
    if path.parent != CONFIGS and path.parent.name != "graph"
)
GRAPHS = sorted(path.stem for path in (CONFIGS / "graph").glob("*.yaml"))


@pytest.fixture
def composed(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSDB18_ROOT", str(tmp_path))

    def compose_with(*overrides):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = compose("train", [*overrides, f"hydra.run.dir={tmp_path}"], return_hydra_config=True)
        OmegaConf.set_readonly(config.hydra, False)
        config.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(config)
        return config

    yield compose_with
    GlobalHydra.instance().clear()


def is_experiment(group):
    return group.partition("/")[0] in ("experiment", "debug", "task")


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_builds(composed, tmp_path, needs, group, option):
    top, _, rest = group.partition("/")
    choice = f"{rest}/{option}" if rest else option
    overrides = [f"{top}={choice}"]
    if top == "afx" and option in needs:
        overrides.append(f"sfx={needs[option]}")
    if top == "data" and option == "folder":
        overrides.append(f"data.root={tmp_path}")
    if top == "trainer":
        overrides.append("trainer.accelerator=cpu")
    config = composed(*overrides)
    if is_experiment(group):
        assert isinstance(instantiate(config.task), torch.nn.Module)
    else:
        key = {"optim": "optimizer"}.get(top)
        built = instantiate(config[top])
        assert built is not None or config[top] is None
        assert key is None or callable(built[key])


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph_is_an_option_of_sfx_and_afx_and_plays(composed, name):
    config = composed(f"sfx={name}", f"afx={name}")
    graph = instantiate(config.sfx)
    x = torch.randn(2, 1, 2000, generator=torch.Generator().manual_seed(0))
    assert graph(x).isfinite().all()
    assert graph.spec == instantiate(config.afx).spec


def test_the_two_graphs_of_a_task_are_two(composed):
    task = instantiate(composed("sfx=peq", "afx=same").task)
    assert task.sfx is not task.afx and task.sfx.spec == task.afx.spec


def test_one_knob_is_narrowed_and_one_node_removed_from_the_command_line(composed):
    config = composed("sfx=peq_comp", "+sfx.processors.comp.ranges.ratio=[2,8]", "~sfx.processors.peq")
    graph = instantiate(config.sfx)
    assert graph.spec.entries["comp.ratio"].high == 8.0
    assert "peq" not in graph.processors


def test_the_sample_rate_is_written_once(composed):
    config = composed("sample_rate=22050", "sfx=peq")
    assert instantiate(config.sfx).sample_rate == 22_050
    assert instantiate(config.data).sample_rate == 22_050
