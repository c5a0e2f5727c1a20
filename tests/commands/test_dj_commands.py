"""The real command lines of the DJ's tasks."""

import json

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow

SHORT = "data.seconds=1.5", "data.frames=6"


@pytest.fixture(scope="module")
def estimation(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a dj run"
    result = run("train.py", "task=dj", "debug=fast", *SHORT, "task.fit_items=1", f"hydra.run.dir='{folder}'")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, result.stdout


@pytest.fixture(scope="module")
def stem_folders(tmp_path_factory):
    """Three songs as stems, one without vocals."""
    folder, rng = tmp_path_factory.mktemp("stems"), np.random.default_rng(0)
    for song in ("one", "two", "three"):
        (folder / song).mkdir()
        for stem in ("drums", "bass", "other") if song == "three" else ("drums", "bass", "vocals", "other"):
            sound = 0.1 * rng.standard_normal((4 * 44_100, 2))
            soundfile.write(folder / song / f"{stem}.wav", sound, 44_100)
    return folder


def test_estimation_leaves_checkpoints_scores_figures_and_audio(estimation):
    folder, screen = estimation
    results = json.loads((folder / "evaluation.json").read_text())
    answers = ["estimate", "default", "linear", "equal_power", "mean", "least_squares", "fit"]
    assert list(results["metrics"]["response_db"]) == answers and results["fitted"] == 1
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert (folder / "results" / "test" / "audio" / "0_mix_hat.wav").is_file()
    assert (folder / "results" / "test" / "figures" / "moves_0.png").is_file()
    assert "response" in screen and "best without learning" in screen
    assert not list(folder.rglob("*.part"))


def test_a_run_is_scored_on_stems_that_it_never_saw(run, estimation, stem_folders):
    folder, _ = estimation
    options = f"run='{folder}'", "data=dj_pairs", f"data.root='{stem_folders}'", "data.test_items=2", *SHORT
    result = run("evaluate.py", *options, "data.channels=1", "data.num_workers=0", "data.batch_size=2")
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads((folder / "evaluations" / "dj_pairs.json").read_text())
    assert results["items"] == 2
    row = results["metrics"]["response_db"]
    assert row["fit"] < 1.0 and row["fit"] < row["linear"]


def test_a_run_goes_on_where_it_stopped(run, estimation):
    folder, _ = estimation
    result = run("train.py", f"resume={folder}", "trainer.max_epochs=2", "evaluate=false")
    assert result.returncode == 0, result.stderr[-3000:]
    epochs = [line.split(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()[1:]]
    assert epochs == ["0", "1"]


def test_imitation_trains_and_is_scored(run, tmp_path):
    folder = tmp_path / "imitation"
    result = run("train.py", "task=dj_imitation", "debug=fast", "data.pool=null", f"hydra.run.dir='{folder}'")
    assert result.returncode == 0, result.stderr[-3000:]
    results = json.loads((folder / "evaluation.json").read_text())
    assert "untold" in results["metrics"]["curves"] and "swap_ms" in results["metrics"]
    assert (folder / "results" / "test" / "audio" / "0_mix.wav").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["task=dj", "loss=mel"], "choose loss=dj"),
        (["task=dj", "encoder=mee"], "choose encoder=stem_pair"),
        (["loss=dj"], "use it with task=dj"),
        (["encoder=stem_pair"], "use it with task=dj"),
        (["task=dj_imitation", "task.rules=[bass_swop]"], "did you mean 'bass_swap'"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(error_of, tmp_path, options, message):
    line = error_of("train.py", *options, "debug=fast", f"hydra.run.dir='{tmp_path}'")
    assert message in line
