import numpy as np
import pytest
import soundfile

pytestmark = pytest.mark.slow


def test_a_page_and_a_sound_for_each_setting(run, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(22_050) / 22_050)
    soundfile.write(tmp_path / "tone.wav", tone, 22_050)
    result = run(
        "scripts/show_processor.py", "Gain", "--out", tmp_path / "out", "--audio", tmp_path / "tone.wav",
        "--set", "gain_db=-6.0206",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "page.png", "dry.wav", "default.wav", "set.wav",
    }  # fmt: skip
    assert (tmp_path / "out" / "page.png").stat().st_size > 20_000
    dry, rate = soundfile.read(tmp_path / "out" / "dry.wav")
    wet, _ = soundfile.read(tmp_path / "out" / "set.wav")
    assert rate == 44_100 and dry.shape == (44_100, 2)
    assert np.allclose(wet, 0.5 * dry, atol=1e-5)


def test_a_mistake_gets_one_line(error_of, tmp_path):
    line = error_of("scripts/show_processor.py", "Gain", "--set", "gian_db=3", "--out", tmp_path)
    assert "no knob 'gian_db' (did you mean 'gain_db'?)" in line
