"""invert_mix.py, as a user types it."""

import json
import signal

import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow

RATE = 22_050
SECONDS = 4.0


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two songs of noise bursts and a mix of them: a mono file, a longer one at another rate, stems."""
    folder = tmp_path_factory.mktemp("dj")
    rng = np.random.default_rng(0)
    t = np.arange(round(SECONDS * RATE)) / RATE
    songs = []
    for beat in (0.5, 0.37):
        noise = 0.1 * rng.standard_normal((len(t), 2))
        songs.append(noise * (0.2 + np.exp(-8.0 * (t % beat)))[:, None])
    fade = np.linspace(1.0, 0.0, len(t))[:, None] ** 0.5
    mix = songs[0] * fade + songs[1] * np.sqrt(1.0 - fade**2)
    soundfile.write(folder / "a.wav", songs[0].mean(1), RATE)
    longer = np.repeat(np.concatenate([songs[1], songs[0]]), 2, 0)
    soundfile.write(folder / "b.flac", longer, 2 * RATE)
    soundfile.write(folder / "mix.ogg", mix, RATE)
    (folder / "stems").mkdir()
    soundfile.write(folder / "stems" / "drums.wav", songs[0], RATE)
    soundfile.write(folder / "silent.wav", 0.0 * songs[0], RATE)
    soundfile.write(folder / "short.wav", songs[0][:2_000], RATE)
    return folder


def arguments(files, out, *more, a="a.wav"):
    names = files / a, files / "b.flac", files / "mix.ogg"
    return ["scripts/invert_mix.py", *names, "--out", out, "--model", "incoherent", *more]


def test_files_of_any_rate_and_length_come_out_as_moves(run, files, tmp_path):
    result = run(*arguments(files, tmp_path / "out", "--frames", "4", "--steps", "12"))
    assert result.returncode == 0, result.stderr[-2000:]
    assert "B, b.flac, lasts 8.00 s, the mix 4.00 s: it is cut" in result.stderr
    assert "convex" in result.stdout and "after" in result.stdout
    held = np.load(tmp_path / "out" / "params.npz")
    assert held["curves"].shape == (4, 54) and held["times"][-1] == pytest.approx(SECONDS, abs=1e-3)
    assert held["labels"][0] == "a_drums.gain"
    scores = json.loads((tmp_path / "out" / "distances.json").read_text())
    assert {"linear", "equal_power", "bass_swap", "convex", "start", "after"} == set(scores)
    assert set(scores["after"]) == {"all", "low", "mid", "high"}
    said = json.loads((tmp_path / "out" / "params.json").read_text())
    assert len(said["master"]["hz"]) == len(said["master"]["db"]) and said["model"] == "incoherent"
    sound, rate = soundfile.read(tmp_path / "out" / "rendered.wav")
    assert rate == RATE and sound.shape == (round(SECONDS * RATE), 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("distances.json", "inversion.png", "params.json", "params.npz", "rendered.wav")
    ]


def test_ctrl_c_keeps_the_best_so_far(start, files, tmp_path):
    process = start(*arguments(files, tmp_path / "out", "--steps", "100000", "--frames", "4", a="stems"))
    for line in process.stderr:
        if "going down" in line:
            process.send_signal(signal.SIGINT)
            break
    _, rest = process.communicate(timeout=300)
    assert process.returncode == 0, rest
    assert "interrupted" in rest and (tmp_path / "out" / "rendered.wav").is_file()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": "silent.wav"}, "silent.wav: is silent"),
        ({"a": "none.wav"}, "none.wav: no such file"),
        ({"more": ("--start", "rule:bas_swap")}, "no transition 'bas_swap'"),
        ({"more": ("--seconds", "0")}, "--seconds must be above 0"),
        ({"more": ("--align",), "a": "short.wav"}, "short.wav"),
    ],
)
def test_a_mistake_is_one_line(error_of, files, tmp_path, changes, message):
    more = changes.pop("more", ())
    assert message in error_of(*arguments(files, tmp_path / "out", *more, **changes))
    assert not (tmp_path / "out").exists()
