"""Models of demucs: from a folder of weights, from the caches of earlier downloads, or by a download."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from torch import nn

LEGACY_HOST = "dl.fbaipublicfiles.com"
PATIENCE_S = 3.0  # to find out whether weights can be downloaded
KINDS = ("demucs.htdemucs.HTDemucs", "demucs.hdemucs.HDemucs", "demucs.demucs.Demucs")
"""What demucs may make of a .safetensors: it calls whatever the file names, with the arguments it holds."""


class StemError(ValueError):
    """A model that cannot be had or used: one line with its name, what is wrong, and the way out."""


def load_network(name: str, weights: Path | None) -> nn.Module:
    """A model or a bag of them: sources, samplerate, audio_channels; see `stems.load_separator`."""
    try:
        import demucs.hf  # noqa: F401
    except ImportError as error:
        raise StemError(
            "taking songs apart needs demucs: pip install 'difffx[stems]' "
            "(the model none does without: the whole song is other)"
        ) from error
    network = _published(name) if weights is None else _from_folder(name, weights)
    if not {"sources", "samplerate", "audio_channels"} <= set(dir(network)):
        raise StemError(f"{name}: holds a {type(network).__name__}, expected a model of demucs")
    return network.eval()


@contextmanager
def _in_one_line(what: str | Path) -> Iterator[None]:
    """Turns what demucs raises or prints, an exit of the interpreter included, into a StemError."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            yield
    except StemError:
        raise
    except (Exception, SystemExit) as error:  # what unpickling a foreign file raises cannot be listed
        words = said.getvalue() if isinstance(error, SystemExit) else str(error)
        reason = " ".join(words.split())[:300] or type(error).__name__
        raise StemError(f"{what}: no model of demucs that can be used ({reason})") from error


def _from_folder(name: str, folder: Path) -> nn.Module:
    """A model, or the bag that a YAML file there or in demucs describes, of the files in a folder."""
    from demucs.apply import BagOfModels

    if not folder.is_dir():
        raise StemError(f"{folder}: no such folder of weights")
    signatures, bag = _described(name, folder)
    files = {signature: _weights_file(signature, folder) for signature in signatures}
    missing = [signature for signature, file in files.items() if file is None]
    if missing:
        raise StemError(f"{folder}: the weights of {name} are not in it: put {_file_names(missing)} there")
    models = [_model(signature, files[signature]) for signature in signatures]
    if bag is None:
        return models[0]
    with _in_one_line(folder / f"{name}.yaml"):
        return BagOfModels(models, bag.get("weights"), bag.get("segment"))


def _described(name: str, folder: Path) -> tuple[list[str], dict | None]:
    """Signatures of the models of `name`, and its bag, if it is one."""
    import yaml
    from demucs.pretrained import REMOTE_ROOT

    if _weights_file(name, folder) is not None:
        return [name], None
    for place in (folder, REMOTE_ROOT):
        file = place / f"{name}.yaml"
        if file.is_file():
            with _in_one_line(file):
                bag = yaml.safe_load(file.read_text(encoding="utf-8"))
                return [str(signature) for signature in bag["models"]], bag
    there = {file.stem for file in folder.glob("*.yaml")}
    there |= {file.stem.split("-")[0] for kind in ("th", "safetensors") for file in folder.glob(f"*.{kind}")}
    raise StemError(f"{folder}: no model {name}; there are: {', '.join(sorted(there)) or 'none at all'}")


def _weights_file(signature: str, folder: Path) -> Path | None:
    """SIGNATURE.safetensors before SIGNATURE.th before SIGNATURE-HASH.th."""
    files = [folder / f"{signature}.safetensors", folder / f"{signature}.th"]
    files += sorted(file for file in folder.glob("*.th") if file.stem.rpartition("-")[0] == signature)
    return next((file for file in files if file.is_file()), None)


