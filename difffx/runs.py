"""What a run folder is, and the command line around it: with train.py and evaluate.py all the Hydra there is.

A run folder holds config.yaml (resolved), .hydra/ (what was typed), checkpoints/best.ckpt and last.ckpt,
metrics.csv, tensorboard/, evaluation.json, figures/ and audio/.
"""

from __future__ import annotations

import ctypes
import difflib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIGS = Path(__file__).parents[1] / "configs"
WRONG_OPTION = r"Could not find '(\S+)/(\S+)'\s+Available options in '\S+':\s+(.*?)\n(?:Config search|$)"


class RunError(Exception):
    """A run folder that cannot be used, in one line that says why."""


@dataclass(frozen=True)
class Run:
    """A loaded run: the task in evaluation mode, its resolved configuration, its folder, its checkpoint."""

    task: object
    config: DictConfig
    folder: Path
    checkpoint: Path


def load_run(folder: str | Path, checkpoint: str = "best") -> Run:
    """The task of a run folder with the weights of a checkpoint: best, last, or a file.

    Raises RunError where the folder, its config.yaml or the checkpoint is missing, damaged or foreign.
    """
    config = load_config(folder)
    path = find_checkpoint(folder, checkpoint)
    return run_from(config, load_weights(path), Path(folder), path)


def run_from(config: Mapping | DictConfig, weights: Mapping, folder: Path, path: Path) -> Run:
    """The run that a configuration describes, with weights that came from the file `path`.

    Raises RunError where the weights belong to another model.
    """
    config = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    task = build(config.task)
    mine = task.state_dict()
    missing = [name for name in mine if name not in weights or weights[name].shape != mine[name].shape]
    surplus = [name for name in weights if name not in mine]
    if missing or surplus:
        raise RunError(
            f"{path}: this checkpoint belongs to another model: {len(missing)} weights missing or of another "
            f"size, {len(surplus)} unknown, such as {[*missing, *surplus][0]}"
        )
    task.load_state_dict(weights)
    return Run(task.eval(), config, folder, path)


def build(config: DictConfig, **more: object) -> object:
    """The objects a configuration describes."""
    return instantiate(config, **more)


def plain(config: DictConfig) -> dict:
    """A configuration as resolved dictionaries and lists."""
    return OmegaConf.to_container(config, resolve=True)


def refuse_words(config: DictConfig) -> None:
    """Raises RunError where a word stands for a number, as the signatures of all targets have it."""
    found = [text for key, group in plain(config).items() for text in _words(group, key)]
    if found:
        raise RunError("; ".join(found))


def _words(node: object, key: str) -> Iterator[str]:
    if not isinstance(node, dict):
        return
    numbers = _numbers(node["_target_"]) if "_target_" in node else {}
    for name, value in node.items():
        if isinstance(value, str) and name in numbers:
            yield f"{key}.{name}: expected a number, got {value!r}"
        yield from _words(value, f"{key}.{name}")


def _numbers(target: str) -> set[str]:
    """The arguments that take numbers and no text."""
    kind = get_object(target)
    try:
        hints = get_type_hints(kind.__init__ if isinstance(kind, type) else kind)
    except (NameError, TypeError, AttributeError):  # what it was annotated with is gone, or never was there
        return set()
    kinds = {name: [hint, *get_args(hint)] for name, hint in hints.items()}
    return {name for name, types in kinds.items() if (int in types or float in types) and str not in types}


def share_cores(workers: int) -> None:
    """As many threads as the data workers leave cores, unless OMP_NUM_THREADS says otherwise.

    Threads that wait for a core which a worker holds cost more than they bring: on two cores with one
    worker, a step that took 313 ms with one thread took 472 ms with two.
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) - workers))


def keep_memory() -> None:
    """Freed memory stays with the process, where the C library is glibc.

    Large tensors are otherwise given back to the system and asked for again in every step, each page cleared
    anew: a third of the CPU time of the default run.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max = -1, -4  # the numbers of malloc.h
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


def output_folder() -> Path:
    """Where the present Hydra job writes."""
    return Path(HydraConfig.get().runtime.output_dir)


def run_data(config: DictConfig, run: Run) -> tuple[str, DictConfig]:
    """What evaluate.py scores on: the data given, at the rate of the run, or the run's own test set."""
    if config.data is None:
        return "test", run.config.data
    config.sample_rate, config.seed = run.config.sample_rate, run.config.seed
    return HydraConfig.get().runtime.choices.data, config.data


