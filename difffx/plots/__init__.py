"""Tensors in, matplotlib figures out: no trainer, no logger, no global state."""

from difffx.plots.curves import (
    compressor_curves,
    curve_figures,
    node_settings,
    response_curves,
    transfer_curves,
)
from difffx.plots.inversion import inversion_figure
from difffx.plots.knobs import knob_scatter, settings_table
from difffx.plots.moves import moves
from difffx.plots.processor import play, processor_page
from difffx.plots.report import report
from difffx.plots.spectra import spectrograms
from difffx.plots.style import save_figure
from difffx.plots.transition import transition_figure

__all__ = [
    "compressor_curves",
    "curve_figures",
    "inversion_figure",
    "knob_scatter",
    "moves",
    "node_settings",
    "play",
    "processor_page",
    "report",
    "response_curves",
    "save_figure",
    "settings_table",
    "spectrograms",
    "transfer_curves",
    "transition_figure",
]
