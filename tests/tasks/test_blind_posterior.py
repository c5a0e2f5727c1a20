"""Blind estimation with several answers: by likelihood, by ear, and what is said about it."""

from functools import partial

import pytest
import torch
from lightning import Trainer

from difffx.data import Synthetic
from difffx.encoders import FlowHead, MixtureHead, StaticHead, TimeFrequencyEncoder
from difffx.evaluation import evaluate, tables
from difffx.graph import ProcessorGraph, shaped, switched
from difffx.losses import Mel, Response
from difffx.processors import Normalize, ParametricClipper, ParametricEQ
from difffx.tasks import BlindEstimation, SettingsFirst
from difffx.tasks.likelihood import around, dequantized, nats_per_value

RATE = 16_000
HEADS = {
    "mixture": partial(MixtureHead, components=3, hidden=(32,)),
    "flow": partial(FlowHead, context=8, steps=2, widths=(32,), hidden=(32,)),
}


def chain(kind=ParametricClipper):
    return ProcessorGraph({"level": Normalize(RATE), "fx": kind(RATE)})


def small(head, sfx=None, afx=None, first=None, lr=3e-3):
    torch.manual_seed(0)
    sfx = sfx or chain()
    return BlindEstimation(
        sfx,
        afx or sfx,
        TimeFrequencyEncoder(RATE, channels=8, envelope=8),
        Mel(RATE, n_fft=1024, hop=256, bands=40),
        partial(torch.optim.Adam, lr=lr),
        head=HEADS.get(head, partial(StaticHead, hidden=(32,))),
        first=first,
    )


def by_settings(sfx, share=1.0, repeats=2):
    return SettingsFirst(Response(sfx, RATE, n_fft=1024, bands=40), share, repeats)


