"""A model of demucs with random weights, in its own format."""

from __future__ import annotations

import hashlib

import pytest
import torch

SOURCES = ("drums", "bass", "other", "vocals")  # the order of demucs


def save(model, folder, signature):
    """As demucs saves: class, arguments and weights, pickled; the hash is part of the name."""
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "training_args": {}}
    file = folder / "new.th"
    torch.save({**package, "state": model.state_dict()}, file)
    return file.rename(folder / f"{signature}-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.th")


@pytest.fixture(scope="session")
def save_demucs():
    """Saves a model of demucs into a folder under a signature, and gives the file."""
    return save


@pytest.fixture(scope="session")
def demucs_repo(tmp_path_factory):
    """A folder with tiny-HASH.th: 8 kHz, segments of 2 s."""
    from demucs.hdemucs import HDemucs

    torch.manual_seed(0)
    small = {"channels": 8, "growth": 1, "nfft": 256, "depth": 4}
    folder = tmp_path_factory.mktemp("weights of demucs")
    save(HDemucs(list(SOURCES), segment=2, samplerate=8000, **small), folder, "tiny")
    return folder