def load_config(folder: str | Path) -> DictConfig:
    """config.yaml of a run folder."""
    path = Path(folder) / "config.yaml"
    if not Path(folder).is_dir():
        raise RunError(f"run={folder}: there is no such folder")
    if not path.is_file():
        raise RunError(f"run={folder}: no config.yaml in it; is this the folder that train.py made?")
    try:
        config = OmegaConf.load(path)
    except Exception as error:
        raise RunError(f"{path}: not readable as YAML ({type(error).__name__})") from error
    if not isinstance(config, DictConfig) or "task" not in config:
        raise RunError(f"{path}: holds no task; is this the config.yaml that train.py wrote?")
    return config


def save_config(config: DictConfig, folder: Path) -> None:
    """Writes config.yaml, resolved, so that it can be read outside a Hydra job."""
    write_text(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))


def write_text(path: Path, text: str) -> None:
    """Writes to a temporary name, then renames: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def write_json(path: Path, value: Mapping) -> None:
    """One JSON document, indented."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def find_checkpoint(folder: str | Path, checkpoint: str = "best") -> Path:
    """The file of a checkpoint named best, last, or by its path."""
    names = {"best": "best.ckpt", "last": "last.ckpt"}
    path = Path(folder) / "checkpoints" / names[checkpoint] if checkpoint in names else Path(checkpoint)
    if not path.is_file():
        there = sorted(p.name for p in (Path(folder) / "checkpoints").glob("*.ckpt"))
        raise RunError(f"{path}: there is no such checkpoint; there are: {', '.join(there) or 'none yet'}")
    return path


def load_weights(path: Path) -> dict:
    """The state_dict of a Lightning checkpoint; unpickles tensors only, never code."""
    import torch

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds for a file that is cut off, foreign or unsafe
        raise RunError(
            f"{path}: damaged or no checkpoint ({type(error).__name__}); try checkpoint=last"
        ) from error
    if not isinstance(loaded, Mapping) or "state_dict" not in loaded:
        raise RunError(f"{path}: holds no state_dict; is this a checkpoint of train.py?")
    return loaded["state_dict"]


def resumed(arguments: list[str]) -> list[str]:
    """resume=FOLDER becomes what was typed for that run, then what is typed now, in that folder."""
    folders = [a.partition("=")[2] for a in arguments if a.startswith("resume=")]
    if not folders or folders[-1] in ("", "null"):
        return arguments
    folder = Path(folders[-1])
    load_config(folder)
    typed = folder / ".hydra" / "overrides.yaml"
    if not typed.is_file():
        raise RunError(
            f"resume={folder}: no .hydra/overrides.yaml in it; is this the folder that train.py made?"
        )
    before = [str(item) for item in OmegaConf.load(typed) if not str(item).startswith("resume=")]
    now = [item for item in arguments if not item.startswith("resume=")]
    return [*before, *now, f"hydra.run.dir='{folder}'", f"resume='{folder}'"]


def command_line(name: str, job: Callable[[DictConfig], object]) -> None:
    """Composes configs/<name>.yaml with what was typed and runs the job.

    A user's mistake is one line on stderr and exit code 1; DIFFFX_TRACEBACK=1 shows where it arose.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"

    @hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=name)
    def main(config: DictConfig) -> object:
        with one_line_errors():  # inside Hydra too, which else prints a line of its own
            refuse_words(config)
            return job(config)

    with one_line_errors():
        sys.argv[1:] = resumed(sys.argv[1:])
        main()


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what a user can cause into one line and an exit code; lets bugs through with their traceback."""
    try:
        yield
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except (HydraException, OmegaConfBaseException, RunError, ValueError, OSError) as error:
        if os.environ.get("DIFFFX_TRACEBACK"):
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


def one_line(error: BaseException) -> str:
    """The innermost reason of a chain of errors, the key it happened at, on one line."""
    text = str(error)
    missing = re.search(WRONG_OPTION, text + "\n", re.DOTALL)
    if missing:
        group, option, rest = missing.groups()
        options = rest.split()
        near = difflib.get_close_matches(option, options, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"{group}={option}: there is no such option{hint}; there are: {', '.join(options)}"
    key = re.search(r"full_key: (\S+)", text)
    while isinstance(error, HydraException | OmegaConfBaseException) and error.__cause__ is not None:
        error = error.__cause__
        key = key or re.search(r"full_key: (\S+)", str(error))
    problems = getattr(error, "problems", None)
    words = "; ".join(problems) if problems else " ".join(str(error).split("full_key:")[0].split())
    words = words.rpartition(f"{type(error).__name__}: ")[2] or type(error).__name__  # from a loader's worker
    if "is not in struct" in words and key:
        return f"{key.group(1)}: there is no such key; to add one, +{key.group(1)}=..."
    return f"{key.group(1)}: {words}" if key and key.group(1) not in words else words
