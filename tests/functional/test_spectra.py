from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from difffx import _torchaudio
from difffx.functional import spectra


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sine(frequency: float, sample_rate: int, seconds: float, amplitude: float = 1.0) -> torch.Tensor:
    t = torch.arange(round(seconds * sample_rate), dtype=torch.float64) / sample_rate
    return (amplitude * torch.sin(2 * math.pi * frequency * t)).reshape(1, 1, -1)


def direct_cqt(x: np.ndarray, frequency: float, sample_rate: int, hop: int) -> np.ndarray:
    """The definition, one inner product a frame, at full rate."""
    length = math.ceil(sample_rate / frequency / (2 ** (1 / 12) - 1))
    half = length // 2
    t = np.arange(-half, half + 1)
    window = 0.5 + 0.5 * np.cos(2 * np.pi * t / length)
    kernel = window / window.sum() * np.exp(-2j * np.pi * frequency * t / sample_rate)
    padded = np.pad(x, half, mode="reflect")
    frames = range(0, len(x) + 1, hop)
    return np.array([abs(padded[m : m + 2 * half + 1] @ kernel) for m in frames])


@pytest.mark.parametrize(("sample_rate", "hop"), [(44_100, 512), (48_000, 1024), (22_050, 300)])
def test_the_constant_q_transform_agrees_with_its_definition(sample_rate, hop):
    x = noise(1, 1, sample_rate + 137, dtype=torch.float64)
    got = spectra.cqt(x, sample_rate, hop=hop)[0, 0].numpy()
    for k, frequency in enumerate(spectra.cqt_frequencies_hz()):
        if frequency < sample_rate / 2:
            want = direct_cqt(x[0, 0].numpy(), frequency, sample_rate, hop)
            assert np.abs(got[k] - want).max() < 2e-4 * want.max()
        else:
            assert got[k].max() < 1e-9


def test_a_click_train_stays_near_the_definition_too():
    x = torch.zeros(1, 1, 50_000, dtype=torch.float64)
    x[..., ::7001] = 1.0
    got = spectra.cqt(x, 44_100)[0, 0].numpy()
    want = np.stack([direct_cqt(x[0, 0].numpy(), f, 44_100, 512) for f in spectra.cqt_frequencies_hz()])
    assert np.abs(got - want).max() < 0.01 * want.max()


@pytest.mark.parametrize("octave", range(10))
def test_a_pure_tone_lands_in_its_bin_at_half_its_amplitude(octave):
    frequency = 32.70 * 2.0 ** (octave + 4 / 12)
    levels = spectra.cqt(sine(frequency, 44_100, 1.5, 0.6), 44_100)[0, 0, :, 40:90].mean(-1)
    if frequency < 22_050:
        assert levels.argmax() == 12 * octave + 4
        assert levels.max() == pytest.approx(0.3, rel=5e-3)


def test_the_constant_q_transform_treats_channels_and_items_alone():
    x = noise(2, 2, 44_100)
    together = spectra.cqt(x, 44_100)
    alone = spectra.cqt(x[1:, 1:], 44_100)
    torch.testing.assert_close(together[1:, 1:], alone, rtol=1e-4, atol=1e-6)


def test_the_constant_q_transform_of_silence_is_silent_and_has_a_gradient():
    x = torch.zeros(1, 1, 44_100, requires_grad=True)
    y = spectra.cqt(x, 44_100)
    y.sum().backward()
    assert y.max() < 1e-9
    assert torch.isfinite(x.grad).all()


def test_a_transform_planned_under_inference_mode_can_be_trained_through_later():
    spectra._cqt_plan.cache_clear()
    with torch.inference_mode():
        spectra.cqt(noise(1, 1, 44_100), 44_100)
    x = noise(1, 1, 44_100).requires_grad_()
    spectra.cqt(x, 44_100).sum().backward()
    assert x.grad.abs().max() > 0


def test_too_short_a_clip_for_the_lowest_bin_is_refused_in_seconds():
    with pytest.raises(ValueError, match=r"0\.20 s"):
        spectra.cqt(torch.zeros(1, 1, 8820), 44_100)


