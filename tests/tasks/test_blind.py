"""Blind estimation learns, repeats itself, and goes on where it stopped."""

from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from difffx.data import Synthetic
from difffx.encoders import StaticHead, TimeFrequencyEncoder
from difffx.graph import GraphError, ProcessorGraph, simplified
from difffx.losses import Estimate, Mel, Params, Response
from difffx.processors import Compressor, Normalize, ParametricEQ, Processor
from difffx.tasks import BlindEstimation, SettingsFirst

RATE = 16_000


def chain():
    return ProcessorGraph(
        {
            "level_peq": Normalize(RATE),
            "peq": ParametricEQ(RATE),
            "level_comp": Normalize(RATE),
            "comp": Compressor(RATE),
        },
        set={"comp": {"makeup_db": 0.0}},
    )


def small(sfx=None, afx=None, loss=None, lr=1e-3, scheduler=None, first=None):
    torch.manual_seed(0)
    return BlindEstimation(
        sfx or chain(),
        afx or chain(),
        TimeFrequencyEncoder(RATE, channels=8, envelope=8),
        loss or Mel(RATE, n_fft=1024, hop=256, bands=40),
        partial(torch.optim.Adam, lr=lr),
        scheduler,
        head=partial(StaticHead, hidden=(64,)),
        first=first,
    )


def music(items=8, batch_size=4):
    return Synthetic(
        RATE, seconds=1.2, batch_size=batch_size, train_items=items, val_items=4, test_items=4, seed=1
    )


def batch(items=4):
    return next(iter(music(items, items).val_dataloader()))


def fit(task, folder, epochs, resume=None):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[ModelCheckpoint(folder, filename="best", save_last=True, enable_version_counter=False)],
        default_root_dir=folder,
        num_sanity_val_steps=0,
    )
    trainer.fit(task, music(), ckpt_path=resume)
    return {name: value.item() for name, value in trainer.callback_metrics.items()}


def weights(task):
    return torch.cat([p.detach().flatten() for p in task.parameters()])


def test_a_step_follows_its_equation():
    task, items = small().eval(), batch()
    target = task.render(items, "val")
    assert torch.equal(target.audio, task.sfx(items["dry"], controls=task.sfx.from_unit(target.z)))
    z_hat = task.head(task.encoder(target.audio))
    wet_hat = task.afx(items["dry"], controls=task.afx.from_unit(z_hat))
    expected = task.loss(Estimate(wet_hat, z_hat), target)["mel"]
    task.log_terms = lambda stage, terms, total, size: total
    assert torch.allclose(task.step(items, "val", 0), expected)


def test_targets_are_fixed_in_validation_whatever_the_batch_size_and_new_in_training():
    task, items = small(), batch()
    z = task.draw(task.sfx.spec, items, "val", 0)
    one = {"dry": items["dry"][2:3], "name": items["name"][2:3]}
    assert torch.equal(task.draw(task.sfx.spec, one, "val", 7), z[2:3])
    assert not torch.equal(task.draw(task.sfx.spec, items, "test", 0), z)
    first = task.draw(task.sfx.spec, items, "train", 0)
    assert torch.equal(task.draw(task.sfx.spec, items, "train", 0), first)
    assert not torch.equal(task.draw(task.sfx.spec, items, "train", 1), first)
    assert z.shape == (4, 20, 1) and 0.15 < z.std() < 0.4


def test_makeup_gain_is_not_estimated_since_the_loss_cannot_hear_it():
    assert "comp.makeup_db" not in chain().spec.names and "comp.threshold_db" in chain().spec.names


def test_every_trainable_weight_gets_a_gradient():
    task, items = small(), batch()
    task.log_terms = lambda stage, terms, total, size: total
    task.step(items, "train", 0).backward()
    slopes = {f"{name}.weight" for name, module in task.named_modules() if isinstance(module, torch.nn.PReLU)}
    dead = [name for name, p in task.named_parameters() if p.grad is None or not p.grad.any()]
    assert not set(dead) - slopes  # the slope below zero is not asked where a maximum passes positives only


