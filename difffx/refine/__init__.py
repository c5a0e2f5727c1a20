"""Settings that make one sound of another, found by listening, from a network's answer or from anywhere."""

from difffx.refine.judge import Progress
from difffx.refine.search import RENDERS, SECONDS, Refinement, refine
from difffx.refine.sounds import line_up, loudest, refine_sound

__all__ = ["RENDERS", "SECONDS", "Progress", "Refinement", "line_up", "loudest", "refine", "refine_sound"]
