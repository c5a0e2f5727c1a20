"""README says what is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def quick_start():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    return [block.strip() for block in re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)]


def test_the_quick_start_holds_two_commands_of_one_line():
    commands = quick_start()
    assert len(commands) == 2 and not any("\n" in command for command in commands)
    assert "train.py sfx=peq_comp afx=proxy" in commands[0] and "pytest" in commands[1]


def test_ci_runs_the_second_command():
    script = (ROOT / ".ci" / "run").read_text().replace('cd "$(dirname "$0")/.."', ":")
    found = subprocess.run(
        ["bash", "-c", script.replace('eval "$command"', ":")],
        cwd=ROOT, input=None, capture_output=True, text=True, check=True,
        env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert found.stdout.strip() == f"+ {quick_start()[1]}"


def test_the_table_of_effects_is_the_printed_one():
    printed = subprocess.check_output(
        [sys.executable, "scripts/list_processors.py", "--markdown"], cwd=ROOT, text=True
    )
    assert printed.strip() in README


@pytest.mark.parametrize(
    "group",
    ["sfx", "afx", "encoder", "head", "loss", "data", "augment", "optim", "task", "trainer", "logger"],
)
def test_the_table_of_options_names_every_option(group):
    row = next(line for line in README.splitlines() if line.startswith(f"| `{group}`"))
    named = set(re.findall(r"`([a-z_0-9]+)`", row)) - {group}
    options = {path.stem for path in (ROOT / "configs" / group).glob("*.yaml")}
    if group == "afx":
        options -= {path.stem for path in (ROOT / "configs" / "graph").glob("*.yaml")}
    assert named == options


@pytest.mark.parametrize(
    ("about", "says"), [("create_mixer", ""), ("ParametricEQ", "dry -> eq (15) -> comp (5)")]
)
def test_the_python_in_it_runs(about, says):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (code,) = [block for block in blocks if about in block]
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert says in result.stdout and len(blocks) == 2


def test_every_script_and_file_it_names_is_there():
    for name in re.findall(r"\b(?:scripts|tests|configs|difffx)/[\w/]+\.\w+", README):
        assert (ROOT / name).is_file(), name
