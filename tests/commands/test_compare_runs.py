"""Several runs in one table."""

import json
import shutil

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture
def two_runs(run_folder, tmp_path):
    """The same run twice, the second one called another encoder's and better."""
    for name in ("first", "second"):
        shutil.copytree(run_folder / ".hydra", tmp_path / name / ".hydra")
        (tmp_path / name / "evaluations").mkdir()
        shutil.copy(run_folder / "evaluations" / "test.json", tmp_path / name / "evaluations")
    chosen = tmp_path / "second" / ".hydra" / "hydra.yaml"
    chosen.write_text(chosen.read_text().replace("encoder: time_frequency", "encoder: cqt"))
    scores = tmp_path / "second" / "evaluations" / "test.json"
    results = json.loads(scores.read_text())
    results["metrics"]["mel"]["estimate"] = 0.0125
    scores.write_text(json.dumps(results))
    return tmp_path


def test_what_differs_is_a_column_and_the_better_run_comes_first(run, two_runs):
    result = run("scripts/compare_runs.py", two_runs / "first", two_runs / "second", "--markdown")
    assert result.returncode == 0, result.stderr
    header, _, *body = result.stdout.splitlines()
    assert header == "| encoder | estimate | dry | midpoint | random |"
    assert body[0].startswith("| cqt | 0.013 |") and body[1].startswith("| time_frequency |")


def test_what_is_missing_is_said(error_of, two_runs):
    assert "no scores on blind; there are: test" in error_of(
        "scripts/compare_runs.py", two_runs / "first", "--data", "blind"
    )
    assert "no metric loudness" in error_of(
        "scripts/compare_runs.py", two_runs / "first", "--metric", "loudness"
    )
    assert "is this a folder that train.py made?" in error_of("scripts/compare_runs.py", two_runs)