def _model(signature: str, file: Path) -> nn.Module:
    from demucs.hf import load_safetensors_model
    from demucs.repo import LocalRepo
    from safetensors import safe_open

    with _in_one_line(file):
        if file.suffix != ".safetensors":
            return LocalRepo(file.parent).get_model(signature)
        with safe_open(str(file), framework="pt") as opened:
            kind = (opened.metadata() or {}).get("klass")
        if kind not in KINDS:
            raise StemError(f"{file}: holds a {kind}, expected one of {', '.join(KINDS)}")
        return load_safetensors_model(file)


def _published(name: str) -> nn.Module:
    """From what was downloaded before, or by a download."""
    from demucs.pretrained import REMOTE_ROOT, get_model

    known = sorted(file.stem for file in REMOTE_ROOT.glob("*.yaml") if not file.stem.startswith("repro"))
    if name not in known and not name.startswith("hf://"):
        raise StemError(f"no model {name}; published ones are {', '.join(known)}; or add a folder of weights")
    cached = _from_hub_cache(name)
    if cached is not None:
        return cached
    downloads = Path(torch.hub.get_dir()) / "checkpoints"
    if name in known and all(_weights_file(each, downloads) for each in _described(name, downloads)[0]):
        return _from_folder(name, downloads)
    if not _reachable():
        raise StemError(f"the weights of {name} are not here and cannot be downloaded: {_wanted(name)}")
    try:
        return get_model(name)
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise StemError(f"the download of {name} failed ({reason}); {_wanted(name)}") from error


def _from_hub_cache(name: str) -> nn.Module | None:
    """What the cache of Hugging Face holds whole; None where it does not."""
    import yaml
    from demucs.apply import BagOfModels
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, model = _repository(name)

    def cached(file: str) -> Path:
        return Path(hf_hub_download(repository, file, local_files_only=True))

    with _in_one_line(f"{repository} in the cache of Hugging Face"):
        try:
            bag = yaml.safe_load(cached(f"{model}.yaml").read_text(encoding="utf-8"))
            files = {signature: cached(f"{signature}.safetensors") for signature in bag["models"]}
        except LocalEntryNotFoundError:
            return None
        models = [_model(signature, file) for signature, file in files.items()]
        return BagOfModels(models, bag.get("weights"), bag.get("segment"))


def _reachable() -> bool:
    """Whether a download can be tried: without a network demucs would try again and again for 25 s."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if getproxies():
        return True
    hub = urlsplit(constants.ENDPOINT)
    port = hub.port or (80 if hub.scheme == "http" else 443)
    for address in ((hub.hostname, port), (LEGACY_HOST, 443)):
        try:
            socket.create_connection(address, timeout=PATIENCE_S).close()
            return True
        except OSError:
            continue
    return False


def _wanted(name: str) -> str:
    """Which files to put where."""
    from demucs.pretrained import REMOTE_ROOT

    repository, model = _repository(name)
    where = f"fill the cache of Hugging Face with {repository}"
    if name != model:
        return where
    files = _file_names(_described(model, REMOTE_ROOT)[0])
    return f"put {files} into a folder DIR and add --weights DIR, or {where}"


def _file_names(signatures: list[str]) -> str:
    """The published files of models: 955717e8-8726e21a.th or 955717e8.safetensors."""
    from demucs.pretrained import REMOTE_ROOT

    published = (REMOTE_ROOT / "files.txt").read_text(encoding="utf-8").split()
    names = [
        next((file for file in published if file.startswith(f"{signature}-")), f"{signature}.th")
        for signature in signatures
    ]
    return f"{' and '.join(names)} (or {' and '.join(f'{each}.safetensors' for each in signatures)})"


def _repository(name: str) -> tuple[str, str]:
    """htdemucs or hf://NAMESPACE/htdemucs -> NAMESPACE/HTDemucs, htdemucs."""
    from demucs.hf import DEFAULT_NAMESPACE, hf_repo_name

    namespace, _, model = name.removeprefix("hf://").rpartition("/")
    return f"{namespace or DEFAULT_NAMESPACE}/{hf_repo_name(model)}", model
