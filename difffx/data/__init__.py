"""Data sets: LightningDataModules whose batches are dictionaries.

Keys that a batch may hold
dry   float32 [B, C, T]   always: the sound before any effect
name  list of B strings   always: where an item comes from
"""

from difffx.data.blend import Blend
from difffx.data.dj_pairs import DJPairs
from difffx.data.folder import Folder
from difffx.data.musdb18 import MUSDB18
from difffx.data.synthetic import Synthetic

__all__ = ["MUSDB18", "Blend", "DJPairs", "Folder", "Synthetic"]
