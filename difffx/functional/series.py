"""Distortion by a power series or by Chebyshev polynomials; harmonics above half the rate fold."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from difffx.functional.oversampling import oversampled


def taylor_shaper(x: Tensor, *, coefficients: Tensor, oversample: int = 1) -> Tensor:
    """A power series as distortion: the k-th power makes harmonics up to the k-th.

    x             [B, C, T]
    coefficients  [B, K, 1]  p[1] .. p[K]: p[1] = 1 and the rest 0 is the identity
    oversample    1 to 8: the polynomial runs at that multiple of the rate
    returns       [B, C, T]  p[1] v + p[2] v^2 + ... + p[K] v^K, with v = x less its mean over time

    Meant for peaks up to 1: above, high powers explode. Even powers make DC, which is left in. The sign is
    free: -p is the same sound upside down, and a loss on magnitudes cannot tell one from the other.
    Horner's scheme; its gradient is exact and keeps one copy of the signal, not K.
    """
    return _series(x, coefficients, False, oversample)


def chebyshev_shaper(x: Tensor, *, coefficients: Tensor, oversample: int = 1) -> Tensor:
    """A series of Chebyshev polynomials as distortion: T[k] turns a full-scale cosine into its k-th harmonic.

    x             [B, C, T]
    coefficients  [B, K, 1]  p[0] .. p[K-1]: p[1] = 1 and the rest 0 is the identity
    oversample    1 to 8: the polynomials run at that multiple of the rate
    returns       [B, C, T]  p[0] + p[1] T[1](v) + ... + p[K-1] T[K-1](v), with v = x less its mean over time

    Meant for peaks up to 1: outside, the polynomials explode. p[0] is plain DC and even k make DC in
    silence too, T[k](0) = +-1; both are left in. The sign is free: -p is the same sound upside down, and a
    loss on magnitudes cannot tell one from the other. Clenshaw's recurrence; its gradient is exact and
    keeps one copy of the signal.
    """
    return _series(x, coefficients, True, oversample)


def _series(x: Tensor, coefficients: Tensor, chebyshev: bool, oversample: int) -> Tensor:
    terms = coefficients.to(x.dtype)
    centered = x - x.mean(-1, keepdim=True)
    return oversampled(centered, oversample, lambda up: _Polynomial.apply(up, terms, chebyshev))


class _Polynomial(torch.autograd.Function):
    """x [B, C, T], coefficients [B or 1, K, 1] -> [B, C, T]; powers from x^1, or T[k] from T[0]."""

    @staticmethod
    def forward(ctx, x: Tensor, coefficients: Tensor, chebyshev: bool) -> Tensor:
        ctx.save_for_backward(x, coefficients)
        ctx.chebyshev = chebyshev
        terms = [c.unsqueeze(1) for c in coefficients.unbind(1)]  # K of [B, 1, 1]
        if chebyshev:
            return _clenshaw(x, terms)
        return _horner(x, terms).mul_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        x, coefficients = ctx.saved_tensors
        terms = [c.unsqueeze(1) for c in coefficients.unbind(1)]
        by_x = None
        if ctx.needs_input_grad[0]:
            slope = _chebyshev_slope if ctx.chebyshev else _taylor_slope
            by_x = slope(x, terms).mul_(grad)
        if not ctx.needs_input_grad[1]:
            return by_x, None, None
        by_term = []
        before, basis = (x, torch.ones_like(x)) if ctx.chebyshev else (None, x)  # T[-1] = T[1] = x
        for _ in terms:
            by_term.append((grad * basis).sum((1, 2)))
            if ctx.chebyshev:
                before, basis = basis, (2.0 * x).mul_(basis).sub_(before)
            else:
                basis = basis * x
        by_coefficients = torch.stack(by_term, 1).unsqueeze(2).sum_to_size(coefficients.shape)
        return by_x, by_coefficients, None


def _horner(x: Tensor, terms: list[Tensor]) -> Tensor:
    """terms[0] + terms[1] x + terms[2] x^2 + ..."""
    y = terms[-1].expand_as(x).clone()
    for c in terms[-2::-1]:
        y.mul_(x).add_(c)
    return y


def _taylor_slope(x: Tensor, terms: list[Tensor]) -> Tensor:
    return _horner(x, [k * c for k, c in enumerate(terms, 1)])


def _clenshaw(x: Tensor, terms: list[Tensor]) -> Tensor:
    """terms[0] + terms[1] T1(x) + terms[2] T2(x) + ..."""
    y, later = torch.zeros_like(x), torch.zeros_like(x)
    twice = 2.0 * x
    for c in terms[:0:-1]:
        y, later = (twice * y).sub_(later).add_(c), y
    return (x * y).sub_(later).add_(terms[0])


def _chebyshev_slope(x: Tensor, terms: list[Tensor]) -> Tensor:
    """The derivative, itself a Chebyshev series: d[k-1] = d[k+1] + 2 k c[k], d[0] halved."""
    zero = torch.zeros_like(terms[0])
    slopes = [zero] * (len(terms) + 1)
    for k in range(len(terms) - 1, 0, -1):
        slopes[k - 1] = slopes[k + 1] + 2.0 * k * terms[k]
    slopes[0] = 0.5 * slopes[0]
    return _clenshaw(x, slopes)
