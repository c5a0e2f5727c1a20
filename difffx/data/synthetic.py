"""Music made of seeds: the data set that needs no download and no disk."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import fft
from torch.utils.data import Dataset

from difffx.data.instruments import HOP, Studio, at_audio_rate, db, studio
from difffx.data.players import play, write_score
from difffx.data.segments import SegmentData, generator

# who plays together, and how often
ENSEMBLES = (
    (12, ("drums", "bass", "strummed", "sung")),
    (9, ("drums", "bass", "strummed", "lead")),
    (9, ("drums", "bass", "distorted", "sung")),
    (9, ("drums", "bass", "sustained", "lead")),
    (6, ("drums", "bass", "sustained", "sung")),
    (6, ("drums", "bass", "distorted", "strummed")),
    (4, ("drums", "bass", "strummed", "sustained", "lead")),
    (4, ("drums", "bass")),
    (3, ("drums", "drums", "sustained")),
    (6, ("strummed", "sung")),
    (4, ("strummed", "strummed")),
    (4, ("sustained", "lead")),
    (4, ("sustained", "sustained")),
    (6, ("drums",)),
    (4, ("bass",)),
    (6, ("strummed",)),
    (3, ("distorted",)),
    (6, ("sustained",)),
    (3, ("lead",)),
    (6, ("sung",)),
    (6, ("spoken",)),
)
LEVELS_DB = {
    "drums": 4.0,
    "bass": 1.0,
    "strummed": -1.0,
    "sustained": -3.0,
    "lead": -4.0,
    "distorted": -3.0,
    "sung": 0.0,
    "spoken": 0.0,
}
CHANCES = np.array([weight for weight, _ in ENSEMBLES], float)
CHANCES /= CHANCES.sum()
ROOMS = 24
TILTS = 9  # cosines over the logarithm of frequency that make an equalizer curve


@lru_cache(maxsize=4)
def acoustics(sample_rate: int, num_samples: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Length of the FFT, its bins in octaves above 1 kHz, equalizer curves, spectra of rooms."""
    rng = np.random.default_rng(20_240_502)
    length = fft.next_fast_len(num_samples, real=True)
    hz = fft.rfftfreq(length, 1.0 / sample_rate)
    octave = np.log2(np.maximum(hz, 16.0) / 1000.0).astype(np.float32)
    place = (octave - octave[0]) / (octave[-1] - octave[0])
    curves = np.cos(np.pi * np.arange(1, TILTS + 1, dtype=np.float32)[:, None] * place)
    rooms = np.empty((ROOMS, 2, len(hz)), np.complex64)
    for room in rooms:
        decay = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
        early = rng.uniform(0.002, 0.03)
        taps = min(length, int(6.0 * decay * sample_rate) + 1)
        t = np.arange(taps) / sample_rate
        tail = rng.standard_normal((2, taps)) * np.exp(-t / decay) * (t > early)
        echoes = rng.integers(1, max(2, min(taps, int(2.5 * early * sample_rate))), (2, 8))
        np.put_along_axis(tail, echoes, rng.normal(0.0, 4.0, (2, 8)), axis=1)
        spectrum = fft.rfft(tail.astype(np.float32), length)
        dull = (
            1.0
            / (1.0 + (hz / rng.uniform(2000.0, 9000.0)) ** 2)
            * hz**2
            / (hz**2 + rng.uniform(100.0, 300.0) ** 2)
        )
        spectrum *= dull
        room[:] = spectrum / np.sqrt(np.mean(np.abs(spectrum) ** 2))
    return length, octave, curves, rooms


def arrange(
    rng: np.random.Generator, here: Studio, num_samples: int, channels: int
) -> tuple[np.ndarray, int]:
    """Everybody's track at its level and place: [C, T], and how many play."""
    score = write_score(rng, num_samples, here.sample_rate)
    names = ENSEMBLES[rng.choice(len(ENSEMBLES), p=CHANCES)][1]
    mix = np.zeros((channels, num_samples), np.float32)
    for name in names:
        track = play(name, rng, score, here)
        gain = db(LEVELS_DB[name] + rng.normal(0.0, 4.0))
        if channels == 1:
            mix[0] += np.float32(gain) * track
            continue
        angle = (
            np.pi
            / 4.0
            * (1.0 + rng.normal(0.0, 0.15 if name in ("bass", "sung", "drums", "spoken") else 0.4))
        )
        mix += np.float32(gain) * np.array([[np.cos(angle)], [np.sin(angle)]], np.float32) * track
    starts = [start for start, _ in score.bar_starts() if 0.2 * num_samples < start < 0.8 * num_samples]
    if starts and rng.random() < 0.12:  # a stop, or an entry after silence
        cut = starts[rng.integers(len(starts))]
        quiet = np.float32(db(rng.uniform(-60.0, -10.0)))
        mix[:, slice(cut, None) if rng.random() < 0.5 else slice(0, cut)] *= quiet
    return mix, len(names)


