"""The layers: imports go one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "difffx"
LAYERS = [
    {"functional", "networks", "_torchaudio"},
    {"params"},
    {"processors"},
    {"graph"},
    {"dj"},
    {"encoders", "losses", "metrics", "data", "plots"},
    {"tasks", "refine", "audibility"},
    {
        "callbacks",
        "inference",
        "candidates",
        "runs",
        "pretrained",
        "evaluation",
        "dj_evaluation",
        "mixing",
        "benchmark",
        "blind_benchmark",
    },
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
PEERS = {"encoders", "losses", "metrics", "data", "plots"}
ONLY_IN = {"hydra": {"runs"}, "omegaconf": {"runs"}, "torchaudio": {"_torchaudio"}}
NOT_AT_TOP = {"wandb", "demucs", "pedalboard", "librosa", "python_stretch"}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem in RANK)


def imports(path, top_only=False):
    tree = ast.parse(path.read_text())
    for node in tree.body if top_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            top = node.module == "difffx"
            yield from (f"difffx.{alias.name}" if top else node.module for alias in node.names)


def layer(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    here = layer(path)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "difffx" and len(parts) > 1 and parts[1] != here:
            assert RANK[parts[1]] <= RANK[here], f"{here} must not see {parts[1]}"
            assert not (here in PEERS and parts[1] in PEERS), f"{here} and {parts[1]} are peers"
        assert here in ONLY_IN.get(parts[0], {here}), f"{parts[0]} belongs in {ONLY_IN[parts[0]]}"
    assert not NOT_AT_TOP & {name.split(".")[0] for name in imports(path, top_only=True)}


@pytest.mark.parametrize("folder", ["functional", "networks"])
def test_the_mathematics_needs_torch_alone(folder):
    allowed = {"torch", "difffx", "__future__", *sys.stdlib_module_names}
    for path in (PACKAGE / folder).glob("*.py"):
        assert {name.split(".")[0] for name in imports(path)} <= allowed, path


def test_importing_the_package_imports_nothing_heavy():
    heavy = "torch", "numpy", "hydra", "torchaudio"
    code = f"import sys, difffx; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
