"""Settings that are the same everywhere, on the music that is there."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hydra import compose, initialize_config_dir

from difffx import runs
from difffx.blind_benchmark import PER_CLIP, BlindBenchmark, stored_settings
from difffx.data.audio_io import AudioError
from difffx.graph import ProcessorGraph, switched
from difffx.processors import Chorus, Compressor

CONFIGS = Path(__file__).parents[1] / "configs"
RATE = 22_050


def chain(name):
    with initialize_config_dir(str(CONFIGS), version_base=None):
        return runs.build(compose("train", overrides=[f"sfx={name}", f"sample_rate={RATE}"]).sfx)


@pytest.fixture
def music(tmp_path):
    """A long stereo file at another rate whose middle alone is loud, and a short one."""
    rng = np.random.default_rng(0)
    long = 0.01 * rng.standard_normal((30 * 44_100, 2))
    long[12 * 44_100 : 18 * 44_100] *= 20.0
    soundfile.write(tmp_path / "b long.wav", long, 44_100)
    soundfile.write(tmp_path / "a short.wav", 0.1 * rng.standard_normal(3 * RATE), RATE)
    return tmp_path


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONFIGS / "sfx").glob("*.yaml")))
def test_every_published_chain_has_settings_all_over_its_ranges(name):
    z = stored_settings(chain(name).spec)
    assert len(z) == len(z.unique(dim=0)) >= 32
    assert (z >= 0).all() and (z <= 1).all()
    # The mean of 32 uniform numbers is within 0.5 +- 0.2, four standard errors.
    assert ((z.mean(0) - 0.5).abs() < 0.2).all()
    assert (z.amin(0) < 0.25).all() and (z.amax(0) > 0.75).all()


def test_chains_that_share_an_effect_share_its_settings():
    comp, whole = chain("comp").spec, chain("peq_comp_dist").spec
    places = [whole.labels.index(label) for label in comp.labels]
    torch.testing.assert_close(stored_settings(comp), stored_settings(whole)[:, places])


def test_effects_that_can_be_off_are_all_on():
    whole = chain("peq_comp_dist")
    spec = switched(whole, 0.5).spec
    z = stored_settings(spec)
    assert (z[:, spec.switches] == 1.0).all()
    kept = [i for i in range(len(spec)) if i not in spec.switches]
    torch.testing.assert_close(z[:, kept], stored_settings(whole.spec))


def test_a_batch_is_the_middle_of_a_file_at_settings_that_its_place_decides(music):
    spec = chain("dist").spec
    first, second = BlindBenchmark(music, spec, RATE)
    assert first["dry"].shape == second["dry"].shape == (PER_CLIP, 1, 10 * RATE)
    assert first["clip"] == PER_CLIP * ["a short.wav"]
    assert first["name"][:2] == ["a short.wav #1", "a short.wav #2"]
    spans = slice(3 * RATE, 7 * RATE), slice(RATE), slice(-RATE, None)
    loud, *quiet = (second["dry"][0, 0, span].std() for span in spans)
    assert loud > 10.0 * max(quiet)
    assert torch.equal(torch.cat((first["z"], second["z"])), stored_settings(spec)[: 2 * PER_CLIP])
    again = list(BlindBenchmark(music, spec, RATE))
    assert all(torch.equal(again[1][key], second[key]) for key in ("dry", "z"))


def test_a_silent_file_is_named(tmp_path):
    soundfile.write(tmp_path / "nothing.wav", np.zeros(12 * RATE), RATE)
    with pytest.raises(AudioError, match=r"nothing\.wav.*silent"):
        list(BlindBenchmark(tmp_path, chain("dist").spec, RATE))


def test_effects_without_settings_and_narrower_ranges_are_refused_by_name(music):
    with pytest.raises(ValueError, match="no settings for effect 'chorus'"):
        BlindBenchmark(music, ProcessorGraph({"chorus": Chorus(RATE)}).spec, RATE)
    narrow = ProcessorGraph({"comp": Compressor(RATE, ranges={"threshold_db": (-10.0, 0.0)})})
    with pytest.raises(ValueError, match=r"comp\.threshold_db|no knob|missing"):
        BlindBenchmark(music, narrow.spec, RATE)
