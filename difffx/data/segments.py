"""What every data set here shares: segments that are a function of (seed, split, index) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Sampler

SPLITS = ("train", "val", "test")
FULL_SCALE = 32_767  # of 16 bits


def generator(seed: int, split: str, index: int) -> np.random.Generator:
    """The random numbers of one item; two splits never share a stream, whatever the seeds."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index])))


class EpochOrder(Sampler[int]):
    """Item numbers of one epoch: `epoch * size + i`, every epoch others, so endless data never repeat.

    Lightning calls `set_epoch` on a loader's `sampler`, also after a resume: training that goes on at an
    epoch's boundary meets the batches it would have met, with any number of workers.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.epoch * self.size, (self.epoch + 1) * self.size))

    def __len__(self) -> int:
        return self.size


class Kept(Dataset):
    """A data set of which only the first `pool` items are ever made, kept in memory with 16 bits a sample.

    Item `index` is item `index % pool` of `data`; each worker keeps its own.
    """

    def __init__(self, data: Dataset, pool: int) -> None:
        if pool < 1:
            raise ValueError(f"pool must be at least 1, got {pool}")
        self.data, self.pool = data, pool
        self.kept: dict[int, tuple[np.ndarray, str]] = {}

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        place = index % self.pool
        if place not in self.kept:
            item = self.data[place]
            self.kept[place] = (np.round(item["dry"].numpy() * FULL_SCALE).astype(np.int16), item["name"])
        audio, name = self.kept[place]
        return {"dry": torch.from_numpy(audio.astype(np.float32) / np.float32(FULL_SCALE)), "name": name}


class SegmentData(LightningDataModule):
    """Loaders over segments of one length; a subclass says what a segment is, in `dataset`.

    sample_rate   Hz
    seconds       length of a segment; `num_samples` is what comes of it
    channels      1 or 2
    batch_size    of all three loaders
    num_workers   0: in the training process
    seed          not negative; with split and index it is all that an item depends on
    train_items   per epoch; val_items and test_items are the same in every epoch

    Every loader yields {"dry": float32 [B, C, T], "name": list of B strings}. The last, smaller batch of an
    epoch is kept.
    """

    def __init__(
        self,
        sample_rate: int,
        seconds: float,
        channels: int,
        batch_size: int,
        num_workers: int,
        seed: int,
        train_items: int,
        val_items: int,
        test_items: int,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if channels not in (1, 2):
            raise ValueError(f"{name}: channels must be 1 or 2, got {channels}")
        if seed < 0:
            raise ValueError(f"{name}: seed must not be negative, got {seed}")
        if sample_rate < 8000:
            raise ValueError(f"{name}: sample_rate is in Hz and at least 8000, got {sample_rate}")
        if not 0.1 <= seconds <= 600.0:
            raise ValueError(f"{name}: seconds must lie within 0.1..600, got {seconds}")
        counts = {"batch_size": batch_size, "train_items": train_items, "val_items": val_items}
        for key, value in (counts | {"test_items": test_items}).items():
            if value < 1:
                raise ValueError(f"{name}: {key} must be at least 1, got {value}")
        self.sample_rate, self.channels, self.seed = int(sample_rate), int(channels), int(seed)
        self.num_samples = round(seconds * sample_rate)
        self.batch_size, self.num_workers = batch_size, num_workers
        self.items = {"train": train_items, "val": val_items, "test": test_items}

    @abstractmethod
    def dataset(self, split: str) -> Dataset:
        """Item `index` of a split, {"dry": [C, T], "name": str}, from (seed, split, index) alone.

        Any index from 0 up for "train", as many as `len` says for the others.
        """

    def loader(self, split: str) -> DataLoader:
        """Training in an order of its own for each epoch; validation and test always the same, in order."""
        data = self.dataset(split)
        return DataLoader(
            data,
            batch_size=self.batch_size,
            sampler=EpochOrder(self.items["train"]) if split == "train" else None,
            shuffle=False if split != "train" else None,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> DataLoader:
        return self.loader("train")

    def val_dataloader(self) -> DataLoader:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader:
        return self.loader("test")
