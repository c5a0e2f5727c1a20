import json
import re
import shutil
import signal

import numpy as np
import pytest
import soundfile
import torch

pytestmark = pytest.mark.slow

ANSWERS = {"estimate", "dry", "midpoint", "random"}


@pytest.fixture
def clean_music(tmp_path):
    rng = np.random.default_rng(2)
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", 0.1 * rng.standard_normal((11 * 44_100, 2)), 44_100)
    return tmp_path


def test_a_run_leaves_checkpoints_config_scores_figures_and_audio(run_folder):
    results = json.loads((run_folder / "evaluation.json").read_text())
    assert set(results["metrics"]) == {"mel", "mrstft", "si_sdr", "third_octave_db", "envelope_db"}
    assert all(set(row) == ANSWERS for row in results["metrics"].values())
    assert results["knobs"]["comp.threshold_db"]["unit"] == "dB"
    assert {"config.yaml", "metrics.csv", "checkpoints"} <= {path.name for path in run_folder.iterdir()}
    assert {path.name for path in (run_folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert list(run_folder.rglob("*.png")) and list(run_folder.rglob("*.wav"))
    assert not list(run_folder.rglob("*.part"))


def test_evaluating_again_gives_the_same_numbers(run, run_folder):
    before = json.loads((run_folder / "evaluations" / "test.json").read_text())
    result = run("evaluate.py", f"run='{run_folder}'")
    assert result.returncode == 0, result.stderr
    after = json.loads((run_folder / "evaluation.json").read_text())
    assert after["metrics"]["mel"] == pytest.approx(before["metrics"]["mel"], rel=1e-6)
    assert "mel" in result.stdout and "estimate" in result.stdout


def test_a_folder_of_any_music_is_scored_and_what_is_unreadable_is_named(run, run_folder, music_folder):
    result = run(
        "evaluate.py", f"run='{run_folder}'", "data=folder", f"data.root='{music_folder}'", "data.seconds=2"
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((run_folder / "evaluation.json").read_text())
    assert results["data"] == "folder" and results["items"] >= 4
    assert "broken.wav" in result.stderr + result.stdout


def test_the_benchmark_scores_stored_settings_beside_truth_and_baselines(run, run_folder, clean_music):
    command = (
        "evaluate.py",
        f"run='{run_folder}'",
        "benchmark=blind",
        "data=folder",
        f"data.root='{clean_music}'",
    )
    result = run(*command)
    assert result.returncode == 0, result.stderr
    results = json.loads((run_folder / "evaluations" / "blind.json").read_text())
    mel = results["metrics"]["mel"]
    assert set(mel) == ANSWERS | {"oracle", "peq alone", "comp alone"}
    assert mel["oracle"] < 0.005 < min(mel["dry"], mel["midpoint"])
    assert set(results["per_item"]) == {
        f"{name}.wav #{row}" for name, row in zip("aaaabbbb", range(1, 9), strict=True)
    }
    assert "oracle" in result.stdout and "mel of each clip" in result.stdout
    run(*command)
    assert json.loads((run_folder / "evaluations" / "blind.json").read_text())["metrics"]["mel"] == mel


def test_a_benchmark_without_music_or_of_another_name_gets_one_line(error_of, run_folder):
    assert "data=folder data.root=" in error_of("evaluate.py", f"run='{run_folder}'", "benchmark=blind")
    assert "benchmark=deaf" in error_of("evaluate.py", f"run='{run_folder}'", "benchmark=deaf")


def test_a_run_goes_on_with_one_option_and_the_new_ones_win(run, run_folder, tmp_path):
    folder = tmp_path / "resumed"
    shutil.copytree(run_folder, folder)
    steps = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    result = run("train.py", f"resume={folder}", "trainer.max_epochs=2", "evaluate=false", "callbacks=none")
    assert result.returncode == 0, result.stderr
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2 * steps
    assert "max_epochs: 2" in (folder / "config.yaml").read_text()
    assert "sfx: peq_comp" not in (folder / "config.yaml").read_text()  # resolved: the graph itself


def interrupted(start, folder, sign):
    """A training run that gets a signal once it has checkpoints."""
    with start(
        "train.py", "debug=fast", "trainer.max_epochs=400", "evaluate=false", f"hydra.run.dir={folder}"
    ) as process:
        for line in process.stdout:
            if line.startswith("epoch 3/400"):
                break
        process.send_signal(sign)
        _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def test_ctrl_c_leaves_a_usable_run_and_says_how_to_go_on(run, start, tmp_path):
    folder = tmp_path / "stopped"
    code, errors = interrupted(start, folder, signal.SIGINT)
    assert code == 130 and "Traceback" not in errors
    assert f"resume='{folder}'" in errors
    assert run("evaluate.py", f"run={folder}", "checkpoint=last").returncode == 0


def test_a_killed_run_is_finished_by_resuming_it(run, start, tmp_path):
    folder = tmp_path / "killed"
    code, _ = interrupted(start, folder, signal.SIGKILL)
    assert code == -signal.SIGKILL
    epoch = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"]
    result = run("train.py", f"resume={folder}", f"trainer.max_epochs={epoch + 3}", "evaluate=true")
    assert result.returncode == 0, result.stderr
    assert torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == epoch + 2
    assert (folder / "evaluation.json").is_file()


def test_help_lists_every_group_and_option(run):
    result = run("train.py", "--help", timeout=30)
    assert result.returncode == 0
    for line in (
        "sfx: comp",
        "afx: ",
        "encoder: cqt, histograms, mee, statistics, stem_pair, time_frequency",
        "loss: dj, dj_audio, dj_curves, dj_params, mel",
        "data: blend, dj_pairs, folder, musdb18",
        "augment: none, recordings",
    ):
        assert line in result.stdout


MISTAKES = {
    "unknown option": (["sfx=pqe_comp"], "sfx=pqe_comp: .*did you mean 'peq_comp'"),
    "unknown key": (["encoder.embed_dims=3"], "encoder.embed_dims"),
    "unknown argument": (["+encoder.embed_dims=3"], "embed_dims"),
    "a loop": (["+sfx.wires={level_peq:[peq],peq:[level_peq],level_comp:[peq],comp:[level_comp]}"], "a loop"),
    "a knob out of range": (["sfx.set.comp.makeup_db=99"], "set.comp.makeup_db: 99 is outside 0..20 dB"),
    "no folder": (["data=folder", "data.root=/nowhere"], "/nowhere"),
    "no root": (["data=folder"], "data.root"),
    "nothing to replace": (["sfx=peq", "afx=proxy"], "afx=same"),
    "unlike knobs": (["sfx=peq", "afx=comp", "loss=params"], "peq.low_shelf_hz"),
    "nothing to resume": (["resume=/nowhere"], "/nowhere"),
    "an impossible batch": (["data.batch_size=0"], "batch_size"),
    "decks for one sound": (["data=dj_pairs", "data.seconds=2"], "hears dry, name.*choose data=synthetic"),
    "one sound for decks": (["task=dj", "data=synthetic"], "hears a, b, params, name.*choose data=dj_pairs"),
    "a word for a number": (["trainer.max_epochs=abc"], "trainer.max_epochs: expected a number, got 'abc'"),
    "a word deep inside": (["optim.optimizer.lr=fast"], "optim.optimizer.lr.*'fast'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_gets_one_line(error_of, tmp_path, case):
    arguments, message = MISTAKES[case]
    line = error_of("train.py", "debug=fast", *arguments, f"hydra.run.dir='{tmp_path}'")
    assert re.search(message, line), line


def test_a_folder_of_text_files_is_no_data(error_of, tmp_path):
    (tmp_path / "a.txt").write_text("x")
    line = error_of(
        "train.py", "debug=fast", "data=folder", f"data.root={tmp_path}", f"hydra.run.dir={tmp_path}/run"
    )
    assert str(tmp_path) in line


@pytest.fixture
def damaged(run_folder, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(run_folder, folder)
    return folder


def test_a_truncated_checkpoint_is_named(error_of, damaged):
    path = damaged / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:5000])
    assert "best.ckpt: damaged" in error_of("evaluate.py", f"run={damaged}")


def test_a_foreign_checkpoint_is_refused(error_of, damaged):
    torch.save({"state_dict": {"weight": torch.zeros(1)}}, damaged / "checkpoints" / "best.ckpt")
    assert "another model" in error_of("evaluate.py", f"run={damaged}")


def test_a_run_folder_without_config_is_refused(error_of, damaged):
    (damaged / "config.yaml").unlink()
    assert "no config.yaml" in error_of("evaluate.py", f"run={damaged}")


def test_a_run_must_be_given(error_of):
    assert "run" in error_of("evaluate.py")


@pytest.mark.parametrize("stereo", [False, True])
def test_estimate_writes_settings_report_and_match(run, run_folder, tmp_path, stereo):
    rate, out = 48_000, tmp_path / "out"
    noise = np.random.default_rng(1).standard_normal((3 * rate, 2 if stereo else 1)) * 0.1
    soundfile.write(tmp_path / "wet.wav", noise, rate)
    soundfile.write(tmp_path / "dry.wav", noise[: 2 * rate], rate)
    result = run(
        "scripts/estimate.py",
        tmp_path / "wet.wav",
        "--dry",
        tmp_path / "dry.wav",
        "--run",
        run_folder,
        "--out",
        out,
    )
    assert result.returncode == 0, result.stderr
    settings = json.loads((out / "settings.json").read_text())
    assert settings["comp"]["threshold_db"]["unit"] == "dB"
    assert -40 <= settings["comp"]["threshold_db"]["value"] <= 0
    assert soundfile.info(out / "matched.wav").channels == (2 if stereo else 1)
    assert (out / "report.png").stat().st_size > 10_000


@pytest.mark.parametrize("kind", ["missing", "text", "short", "nan", "silence"])
def test_estimate_refuses_what_it_cannot_hear(error_of, run_folder, tmp_path, kind):
    path = tmp_path / f"{kind}.wav"
    audio = np.random.default_rng(0).standard_normal(44_100 * 2).astype(np.float32) * 0.1
    if kind == "text":
        path.write_text("not audio")
    elif kind != "missing":
        audio = {
            "short": audio[:4410],
            "silence": 0 * audio,
            "nan": np.where(np.arange(len(audio)) == 9, np.nan, audio),
        }[kind]
        soundfile.write(path, audio, 44_100, subtype="FLOAT")
    line = error_of("scripts/estimate.py", path, "--run", run_folder, "--out", tmp_path / "out")
    assert path.name in line
    assert not (tmp_path / "out" / "settings.json").exists()
