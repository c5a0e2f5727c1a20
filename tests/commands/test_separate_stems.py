"""Taking songs apart, as a user types it."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytestmark = pytest.mark.slow

SCRIPT = "scripts/separate_stems.py"
ROOT = Path(__file__).parents[2]
RATE = 44_100
SOURCES = ("drums", "bass", "other", "vocals")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A model of demucs with random weights, in its own format: tiny-HASH.th; 8 kHz, segments of 2 s."""
    from demucs.hdemucs import HDemucs

    torch.manual_seed(0)
    small = {"channels": 8, "growth": 1, "nfft": 256, "depth": 4, "segment": 2, "samplerate": 8000}
    model = HDemucs(list(SOURCES), **small)
    package = {"klass": HDemucs, "args": [list(SOURCES)], "kwargs": small, "training_args": {}}
    file = tmp_path_factory.mktemp("demucs weights") / "new.th"
    torch.save({**package, "state": model.state_dict()}, file)
    return file.rename(file.with_name(f"tiny-{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.th")).parent


def write(path, seconds=3.0, channels=2, rate=RATE, **more):
    """Noise with a beat."""
    time = np.arange(round(seconds * rate))[:, None] / rate
    noise = np.random.default_rng(len(path.name)).standard_normal((len(time), channels))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.2 * noise * np.exp(-8 * (time % 0.5)), rate, **more)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Five songs that last."""
    folder = tmp_path_factory.mktemp("long") / "Größe 音 [1]"
    for number in range(5):
        write(folder / "album" / f"{'x' * (number + 1)}.flac", seconds=8.0)
    return folder


@pytest.fixture(scope="module")
def whole(run, weights, songs, tmp_path_factory):
    """Their stems, made in one go."""
    out = tmp_path_factory.mktemp("whole") / "out"
    result = run(SCRIPT, songs, "--out", out, "--model", "tiny", "--weights", weights)
    assert result.returncode == 0, result.stderr
    return out


def tree(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def rows(output):
    """State -> number of songs, of the table at the end."""
    words = [line.replace("│", " ").split() for line in output.splitlines()]
    return {row[0]: int(row[1]) for row in words if len(row) == 3 and row[1].isdigit()}


def test_a_tree_of_all_kinds_of_songs_is_taken_apart_and_what_cannot_be_is_named(run, weights, tmp_path):
    music, out = tmp_path / "meine Musik", tmp_path / "Stems 音"
    write(music / "one.wav")
    write(music / "sub [bold]" / "mono 48k.flac", 2.0, channels=1, rate=48_000)
    write(music / "short.wav", 0.1)
    write(music / "six.wav", channels=6)
    (music / "broken.wav").write_bytes(b"RIFF....WAVEfmt nothing here")
    soundfile.write(music / "silent.wav", np.zeros((RATE * 2, 2)), RATE)
    bad = np.full((RATE * 2, 2), np.nan)
    soundfile.write(music / "nan.wav", bad, RATE, subtype="FLOAT")
    result = run(SCRIPT, music, "--out", out, "--model", "tiny", "--weights", weights, "--exact")
    assert result.returncode == 1 and "Traceback" not in result.stderr, result.stderr
    assert "error: 5 of 7 songs failed" in result.stderr
    for line in (
        "failed: short: too short: 0.10 s, expected at least 1 s",
        "failed: six: 6 channels, expected mono or stereo",
        "failed: broken: not an audio file",
        "failed: silent: is silent",
        "failed: nan: has 176400 samples that are NaN",
    ):
        assert line in result.stderr
    assert rows(result.stdout) == {"separated": 2, "skipped": 0, "failed": 5}
    lines = {line["name"]: line for line in map(json.loads, (out / "manifest.jsonl").open())}
    assert set(lines) == {"one", "sub [bold]/mono 48k"}
    song = lines["sub [bold]/mono 48k"]
    assert (song["sample_rate"], song["channels"], song["samples"]) == (48_000, 1, 96_000)
    original, _ = soundfile.read(music / "sub [bold]" / "mono 48k.flac")
    parts = [soundfile.read(out / file)[0] for file in song["stems"].values()]
    assert len(parts) == 4 and all(np.abs(part).max() > 0 for part in parts)
    assert np.abs(sum(parts) - original).max() < 1e-6 and song["sum_error_db"] < -100
    assert not list(out.rglob("*partial*"))
    again = run(SCRIPT, music, "--out", out, "--model", "tiny", "--weights", weights, "--exact")
    assert rows(again.stdout) == {"separated": 0, "skipped": 2, "failed": 5}


def stopped(start, sign, songs, out, weights):
    """A run that gets a signal once its first song is done."""
    with start(SCRIPT, songs, "--out", out, "--model", "tiny", "--weights", weights) as process:
        for line in process.stderr:
            if " s of music in " in line:
                break
        process.send_signal(sign)
        output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def test_a_killed_run_is_finished_by_the_same_command(run, start, songs, whole, weights, tmp_path):
    code, _, _ = stopped(start, signal.SIGKILL, songs, tmp_path, weights)
    assert code == -signal.SIGKILL
    done = len((tmp_path / "manifest.jsonl").read_text().splitlines())
    assert 1 <= done < 5
    result = run(SCRIPT, songs, "--out", tmp_path, "--model", "tiny", "--weights", weights)
    assert result.returncode == 0, result.stderr
    assert rows(result.stdout) == {"separated": 5 - done, "skipped": done, "failed": 0}
    assert tree(tmp_path) == tree(whole)


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(start, songs, whole, weights, tmp_path):
    code, output, errors = stopped(start, signal.SIGINT, songs, tmp_path, weights)
    assert code == 130 and "Traceback" not in errors
    assert "stopped; the same command goes on from here" in errors
    assert rows(output)["separated"] + rows(output)["waiting"] == 5
    kept, expected = tree(tmp_path), tree(whole)
    lines = kept.pop("manifest.jsonl").splitlines()
    assert lines == expected["manifest.jsonl"].splitlines()[: len(lines)] and 1 <= len(lines) < 5
    assert kept == {name: expected[name] for name in kept} and len(kept) == 4 * len(lines)


def test_a_full_disk_stops_the_run_with_one_line(songs, tmp_path):
    """No file may grow beyond 100 kB: what a full disk does to the writer."""
    command = [sys.executable, SCRIPT, songs, "--out", tmp_path / "out", "--model", "none"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "COLUMNS": "120"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )  # fmt: skip
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "cannot be written" in result.stderr.splitlines()[-1] and "GB are free" in result.stderr
    assert tree(tmp_path / "out") == {}


def test_without_network_and_weights_one_line_says_which_file_goes_where(songs, tmp_path):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "TORCH_HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, SCRIPT, songs, "--out", tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "error: the weights of htdemucs are not here and cannot be downloaded: put 955717e8-8726e21a.th "
        "(or 955717e8.safetensors) into a folder DIR and add --weights DIR, "
        "or fill the cache of Hugging Face with adefossez/HTDemucs"
    ]
    assert not (tmp_path / "out").exists()


def test_a_mistake_gets_one_line(error_of, songs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = error_of(SCRIPT, songs, "--out", tmp_path / "file", "--model", "none")
    assert "file: cannot be written (File exists)" in line
    line = error_of(SCRIPT, songs, "--out", tmp_path / "out", "--weights", tmp_path / "weights")
    assert "weights: no such folder of weights" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(error_of, songs, tmp_path):
    tmp_path.chmod(0o500)
    line = error_of(SCRIPT, songs, "--out", tmp_path / "out", "--model", "none")
    tmp_path.chmod(0o700)
    assert "out: cannot be written (Permission denied)" in line