def noise(batch=2, seed=0):
    dry = 0.2 * torch.randn(batch, 1, RATE + RATE // 5, generator=torch.Generator().manual_seed(seed))
    return {"dry": dry, "name": [f"{seed}.{item}" for item in range(batch)]}


def logged(task):
    """The terms of every step from now on."""
    rows = []
    task.log_terms = lambda stage, terms, total, size: rows.append((stage, terms, total, size)) or total
    return rows


@pytest.mark.parametrize("head", HEADS)
def test_while_settings_are_judged_the_loss_is_the_likelihood_of_the_truth(head):
    sfx = chain()
    task = small(head, sfx, first=by_settings(sfx))
    task.first_steps, rows, batch = 10, logged(task), noise()
    called = []
    task.afx.register_forward_hook(lambda *_: called.append(1))
    heads = []
    task.head.register_forward_hook(lambda *_: heads.append(1))
    loss = task.training_step(batch, 0)
    ((stage, terms, total, size),) = rows
    assert stage == "train" and list(terms) == ["nll"] and size == 4 and total is loss
    again = {"dry": batch["dry"].repeat_interleave(2, 0), "name": [n for n in batch["name"] for _ in "ab"]}
    target = task.render(again, "train", 0)
    expected = -task.posterior(target.audio).log_prob(target.z).mean() / len(sfx.spec)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert not heads


@pytest.mark.parametrize("head", HEADS)
def test_by_ear_a_sample_is_heard_and_width_is_rewarded(head):
    task, batch = small(head), noise()
    rows = logged(task)
    loss = task.training_step(batch, 0)
    ((_, terms, _, _),) = rows
    assert list(terms) == ["mel", "entropy"]
    task.head.entropy = 0.0
    assert task.training_step(batch, 0).item() == pytest.approx(terms["mel"].item())
    task.head.entropy = 0.1
    nats = len(task.afx.spec) * terms["entropy"]
    assert loss.item() == pytest.approx((terms["mel"] - 0.01 * nats).item())
    task.training_step(batch, 0).backward()
    dead = [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in dead if name.startswith("head")]


def test_the_entropy_of_a_density_that_knows_nothing_is_zero_and_that_of_a_sharp_one_is_less():
    task = small("mixture", chain(ParametricEQ))
    with torch.no_grad():
        task.head.layers[-1].weight.zero_()
        task.head.starts.zero_()
    rows = logged(task)
    task.training_step(noise(8), 0)
    with torch.no_grad():
        task.head.layers[-1].bias.sub_(2.0)
    task.training_step(noise(8), 0)
    even, sharp = (row[1]["entropy"].item() for row in rows)
    assert even == pytest.approx(0.0, abs=1e-4)
    assert sharp < -1.0


@pytest.mark.parametrize("head", HEADS)
def test_validation_hears_the_best_answer_and_reports_the_likelihood(head):
    task, batch = small(head).eval(), noise()
    rows = logged(task)
    with torch.no_grad():
        task.validation_step(batch, 0)
        task.validation_step(batch, 0)
        target = task.render(batch, "val")
        expected = nats_per_value(task.posterior(target.audio), target.z).mean()
    (_, terms, total, _), again = rows
    assert list(terms) == ["mel", "nll"]
    assert terms["nll"].item() == pytest.approx(expected.item())
    assert torch.equal(total, terms["mel"]) and torch.equal(again[2], total)


def test_a_head_with_one_answer_is_as_before():
    task = small("point")
    rows = logged(task)
    task.training_step(noise(), 0)
    assert list(rows[0][1]) == ["mel"]
    assert task.posterior(noise()["dry"]) is None


def test_a_chain_with_other_knobs_learns_by_ear_and_has_no_likelihood():
    task = small("mixture", afx=shaped(chain(), "taylor"))
    rows = logged(task)
    task.training_step(noise(), 0).backward()
    with torch.no_grad():
        task.validation_step(noise(), 0)
    assert list(rows[0][1]) == ["mel", "entropy"] and list(rows[1][1]) == ["mel"]


def test_switches_are_anywhere_in_their_half_and_other_knobs_where_they_were():
    spec = switched(chain(), 0.5).spec
    z = spec.sample(4000, generator=torch.Generator().manual_seed(0))
    soft = dequantized(spec, z, torch.Generator().manual_seed(1))
    on, others = spec.switches, [i for i in range(len(spec)) if i not in spec.switches]
    assert torch.equal(soft[:, others], z[:, others])
    assert torch.equal(soft[:, on] > 0.5, z[:, on] == 1.0)
    upper = soft[:, on][z[:, on] == 1.0]
    assert upper.mean().item() == pytest.approx(0.75, abs=0.01)
    assert upper.std().item() == pytest.approx(0.5 / 12**0.5, abs=0.01)
    plain = chain().spec.sample(2)
    assert dequantized(chain().spec, plain) is plain


@pytest.mark.parametrize("head", HEADS)
def test_how_sure_it_is_that_an_effect_is_on_is_learned_as_a_chance(head):
    """Clips that are on in three of four cases, whatever one hears: samples say on in three of four."""
    spec = switched(chain(), 0.25).spec
    torch.manual_seed(0)
    model = HEADS[head](4, len(spec))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    embedding = torch.ones(128, 4, 1)
    for step in range(150):
        generator = torch.Generator().manual_seed(step)
        z = dequantized(spec, spec.sample(128, generator=generator), generator)
        loss = nats_per_value(model.posterior(embedding), z).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        samples = model.posterior(embedding[:1]).rsample(4000, torch.Generator().manual_seed(1))
    assert (samples[0, :, spec.switches] > 0.5).float().mean().item() == pytest.approx(0.75, abs=0.05)


def test_switched_chains_train_both_ways():
    sfx = switched(chain(), 0.5)
    task = small("mixture", sfx, first=by_settings(sfx))
    rows = logged(task)
    task.training_step(noise(4), 0).backward()
    task.first_steps = 10
    task.training_step(noise(4), 1).backward()
    assert [list(row[1]) for row in rows] == [["mel", "nll", "entropy"], ["nll"]]
    assert all(torch.isfinite(row[2]) for row in rows)
    last = task.head.layers[-1].weight.grad
    assert last is not None and torch.isfinite(last).all() and last.any()


def test_a_point_as_a_density_is_as_wide_as_the_errors_of_the_others():
    """Known answers: errors of one standard normal quantile give the even density, small ones a sharp one."""
    truth = torch.rand(500, 2, 1, generator=torch.Generator().manual_seed(0))
    guess = torch.cat([torch.full((500, 1, 1), 0.5), truth[:, 1:]], 1)
    guess[:, 1] = (
        truth[:, 1] + 0.01 * torch.randn(500, 1, generator=torch.Generator().manual_seed(1))
    ).clamp(0.01, 0.99)
    knows_nothing = nats_per_value(around(guess[:, :1], truth[:, :1]), truth[:, :1])
    assert knows_nothing.mean().item() == pytest.approx(0.0, abs=0.02)
    assert nats_per_value(around(guess, truth), truth).mean().item() < -1.0
    one_off = guess.clone()
    one_off[0, 1] = 0.99 if truth[0, 1] < 0.5 else 0.01
    spreads = around(one_off, truth).spreads[:, 0, 1]
    assert spreads[0] < 0.75 * spreads[1:].min()  # its own error does not widen its density


@pytest.mark.parametrize("head", ["mixture", "flow", "point"])
def test_an_evaluation_has_the_best_of_eight_and_the_likelihood_beside_a_point(head):
    task = small(head)
    results, _ = evaluate(task, [noise(2), noise(2, seed=1)])
    mel = results["metrics"]["mel"]
    counts = [name for name in mel if name.startswith("best of")]
    if head == "point":
        assert not counts and set(results["nll"]) == {"point"}
        return
    assert counts == ["best of 2", "best of 4", "best of 8"]
    curve = [mel["estimate"], *(mel[name] for name in counts)]
    assert curve == sorted(curve, reverse=True) and curve[-1] < curve[0]
    assert set(results["nll"]) == {"point", "posterior"}
    for row in results["per_item"].values():
        assert row["mel"]["best of 8"] <= row["mel"]["estimate"] + 1e-6
    titles = [table.title for table in tables(results)]
    assert any("nats" in title for title in titles)
    columns = [column.header for column in tables(results)[0].columns]
    assert "best of 8" in columns and "best of 2" not in columns


@pytest.mark.parametrize("head", HEADS)
def test_at_a_switch_the_answer_is_how_sure_it_is_and_elsewhere_the_mean(head):
    task, sound = small(head, switched(chain(), 0.5)).eval(), noise(3)["dry"]
    with torch.no_grad():
        posterior = task.posterior(sound)
        z, samples = task.estimate(sound), posterior.rsample(4000, torch.Generator().manual_seed(3))
        best = posterior.mean()
    (place,) = task.afx.spec.switches
    others = [i for i in range(len(task.afx.spec)) if i != place]
    assert torch.equal(z[:, others], best[:, others])
    sure = (samples[:, :, place] > 0.5).float().mean(1)
    assert torch.allclose(z[:, place], sure, atol=0.08 if head == "flow" else 0.025)
    assert not torch.allclose(z[:, place], best[:, place], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_likelihood_beats_knowing_nothing_and_then_the_ear_takes_over(head, tmp_path):
    sfx = chain()
    task = small(head, sfx, first=by_settings(sfx, share=0.9, repeats=4))
    music = Synthetic(RATE, seconds=1.2, batch_size=8, train_items=240, val_items=8, test_items=16, seed=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, music)
    results, _ = evaluate(task, music.test_dataloader())
    assert results["nll"]["posterior"] < -0.05
    assert results["metrics"]["mel"]["best of 8"] < results["metrics"]["mel"]["midpoint"]
    assert {"val/nll", "train/nll", "train/entropy", "train/mel"} <= set(trainer.callback_metrics)
