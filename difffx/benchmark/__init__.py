"""How fast, how frugal and how exact every effect is, beside every other library that is installed.

cases       what is measured: the effects, their settings, a reference in float64
references  the effects as plain float64 numpy, over which nobody argues
peers       the other libraries, imported only when asked for
effects     one effect from its settings to its figures
measure     rounds over all rivals of one effect, in one process
report      the table on the terminal and the JSON
mixer       the DJ's mixer beside its published formulas
"""

from difffx.benchmark.cases import Case, cases, processor_of
from difffx.benchmark.effects import measure_case
from difffx.benchmark.measure import Figures, Rival, compare
from difffx.benchmark.mixer import MixerFigures, measure_mixer, mixer_json, mixer_table
from difffx.benchmark.peers import rivals
from difffx.benchmark.report import as_json, machine, summary, table

__all__ = [
    "Case",
    "Figures",
    "MixerFigures",
    "Rival",
    "as_json",
    "cases",
    "compare",
    "machine",
    "measure_case",
    "measure_mixer",
    "mixer_json",
    "mixer_table",
    "processor_of",
    "rivals",
    "summary",
    "table",
]
