"""Several data sets as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from difffx.data.segments import Kept, SegmentData, generator


class BlendedSegments(Dataset):
    """Item `index` is item `index` of one of the parts, drawn by its share."""

    def __init__(self, parts: Sequence[Dataset], shares: Sequence[float], seed: int, items: int) -> None:
        self.parts, self.seed, self.items = list(parts), seed, items
        self.ends = np.cumsum(shares) / np.sum(shares)

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, Tensor | str]:
        draw = generator(self.seed, "train", index).random()
        return self.parts[int(np.searchsorted(self.ends, draw, side="right"))][index]


class Blend(SegmentData):
    """Training on several data sets at once, such as recordings and synthetic music.

    parts     name -> a data set; all of one rate, length and number of channels
    shares    name -> how often an item is of it, 0..1, together 1
    measured  the part whose validation and test sets are those of the whole
    pool      as in Synthetic: training keeps this many items and goes through them again and again

    Items of an epoch, batches and workers are those given here; the parts' own say nothing.
    """

    def __init__(
        self,
        sample_rate: int,
        parts: Mapping[str, SegmentData],
        shares: Mapping[str, float],
        measured: str,
        seconds: float = 3.0,
        channels: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        train_items: int = 1024,
        val_items: int = 64,
        test_items: int = 64,
        pool: int | None = None,
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )
        if set(shares) != set(parts) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1.0) > 1e-6:
            raise ValueError(
                f"Blend: shares are a number for each of {', '.join(parts)} that sum to 1, got {dict(shares)}"
            )
        if measured not in parts:
            raise ValueError(f"Blend: measured must be one of {', '.join(parts)}, got {measured!r}")
        mine = (self.sample_rate, self.num_samples, self.channels)
        for name, part in parts.items():
            cut = (part.sample_rate, part.num_samples, part.channels)
            if cut != mine:
                raise ValueError(
                    f"Blend: {name} has (sample_rate, samples, channels) of {cut}, expected {mine}"
                )
        self.parts, self.shares, self.measured, self.pool = dict(parts), dict(shares), measured, pool

    def setup(self, stage: str) -> None:
        for name in self.parts if stage == "fit" else (self.measured,):
            self.parts[name].setup(stage)

    def dataset(self, split: str) -> Dataset:
        if split != "train":
            return self.parts[self.measured].dataset(split)
        shares = {name: share for name, share in self.shares.items() if share > 0}
        parts = [self.parts[name].dataset("train") for name in shares]
        data = BlendedSegments(parts, list(shares.values()), self.seed, self.items["train"])
        return data if self.pool is None else Kept(data, self.pool)
