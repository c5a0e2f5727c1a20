import numpy as np
import pytest
import soundfile
import torch

from difffx.data import Blend, Folder, Synthetic

RATE = 16_000


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        tone = 0.5 * np.sin(2 * np.pi * 440.0 * np.arange(2 * RATE) / RATE)
        soundfile.write(tmp_path / f"{i}.wav", tone, RATE)
    return tmp_path


def blend(folder, share=0.25, pool=None, **options):
    parts = {
        "synthetic": Synthetic(RATE, seconds=0.5),
        "folder": Folder(RATE, root=str(folder), seconds=0.5, test_items=4),
    }
    shares = {"synthetic": share, "folder": 1.0 - share}
    return Blend(RATE, parts, shares, "folder", seconds=0.5, pool=pool, train_items=8, **options)


def test_an_item_is_that_of_a_part_and_parts_come_as_often_as_their_shares_say(folder):
    data = blend(folder, batch_size=4)
    data.setup("fit")
    train = data.dataset("train")
    names = [train[i]["name"] for i in range(200)]
    synthetic = [name.startswith("train-") for name in names]
    assert 0.15 < np.mean(synthetic) < 0.35
    first = synthetic.index(True)
    assert torch.equal(train[first]["dry"], data.parts["synthetic"].dataset("train")[first]["dry"])
    batch = next(iter(data.train_dataloader()))
    assert batch["dry"].shape == (4, 1, RATE // 2)


def test_validation_and_test_are_those_of_the_measured_part(folder):
    data = blend(folder)
    data.setup("fit")
    for split in ("val", "test"):
        here, there = data.dataset(split), data.parts["folder"].dataset(split)
        assert [item["name"] for item in here] == [item["name"] for item in there]
    heard = {data.dataset("train")[i]["name"].partition("@")[0] for i in range(60)}
    held_out = {item["name"].partition("@")[0] for item in data.dataset("test")}
    assert not heard & held_out


def test_a_share_of_nothing_needs_no_folder(tmp_path):
    parts = {"synthetic": Synthetic(RATE, seconds=0.5), "folder": Folder(RATE, seconds=0.5)}
    data = Blend(RATE, parts, {"synthetic": 1.0, "folder": 0.0}, "synthetic", seconds=0.5)
    assert all(data.dataset("train")[i]["name"].startswith("train-") for i in range(5))


def test_a_pool_keeps_what_it_made(folder):
    data = blend(folder, pool=3).dataset("train")
    assert all(torch.equal(data[i]["dry"], data[i + 3]["dry"]) for i in range(3))
    assert data[0]["name"] == data[3]["name"] != data[1]["name"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shares": {"synthetic": 1.0}}, "a number for each of synthetic, folder"),
        ({"shares": {"synthetic": 0.5, "folder": 0.6}}, "sum to 1"),
        ({"measured": "song"}, "measured must be one of synthetic, folder, got 'song'"),
        ({"seconds": 1.0}, r"synthetic has \(sample_rate, samples, channels\) of \(16000, 8000, 1\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(change, words):
    parts = {"synthetic": Synthetic(RATE, seconds=0.5), "folder": Folder(RATE, seconds=0.5)}
    options = {"shares": {"synthetic": 0.5, "folder": 0.5}, "measured": "folder", "seconds": 0.5} | change
    with pytest.raises(ValueError, match=words):
        Blend(RATE, parts, **options)
