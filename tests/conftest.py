"""Fast tests first, on one thread: the models of the tests are too small for more."""

import os

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def needs() -> dict[str, str]:
    """What an option of `afx` needs the sfx to hold."""
    return {"proxy": "comp", "half_proxy": "comp", "simple": "comp", "taylor": "dist", "chebyshev": "dist"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
