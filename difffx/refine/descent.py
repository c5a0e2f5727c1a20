"""Downhill in few moves: Levenberg-Marquardt with slopes that are heard."""

from __future__ import annotations

import torch
from torch import Tensor

from difffx.refine.judge import Judge

DAMPINGS = (1e-4, 1e-2, 1e-1, 1.0, 10.0)
SETTLED = 0.02  # a move that gains less than this share of the distance is the last one


def descend(judge: Judge, z: Tensor, switches: list[int], moves: int) -> tuple[float, Tensor]:
    """Downhill from settings z [P], at most so many moves: the mel reached and where."""
    off, mel = (found[0] for found in judge.measure(z[None]))
    free = torch.ones(len(z), dtype=torch.bool)
    free[switches] = False
    for _ in range(moves):
        trials = _moves(judge, z, off, free)
        offs, mels = judge.measure(trials)
        place, last = int(mels.argmin()), mel
        if mels[place] < mel:
            z, off, mel = trials[place], offs[place], mels[place]
        if not mel < (1.0 - SETTLED) * last:
            break
    return mel.item(), z


def _moves(judge: Judge, z: Tensor, off: Tensor, free: Tensor) -> Tensor:
    """One trial for each damping, [D, P], from what every free knob does to the picture."""
    turn = torch.where(z > 0.5, -judge.probe, judge.probe)
    knobs = free.nonzero()[:, 0]
    turned = z.repeat(len(knobs), 1)
    turned[torch.arange(len(knobs)), knobs] += turn[knobs]
    slopes = (judge.measure(turned)[0] - off).nan_to_num(0.0) / turn[knobs, None].to(off)
    weighted = slopes / (off.abs() + 0.5 * off.abs().mean() + 1e-4)
    curvature, gradient = (weighted @ slopes.T).cpu().double(), (weighted @ off).cpu().double()
    trials = z.repeat(len(DAMPINGS), 1)
    for row, damping in zip(trials, DAMPINGS, strict=True):
        row[knobs] = _bounded(curvature, gradient, z[knobs], damping)
    return trials


def _bounded(curvature: Tensor, gradient: Tensor, z: Tensor, damping: float) -> Tensor:
    """The damped Gauss-Newton step from z [P], with knobs that would leave 0..1 held at that end."""
    own = curvature.diagonal()
    matrix = curvature + damping * torch.diag(own + 1e-3 * own.mean() + 1e-12)
    step, free = torch.zeros_like(z), torch.ones(len(z), dtype=torch.bool)
    for _ in range(len(z)):
        pull = gradient[free] + matrix[free][:, ~free] @ step[~free]
        step[free] = -torch.linalg.solve(matrix[free][:, free], pull)
        outside = free & ((z + step < 0.0) | (z + step > 1.0))
        if not outside.any():
            break
        step[outside] = (z + step).clamp(0.0, 1.0)[outside] - z[outside]
        free &= ~outside
    return (z + step).clamp(0.0, 1.0)
