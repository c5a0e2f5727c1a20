"""The benchmark measures what it says, and survives whatever is not installed."""

import io
import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from difffx import benchmark, processors
from difffx.benchmark import Case, Figures, Rival, adapters, effects, libraries, measure, peers
from difffx.benchmark.references import REFERENCES
from difffx.functional import compiled

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
HALF = Rival("half", lambda x, controls: 0.5 * x, {})


def shown(case, figures):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(benchmark.table(case, figures))
    return console.export_text()


def test_the_summary_counts_the_fastest_peer_that_makes_the_same():
    rows = [
        Figures("difffx, compiled", [2.0], [4.0]),
        Figures("difffx, torch", [6.0], [9.0]),
        Figures("peer, exact", [10.0], [40.0], error_db=-90.0),
        Figures("peer, aliased", [1.0], [1.0], error_db=-3.0),
        Figures("peer, of the same name", [30.0], [20.0]),
    ]
    alone = [Figures("difffx, torch", [3.0], [5.0])]
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(benchmark.summary([(Case("first", "Gain"), rows), (Case("second", "Gain"), alone)]))
    first, second = (
        line for line in console.export_text().splitlines() if "first" in line or "second" in line
    )
    assert [cell.strip() for cell in first.split("\N{BOX DRAWINGS LIGHT VERTICAL}")[1:-1]] == [
        *("first", "2.00", "4.00", "6.00", "9.00"),
        *("5.00 x  peer, exact", "5.00 x  peer, of the same name"),
    ]
    assert second.count("\N{EN DASH}") == 4 and "3.00" in second and "5.00" in second


@pytest.mark.parametrize("kind", REFERENCES)
def test_the_effect_is_what_the_textbook_says(kind):
    case = Case(kind, kind, channels=2)
    processor = case.processor()
    controls = effects.settings(processor, 2)
    x, reference = effects.checked(case, processor, controls, 2, 2, 3000)
    error_db = measure.error_db(peers.ours(processor, controls, CPU)[-1], x, reference)
    assert -170.0 < error_db < -110.0


def test_an_error_of_a_hundredth_is_minus_40_db():
    x = torch.ones(2, 1, 100, dtype=torch.float64)
    assert measure.error_db(HALF, x, 0.5 * x) == measure.QUIET_DB
    assert measure.error_db(HALF, x, x / 2.02) == pytest.approx(-40.0, abs=1e-6)


def test_settings_of_the_first_items_go_with_the_shorter_check():
    gain = Rival("gain", lambda x, controls: x * controls["gain"], {"gain": torch.tensor([[[1.0]], [[2.0]]])})
    x = torch.ones(1, 1, 10)
    assert measure.error_db(gain, x, x) == measure.QUIET_DB


def test_every_round_is_counted_and_the_forward_only_have_no_reverse():
    rivals = [HALF, replace(HALF, library="forward only", gradient=False)]
    both, forward = benchmark.compare(rivals, torch.ones(1, 1, 50), rounds=3)
    assert len(both.forward_ms) == len(both.both_ms) == len(forward.forward_ms) == 3
    assert not forward.both_ms and forward.both is None
    assert both.forward == sorted(both.forward_ms)[1]


def test_a_rival_that_breaks_is_a_dash_and_a_line():
    def broken(x, controls):
        raise RuntimeError("no such\nkernel")

    lines = []
    figures = benchmark.compare(
        [HALF, Rival("broken", broken, {})], torch.ones(1, 1, 50), 1, log=lines.append
    )
    assert lines == ["broken: RuntimeError: no such kernel"]
    assert figures[0].forward_ms and not figures[1].forward_ms
    assert "failed" in shown(Case("half", "Gain"), figures)


def test_what_is_slow_is_timed_once(monkeypatch):
    monkeypatch.setattr(measure, "PATIENCE_S", 0.01)
    slow = Rival("slow", lambda x, controls: time.sleep(0.03) or x, {}, note="patience")
    (row,) = benchmark.compare([slow], torch.ones(1, 1, 10), rounds=5)
    assert len(row.forward_ms) == 1 and row.forward_ms[0] >= 30.0
    assert not row.both_ms and row.note == "patience; one round, forward only"


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux writes the peak down")
def test_the_peak_of_memory_is_what_was_held_at_once():
    code = """
import torch
from difffx.benchmark import measure

def call():
    for _ in range(3):
        torch.ones(10_000_000)  # 40 MB, three times one after the other

print(measure.growth_mb(call, torch.device("cpu")))
"""  # in a process of its own: what other tests left free would be used again
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT)
    if printed.strip() == "None":
        pytest.skip("this system does not say how much memory a process has held")
    assert float(printed) == pytest.approx(40.0, abs=8.0)