@pytest.mark.slow
def test_four_items_can_be_learned_by_heart():
    task, items = small(lr=3e-3), batch()
    target = task.render(items, "val")
    optimizer = torch.optim.Adam(task.parameters(), lr=3e-3)
    losses = []
    for _ in range(150):
        z_hat = task.estimate(target.audio)
        pred = Estimate(task.afx(items["dry"], controls=task.afx.from_unit(z_hat)), z_hat)
        total = task.loss.total(task.loss(pred, target))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        losses.append(total.item())
    assert losses[-1] < 0.3 * losses[0]


def test_the_true_settings_have_no_distance():
    task, items = small(), batch()
    target = task.render(items, "val")
    assert task.loss(Estimate(task.apply(items["dry"], target.z), target.z), target)["mel"] < 1e-6


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run_and_a_resumed_run_ends_the_same(tmp_path):
    once, twice, resumed = small(), small(), small()
    metrics = fit(once, tmp_path / "once", 3)
    assert fit(twice, tmp_path / "twice", 3) == metrics
    assert torch.equal(weights(once), weights(twice))
    fit(small(), tmp_path / "half", 1)
    again = fit(resumed, tmp_path / "half", 3, resume=tmp_path / "half" / "last.ckpt")
    assert torch.equal(weights(once), weights(resumed))
    assert again["val/loss"] == metrics["val/loss"]


def test_unlike_chains_are_fine_for_the_ear_and_refused_for_the_knobs():
    unlike = small(afx=simplified(chain()))
    assert not unlike.same_knobs
    _, answers = unlike.answers(batch())
    assert answers["estimate"].z is None and answers["midpoint"].z is not None
    with pytest.raises(ValueError, match="attack_ms"):
        small(afx=simplified(chain()), loss=Params())


def test_answers_are_the_estimate_and_what_it_must_beat():
    task, items = small().eval(), batch()
    target, answers = task.answers(items)
    assert list(answers) == ["estimate", "dry", "midpoint", "random"]
    assert torch.equal(answers["dry"].audio, items["dry"])
    assert torch.equal(answers["midpoint"].z, torch.full((4, 20, 1), 0.5))
    assert not torch.equal(answers["random"].z, target.z)


def test_an_afx_without_gradient_is_refused():
    class Plugin(Processor):
        differentiable = False

    with pytest.raises(GraphError, match="plugin: no gradient passes through it"):
        small(afx=ProcessorGraph({"plugin": Plugin(RATE)}))


def settings_first(share, repeats=3):
    return SettingsFirst(Response(chain(), RATE, n_fft=1024, bands=40), share, repeats)


def test_settings_come_first_and_the_ear_takes_over(tmp_path):
    task, stages = small(first=settings_first(0.5)), []
    task.log_terms = lambda stage, terms, total, size: stages.append((stage, *terms, size)) or total
    afx_calls = []
    task.afx.register_forward_hook(lambda *_: afx_calls.append(task.global_step))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
        limit_val_batches=0,
    )
    trainer.fit(task, music())
    assert stages == [("train", "response", "others", 12)] * 2 + [("train", "mel", 4)] * 2
    assert afx_calls == [2, 3]


def test_several_settings_of_a_sound_differ():
    task, items = small(first=settings_first(1.0)), batch(2)
    heard = []
    task.sfx.register_forward_hook(lambda _, x, y: heard.append((x[0], y)))
    task.log_terms = lambda stage, terms, total, size: total
    task.step_by_settings(items, 0)
    ((dry, wet),) = heard
    assert torch.equal(dry[:3], items["dry"][:1].expand(3, -1, -1)) and len(dry) == 6
    assert not any(torch.allclose(wet[i], wet[j]) for i in range(3) for j in range(i))


def test_settings_cannot_come_first_where_the_knobs_differ():
    assert small(afx=simplified(chain()), first=settings_first(1.0)).first is None


@pytest.mark.parametrize(("share", "repeats"), [(1.5, 1), (-0.1, 1), (0.5, 0)])
def test_a_wrong_beginning_is_refused(share, repeats):
    with pytest.raises(ValueError, match="SettingsFirst"):
        settings_first(share, repeats)
