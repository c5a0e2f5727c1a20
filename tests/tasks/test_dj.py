"""Hearing a DJ's moves: learns, is fair to what it must beat, refuses what does not fit."""

from functools import partial

import pytest
import torch

from difffx.callbacks.examples import example_figures, example_players
from difffx.dj import TRANSITIONS, create_mixer, transition
from difffx.dj.degradations import Degrade
from difffx.dj_evaluation import evaluate, summary, tables
from difffx.encoders import StemPair, TimeFrequencyEncoder
from difffx.encoders.stem_pair import stretched, unstretched
from difffx.losses import Mel, TransitionLoss
from difffx.networks import FrameTransformer
from difffx.tasks import DJEstimation

RATE, SECONDS, FRAMES = 16_000, 1.5, 6
MIXER = create_mixer(RATE)
LOSSES = {
    "default": {},
    "response": {"response": 1.0, "sends": 0.0, "params": 0.0},
    "params": {"response": 0.0, "sends": 0.0, "params": 1.0},
    "sends": {"response": 0.0, "sends": 1.0, "params": 0.0},
    "audio": {"response": 0.0, "sends": 0.0, "params": 0.0, "audio": 1.0},
}


def small(loss="default", **options):
    torch.manual_seed(0)
    heard = Mel(RATE, n_fft=1024, hop=256, bands=40)
    return DJEstimation(
        MIXER,
        StemPair(RATE, MIXER, width=16, rounds=2),
        TransitionLoss(RATE, MIXER, heard=heard, **LOSSES[loss]),
        partial(torch.optim.Adam, lr=5e-3),
        **options,
    )


def batch(items=2, seed=0, tempo_bpm=120.0):
    """Stems of colored noise and the rules in turn."""
    generator = torch.Generator().manual_seed(seed)
    stems = 0.1 * torch.randn(2, items, 4, 1, round(SECONDS * RATE), generator=generator)
    times = torch.linspace(0.0, SECONDS, FRAMES)
    beats = torch.stack((times * tempo_bpm / 60.0, times * tempo_bpm / 240.0), -1) % 1.0
    names = [list(TRANSITIONS)[(2 * i + seed + 3) % len(TRANSITIONS)] for i in range(items)]
    return {
        "a": stems[0],
        "b": stems[1],
        "params": torch.stack([transition(name, FRAMES, bars=1.0) for name in names]),
        "tempo_bpm": torch.full((items,), tempo_bpm),
        "beats": beats.expand(items, -1, -1),
        "rule": names,
        "name": [f"val-{seed}-{i}" for i in range(items)],
    }


def quiet(task):
    task.log_terms = lambda stage, terms, total, size: total
    return task


