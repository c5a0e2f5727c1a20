"""scripts/mix.py and scripts/score_transitions.py, as a user types them."""

import functools
import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from difffx import mixing
from difffx.dj import TRANSITIONS, create_mixer, index_of
from difffx.dj.transition_files import read_curves
from difffx.runs import build

RATE = 22_050
ROOT = Path(__file__).parents[2]


def music(tempo_bpm, bars, first_s=0.0, root_hz=110.0, seed=0):
    """A kick on each beat, a hi-hat between, a chord that changes with each bar: stems [T] by name."""
    rng = np.random.default_rng(seed)
    beat_s = 60.0 / tempo_bpm
    time_s = np.arange(round((first_s + bars * 4 * beat_s) * RATE)) / RATE
    since = time_s - first_s
    beat = np.where(since >= 0, since % beat_s, np.inf)
    hat = np.where(since >= 0, (since + 0.5 * beat_s) % beat_s, np.inf)
    first = np.where(since >= 0, since % (4 * beat_s), np.inf)
    noise = rng.standard_normal(len(time_s))
    drums = 0.5 * np.exp(-beat / 0.04) * np.cos(2 * np.pi * 60 * np.minimum(beat, 1.0))
    drums += 0.1 * noise * (np.exp(-hat / 0.01) + 2.0 * np.exp(-first / 0.02))
    steps = np.array([0, 5, 7, 3])[(np.maximum(since, 0) // (4 * beat_s)).astype(int) % 4]
    hz = root_hz * 2 ** (steps / 12)
    phase = 2 * np.pi * np.cumsum(hz) / RATE
    other = 0.05 * sum(np.sin(k * phase) / k for k in (2, 2.5, 3))
    stems = {
        "drums": drums,
        "bass": 0.15 * np.sin(phase / 2),
        "vocals": 0.05 * np.sin(5 * phase),
        "other": other,
    }
    return {stem: 0.5 * x for stem, x in stems.items()}


def write(folder, stems, rate=RATE):
    folder.mkdir()
    for stem, x in stems.items():
        soundfile.write(folder / f"{stem}.wav", np.stack([x, 0.9 * x], 1), rate, subtype="FLOAT")
    return folder


def song(path, stems):
    soundfile.write(path, sum(stems.values()), RATE, subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Stems of a song at 120 bpm, of one at 126 bpm that begins late; and both as one file."""
    folder = tmp_path_factory.mktemp("songs")
    a, b = music(120.0, 9), music(126.0, 10, first_s=0.31, root_hz=98.0, seed=1)
    return {
        "a": write(folder / "a", a),
        "b": write(folder / "b", b),
        "a_file": song(folder / "a.wav", a),
        "b_file": song(folder / "b.wav", b),
    }


@pytest.fixture(scope="module")
def scripts():
    """main() of both scripts; each song is heard once for all tests."""
    heard, mixing.open_song = mixing.open_song, functools.cache(mixing.open_song)
    found = {}
    for name in ("mix", "score_transitions"):
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        found[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[name])
    yield found
    mixing.open_song = heard


@pytest.fixture
def typed(scripts, monkeypatch, capsys):
    """Runs a script within this process: what it printed on stdout and stderr, and how it ended."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        ended = 0
        try:
            scripts[name].main()
        except SystemExit as end:
            ended = end.code
        printed = capsys.readouterr()
        return printed.out, printed.err, ended

    return run


@pytest.fixture
def refused(typed):
    """The one line that a mistake gets."""

    def run(*arguments):
        _, _, ended = typed("mix", *arguments)
        assert isinstance(ended, str) and ended.startswith("error: ") and "\n" not in ended, ended
        return ended

    return run


@pytest.mark.slow
def test_the_command_leaves_a_mix_its_curves_its_text_and_its_figure(run, songs, tmp_path):
    out = tmp_path / "new" / "mix.wav"
    result = run("scripts/mix.py", songs["a"], songs["b"], "--out", out, "--bars", 3)
    assert result.returncode == 0, result.stderr
    mix, rate = soundfile.read(out, always_2d=True)
    folder = tmp_path / "new" / "mix_transition"
    text = json.loads((folder / "params.json").read_text())
    curves, times_s = read_curves(folder / "params.npz")
    assert rate == RATE and mix.shape[1] == 2 and np.isfinite(mix).all()
    assert len(mix) / rate == pytest.approx(text["mix"]["seconds"])
    assert curves.shape == (3 * 4 * 16 + 1, 54) and len(times_s) == text["transition"]["frames"]
    assert times_s[0].item() == pytest.approx(text["transition"]["begins_s"])
    assert times_s[-1].item() - times_s[0].item() == pytest.approx(6.0, abs=0.02)
    assert text["transition"]["rule"] == "bass_swap" and text["transition"]["bars"] == 3
    assert text["a"]["tempo_bpm"] == pytest.approx(120.0, rel=0.005)
    assert text["b"]["tempo_bpm"] == pytest.approx(126.0, rel=0.005)
    assert text["b"]["speed"] == pytest.approx(120.0 / 126.0, rel=0.005) and 0 <= text["key_distance"] <= 7
    assert 0.0 <= text["measures"]["low_end_clash"] <= 0.5 and text["measures"]["true_peak_dbtp"] < 0.0
    assert (folder / "transition.png").read_bytes().startswith(b"\x89PNG")
    assert "low_end_clash" in result.stdout and str(out) in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["params.json", "params.npz", "transition.png"]


@pytest.mark.slow
def test_a_mistake_is_one_line_and_leaves_nothing(error_of, songs, tmp_path):
    wrong = error_of("scripts/mix.py", songs["a"], tmp_path / "none.wav", "--out", tmp_path / "mix.wav")
    assert "none.wav: no such file" in wrong
    assert not list(tmp_path.iterdir())


def test_all_rules_of_two_files_are_scored(typed, songs):
    out, err, ended = typed("score_transitions", songs["a_file"], songs["b_file"], "--bars", 2, "--markdown")
    assert ended == 0, err
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if "|" in line]
    assert [row[0].removesuffix(" *") for row in rows[2:]] == list(TRANSITIONS)
    assert [row[0] for row in rows if row[0].endswith("*")] == ["vocal_safe *", "drum_swap *"]
    assert all(len(row) == len(rows[0]) and row[2] == "" for row in rows[2:])
    clash = {row[0]: float(row[1]) for row in rows[2:]}
    assert clash["cut"] <= 20 < clash["filter_sweep"]
    assert "2 bars at 120.0" in out.splitlines()[-1]


@pytest.mark.parametrize("name", TRANSITIONS)
def test_every_rule_makes_a_mix(typed, songs, tmp_path, name):
    out = tmp_path / "mix.flac"
    _, err, ended = typed(
        "mix", songs["a"], songs["b"], "--out", out, "--transition", name, "--bars", 2, "--frames-per-beat", 8
    )
    assert ended == 0, err
    curves, _ = read_curves(tmp_path / "mix_transition" / "params.npz")
    gain = index_of("a", "drums", "gain"), index_of("b", "drums", "gain")
    assert curves[0, gain].tolist() == [1.0, 0.0] and curves[-1, gain].tolist() == [0.0, 1.0]
    assert soundfile.info(out).subtype == "PCM_24" and soundfile.info(out).samplerate == RATE
    assert json.loads((tmp_path / "mix_transition" / "params.json").read_text())["transition"]["rule"] == name
    assert (tmp_path / "mix_transition" / "transition.png").is_file()


@pytest.fixture(scope="module")
def imitation(tmp_path_factory):
    """A run folder of task=dj_imitation whose network has learned nothing."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    folder = tmp_path_factory.mktemp("run")
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        config = compose("train", ["task=dj_imitation", "task.width=16"])
    torch.manual_seed(0)
    task = OmegaConf.create({"task": OmegaConf.to_container(config.task, resolve=True)})
    OmegaConf.save(task, folder / "config.yaml")
    (folder / "checkpoints").mkdir()
    torch.save({"state_dict": build(task.task).state_dict()}, folder / "checkpoints" / "best.ckpt")
    return folder


@pytest.mark.parametrize("rule", [None, "echo_out"])
def test_a_run_draws_the_curves(typed, songs, imitation, tmp_path, rule):
    told = ["--transition", rule] if rule else []
    arguments = songs["a"], songs["b_file"], "--out", tmp_path / "mix.wav", "--bars", 2, "--run", imitation
    _, err, ended = typed("mix", *arguments, *told)
    assert ended == 0, err
    curves, _ = read_curves(tmp_path / "mix_transition" / "params.npz")
    text = json.loads((tmp_path / "mix_transition" / "params.json").read_text())
    assert text["transition"]["run"] == str(imitation) and text["transition"]["rule"] == rule
    gain = curves[:, index_of("a", "bass", "gain")]
    assert gain[0] == 1.0 and gain[-1] == 0.0 and 0.0 < gain[64] < 1.0
    assert np.isfinite(soundfile.read(tmp_path / "mix.wav")[0]).all()


def test_a_run_that_cannot_draw_is_refused(refused, songs, imitation, tmp_path):
    pair = songs["a"], songs["b"], "--out", tmp_path / "mix.wav", "--run"
    assert "no such folder" in refused(*pair, tmp_path / "none")
    assert "no such checkpoint" in refused(*pair, imitation, "--checkpoint", "last")
    assert "the run knows no rule 'cutt' (did you mean 'cut'" in refused(
        *pair, imitation, "--transition", "cutt"
    )
    assert "--option is for a rule" in refused(*pair, imitation, "--option", "point=0.5")


def test_before_the_transition_there_is_a_and_after_it_b(typed, songs, tmp_path):
    out = tmp_path / "mix.wav"
    plain = "--no-stretch", "--no-loudness-match", "--bars", "2"
    _, err, ended = typed("mix", songs["a_file"], songs["b_file"], "--out", out, *plain)
    assert ended == 0 and "drift apart" in err
    where = json.loads((tmp_path / "mix_transition" / "params.json").read_text())["transition"]
    mix = soundfile.read(out)[0]
    a, b = (soundfile.read(songs[name])[0] for name in ("a_file", "b_file"))
    before = round((where["begins_s"] - 0.05) * RATE)
    after, offset = round((where["ends_s"] + 0.05) * RATE), round(where["b_begins_s"] * RATE)
    assert before > 4 * RATE and len(mix) - after > 4 * RATE and len(mix) == offset + len(b)
    for part, original in ((mix[:before], a[:before]), (mix[after:], b[after - offset :])):
        error = part - original[:, None]
        assert np.square(error).sum() < 1e-10 * np.square(part).sum()


def test_kicks_of_b_go_on_where_those_of_a_would_have_come(typed, songs, tmp_path):
    out = tmp_path / "mix.wav"
    _, err, ended = typed("mix", songs["a"], songs["b"], "--out", out, "--transition", "cut", "--bars", 2)
    assert ended == 0, err
    text = json.loads((tmp_path / "mix_transition" / "params.json").read_text())
    mix = soundfile.read(out)[0].mean(1)
    beat, lags = 60.0 / text["transition"]["tempo_bpm"], []
    kick = music(120.0, 1)["drums"][: round(0.05 * RATE)]
    for place in range(8):
        for begins in (text["transition"]["begins_s"] - 4 * beat, text["transition"]["ends_s"] + 4 * beat):
            first = round((begins + place * beat * 0.5 // beat * beat - 0.06) * RATE)
            found = np.correlate(mix[first : first + round(0.17 * RATE)], kick, "valid")
            lags.append(np.argmax(found) / RATE - 0.06)
    a, b = np.median(lags[0::2]), np.median(lags[1::2])
    assert abs(a - b) < 0.005 and abs(a) < 0.02


def test_a_lead_leaves_the_transition_and_some_seconds(typed, songs, tmp_path):
    out = tmp_path / "mix.wav"
    _, err, ended = typed("mix", songs["a"], songs["b"], "--out", out, "--bars", 2, "--lead", 1.5)
    assert ended == 0, err
    where = json.loads((tmp_path / "mix_transition" / "params.json").read_text())["transition"]
    assert where["begins_s"] == pytest.approx(1.5, abs=1e-3)
    length = where["ends_s"] - where["begins_s"] + 3.0
    assert soundfile.info(out).frames / RATE == pytest.approx(length, abs=1e-3)


def test_a_transition_longer_than_the_song_is_shortened_in_a_line(typed, songs, tmp_path):
    _, err, ended = typed("mix", songs["a"], songs["b"], "--out", tmp_path / "mix.wav", "--bars", 64)
    assert ended == 0 and "64 bars do not fit before A ends" in err


def test_a_rule_without_its_stem_says_what_is_not_heard(typed, songs, tmp_path):
    arguments = songs["a_file"], songs["b"], "--out", tmp_path / "mix.wav", "--bars", 2
    _, err, ended = typed("mix", *arguments, "--transition", "drum_swap")
    assert ended == 0 and "A came without a stem of drums" in err


def test_a_mix_above_full_scale_is_said_and_a_limiter_holds_it(typed, songs, tmp_path):
    loud = {name: 6.0 * x for name, x in music(120.0, 6, seed=2).items()}
    arguments = song(tmp_path / "loud.wav", loud), songs["b"], "--no-loudness-match", "--bars", 2, "--out"
    _, err, ended = typed("mix", *arguments, tmp_path / "loud mix.wav")
    assert ended == 0 and "above full scale: --limiter" in err
    assert np.abs(soundfile.read(tmp_path / "loud mix.wav")[0]).max() > 1.0
    _, err, ended = typed("mix", *arguments, tmp_path / "loud mix.flac")
    assert ended == 0 and "which .flac clips: --limiter" in err
    _, err, ended = typed("mix", *arguments, tmp_path / "held.wav", "--limiter")
    assert ended == 0 and "above full scale" not in err
    assert np.abs(soundfile.read(tmp_path / "held.wav")[0]).max() <= 10 ** (-1 / 20)


@pytest.mark.parametrize(
    ("typed_too", "says"),
    [
        (["--transition", "bass_swop"], "bass_swop' (did you mean 'bass_swap'"),
        (["--option", "pint=0.5"], "no option 'pint' (did you mean 'point'"),
        (["--option", "enter=0.5"], "bass_swap: cannot take enter=0.5"),
        (["--option", "point=1.5"], "point: expected a share"),
        (["--bars", "0"], "--bars must be 1 or more, got 0"),
        (["--lead", "-1"], "--lead must be 0 or more"),
        (["--lead", "nan"], "--lead must be 0 or more"),
        (["--frames-per-beat", "0"], "--frames-per-beat must be 1 or more"),
        (["--out", "mix.txt"], "expected a name that ends in .wav"),
        (["--start-b", "99"], "start_b_s must lie within the song"),
        (["--tempo", "300"], "song A has 120.0"),
        (["--bpm-a", "-3"], "a: tempo_bpm must lie within"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(refused, songs, tmp_path, typed_too, says):
    assert says in refused(songs["a"], songs["b"], "--out", tmp_path / "mix.wav", "--bars", 2, *typed_too)
    assert not list(tmp_path.iterdir())


def test_songs_that_cannot_be_used_are_refused_by_name(refused, songs, tmp_path):
    (tmp_path / "empty folder").mkdir()
    tone = 0.1 * np.sin(np.arange(6 * RATE) / 30)
    for name, audio in {
        "short": tone[: 3 * RATE],
        "silent": 0.0 * tone,
        "nan": np.where(np.arange(len(tone)) == 500, np.nan, tone),
    }.items():
        soundfile.write(tmp_path / f"{name}.wav", audio, RATE, subtype="FLOAT")
    for name, says in {
        "empty folder": "no stems in it",
        "short.wav": "at least 4 s",
        "silent.wav": "silent",
        "nan.wav": "NaN",
        "missing.wav": "no such file",
    }.items():
        for pair in ((songs["a"], tmp_path / name), (tmp_path / name, songs["b"])):
            found = refused(*pair, "--out", tmp_path / "mix.wav")
            assert name in found and says in found
    assert not (tmp_path / "mix.wav").exists() and not (tmp_path / "mix_transition").exists()


def test_a_place_that_cannot_be_written_is_refused_at_once(refused, songs, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert "file" in refused(songs["a"], songs["b"], "--out", tmp_path / "file" / "mix.wav")
    (tmp_path / "folder.wav").mkdir()
    assert "is a folder" in refused(songs["a"], songs["b"], "--out", tmp_path / "folder.wav")


def test_the_mix_is_the_one_its_files_describe(typed, songs, tmp_path):
    """Rendered again from params.npz and what params.json says of both songs."""
    out = tmp_path / "mix.wav"
    plain = "--no-stretch", "--no-loudness-match", "--bars", "2", "--transition", "filter_sweep"
    assert typed("mix", songs["a_file"], songs["b_file"], "--out", out, *plain)[2] == 0
    where = json.loads((tmp_path / "mix_transition" / "params.json").read_text())["transition"]
    curves, times_s = read_curves(tmp_path / "mix_transition" / "params.npz")
    first, last = (round(times_s[end].item() * RATE) for end in (0, -1))
    offset = round(where["b_begins_s"] * RATE)
    parts = [
        {
            "other": torch.from_numpy(
                soundfile.read(songs[name], dtype="float32")[0][None, first - at : last + 1 - at]
            )
        }
        for name, at in (("a_file", 0), ("b_file", offset))
    ]
    expected = create_mixer(RATE)(*parts, curves, tempo_bpm=where["tempo_bpm"])[0][0].numpy().T
    mix = soundfile.read(out)[0][first : last + 1]
    inner = slice(round(0.05 * RATE), -round(0.05 * RATE))
    assert np.square(mix - expected)[inner].sum() < 1e-6 * np.square(expected)[inner].sum()