def test_the_mel_bank_is_slaneys():
    bank = spectra.mel_bank(44_100, 4096, 128)
    hz = torch.arange(2049) * 44_100 / 4096
    # linear below 1 kHz at 200/3 Hz a mel, then 27 mels for each factor of 6.4
    top = 15 + 27 * math.log(22_050 / 1000) / math.log(6.4)
    mels = torch.linspace(0, top, 130, dtype=torch.float64)
    points = torch.where(mels < 15, mels * 200 / 3, 1000 * torch.exp((mels - 15) * math.log(6.4) / 27))
    for band in (0, 20, 64, 127):
        low, center, high = points[band : band + 3]
        triangle = torch.minimum((hz - low) / (center - low), (high - hz) / (high - center)).clamp(min=0)
        torch.testing.assert_close(bank[band], (triangle * 2 / (high - low)).float(), rtol=1e-3, atol=1e-6)


def test_equal_loudness_removes_mean_and_level_and_leaves_silence():
    x = 0.1 * noise(2, 2, 4000) + 0.3
    y = spectra.normalize_rms(x)
    assert y.mean(-1).abs().max() < 1e-6
    torch.testing.assert_close(y.square().mean((1, 2)), torch.ones(2))
    silent = torch.zeros(1, 1, 100, requires_grad=True)
    spectra.normalize_rms(silent).sum().backward()
    assert torch.isfinite(silent.grad).all()


def test_a_tone_fills_its_third_octave_band_with_its_power():
    levels = spectra.third_octave_db(sine(1000.0, 44_100, 1.0), 44_100)[0, 0]
    band = spectra.third_octave_hz(44_100).index(1000.0)
    assert levels[band] == pytest.approx(10 * math.log10(0.5), abs=1e-6)
    others = torch.cat([levels[:band], levels[band + 1 :]])
    assert others.max() < -100


def test_third_octave_powers_add_up_to_the_power_of_the_signal():
    x = noise(1, 1, 44_100, dtype=torch.float64)
    power = (10 ** (spectra.third_octave_db(x, 44_100) / 10)).sum()
    # from 22.3 Hz to 17.96 kHz of 22.05 kHz
    assert power == pytest.approx((17_959 - 22) / 22_050, rel=0.02)


def test_the_envelope_of_a_step_is_its_two_levels():
    x = torch.cat([torch.full((1, 2, 882), 0.1), torch.full((1, 2, 882), 1.0)], -1)
    torch.testing.assert_close(
        spectra.envelope_db(x, 44_100), torch.tensor([[[-20.0, 0.0]]]), atol=1e-4, rtol=0
    )


def test_importing_difffx_and_its_spectra_does_not_import_torchaudio():
    code = "import sys, difffx, difffx.functional.spectra; print('torchaudio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_torchaudio_works_where_its_compiled_part_does_not_load():
    code = (
        "import importlib, sys\n"
        "import importlib.abc, importlib.machinery\n"
        "class Broken(importlib.abc.MetaPathFinder, importlib.abc.Loader):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'torchaudio._extension':\n"
        "            return importlib.machinery.ModuleSpec(name, self)\n"
        "    def create_module(self, spec): return None\n"
        "    def exec_module(self, module): raise OSError('libc10_cuda.so: cannot open shared object file')\n"
        "sys.meta_path.insert(0, Broken())\n"
        "from difffx import _torchaudio\n"
        "from difffx.functional.spectra import mel_bank\n"
        "print(_torchaudio.compiled(), tuple(mel_bank(44_100).shape))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False (128, 2049)"


def test_torchaudio_keeps_a_compiled_part_that_loads():
    code = (
        "import sys, types\n"
        "real = types.ModuleType('torchaudio._extension')\n"
        "real._IS_TORCHAUDIO_EXT_AVAILABLE = real._IS_ALIGN_AVAILABLE = False\n"
        "real.fail_if_no_align = lambda function: function\n"
        "real._check_cuda_version = lambda: None\n"
        "sys.modules['torchaudio._extension'] = real\n"
        "from difffx import _torchaudio\n"
        "_torchaudio.load()\n"
        "print(_torchaudio.compiled(), sys.modules['torchaudio._extension'] is real)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True True"


def test_a_function_of_the_missing_compiled_part_says_so():
    stub = _torchaudio._stub(OSError("libc10_cuda.so"))

    def forced_align():
        raise AssertionError

    with pytest.raises(RuntimeError, match=r"forced_align.*libc10_cuda"):
        stub.fail_if_no_align(forced_align)()
