"""The real command lines, as a user types them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "COLUMNS": "120"}
ENVIRONMENT.pop("DIFFFX_TRACEBACK", None)


def command(*arguments, timeout=300, cwd=ROOT):
    """Runs python with these arguments in the project's root."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def error_line(result):
    """The one line on stderr that a mistake gets."""
    assert result.returncode == 1, result.stderr[-2000:]
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in result.stderr, result.stderr[-2000:]
    return lines[0]


@pytest.fixture(scope="session")
def run():
    return command


@pytest.fixture(scope="session")
def start():
    """The same, not waited for: a process whose output can be read line by line."""
    return lambda *arguments: subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell ignores it
    )  # fmt: skip


@pytest.fixture(scope="session")
def error_of():
    """The error line of a command that must fail."""
    return lambda *arguments: error_line(command(*arguments))


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """A finished, very small run."""
    folder = tmp_path_factory.mktemp("runs") / "a run"
    result = command("train.py", "sfx=peq_comp", "afx=proxy", "debug=fast", f"hydra.run.dir='{folder}'")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.fixture(scope="session")
def music_folder(tmp_path_factory):
    """Files of every kind: rates, channels, formats, and what is no audio at all."""
    folder = tmp_path_factory.mktemp("music")
    rng = np.random.default_rng(0)
    for i, (rate, channels, suffix) in enumerate(
        [(44_100, 1, "wav"), (48_000, 2, "flac"), (22_050, 1, "ogg"), (44_100, 2, "wav")]
    ):
        time = np.arange(4 * rate) / rate
        tone = sum(np.sin(2 * np.pi * 110 * k * (i + 1) * time) / k for k in range(1, 30))
        audio = tone * np.exp(-3 * (time % 0.5)) + 0.01 * rng.standard_normal(len(time))
        stereo = np.stack([audio, 0.7 * audio], 1) if channels == 2 else audio
        soundfile.write(folder / f"song {i}.{suffix}", 0.3 * stereo / np.abs(stereo).max(), rate)
    (folder / "notes.txt").write_text("not music")
    (folder / "broken.wav").write_bytes(b"RIFF....WAVEfmt nothing here")
    return folder
