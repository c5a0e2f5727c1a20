"""A file and nothing else: the estimators that ship."""

import json

import pytest

from difffx.pretrained import estimators

pytestmark = pytest.mark.slow


def test_a_song_alone_is_enough(run, music_folder, tmp_path):
    song, out = music_folder / "song 1.flac", tmp_path / "out"
    result = run("scripts/estimate.py", song, "--out", out)
    assert result.returncode == 0, result.stderr[-2000:]
    settings = json.loads((out / "settings.json").read_text())
    assert list(settings) == ["peq", "comp", "dist"]
    for effect in settings.values():
        assert 0.0 <= effect["active"]["value"] <= 1.0
    assert (out / "report.png").is_file()
    assert result.stdout.count("is on") + result.stdout.count("is off") == 3


def test_a_wrong_model_is_told_which_there_are(error_of, music_folder, tmp_path):
    line = error_of(
        "scripts/estimate.py", music_folder / "song 1.flac", "--model", "pecq", "--out", tmp_path / "out"
    )
    assert "there is no estimator 'pecq' (did you mean 'peq'?)" in line
    assert all(name in line for name in estimators())
    assert not (tmp_path / "out").exists()


def test_evaluating_needs_a_run_or_a_model(error_of):
    assert "give run=FOLDER, or model=NAME" in error_of("evaluate.py")
    assert "give run=FOLDER, or model=NAME" in error_of("evaluate.py", "model=peq", "run=somewhere")