def color(rng: np.random.Generator, mix: np.ndarray, players: int, here: Studio) -> np.ndarray:
    """Room, microphones, equalizers, in one pass through the spectrum; tails go round the end."""
    num_samples = mix.shape[1]
    length, octave, curves, rooms = acoustics(here.sample_rate, num_samples)
    weights = rng.standard_normal(TILTS) * 4.0 / np.arange(1, TILTS + 1) ** 0.7
    level_db = weights.astype(np.float32) @ curves
    level_db += np.float32(rng.normal(0.0, 3.5)) * np.maximum(octave - 1.5, 0.0)
    level_db += np.float32(2.0) * np.exp(-0.5 * np.square(octave - 1.8))  # presence, as engineers like it
    gain = np.exp(level_db * np.float32(np.log(10.0) / 20.0))
    edge = 1000.0 * 2.0**octave
    spectrum = fft.rfft(mix, length)
    if rng.random() < 0.8:
        wet = np.float32(db(rng.uniform(-40.0, -6.0)))
        spectrum *= 1.0 + wet * rooms[rng.integers(ROOMS), : len(mix)]
    if rng.random() < 0.5:  # coded, or recorded on something that goes no higher
        gain[octave > np.log2(rng.uniform(9.0, 20.0))] = 0.0
    gain *= edge**2 / (edge**2 + np.float32(rng.uniform(8.0, 30.0)) ** 2)
    spectrum *= gain
    return fft.irfft(spectrum, length)[:, :num_samples]


def master(rng: np.random.Generator, audio: np.ndarray, here: Studio) -> np.ndarray:
    """A compressor on the sum, saturation, a limiter, noise of the medium: each sometimes."""
    num_samples = audio.shape[1]
    audio = audio / (np.sqrt(np.mean(np.square(audio))) + np.float32(1e-9))
    if rng.random() < 0.3:
        blocks = num_samples // HOP
        power = np.square(audio[:, : blocks * HOP]).mean(0).reshape(blocks, HOP).mean(1)
        smooth = np.convolve(np.pad(power, 24, mode="edge"), np.full(49, 1.0 / 49.0), "valid")
        over = np.maximum(10.0 * np.log10(smooth + 1e-9) - rng.uniform(-10.0, 0.0), 0.0)
        reduction = np.append(-over * rng.uniform(0.1, 0.6), [0.0, 0.0])
        reduction[-2:] = reduction[-3]
        audio = audio * at_audio_rate(10.0 ** (reduction / 20.0))[:num_samples]
    if rng.random() < 0.2:
        drive = np.float32(db(rng.uniform(-20.0, -2.0)))
        audio = np.tanh(drive * audio) / drive
    if rng.random() < 0.08:
        ceiling = np.float32(np.sqrt(np.mean(np.square(audio))) * db(rng.uniform(8.0, 15.0)))
        audio = np.clip(audio, -ceiling, ceiling)
    if rng.random() < 0.85:
        name = ("white", "pink", "pink", "brown", "h")[rng.integers(5)]
        hiss = np.stack([here.slice_of(name, rng, num_samples) for _ in audio])
        audio = audio + np.float32(db(rng.uniform(-72.0, -30.0))) * hiss
    if rng.random() < 0.6:
        audio = audio + np.float32(db(rng.uniform(-45.0, -15.0))) * here.slice_of("rumble", rng, num_samples)
    if rng.random() < 0.05:
        audio = audio + 0.3 * (rng.random(num_samples) < 2e-4) * rng.standard_normal(
            num_samples, dtype=np.float32
        )
    return audio


def render(rng: np.random.Generator, sample_rate: int, num_samples: int, channels: int) -> np.ndarray:
    """One segment of music, [C, T] float32, its peak between -12 and 0 dBFS."""
    here = studio(sample_rate)
    mix, players = arrange(rng, here, num_samples, channels)
    while np.abs(mix).max() < 1e-4:  # everybody rests: play something else
        mix, players = arrange(rng, here, num_samples, channels)
    audio = master(rng, color(rng, mix, players, here), here)
    return (audio * np.float32(0.9999 * db(rng.uniform(-12.0, 0.0)) / np.abs(audio).max())).astype(np.float32)


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

    def setup(self, stage: str) -> None:
        """Make the tables before the workers fork, so that they share them."""
        studio(self.sample_rate)
        acoustics(self.sample_rate, self.num_samples)

    def dataset(self, split: str) -> SyntheticSegments:
        return SyntheticSegments(
            self.sample_rate, self.num_samples, self.channels, self.seed, split, self.items[split]
        )
