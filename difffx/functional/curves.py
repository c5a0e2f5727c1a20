"""The bend of a static curve."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def knee(over_db: Tensor, knee_db: Tensor) -> Tensor:
    """Decibels beyond a threshold, as far as they count: none before it, all of them after it.

    over_db   [B, 1, N]       how far beyond
    knee_db   [B or 1, 1, 1]  width of the bend around the threshold; 0 is a corner
    returns   [B, 1, N]       0 or more

    A parabola joins the two straight lines. Finite, with finite gradients, for a knee of 0.
    """
    return _Knee.apply(over_db, knee_db)


class _Knee(torch.autograd.Function):
    """Decibels above the threshold [B, 1, N], knee [B, 1, 1] -> decibels that count.

    r goes from 0 to 1 across the knee and is the slope; knee r^2 / 2 is the parabola up to there. With r in
    hand both derivatives are polynomials, r and (r - r^2) / 2, so a knee of 0 divides nothing by nothing.
    """

    @staticmethod
    def forward(ctx, over_db: Tensor, knee_db: Tensor) -> Tensor:
        half = 0.5 * knee_db
        r = ((over_db + half) / knee_db.clamp(min=torch.finfo(knee_db.dtype).tiny)).clamp_(0.0, 1.0)
        ctx.save_for_backward(r)
        ctx.shapes = over_db.shape, knee_db.shape
        return torch.addcmul((over_db - half).clamp_(min=0.0), half * r, r)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (r,) = ctx.saved_tensors
        by_over = grad * r
        by_knee = 0.5 * (by_over - by_over * r)
        return by_over.sum_to_size(ctx.shapes[0]), by_knee.sum_to_size(ctx.shapes[1])
