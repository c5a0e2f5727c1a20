"""DJ mixing: two decks of stems, the 54-number mixer, and the transitions DJs play with it.

layout        the 54 numbers: order, names, ranges, usual values
config        what is decided once
nodes         strips and sends as processors, and the mixer as a graph of them
mixer         the same in one go
compat        the published formulas, for comparison
crossfader    the horizontal fader
transitions   curves by rule: cut, bass swap, echo out, ...
drawing       random curves: rules, mixtures of them, smooth ones
degradations  what becomes of mixes and stems on their way
analysis      tempo, bars, key, loudness, cue points of a song
alignment     two songs on one time line
meeting       where one song hands over to the other
handover      curves played over them
gradient_fit  curves of a mix whose stems are known to the sample
inversion     curves of any mix
"""

from difffx.dj.alignment import Aligned, align
from difffx.dj.analysis import Analysis, analyze
from difffx.dj.config import MixerConfig
from difffx.dj.crossfader import FADES, SimpleCrossfader
from difffx.dj.degradations import Degrade
from difffx.dj.drawing import Beats, draw_curves
from difffx.dj.gradient_fit import fit
from difffx.dj.inversion import Inversion, invert
from difffx.dj.layout import (
    DECK_NAMES,
    GLOBAL_PARAM_NAMES,
    LABELS,
    N_GLOBAL_PARAMS,
    N_PARAMS_PER_TRACK,
    N_STEM_PARAMS,
    N_STEMS,
    N_TOTAL_PARAMS,
    STEM_NAMES,
    STEM_PARAM_NAMES,
    ParameterParser,
    get_default_params,
    get_param_info,
    index_of,
    recommended_start,
)
from difffx.dj.loudness import integrated_lufs, loudness_curve
from difffx.dj.mixer import DJMixer, create_mixer
from difffx.dj.nodes import ChannelStrip, Sends, mixer_graph
from difffx.dj.placing import place
from difffx.dj.stretching import stretch, varispeed
from difffx.dj.tonality import camelot, key_distance
from difffx.dj.tracks import PreparedTrack
from difffx.dj.transitions import (
    OPTION_RANGES,
    TRANSITIONS,
    bar_positions,
    draw_options,
    transition,
)

__all__ = [
    "DECK_NAMES",
    "FADES",
    "GLOBAL_PARAM_NAMES",
    "LABELS",
    "N_GLOBAL_PARAMS",
    "N_PARAMS_PER_TRACK",
    "N_STEMS",
    "N_STEM_PARAMS",
    "N_TOTAL_PARAMS",
    "OPTION_RANGES",
    "STEM_NAMES",
    "STEM_PARAM_NAMES",
    "TRANSITIONS",
    "Aligned",
    "Analysis",
    "Beats",
    "ChannelStrip",
    "DJMixer",
    "Degrade",
    "Inversion",
    "MixerConfig",
    "ParameterParser",
    "PreparedTrack",
    "Sends",
    "SimpleCrossfader",
    "align",
    "analyze",
    "bar_positions",
    "camelot",
    "create_mixer",
    "draw_curves",
    "draw_options",
    "fit",
    "get_default_params",
    "get_param_info",
    "index_of",
    "integrated_lufs",
    "invert",
    "key_distance",
    "loudness_curve",
    "mixer_graph",
    "place",
    "recommended_start",
    "stretch",
    "transition",
    "varispeed",
]