def test_all_rivals_get_gradients_to_the_sound_and_the_settings():
    seen = []

    def run(x, controls):
        seen.extend([x, *controls.values()])
        return x * controls["gain"]

    measure.forward_and_reverse(Rival("gain", run, {"gain": torch.ones(1, 1, 1)}), torch.ones(1, 1, 8))
    assert all(leaf.grad is not None for leaf in seen)


def test_libraries_that_are_missing_are_named(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(adapters, "import_module", missing)
    monkeypatch.setattr(adapters._torchaudio, "load", lambda: None)
    for case in benchmark.cases():
        if case.name in libraries.PEERS:
            processor = case.processor()
            controls = effects.settings(processor, 2)
            found, absent = benchmark.rivals(case, processor, controls, CPU)
            assert {row.library.split(",")[0] for row in found} <= {"difffx", "torch"}
            others = [peer for peer in libraries.PEERS[case.name] if peer.library != "torch"]
            assert len(absent) == len(others)
            assert all("not installed" in row.note or "torchaudio" in row.note for row in absent)


@pytest.mark.skipif(not compiled.available(), reason="no C compiler here")
def test_only_effects_with_a_kernel_have_a_compiled_row():
    rows = {}
    for kind in ("ParametricEQ", "Gain"):
        processor = Case(kind, kind).processor()
        rows[kind] = [row.library for row in peers.ours(processor, effects.settings(processor, 2), CPU)]
    assert rows == {"ParametricEQ": ["difffx, compiled", "difffx, torch"], "Gain": ["difffx, torch"]}


def test_peers_are_asked_for_effects_that_are_measured():
    assert set(libraries.PEERS) <= {case.name for case in benchmark.cases()}


def test_every_public_effect_is_measured():
    measured = {case.kind for case in benchmark.cases()}
    assert set(processors.__all__) - measured == {"Processor", "HybridProxy"}


def test_an_effect_is_found_by_its_class_or_by_a_part_of_its_name():
    assert [case.kind for case in benchmark.cases(["compressor"])] == ["Compressor"]
    assert [case.name for case in benchmark.cases(["bands"])] == [
        "parametric EQ, 6 bands",
        "graphic EQ, 10 bands",
    ]
    with pytest.raises(ValueError, match="no effect 'wha'"):
        benchmark.cases(["wha"])


def test_table_and_json_give_medians_and_how_many_times_slower():
    case = Case("half", "Gain")
    figures = [
        Figures("difffx, torch", [1.0, 2.0, 9.0], [4.0], 8.0, 16.0, -151.0),
        Figures("slow", [20.0], note="a note"),
    ]
    text = shown(case, figures)
    assert "2.00 / 1.00" in text and "10.0 x" in text and "-151" in text and "a note" in text
    written = json.loads(
        json.dumps(benchmark.as_json(benchmark.machine(CPU, (1, 1, 9), 3), [(case, figures)]))
    )
    first, slow = written["effects"]["half"]["rivals"]
    assert first["forward_ms"] == {"median": 2.0, "min": 1.0, "rounds": [1.0, 2.0, 9.0]}
    assert slow["times_slower"] == {"forward": 10.0, "both": None} and slow["both_ms"] is None
    assert written["machine"]["shape"] == [1, 1, 9]


def test_the_sound_of_the_benchmark_has_loud_and_quiet_moments():
    level_db = 20.0 * effects.sound(1, 1, 44_100)[0, 0].unfold(0, 441, 441).square().mean(-1).sqrt().log10()
    assert level_db.max() - level_db.min() > 25.0 and math.isfinite(level_db.min())


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_json(tmp_path):
    path = tmp_path / "figures.json"
    script = Path(__file__).parents[1] / "scripts" / "benchmark.py"
    options = ["--only", "Gain", "--rounds", "2", "--shape", "2", "1", "500", "--json", path]
    result = subprocess.run(
        [sys.executable, script, "effects", *map(str, options)], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "Gain" in result.stdout and "difffx, torch" in result.stdout
    assert json.loads(path.read_text())["effects"]["Gain"]["rivals"][0]["error_db"] < -120.0