def test_a_step_follows_its_equation():
    task, items = quiet(small()).eval(), batch()
    target, pred = task.answer(items, "val")
    stems = torch.stack((items["a"], items["b"]), 1)
    assert torch.equal(target.audio, task.render(stems, items["params"], items["tempo_bpm"]))
    params = task.estimate(stems, target.audio, FRAMES, items["tempo_bpm"])
    assert torch.allclose(params, pred.params, atol=1e-5)
    assert torch.allclose(task.step(items, "val", 0), task.loss.total(task.loss(pred, target)), atol=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_falls_on_a_batch_that_is_learned_by_heart(loss):
    task, items = quiet(small(loss, repeats=1)), batch(seed=1)
    optimizer = torch.optim.Adam(task.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        value = task.step(items, "train", 0)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert min(losses[-3:]) < 0.93 * losses[0], losses
    assert all(p.grad is None or p.grad.isfinite().all() for p in task.parameters())


def test_every_weight_gets_a_gradient():
    task = quiet(small())
    task.step(batch(), "train", 0).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in task.parameters())


def test_several_mixes_are_made_of_a_pair_in_training_and_one_elsewhere():
    task, items = small(repeats=3), batch()
    scene = task.scene(items, "train", 0)
    assert scene.target.params.shape == (6, FRAMES, 54) and scene.target.audio.shape[0] == 6
    assert torch.equal(scene.target.params[[0, 3]], items["params"])
    assert not any(
        torch.equal(scene.target.params[i], scene.target.params[j]) for i in range(6) for j in range(i)
    )
    one = task.scene({k: v[1:] for k, v in items.items()}, "val")
    assert one.target.params.shape == (1, FRAMES, 54)
    assert torch.allclose(one.target.audio[0], scene.target.audio[3], atol=1e-5)
    again = task.scene(items, "train", 0)
    assert torch.equal(again.target.params, scene.target.params)
    assert not torch.equal(task.scene(items, "train", 1).target.params, scene.target.params)


def test_an_unknown_tempo_a_silent_stem_and_a_silent_deck_are_no_trouble():
    task, items = small(), batch(tempo_bpm=0.0)
    items["a"][:, 2] = 0.0
    items["b"][1] = 0.0
    target, pred = task.answer(items, "val")
    assert pred.params.isfinite().all() and target.audio.isfinite().all()
    assert ((pred.params >= 0) & (pred.params <= task.highest)).all()


def test_the_mean_of_all_curves_is_remembered_and_saved():
    task, first, second = quiet(small(repeats=1)), batch(seed=1), batch(seed=2)
    task.step(first, "train", 0)
    task.step(second, "train", 1)
    task.step(second, "val", 1)
    mean = torch.cat((first["params"], second["params"])).mean(0)
    assert torch.allclose(task.mean_curves[[0, -1]], mean[[0, -1]], atol=1e-6) and task.mean_count == 4
    assert "mean_curves" in task.state_dict()


def test_the_tables_show_the_estimate_and_what_it_must_beat():
    task = quiet(small(repeats=1, fit_items=0))
    task.step(batch(seed=1), "train", 0)
    results = evaluate(task, [batch(seed=3), batch(seed=4)])
    answers = ["estimate", "default", "linear", "equal_power", "mean", "least_squares"]
    assert list(results["metrics"]["response_db"]) == answers and results["items"] == 4
    assert {"gain", "cutoff_octaves", "sends", "swap_ms", "mel_db", "si_sdr"} <= set(results["metrics"])
    assert "response_db/b_vocals" in results["metrics"]
    assert set(results["per_item"]) == {"val-3-0", "val-3-1", "val-4-0", "val-4-1"}
    values = [results["per_item"][name]["mel_db"]["linear"] for name in results["per_item"]]
    assert results["metrics"]["mel_db"]["linear"] == pytest.approx(sum(values) / 4, rel=1e-4)
    assert results["metrics"]["mel_db"]["least_squares"] < results["metrics"]["mel_db"]["linear"]
    assert len(tables(results)) == 2 and "best without learning" in summary(results)


def test_degradations_change_what_is_heard_and_not_what_is_true():
    plain, rough = small(), small(degrade=Degrade(RATE, noise=1.0, bleed=1.0))
    items = batch()
    clean, scene = plain.scene(items, "val"), rough.scene(items, "val")
    assert rough.repeats == 1 and torch.equal(clean.target.params, scene.target.params)
    assert not torch.allclose(clean.target.audio, scene.target.audio)
    assert not torch.allclose(clean.stems, scene.stems)
    again = rough.scene(items, "val")
    assert torch.equal(again.target.audio, scene.target.audio)


def test_there_is_something_to_hear_and_to_see():
    task, items = small(), batch()
    examples = task.examples(items)
    players = example_players(examples, 1)
    assert list(players) == ["0/a", "0/b", "0/mix", "0/mix_hat"]
    assert all(x.shape == (2, round(SECONDS * RATE)) and x.abs().max() <= 0.99 for x in players.values())
    figures = example_figures(task, examples, 2)
    assert set(figures) == {"spectrograms", "moves_0", "moves_1"}
    lines = figures["moves_0"].axes[0].get_lines()
    assert len(lines) == 12  # six knobs, true and estimated


def test_attention_will_do_in_place_of_convolutions():
    torch.manual_seed(0)
    encoder = StemPair(RATE, MIXER, width=16, rounds=1, network=FrameTransformer)
    task = DJEstimation(MIXER, encoder, TransitionLoss(RATE), partial(torch.optim.Adam, lr=1e-3))
    assert task.answer(batch(), "val")[1].params.shape == (2, FRAMES, 54)


def test_an_answer_can_be_at_the_end_of_its_range_and_come_back():
    x = torch.tensor([-9.0, 0.0, 9.0], requires_grad=True)
    z = stretched(x)
    assert torch.allclose(z, torch.tensor([0.0, 0.5, 1.0]), atol=1e-6)
    assert z[0] == 0.0 and z[2] == 1.0
    z.sum().backward()
    assert (x.grad > 0).all()
    inside = torch.linspace(0.0, 1.0, 11)
    assert torch.allclose(stretched(unstretched(inside)), inside, atol=1e-6)


def test_what_does_not_fit_is_refused():
    optimizer = partial(torch.optim.Adam, lr=1e-3)
    with pytest.raises(ValueError, match="loss=dj"):
        DJEstimation(MIXER, StemPair(RATE), Mel(RATE), optimizer)
    with pytest.raises(ValueError, match="encoder=stem_pair"):
        DJEstimation(MIXER, TimeFrequencyEncoder(RATE), TransitionLoss(RATE), optimizer)
    with pytest.raises(ValueError, match="repeats"):
        small(repeats=0)
    with pytest.raises(ValueError, match="task=dj"):
        StemPair(RATE)(torch.zeros(1, 1, RATE))
