"""estimate.py --refine, as a user types it."""

import json
import signal

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow

RATE = 44_100
LATE = 441


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A dry sound, and the same squashed, brighter and ten milliseconds late."""
    folder = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    tones = sum(np.sin(2 * np.pi * 110 * k * time + k) / k for k in range(1, 60))
    dry = (0.1 * tones + 0.05 * rng.standard_normal(len(time))) * np.exp(-4 * (time % 0.5))
    wet = np.tanh(6 * dry) - 0.7 * np.tanh(6 * np.roll(dry, 1))
    soundfile.write(folder / "dry.wav", dry, RATE, subtype="FLOAT")
    soundfile.write(folder / "wet.wav", np.concatenate([np.zeros(LATE), wet[:-LATE]]), RATE, subtype="FLOAT")
    return folder / "wet.wav", folder / "dry.wav"


def test_refining_comes_nearer_and_keeps_the_estimate_beside_it(run, run_folder, pair, tmp_path):
    wet, dry = pair
    out = tmp_path / "out"
    options = ["scripts/estimate.py", wet, "--dry", dry, "--run", run_folder, "--out", out]
    result = run(*options, "--refine", "--renders", "300")
    assert result.returncode == 0, result.stderr
    assert f"wet is {LATE} samples (10.0 ms) late" in result.stderr and "best mel" in result.stderr
    assert "refined settings" in result.stdout and "estimate" in result.stdout
    scores = json.loads((out / "distances.json").read_text())
    assert list(scores) == ["before", "estimate", "after"]
    assert scores["after"]["mel"] < 0.8 * min(scores["estimate"]["mel"], scores["before"]["mel"])
    refined, network = (json.loads((out / f"settings{kind}.json").read_text()) for kind in ("", "_network"))
    assert refined.keys() == network.keys() and refined != network
    assert soundfile.info(out / "matched.wav").frames == 2 * RATE
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    run(*options)
    assert json.loads((out / "settings.json").read_text()) == network


def test_ctrl_c_ends_the_search_and_keeps_the_best(start, run_folder, pair, tmp_path):
    wet, dry = pair
    out = tmp_path / "out"
    options = ["--run", run_folder, "--out", out, "--refine", "--seconds", "200"]
    with start("scripts/estimate.py", wet, "--dry", dry, *options) as process:
        seen = next(line for line in process.stderr if "refining from mel" in line)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Ctrl-C keeps the best so far" in seen
    assert "interrupted" in errors and (out / "settings.json").is_file() and (out / "matched.wav").is_file()


def test_refining_without_the_dry_sound_gets_one_line(error_of, run_folder, pair, tmp_path):
    line = error_of(
        "scripts/estimate.py", pair[0], "--run", run_folder, "--out", tmp_path / "out", "--refine"
    )
    assert "--refine needs the sound before the effects: add --dry DRY" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("limit", ["seconds", "renders"])
def test_a_budget_of_nothing_is_refused(error_of, run_folder, pair, tmp_path, limit):
    wet, dry = pair
    options = ["--dry", dry, "--run", run_folder, "--out", tmp_path / "out", "--refine", f"--{limit}", "0"]
    assert f"--{limit} must be above 0, got 0" in error_of("scripts/estimate.py", wet, *options)
