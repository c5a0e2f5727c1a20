from __future__ import annotations

import json
import shutil
import sys

import pytest
import torch
from safetensors.torch import save_file

from difffx.data import stem_models, stems
from difffx.data.stem_models import StemError
from difffx.dj import STEM_NAMES

SOURCES = ("drums", "bass", "other", "vocals")  # the order of demucs
SONG = 0.3 * torch.sin(torch.arange(12_000) * torch.tensor([[0.1], [0.2]]))  # [2, T], 1.5 s at 8 kHz


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """Empty caches and no way out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    return tmp_path


def test_a_bag_weighs_its_models_and_one_model_is_a_bag_of_itself(tmp_path, demucs_repo):
    folder = shutil.copytree(demucs_repo, tmp_path / "repo")
    (folder / "pair.yaml").write_text("models: [tiny, tiny]\nweights: [[1, 0, 1, 1], [1, 2, 0, 1]]")
    one, pair = (stems.load_separator(name, folder) for name in ("tiny", "pair"))
    assert one.weights != pair.weights
    expected, found = (stems.separate(SONG, 8000, model) for model in (one, pair))
    for stem in STEM_NAMES:
        assert (found[stem] - expected[stem]).abs().max() < 1e-6


def as_safetensors(demucs_repo, file, klass=None):
    """The tiny model as Hugging Face has them."""
    model = stem_models.load_network("tiny", demucs_repo)
    _, kwargs = model._init_args_kwargs
    kind = klass or f"{type(model).__module__}.{type(model).__name__}"
    metadata = {"klass": kind, "args": json.dumps([list(SOURCES)]), "kwargs": json.dumps(kwargs)}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: weight.contiguous() for name, weight in model.state_dict().items()}, file, metadata)


def test_safetensors_are_the_same_model_and_make_no_foreign_classes(tmp_path, demucs_repo):
    as_safetensors(demucs_repo, tmp_path / "tiny.safetensors")
    assert stems.load_separator("tiny", tmp_path).weights == stems.load_separator("tiny", demucs_repo).weights
    as_safetensors(demucs_repo, tmp_path / "evil.safetensors", klass="os.system")
    with pytest.raises(StemError, match=r"evil\.safetensors: holds a os\.system, expected one of demucs"):
        stems.load_separator("evil", tmp_path)


def test_a_published_model_needs_its_weights_alone(tmp_path, demucs_repo):
    file = next(demucs_repo.glob("*.th"))
    shutil.copy(file, tmp_path / f"955717e8-{file.stem.split('-')[1]}.th")
    model = stems.load_separator("htdemucs", tmp_path)
    assert model.name == "htdemucs" and model.network.sources == list(SOURCES)


def test_the_cache_of_an_earlier_download_serves_without_a_network(no_network, demucs_repo):
    place = no_network / "hub" / "models--adefossez--HTDemucs"
    snapshot = place / "snapshots" / "a1"
    as_safetensors(demucs_repo, snapshot / "955717e8.safetensors")
    (snapshot / "htdemucs.yaml").write_text("models: ['955717e8']")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a1")
    found = stems.separate(SONG, 8000, stems.load_separator())
    expected = stems.separate(SONG, 8000, stems.load_separator("tiny", demucs_repo))
    assert all(torch.equal(found[stem], expected[stem]) for stem in STEM_NAMES)


def test_the_cache_of_torch_serves_too(no_network, demucs_repo):
    file = next(demucs_repo.glob("*.th"))
    downloads = no_network / "torch" / "checkpoints"
    downloads.mkdir(parents=True)
    shutil.copy(file, downloads / f"955717e8-{file.stem.split('-')[1]}.th")
    assert stems.load_separator().network.sources == list(SOURCES)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("htdemucs", r"put 955717e8-8726e21a\.th \(or 955717e8\.safetensors\) into a folder DIR and add "),
        ("htdemucs_ft", r"f7e0c4bc-ba3fe64a\.th and d12395a8-.*adefossez/HTDemucs-ft"),
        ("hf://someone/mine", r"fill the cache of Hugging Face with someone/Demucs-mine"),
        ("htdemuc", r"no model htdemuc; published ones are hdemucs_mmi, htdemucs, "),
    ],
)
def test_weights_that_cannot_be_had_are_named(no_network, name, says):
    with pytest.raises(StemError, match=says) as error:
        stems.load_separator(name)
    assert "\n" not in str(error.value)


def spoiled(folder, file, case):
    """A folder of weights that cannot be used."""
    if case == "checksum":
        shutil.copy(file, folder / "tiny-00000000.th")
    elif case == "pickle":
        torch.save({"weights": torch.zeros(3)}, folder / "tiny.th")
    elif case == "text":
        (folder / "tiny.th").write_text("not weights")
    elif case == "cut off":
        (folder / "tiny.th").write_bytes(file.read_bytes()[:20_000])
    elif case == "yaml":
        (folder / "tiny.yaml").write_text("- nothing")
    elif case == "two":
        shutil.copy(file, folder / "tiny.th")
        shutil.copy(file, folder / "tiny-1234.th")
    elif case == "bag":
        shutil.copy(file, folder / "one.th")
        (folder / "tiny.yaml").write_text("models: [one, two]")
    elif case == "weights of bag":
        shutil.copy(file, folder / "one.th")
        (folder / "tiny.yaml").write_text("models: [one]\nweights: [[1, 1]]")


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("checksum", "Invalid checksum"),
        ("pickle", r"tiny\.th: no model of demucs that can be used"),
        ("text", r"tiny\.th: no model of demucs that can be used"),
        ("cut off", r"tiny\.th: no model of demucs that can be used"),
        ("yaml", r"tiny\.yaml: no model of demucs that can be used"),
        ("two", "Duplicate"),
        ("bag", r"put two\.th \(or two\.safetensors\) there"),
        ("weights of bag", r"tiny\.yaml: no model of demucs that can be used \(AssertionError\)"),
        ("empty", "no model tiny; there are: none at all"),
    ],
)
def test_weights_that_cannot_be_used_are_refused_in_one_line(tmp_path, demucs_repo, case, says):
    spoiled(tmp_path, next(demucs_repo.glob("*.th")), case)
    with pytest.raises(StemError, match=says) as error:
        stems.load_separator("tiny", tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_that_needs_what_is_not_installed_does_not_end_the_interpreter(tmp_path, demucs_repo, capsys):
    model = stem_models.load_network("tiny", demucs_repo)
    args, kwargs = model._init_args_kwargs
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": {"__quantized": True}}
    torch.save(package, tmp_path / "tiny.th")
    with pytest.raises(StemError, match="diffq is not installed"):
        stems.load_separator("tiny", tmp_path)
    assert capsys.readouterr().err == ""


def test_without_demucs_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "demucs.hf", None)
    with pytest.raises(StemError, match=r"pip install 'difffx\[stems\]'"):
        stems.load_separator()


def test_models_that_make_no_stems_of_a_dj_are_refused(tmp_path, save_demucs):
    from demucs.hdemucs import HDemucs

    small = {"channels": 8, "growth": 1, "nfft": 256, "depth": 4, "samplerate": 8000}
    save_demucs(HDemucs(["piano", "other"], **small), tmp_path, "piano")
    with pytest.raises(StemError, match="takes 2 channels apart into piano, other; expected"):
        stems.load_separator("piano", tmp_path)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(StemError, match=r"device=cuda:99: cannot be used here .*; try device=cpu"):
        stems.load_separator("none", device="cuda:99")
