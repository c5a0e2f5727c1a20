"""Several answers for a file, through functions and through the command."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from difffx.candidates import candidates, table, write
from difffx.encoders import Mixture, to_normal
from difffx.graph import ProcessorGraph, switched
from difffx.processors import Normalize, ParametricClipper

ROOT = Path(__file__).parents[2]
RATE = 16_000


def noise(seconds=2.0, seed=0):
    return 0.2 * torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(seed))


class Unsure(torch.nn.Module):
    """Knows two answers at 0.2 and 0.8 on every knob; the louder a window, the surer of the second."""

    sample_rate = RATE

    def __init__(self, off=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        graph = ProcessorGraph({"level": Normalize(RATE), "clip": ParametricClipper(RATE)})
        self.afx, self.heard = switched(graph, off), []

    def posterior(self, wet):
        self.heard.append(tuple(wet.shape))
        level = wet.square().mean((1, 2)).sqrt()
        logits = torch.stack([torch.zeros_like(level), 10.0 * (level - 0.15)], 1)
        centers = to_normal(torch.tensor([0.2, 0.8])).view(1, 2, 1).repeat(len(wet), 1, len(self.afx.spec))
        return Mixture(logits, centers, torch.full_like(centers, 0.2))

    def apply(self, dry, z):
        return self.afx(dry, controls=self.afx.from_unit(self.afx.spec.decided(z)))


def test_the_likeliest_comes_first_and_shares_add_up():
    found = candidates(Unsure(), noise(), RATE, 2)
    assert [round(c.z.mean().item(), 3) for c in found] == [0.8, 0.2]
    assert sum(c.share for c in found) == pytest.approx(1.0)
    # The second is exp(10 (0.2 - 0.15)) = 1.65 times as likely at the level of the noise.
    assert found[0].share / found[1].share == pytest.approx(1.65, abs=0.05)
    assert found[0].log_density > found[1].log_density and found[0].z.shape == (1, 3, 1)


def test_windows_of_a_long_sound_vote_by_the_mean_of_their_log_densities():
    task = Unsure()
    loud, quiet = noise(10), 0.25 * noise(10, seed=1)
    found = candidates(task, torch.cat([loud, quiet], 1), RATE, 2)
    assert task.heard == [(1, 1, 10 * RATE)] * 2
    assert [round(c.z.mean().item(), 3) for c in found] == [0.2, 0.8]
    # One window says exp(0.5), the other exp(-1).
    assert found[0].share / found[1].share == pytest.approx(np.exp(0.25), rel=0.03)


def test_switches_are_decided_and_what_is_off_makes_no_second_candidate():
    task = Unsure(off=0.5)
    found = candidates(task, noise(), RATE, 6)
    place = task.afx.spec.switches[0]
    switches = [c.z[0, place, 0].item() for c in found]
    assert set(switches) == {0.0, 1.0}
    assert switches.count(0.0) == 1


def test_a_run_with_one_answer_and_a_count_of_none_are_refused():
    task = Unsure()
    with pytest.raises(ValueError, match="expected at least 1, got 0"):
        candidates(task, noise(), RATE, 0)
    task.posterior = lambda wet: None
    with pytest.raises(ValueError, match="head=mixture or head=flow"):
        candidates(task, noise(), RATE, 2)


def test_files_of_all_candidates_with_and_without_a_dry_sound(tmp_path):
    task, dry = Unsure(), noise()
    wet = task.apply(dry[None], torch.full((1, 3, 1), 0.2))[0].detach()
    found = candidates(task, wet, RATE, 2)
    write(task, found, tmp_path / "plain", RATE)
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {
        "candidates.json",
        "settings_1.json",
        "settings_2.json",
    }
    write(task, found, tmp_path / "dry", RATE, dry, wet)
    rows = json.loads((tmp_path / "dry" / "candidates.json").read_text())
    assert list(rows) == ["1", "2"] and rows["1"]["log_density"] >= rows["2"]["log_density"]
    true = next(place for place, c in enumerate(found, 1) if c.z.mean() < 0.5)
    assert rows[str(true)]["distances"]["mel"] < 0.01 < rows[str(3 - true)]["distances"]["mel"]
    settings = json.loads((tmp_path / "dry" / f"settings_{true}.json").read_text())
    assert settings["clip"]["drive_db"] == {"value": pytest.approx(-4.0, abs=0.01), "unit": "dB"}
    assert soundfile.info(tmp_path / "dry" / "matched_1.wav").frames == wet.shape[1]


def test_the_table_marks_the_nearest(tmp_path):
    rows = {str(k): {"share": 0.5, "log_density": -k, "distances": {"mel": k, "si_sdr": k}} for k in (1, 2)}
    shown = table(rows)
    assert list(shown.columns[3].cells) == ["[bold]1.000[/bold]", "2.000"]
    assert list(shown.columns[4].cells) == ["1.000", "[bold]2.000[/bold]"]
    assert len(table({"1": {"share": 1.0, "log_density": 0.0}}).columns) == 3


@pytest.fixture(scope="module")
def mixture_run(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mixture"
    options = ["sfx=dist", "head=mixture", "debug=fast", "trainer=cpu", "evaluate=false"]
    result = run("train.py", *options, f"hydra.run.dir='{folder}'")
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_command_writes_as_many_distinct_settings_as_asked(mixture_run, tmp_path, monkeypatch, capsys):
    wet, out = tmp_path / "wet.wav", tmp_path / "out"
    sound = 0.1 * np.random.default_rng(0).standard_normal((2 * 44_100, 2))
    soundfile.write(wet, sound, 44_100)
    soundfile.write(tmp_path / "dry.wav", sound[::-1], 44_100)
    command = ["estimate.py", wet, "--dry", tmp_path / "dry.wav", "--run", mixture_run, "--out", out]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (*command, "--candidates", 5)])
    runpy.run_path(str(ROOT / "scripts" / "estimate.py"), run_name="__main__")
    folder = out / "candidates"
    texts = {(folder / f"settings_{place}.json").read_text() for place in range(1, 6)}
    assert len(texts) == 5 and len(list(folder.glob("matched_*.wav"))) == 5
    rows = json.loads((folder / "candidates.json").read_text())
    assert sum(row["share"] for row in rows.values()) == pytest.approx(1.0)
    assert (out / "settings.json").exists()
    assert "candidates" in capsys.readouterr().out
