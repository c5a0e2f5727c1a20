from __future__ import annotations

import contextlib

import pytest

from difffx.functional import compiled


@pytest.fixture(params=["compiled", "pure"])
def tier(request: pytest.FixtureRequest):
    """The test runs twice: with the compiled recursions, if this machine can have them, and without."""
    if request.param == "compiled" and not compiled.available():
        pytest.skip("no C compiler")
    with compiled.disabled() if request.param == "pure" else contextlib.nullcontext():
        yield request.param
