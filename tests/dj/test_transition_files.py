import json
import math

import numpy as np
import pytest
import torch

from difffx.dj import LABELS, transition
from difffx.dj.transition_files import read_curves, write_curves, write_text


def kept(path, **changed):
    write_curves(path, transition("bass_swap", 9), torch.linspace(2.0, 10.0, 9))
    held = {**np.load(path), **changed}
    np.savez(path, **{name: value for name, value in held.items() if value is not None})
    return path


def test_curves_come_back_as_they_were_written(tmp_path):
    curves, times_s = transition("echo_out", 33), torch.linspace(7.0, 39.0, 33, dtype=torch.float64)
    write_curves(tmp_path / "new" / "params.npz", curves, times_s)
    again, when = read_curves(tmp_path / "new" / "params.npz")
    assert torch.equal(again, curves) and torch.equal(when, times_s)
    with np.load(tmp_path / "new" / "params.npz") as held:
        assert list(held["labels"]) == list(LABELS) and held["curves"].dtype == np.float32
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["params.npz"]


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"curves": None}, "holds no curves"),
        ({"labels": np.array(["gain"] * 54)}, "labels"),
        ({"curves": np.zeros((8, 54), np.float32)}, "expected curves"),
        ({"curves": np.full((9, 54), np.nan, np.float32)}, "NaN"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, changed, says):
    with pytest.raises(ValueError, match=rf"params\.npz: .*{says}"):
        read_curves(kept(tmp_path / "params.npz", **changed))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half a file", b"no archive at all"])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / "params.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"params\.npz: damaged"):
        read_curves(tmp_path / "params.npz")


def test_wrong_shapes_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"expected curves \[F, 54\]"):
        write_curves(tmp_path / "params.npz", torch.zeros(4, 53), torch.zeros(4))
    assert not list(tmp_path.iterdir())


def test_what_is_no_number_is_null(tmp_path):
    write_text(tmp_path / "params.json", {"a": math.nan, "b": (1, -math.inf), "c": torch.tensor([0.5])})
    assert json.loads((tmp_path / "params.json").read_text()) == {"a": None, "b": [1, None], "c": [0.5]}
    assert [path.name for path in tmp_path.iterdir()] == ["params.json"]
