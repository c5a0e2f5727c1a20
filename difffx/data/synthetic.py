"""Music made of seeds."""

from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import Dataset

from difffx.data.segments import SegmentData, generator


def render(rng: np.random.Generator, sample_rate: int, num_samples: int, channels: int) -> np.ndarray:
    """One segment of music, [C, T] float32, peak between -12 and 0 dBFS."""
    time = np.arange(num_samples) / sample_rate
    audio = np.zeros((channels, num_samples))
    beat = 60.0 / rng.uniform(70.0, 170.0)
    for _ in range(6):
        f0 = 440.0 * 2.0 ** (rng.integers(-40, 13) / 12.0)
        step = beat * 2.0 ** rng.integers(-1, 3)
        phase = np.mod(time - rng.uniform(0.0, step), step)
        envelope = np.exp(-phase / rng.uniform(0.05, 0.6)) * (1.0 - np.exp(-phase / 0.003))
        tone = sum(
            np.sin(2.0 * np.pi * (k * f0 * time + rng.uniform())) / k
            for k in range(1, 9)
            if k * f0 < 0.45 * sample_rate
        )
        audio += rng.uniform(0.2, 1.0, (channels, 1)) * envelope * tone
    hits = np.mod(time, beat / 2.0)
    audio += 0.3 * np.exp(-hits / 0.04) * rng.standard_normal((channels, num_samples))
    audio *= 10.0 ** (rng.uniform(-12.0, 0.0) / 20.0) / np.abs(audio).max()
    return audio.astype(np.float32)


class SyntheticSegments(Dataset):
    """Item `index` is a segment of music that exists nowhere else."""

    def __init__(
        self, sample_rate: int, num_samples: int, channels: int, seed: int, split: str, items: int
    ) -> None:
        self.sample_rate, self.num_samples, self.channels = sample_rate, num_samples, channels
        self.seed, self.split, self.items = seed, split, items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        rng = generator(self.seed, self.split, index)
        audio = render(rng, self.sample_rate, self.num_samples, self.channels)
        return {"dry": torch.from_numpy(audio), "name": f"{self.split}-{index}"}


class Synthetic(SegmentData):
    """Endless music made of seeds: no download, no disk, no two epochs alike."""

    def __init__(
        self,
        sample_rate: int,
        seconds: float = 3.0,
        channels: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        train_items: int = 1024,
        val_items: int = 64,
        test_items: int = 64,
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )

    def dataset(self, split: str) -> SyntheticSegments:
        return SyntheticSegments(
            self.sample_rate, self.num_samples, self.channels, self.seed, split, self.items[split]
        )
