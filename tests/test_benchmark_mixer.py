import io
import json

from rich.console import Console

from difffx import benchmark
from difffx.benchmark import mixer


def test_the_mixer_is_timed_beside_its_published_formulas(monkeypatch):
    monkeypatch.setattr(mixer, "growth_mb", lambda call, device: call() or 1.0)
    found = benchmark.measure_mixer(seconds=0.05, frames=3, rounds=2)
    assert [row.name for row in found][:2] == ["published formulas", "difffx"]
    assert all(len(row.both_cpu_s) == len(row.forward_s) == 2 for row in found)
    assert all(seconds > 0.0 for row in found for seconds in row.both_s)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(benchmark.mixer_table(found))
    text = console.export_text()
    assert "published formulas" in text and "(1.00)" in text
    written = json.loads(json.dumps(benchmark.mixer_json({"cores": 2}, found)))
    assert written["cores"] == 2 and written["share_of_published"]["published formulas"]["both_cpu"] == 1.0


def test_shares_are_of_medians():
    reference = benchmark.MixerFigures("published formulas", [1.0, 9.0, 2.0], [4.0], [1.0], [1.0], 10.0, 40.0)
    ours = benchmark.MixerFigures("difffx", [0.5], [1.0], [1.0], [1.0], None, 10.0)
    shares = benchmark.mixer_json({}, [reference, ours])["share_of_published"]["difffx"]
    assert shares["forward_cpu"] == 0.25 and shares["both_mb"] == 0.25 and "forward_mb" not in shares
