from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difffx.functional.compiled.feedback import feedback_reduction
from difffx.functional.feedback import feedback_reduction_db


def draw(items: int, samples: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Levels around the threshold, in steps and noise; poles, ratios, knees that are as wide or none."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(5, items, 1, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(items, 1, samples, generator=generator, dtype=torch.float64)
    over = 10.0 * noise + 20.0 * torch.sin(torch.arange(samples) / 300.0)
    poles = (1.0 - 10.0 ** (-0.7 - 3.0 * u[i]) for i in (0, 1))
    return over, *poles, 1.0 + 5.0 * u[2], 12.0 * u[3] * (u[4] > 0.3)


def reduction_db(over_db: Tensor, attack: Tensor, release: Tensor, ratio: Tensor, width: Tensor) -> Tensor:
    return feedback_reduction_db(over_db, attack, release, ratio=ratio, knee_db=width)


@pytest.mark.parametrize("threads", [1, 3], indirect=True)
@pytest.mark.parametrize(("items", "samples"), [(1, 1), (1, 6001), (3, 64), (5, 1001), (8, 333)])
def test_the_loop_agrees_for_any_number_of_rows_and_threads(items, samples, threads, tiers_agree):
    over, *settings = draw(items, samples)
    tiers_agree(reduction_db, over, *settings)
    tiers_agree(reduction_db, over.float(), *settings, rtol=1e-5)


def test_settings_may_be_those_of_all_items(tiers_agree):
    over, *settings = draw(4, 500)
    tiers_agree(reduction_db, over, *(knob[:1] for knob in settings))


@pytest.mark.usefixtures("tier")
def test_a_broken_item_leaves_the_others_alone():
    over, *settings = draw(3, 800)
    clean = reduction_db(over, *settings)
    over[1, 0, 300] = torch.nan
    y = reduction_db(over, *settings)
    assert y[1, 0, 301:].isnan().all()
    torch.testing.assert_close(y[[0, 2]], clean[[0, 2]])


def test_the_operator_keeps_the_rules_of_torch(with_gradients):
    over, *settings = draw(3, 100)
    table = torch.cat(settings, 2).flatten(0, 1).requires_grad_()
    rows = over.flatten(0, 1).requires_grad_()
    torch.library.opcheck(torch.ops.difffx.feedback_reduction.default, (rows, table, True))
    assert all(t.isfinite().all() for t in with_gradients(feedback_reduction, rows, table))
