"""Every pair of options trains for two steps: the loss is finite and the estimator moves."""

from pathlib import Path

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from torch.utils.data import DataLoader

from difffx import runs

pytestmark = pytest.mark.slow

CONFIGS = Path(__file__).parents[1] / "configs"
CHAINS = sorted(path.stem for path in (CONFIGS / "sfx").glob("*.yaml"))
AFX = sorted(path.stem for path in (CONFIGS / "afx").glob("*.yaml"))


def task_of(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("train", ["task.first=null", *overrides])
    torch.manual_seed(0)
    return runs.build(config.task)


def losses_of_two_steps(task):
    generator = torch.Generator().manual_seed(0)
    dry = 0.3 * torch.randn(4, 1, 48_000, generator=generator)
    items = [{"dry": sound, "name": f"item {i}"} for i, sound in enumerate(dry)]
    losses = []
    task.on_train_batch_end = lambda outputs, *_: losses.append(outputs["loss"].item())
    trainer = lightning.Trainer(
        max_steps=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, DataLoader(items, batch_size=2))
    return losses


def assert_trains(task):
    before = [weight.detach().clone() for weight in task.head.parameters()]
    losses = losses_of_two_steps(task)
    assert len(losses) == 2 and all(loss == loss and abs(loss) < 1e3 for loss in losses)
    assert any(not torch.equal(*pair) for pair in zip(before, task.head.parameters(), strict=True))
    assert all(weight.isfinite().all() for weight in task.parameters())


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("afx", AFX)
@pytest.mark.parametrize("sfx", CHAINS)
def test_every_chain_is_estimated_through_every_other(needs, sfx, afx):
    needed = needs.get(afx)
    if needed and needed not in sfx.split("_"):
        with pytest.raises(Exception, match="use afx=same"):
            task_of(f"sfx={sfx}", f"afx={afx}")
        return
    assert_trains(task_of(f"sfx={sfx}", f"afx={afx}", "encoder=cqt"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("loss", ["mel", "params", "mel_params", "multi_scale", "response"])
@pytest.mark.parametrize("encoder", ["cqt", "histograms", "mee", "time_frequency"])
def test_every_encoder_learns_from_every_loss(encoder, loss):
    assert_trains(task_of("sfx=peq_comp_dist", "afx=same", f"encoder={encoder}", f"loss={loss}"))


@pytest.mark.parametrize("afx", sorted(set(AFX) - {"same", "proxy", "half_proxy", "peq_comp_dist"}))
def test_unlike_knobs_cannot_be_compared(afx):
    with pytest.raises(Exception, match="needs the same knobs"):
        task_of("sfx=peq_comp_dist", f"afx={afx}", "loss=params")
