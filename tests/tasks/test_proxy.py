from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning
import pytest
import torch

from difffx.data import Synthetic
from difffx.graph import GraphError, ProcessorGraph
from difffx.processors import Compressor, Gain, NeuralProxy, Normalize, ParametricClipper
from difffx.tasks import ProxyTraining

RATE = 44_100
SMALL = {"channels": 4, "dilations": [1, 4]}


def chain() -> ProcessorGraph:
    return ProcessorGraph(
        {"level": Normalize(RATE), "comp": Compressor(RATE)}, set={"comp": {"makeup_db": 0.0}}
    )


@pytest.fixture
def task() -> ProxyTraining:
    torch.manual_seed(0)
    return ProxyTraining(chain(), partial(torch.optim.Adam, lr=3e-3), network=SMALL, command="by hand")


@pytest.fixture
def batch() -> dict:
    generator = torch.Generator().manual_seed(0)
    return {"dry": torch.rand(2, 1, 20_000, generator=generator) - 0.5, "name": ["a", "b"]}


def test_training_on_one_batch_lowers_every_term(task: ProxyTraining, batch: dict) -> None:
    heard, controls, target = task.render(batch, "val")
    optimizer = task.make_optimizer(task.proxy.parameters())
    history = []
    for _ in range(40):
        terms = task.terms(heard[0], task.proxy(*heard, controls=controls), target.audio)
        optimizer.zero_grad()
        sum(weight * terms[name] for name, weight in task.weights.items()).backward()
        optimizer.step()
        history.append({name: value.item() for name, value in terms.items()})
    for name in ("gain_db", "mel", "wave"):
        assert history[-1][name] < 0.8 * history[0][name], name


def test_the_true_effect_scores_zero(task: ProxyTraining, batch: dict) -> None:
    heard, controls, target = task.render(batch, "val")
    again = task.effect(*heard, controls=controls)
    assert all(value < 1e-4 for value in task.terms(heard[0], again, target.audio).values())


def test_a_gain_of_1_db_too_much_is_1_db(task: ProxyTraining, batch: dict) -> None:
    heard, _, target = task.render(batch, "val")
    terms = task.terms(heard[0], target.audio * 10 ** (1 / 20), target.audio)
    assert terms["gain_db"].item() == pytest.approx(1.0, abs=0.02)
    assert terms["mel"] < 1e-4


def test_what_the_proxy_hears_has_passed_the_nodes_before(task: ProxyTraining, batch: dict) -> None:
    heard, _, _ = task.render(batch, "val")
    torch.testing.assert_close(heard[0].abs().amax((1, 2)), torch.ones(4))


def test_each_item_is_heard_at_several_fixed_settings(task: ProxyTraining, batch: dict) -> None:
    _, controls, target = task.render(batch, "val")
    assert len(set(controls["ratio"].flatten().tolist())) == 4
    assert torch.equal(task.render(batch, "val")[2].audio, target.audio)


def test_a_run_leaves_a_file_that_the_proxy_reads(task: ProxyTraining, tmp_path: Path) -> None:
    data = Synthetic(RATE, seconds=0.5, batch_size=2, train_items=2, val_items=2, test_items=2)
    trainer = lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )
    trainer.fit(task, data)
    proxy = NeuralProxy(Compressor(RATE), weights=tmp_path / "proxy.safetensors")
    audio = torch.rand(1, 1, 5000)
    assert torch.equal(proxy(audio), task.proxy(audio))


def test_a_graph_where_no_node_wants_a_proxy_says_so() -> None:
    graph = ProcessorGraph({"gain": Gain(RATE), "clip": ParametricClipper(RATE)})
    with pytest.raises(GraphError, match=r"none does; name it: task.node=..., of gain, clip"):
        ProxyTraining(graph, torch.optim.Adam)


def test_an_unknown_node_is_refused_with_the_known_ones() -> None:
    with pytest.raises(GraphError, match=r"no processor 'cmop'.*known: level, comp"):
        ProxyTraining(chain(), torch.optim.Adam, node="cmop")


def test_an_audio_proxy_has_no_gain_to_compare() -> None:
    graph = ProcessorGraph({"clip": ParametricClipper(RATE)})
    task = ProxyTraining(graph, torch.optim.Adam, node="clip", output="audio", network=SMALL)
    assert list(task.weights) == ["mel", "wave"]
