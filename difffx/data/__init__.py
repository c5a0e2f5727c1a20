"""Data sets: LightningDataModules whose batches are dictionaries.

Keys that a batch may hold
dry   float32 [B, C, T]   always: the sound before any effect
name  list of B strings   always: where an item comes from
"""

from difffx.data.synthetic import Synthetic

__all__ = ["Synthetic"]
