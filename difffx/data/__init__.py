"""Data sets: LightningDataModules whose batches are dictionaries.

Keys that a batch may hold
dry   float32 [B, C, T]   the sound before any effect
name  list of B strings   always: where an item comes from

data=dj_pairs has no dry, but
a, b       float32 [B, 4, C, T]  stems of two decks
params     float32 [B, F, 54]    the curves that mix them
tempo_bpm  float32 [B]           0 where it is unknown
beats      float32 [B, F, 2]     phase of the beat and of the bar
keys       int64 [B, 2]          of both decks, -1 where unknown
rule       list of B strings     how the curves were drawn
"""

from difffx.data.blend import Blend
from difffx.data.dj_pairs import DJPairs
from difffx.data.folder import Folder
from difffx.data.musdb18 import MUSDB18
from difffx.data.synthetic import Synthetic

__all__ = ["MUSDB18", "Blend", "DJPairs", "Folder", "Synthetic"]
