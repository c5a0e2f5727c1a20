from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from difffx.functional import compiled


@pytest.fixture(params=["compiled", "pure"])
def tier(request: pytest.FixtureRequest):
    """The test runs twice: with the compiled recursions, if this machine can have them, and without."""
    if request.param == "compiled" and not compiled.available():
        pytest.skip("no C compiler")
    with compiled.disabled() if request.param == "pure" else contextlib.nullcontext():
        yield request.param


@pytest.fixture
def threads(request: pytest.FixtureRequest):
    """So many threads, an indirect parameter."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def tiers_agree() -> Callable[..., None]:
    """tiers_agree(function, *tensors, rtol=1e-9): compiled and in torch, output and gradients agree."""
    if not compiled.available():
        pytest.skip("no C compiler")
    return _tiers_agree


@pytest.fixture
def with_gradients() -> Callable[..., list[Tensor]]:
    """with_gradients(function, *tensors): the output and, for fixed random weights, all gradients."""
    return _with_gradients


def _tiers_agree(
    function: Callable[..., Tensor], *tensors: Tensor, rtol: float = 1e-9, atol: float = 0.0
) -> None:
    """To `rtol` of the largest value of each result, or to `atol` where all is small."""
    with compiled.disabled():
        pure = _with_gradients(function, *tensors)
    for ours, theirs in zip(_with_gradients(function, *tensors), pure, strict=True):
        assert ours.dtype == theirs.dtype
        tolerance = max(rtol * float(theirs.abs().max()), atol)
        torch.testing.assert_close(ours, theirs, rtol=0.0, atol=tolerance)


def _with_gradients(function: Callable[..., Tensor], *tensors: Tensor) -> list[Tensor]:
    inputs = [x.detach().clone().requires_grad_() for x in tensors]
    y = function(*inputs)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return [y.detach(), *torch.autograd.grad((y * weights.to(y)).sum(), inputs)]
