"""Settings from files, and the way back."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from difffx import inference
from difffx.data.audio_io import AudioError
from difffx.graph import ProcessorGraph, switched
from difffx.processors import Compressor, Normalize, ParametricEQ

ROOT = Path(__file__).parents[1]
RATE = 16_000


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Oracle(torch.nn.Module):
    """Answers with the RMS of what it hears on every knob, or with `truth`; remembers the shapes it heard."""

    sample_rate = RATE

    def __init__(self, truth=None):
        super().__init__()
        processors = {"level": Normalize(RATE), "peq": ParametricEQ(RATE), "comp": Compressor(RATE)}
        self.afx = ProcessorGraph(processors, set={"comp": {"makeup_db": 0.0, "knee_db": "learned"}})
        self.truth, self.heard = truth, []

    def estimate(self, wet):
        self.heard.append(tuple(wet.shape))
        level = wet.square().mean((1, 2), keepdim=True).sqrt()
        return self.truth if self.truth is not None else level.expand(-1, len(self.afx.spec), 1)

    def apply(self, dry, z):
        return self.afx(dry, controls=self.afx.from_unit(z))


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_any_rate_and_number_of_channels_gives_one_answer_at_the_rate_of_the_run(rate, channels):
    task = Oracle()
    z, preset = inference.estimate(task, noise(channels, 2 * rate), rate)
    assert z.shape == (1, len(task.afx.spec), 1)
    assert task.heard == [(1, channels, 2 * RATE)]
    assert -40 <= preset["comp"]["threshold_db"] <= 0


def test_a_long_file_is_heard_in_windows_of_one_length_and_averaged():
    """25 s are three windows; their levels 0.1, 0.2, 0.3 give 0.2."""
    task = Oracle()
    part = torch.ones(1, 25 * RATE // 3)
    audio = torch.cat([0.1 * part, 0.2 * part, 0.3 * part, torch.zeros(1, 25 * RATE % 3)], 1)
    seen = []
    windows = inference.estimate_windows(task, audio, RATE, progress=lambda parts: seen.extend(parts) or seen)
    assert task.heard == [(1, 1, 25 * RATE // 3)] * 3
    assert len(seen) == 3
    assert windows[:, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3], rel=1e-3)
    assert inference.estimate(task, audio, RATE)[0][0, 0].item() == pytest.approx(0.2, rel=1e-3)


def test_a_pause_in_a_long_file_is_not_asked():
    task = Oracle()
    audio = torch.cat([noise(1, 10 * RATE), torch.zeros(1, 10 * RATE), noise(1, 10 * RATE)], 1)
    assert len(inference.estimate_windows(task, audio, RATE)) == 2


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (noise(1, RATE // 10), r"too short: 0\.10 s, at least 1 s"),
        (torch.zeros(2, 2 * RATE), "silent"),
        (torch.full((1, 2 * RATE), float("nan")), "NaN"),
        (noise(2 * RATE), r"expected audio \[C, T\]"),
    ],
)
def test_what_cannot_be_estimated_is_refused(audio, message):
    with pytest.raises(AudioError, match=message):
        inference.estimate(Oracle(), audio, RATE)


def test_a_silent_file_is_refused_by_its_name(tmp_path):
    soundfile.write(tmp_path / "nothing.wav", np.zeros(2 * RATE), RATE)
    with pytest.raises(AudioError, match=r"nothing\.wav: is silent"):
        inference.open_sound(tmp_path / "nothing.wav")


def test_settings_hold_every_knob_with_its_unit_and_who_set_it():
    task = Oracle()
    tree = inference.settings(task, task.afx.spec.defaults())
    assert list(tree) == ["peq", "comp"]
    assert tree["comp"]["threshold_db"] == {"value": pytest.approx(-18.0), "unit": "dB"}
    assert tree["comp"]["makeup_db"] == {"value": 0.0, "unit": "dB", "fixed": True}
    assert tree["comp"]["knee_db"] == {"value": pytest.approx(6.0), "unit": "dB", "learned": True}
    assert tree["comp"]["attack_ms"]["unit"] == "ms"
    assert tree["peq"]["peak_1_q"]["unit"] == ""
    assert json.loads(json.dumps(tree)) == tree


def test_settings_of_a_nested_graph_are_nested():
    task = Oracle()
    rack = ProcessorGraph({"comp": Compressor(RATE)}, inputs=("audio",), set={"comp": {"ratio": 8.0}})
    task.afx = ProcessorGraph({"rack": rack})
    tree = inference.settings(task, task.afx.spec.defaults())
    assert tree["rack"]["comp"]["ratio"] == {"value": pytest.approx(8.0), "unit": "", "fixed": True}
    assert tree["rack"]["comp"]["threshold_db"] == {"value": pytest.approx(-18.0), "unit": "dB"}


@pytest.mark.parametrize("channels", [1, 2])
def test_the_true_settings_make_a_perfect_match(channels):
    task = Oracle()
    dry = noise(channels, 3 * RATE)
    z = task.afx.spec.sample(1, generator=torch.Generator().manual_seed(3))
    wet = 0.3 * inference.render(task, dry, RATE, z).detach()
    matched, scores = inference.match(task, dry, wet, RATE, z)
    assert torch.allclose(matched, wet, atol=1e-4)
    assert scores["after"]["mel"] < 1e-3
    assert scores["before"]["mel"] > 0.1


def test_a_render_keeps_rate_and_length_of_the_file():
    task = Oracle()
    dry = noise(2, 44_100 + 17)
    wet = inference.render(task, dry, 44_100, task.afx.spec.defaults())
    assert wet.shape == dry.shape
    assert inference.rms(wet[:, -441:]) > 0


def test_a_dry_file_is_brought_to_the_wet_one_and_says_how(tmp_path):
    wet = noise(2, 2 * RATE)
    soundfile.write(tmp_path / "dry.wav", noise(1, 3 * 8_000)[0].numpy(), 8_000)
    dry, cut, notes = inference.open_dry(tmp_path / "dry.wav", wet, RATE)
    assert dry.shape == cut.shape == (2, 2 * RATE)
    assert [note.split()[1] for note in notes] == ["is", "has", "lasts"]
    assert notes[0] == "dry is resampled from 8000 to 16000 Hz"
    soundfile.write(tmp_path / "same.wav", wet.T.numpy(), RATE)
    assert inference.open_dry(tmp_path / "same.wav", wet, RATE)[2] == []


def test_one_level_is_brought_to_another():
    loud = inference.at_level_of(noise(1, RATE), 7 * noise(2, RATE, seed=1))
    assert inference.rms(loud) == pytest.approx(inference.rms(7 * noise(2, RATE, seed=1)), rel=1e-4)
    assert not inference.at_level_of(torch.zeros(1, 9), noise(1, 9)).any()


@pytest.mark.slow
def test_the_command_names_the_settings_of_a_file_and_matches_a_dry_one(tmp_path):
    def run(*arguments):
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    folder, out = tmp_path / "run", tmp_path / "out"
    options = ["sfx=comp", "debug=fast", "trainer=cpu", "evaluate=false", f"hydra.run.dir={folder}"]
    trained = run("train.py", *options)
    assert trained.returncode == 0, trained.stderr
    wet, dry = tmp_path / "wet.flac", tmp_path / "dry.wav"
    soundfile.write(wet, noise(2 * 44_100, 2).numpy(), 44_100)
    soundfile.write(dry, noise(3 * 22_050, 1).numpy(), 22_050)
    done = run("scripts/estimate.py", wet, "--dry", dry, "--run", folder, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "both are cut to the shorter" in done.stderr
    assert "threshold_db" in done.stdout
    assert json.loads((out / "settings.json").read_text())["comp"]["attack_ms"]["unit"] == "ms"
    distances = json.loads((out / "distances.json").read_text())
    assert distances["before"].keys() == distances["after"].keys() >= {"mel", "si_sdr"}
    info = soundfile.info(out / "matched.wav")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (44_100, 2, 2 * 44_100, "FLOAT")
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


MISTAKES = {
    "missing": "wet.wav: no such file",
    "text": "wet.wav: not an audio file",
    "short": "wet.wav: too short: 0.10 s",
    "no dry": "dry.wav: no such file",
    "nan": "wet.wav: has 88200 samples that are NaN",
    "no run": "absent: there is no such folder",
    "no config": "no config.yaml in it",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_command_answers_a_mistake_in_one_line(tmp_path, monkeypatch, mistake):
    sound = {"short": noise(4_410), "nan": torch.full((88_200,), float("nan"))}.get(mistake, noise(88_200))
    wet = tmp_path / "wet.wav"
    if mistake == "text":
        wet.write_text("not a sound")
    elif mistake != "missing":
        soundfile.write(wet, sound.numpy(), 44_100, subtype="FLOAT")
    folder = tmp_path if mistake == "no config" else tmp_path / "absent"
    command = ["estimate.py", wet, "--run", folder, "--out", tmp_path / "out"]
    command += ["--dry", tmp_path / "dry.wav"] if mistake == "no dry" else []
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "scripts" / "estimate.py"), run_name="__main__")
    assert stopped.value.code.startswith("error: ")
    assert MISTAKES[mistake] in stopped.value.code
    assert "\n" not in stopped.value.code
    assert not (tmp_path / "out").exists()


def test_an_effect_that_is_off_is_said_to_be_and_its_knobs_not_heard():
    task = Oracle()
    task.afx = switched(ProcessorGraph({"peq": ParametricEQ(RATE), "comp": Compressor(RATE)}), 0.5)
    z = torch.full((1, len(task.afx.spec), 1), 0.5)
    z[:, task.afx.spec.switches] = torch.tensor([0.97, 0.2]).view(1, 2, 1)
    table = inference.tables(task, z)[0]
    rows = list(zip(*(column.cells for column in table.columns), strict=True))
    assert ("peq", "active", "97%", "is on") in rows and ("comp", "active", "20%", "is off") in rows
    asides = {effect: {row[3] for row in rows if row[0] == effect} for effect in ("peq", "comp")}
    assert asides == {"peq": {"", "is on"}, "comp": {"is off", "not heard"}}
