from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile
import torch

from difffx.data import MUSDB18, Folder
from difffx.data.audio_io import AudioError
from difffx.data.musdb18 import VALIDATION

RATE = 8_000


def write(path, seconds=4.0, rate=RATE, channels=1, subtype=None, seed=0):
    """Noise that is loud at its beginning in every file, of a seed of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(seed).standard_normal((round(seconds * rate), channels))
    soundfile.write(path, noise, rate, subtype=subtype)


def folder(root, **arguments):
    usual = {"seconds": 0.5, "batch_size": 4, "train_items": 16, "val_items": 6, "test_items": 12}
    return Folder(RATE, root=str(root), **(usual | arguments))


@pytest.fixture
def mixed(tmp_path):
    """Six files that can be used, of every kind, and five that cannot."""
    write(tmp_path / "a.wav", subtype="PCM_16", seed=1)
    write(tmp_path / "deep/er/b.wav", rate=48_000, channels=2, subtype="PCM_24", seed=2)
    write(tmp_path / "Ünï 音.flac", rate=22_050, seed=3)
    write(tmp_path / "d.ogg", rate=44_100, channels=2, seed=4)
    write(tmp_path / "e.WAV", subtype="FLOAT", seed=5)
    write(tmp_path / "f.mp3", rate=44_100, channels=2, seed=6)
    write(tmp_path / "click.wav", seconds=0.1)
    (tmp_path / "words.wav").write_text("words " * 1000)
    write(tmp_path / "cut.flac", seed=7)
    whole = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    soundfile.write(tmp_path / "nan.wav", np.full((RATE * 2, 1), np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros((0, 1)), RATE)
    (tmp_path / "notes.txt").write_text("not audio, and not named")
    return tmp_path


@pytest.mark.parametrize("channels", [1, 2])
def test_a_mixed_folder_yields_segments_of_one_shape(mixed, channels):
    data = folder(mixed, channels=channels)
    data.setup("fit")
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert batch["dry"].shape[1:] == (channels, RATE // 2) and batch["dry"].dtype == torch.float32
            assert batch["dry"].isfinite().all() and (batch["dry"].abs().amax((1, 2)) > 0.01).all()
            assert len(batch["name"]) == len(batch["dry"])


def test_unusable_files_are_named_and_counted_in_one_line(mixed, caplog):
    with caplog.at_level(logging.WARNING):
        data = folder(mixed)
        data.setup("test")
    assert len(data.tracks) == 6
    (record,) = caplog.records
    message = record.getMessage()
    assert "5 of 11 files left out" in message and "\n" not in message
    assert all(name in message for name in ("click.wav", "words.wav", "cut.flac", "nan.wav", "none.wav"))
    assert "notes.txt" not in message


def test_splits_share_no_file_and_do_not_depend_on_where_the_folder_lies(tmp_path):
    for place in ("here", "there"):
        for i in range(20):
            write(tmp_path / place / f"{i:02}.wav", seconds=1.5, seed=i)
    here, there = folder(tmp_path / "here"), folder(tmp_path / "there")
    names = {}
    for split in ("train", "val", "test"):
        here.trained = there.trained = True
        names[split] = [track.name for track in here.of_split(split)]
        assert names[split] == [track.name for track in there.of_split(split)]
    assert [len(names[split]) for split in ("train", "val", "test")] == [16, 2, 2]
    assert len({name for part in names.values() for name in part}) == 20
    other = folder(tmp_path / "here", seed=1)
    assert [track.name for track in other.of_split("val")] != names["val"]


def test_a_folder_that_nothing_was_trained_on_is_tested_whole(tmp_path):
    for i in range(10):
        write(tmp_path / f"{i}.wav", seconds=1.5, seed=i)
    files = {}
    for test, stage in [("auto", "test"), ("auto", "fit"), ("all", "fit"), ("split", "test")]:
        data = folder(tmp_path, test=test)
        data.setup(stage)
        loaded = [name.split("@")[0] for batch in data.test_dataloader() for name in batch["name"]]
        files[test, stage] = len(set(loaded))
    assert files == {("auto", "test"): 10, ("auto", "fit"): 1, ("all", "fit"): 10, ("split", "test"): 1}


def test_test_items_are_evenly_spaced_and_never_more_than_asked(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.wav", seconds=4.5, seed=i)
    names = [name for batch in folder(tmp_path, test_items=12).test_dataloader() for name in batch["name"]]
    assert [name for name in names if name.startswith("0")] == [
        f"0.wav@{t:.2f}s" for t in (0.5, 1.5, 2.5, 3.5)
    ]
    assert len(names) == 12
    assert len(folder(tmp_path, test_items=2).dataset("test")) == 2
    assert len(folder(tmp_path, test_items=1000).dataset("test")) == 27  # no place twice


def test_a_segment_is_what_the_file_holds_there(tmp_path):
    for i in range(3):
        write(tmp_path / f"{i}.wav", seed=i, subtype="FLOAT")
    data = folder(tmp_path, test_items=3).dataset("test")
    for i in range(3):
        whole = soundfile.read(tmp_path / f"{i}.wav", dtype="float32")[0]
        start = round(float(data[i]["name"].split("@")[1][:-1]) * RATE)
        assert np.allclose(data[i]["dry"][0].numpy(), whole[start : start + RATE // 2], atol=1e-7)


def test_silence_is_passed_over_the_same_way_every_time(tmp_path):
    audio = np.zeros(RATE * 20)
    audio[-2 * RATE :] = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE)
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", audio, RATE)
    data = folder(tmp_path)
    items = [data.dataset("train")[i] for i in range(16)]
    assert all(item["dry"].abs().max() > 0.01 for item in items)
    again = [folder(tmp_path).dataset("train")[i] for i in range(16)]
    assert all(torch.equal(a["dry"], b["dry"]) for a, b in zip(items, again, strict=True))


def test_a_folder_of_silence_says_so(tmp_path):
    for i in range(3):
        soundfile.write(tmp_path / f"{i}.wav", np.zeros(RATE * 2), RATE)
    with pytest.raises(AudioError, match=r"found no segment with sound.*silent"):
        folder(tmp_path).dataset("test")[0]


def test_a_damaged_place_in_a_long_file_is_passed_over(tmp_path):
    audio = 0.1 * np.random.default_rng(0).standard_normal(RATE * 10)
    audio[RATE * 4 : RATE * 6] = np.inf
    soundfile.write(tmp_path / "a.wav", audio, RATE, subtype="FLOAT")
    data = folder(tmp_path, test_items=20).dataset("test")
    assert all(data[i]["dry"].isfinite().all() for i in range(len(data)))


def test_a_file_shorter_than_a_segment_is_repeated(tmp_path):
    write(tmp_path / "a.wav", seconds=1.5, subtype="FLOAT")
    item = folder(tmp_path, seconds=4.0).dataset("test")[0]["dry"]
    assert item.shape == (1, 4 * RATE)
    assert torch.equal(item[:, : RATE * 3 // 2], item[:, RATE * 3 // 2 : RATE * 3])


def test_what_exceeds_full_scale_is_turned_down(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(RATE * 2, 1.8), RATE, subtype="FLOAT")
    assert folder(tmp_path).dataset("test")[0]["dry"].abs().max() == pytest.approx(1.0)


def test_workers_do_not_change_the_batches(tmp_path):
    for i in range(4):
        write(tmp_path / f"{i}.wav", rate=11_025, seed=i)
    batches = [list(folder(tmp_path, num_workers=n).train_dataloader()) for n in (0, 2)]
    for a, b in zip(*batches, strict=True):
        assert a["name"] == b["name"] and torch.equal(a["dry"], b["dry"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "data.root=<folder>"),
        (lambda p: p / "nowhere", "no such folder"),
        (lambda p: (p / "a.wav").write_text("") or p / "a.wav", "is a file, not a folder"),
        (lambda p: p, "no audio files in it; found no files at all"),
        (
            lambda p: [(p / f"{i}.txt").write_text("x") for i in range(3)] and p,
            "no audio files in it; found 3 .txt",
        ),
        (
            lambda p: (p / "a.wav").write_text("words") and p,
            "none of its 1 audio files can be used; a.wav: not an",
        ),
        (lambda p: write(p / "a.wav") or p, "needs 3 files at least, found 1"),
    ],
)
def test_a_wrong_folder_is_known_at_setup_in_one_line(tmp_path, make, says):
    root = make(tmp_path)
    data = Folder(RATE, root=None if root is None else str(root))
    with pytest.raises(ValueError, match=says) as caught:
        data.setup("fit")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"fractions": (0.8, 0.3, 0.1)}, "sum to 1"), ({"test": "some"}, "auto, all or split")],
)
def test_wrong_choices_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Folder(RATE, **wrong)


@pytest.fixture
def musdb(tmp_path):
    """Three songs to train, one of the validation songs, two to test; stems and mixture differ in level."""
    songs = {
        "train": ["A - One", "B - Two", "C - Three", sorted(VALIDATION)[0]],
        "test": ["D - Four", "E - Five"],
    }
    for part, names in songs.items():
        for name in names:
            for i, signal in enumerate(("mixture", "drums", "bass", "other", "vocals")):
                path = tmp_path / part / name / f"{signal}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, np.full((3 * RATE, 2), 0.1 * (i + 1)), RATE)
    return tmp_path


def test_musdb18_keeps_the_usual_songs_for_validation(musdb):
    assert len(VALIDATION) == 14
    data = MUSDB18(RATE, root=str(musdb), seconds=0.5)
    data.setup("fit")
    data.setup("test")
    names = {split: [song.name for song in data.songs(split)] for split in ("train", "val", "test")}
    assert names["train"] == ["A - One", "B - Two", "C - Three"]
    assert names["val"] == [sorted(VALIDATION)[0]]
    assert names["test"] == ["D - Four", "E - Five"]


def test_musdb18_yields_the_signal_asked_for(musdb):
    for signal, level in (("mixture", 0.1), ("bass", 0.3)):
        data = MUSDB18(RATE, root=str(musdb), signal=signal, seconds=0.5, channels=2, batch_size=2)
        batch = next(iter(data.test_dataloader()))
        assert batch["dry"].shape == (2, 2, RATE // 2)
        assert torch.allclose(batch["dry"], torch.tensor(level), atol=1e-4)


def test_musdb18_says_what_is_missing(tmp_path, musdb):
    with pytest.raises(ValueError, match="MUSDB18_ROOT"):
        MUSDB18(RATE).setup("fit")
    with pytest.raises(ValueError, match="has a folder train/"):
        MUSDB18(RATE, root=str(tmp_path / "test")).setup("fit")
    with pytest.raises(ValueError, match="signal must be one of mixture"):
        MUSDB18(RATE, signal="guitar")
