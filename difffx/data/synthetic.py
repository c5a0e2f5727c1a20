"""Music made of seeds: the data set that needs no download and no disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import fft
from torch.utils.data import Dataset

from difffx.data.instruments import HOP, Studio, at_audio_rate, db, studio
from difffx.data.players import play
from difffx.data.score import write_score
from difffx.data.segments import Kept, SegmentData, generator

# who plays together, and how often
BANDS = (
    (4, ("drums", "bass", "strummed", "sung")),
    (3, ("drums", "bass", "strummed", "lead")),
    (4, ("drums", "bass", "distorted", "sung")),
    (3, ("drums", "bass", "sustained", "lead")),
    (3, ("drums", "bass", "sustained", "sung")),
    (3, ("drums", "bass", "distorted", "strummed")),
    (2, ("drums", "bass", "strummed", "sustained", "lead")),
)
FEW = (
    (3, ("drums", "bass")),
    (3, ("strummed", "sung")),
    (3, ("strummed", "strummed")),
    (3, ("sustained", "lead")),
    (3, ("sustained", "sustained")),
    (3, ("drums",)),
    (3, ("bass",)),
    (4, ("strummed",)),
    (3, ("distorted",)),
    (4, ("sustained",)),
    (3, ("lead",)),
    (4, ("sung",)),
    (4, ("spoken",)),
)
LEVELS_DB = {
    "drums": 3.0,
    "bass": -2.0,
    "strummed": -1.0,
    "sustained": -3.0,
    "lead": -4.0,
    "distorted": -3.0,
    "sung": 0.0,
    "spoken": 0.0,
}
CENTERED = ("drums", "bass", "sung", "spoken")
ROOMS = 24
COSINES = 9


@dataclass(frozen=True)
class Acoustics:
    """What is made once for a sample rate and a length.

    length    samples of the FFT
    hz        [N] frequencies of its bins
    curves    [COSINES + 2, N] dB: cosines over the logarithm of frequency, treble above 3 kHz, presence
    rooms     [ROOMS, 2, N] spectra of reverberation, left and right, RMS 1
    """

    length: int
    hz: np.ndarray
    curves: np.ndarray
    rooms: np.ndarray


@lru_cache(maxsize=4)
def acoustics(sample_rate: int, num_samples: int) -> Acoustics:
    """The same rooms and curves for everybody."""
    rng = np.random.default_rng(20_240_502)
    length = fft.next_fast_len(num_samples, real=True)
    hz = fft.rfftfreq(length, 1.0 / sample_rate)
    octave = np.log2(np.maximum(hz, 16.0) / 1000.0)
    place = (octave - octave[0]) / (octave[-1] - octave[0])
    curves = [np.cos(np.pi * k * place) for k in range(1, COSINES + 1)]
    curves += [np.maximum(octave - 1.5, 0.0), np.exp(-0.5 * np.square(octave - 1.8))]
    rooms = np.empty((ROOMS, 2, len(hz)), np.complex64)
    for room in rooms:
        decay = np.exp(rng.uniform(np.log(0.03), np.log(0.5)))
        early = rng.uniform(0.002, 0.03)
        taps = min(length, int(6.0 * decay * sample_rate) + 1)
        t = np.arange(taps) / sample_rate
        tail = rng.standard_normal((2, taps)) * np.exp(-t / decay) * (t > early)
        echoes = rng.integers(1, max(2, min(taps, int(2.5 * early * sample_rate))), (2, 8))
        np.put_along_axis(tail, echoes, rng.normal(0.0, 4.0, (2, 8)), axis=1)
        dull_hz, thin_hz = rng.uniform(2000.0, 9000.0), rng.uniform(100.0, 300.0)
        walls = hz**2 / (hz**2 + thin_hz**2) / (1.0 + (hz / dull_hz) ** 2)
        spectrum = fft.rfft(tail, length) * walls
        room[:] = spectrum / np.sqrt(np.mean(np.abs(spectrum) ** 2))
    return Acoustics(length, hz.astype(np.float32), np.array(curves, np.float32), rooms)


def players(rng: np.random.Generator, few: float) -> tuple[str, ...]:
    """Who plays: a band, or with the chance `few` a duo, a soloist, a speaker."""
    ensembles = FEW if rng.random() < few else BANDS
    weights = np.array([weight for weight, _ in ensembles], float)
    return ensembles[rng.choice(len(ensembles), p=weights / weights.sum())][1]


def arrange(
    rng: np.random.Generator, here: Studio, num_samples: int, channels: int, few: float
) -> np.ndarray:
    """Everybody's track at its level and its place between the loudspeakers, [C, T]."""
    score = write_score(rng, num_samples, here.sample_rate)
    mix = np.zeros((channels, num_samples), np.float32)
    for name in players(rng, few):
        track = play(name, rng, score, here)
        gain = np.float32(db(LEVELS_DB[name] + rng.normal(0.0, 2.0)))
        angle = np.pi / 4.0 * (1.0 + rng.normal(0.0, 0.15 if name in CENTERED else 0.4))
        places = [1.0] if channels == 1 else [np.cos(angle), np.sin(angle)]
        for channel, place in zip(mix, places, strict=True):
            channel += np.float32(place) * gain * track
    starts = [start for start, _ in score.bar_starts() if 0.2 * num_samples < start < 0.8 * num_samples]
    if starts and rng.random() < 0.12:  # a stop, or an entry after silence
        cut = starts[rng.integers(len(starts))]
        quiet = np.float32(db(rng.uniform(-60.0, -10.0)))
        mix[:, slice(cut, None) if rng.random() < 0.5 else slice(0, cut)] *= quiet
    return mix


def color(rng: np.random.Generator, mix: np.ndarray, here: Studio) -> np.ndarray:
    """Room, microphones, equalizers, in one pass through the spectrum; tails go round the end."""
    num_samples = mix.shape[1]
    room = acoustics(here.sample_rate, num_samples)
    cosines = rng.standard_normal(COSINES) * 0.5 / np.arange(1, COSINES + 1) ** 0.7
    weights = np.array([*cosines, rng.normal(-1.2, 0.5), 2.0], np.float32)
    level_db = np.einsum("k,kn->n", weights, room.curves)
    gain = np.exp(level_db * np.float32(np.log(10.0) / 20.0))
    if rng.random() < 0.2:  # coded, or recorded on something that goes no higher
        gain[np.searchsorted(room.hz, rng.uniform(14_000.0, 20_000.0)) :] = 0.0
    squared = np.square(room.hz)
    gain *= squared / (squared + np.float32(rng.uniform(8.0, 30.0) ** 2))
    spectrum = fft.rfft(mix, room.length)
    if rng.random() < 0.8:
        wet = np.float32(db(rng.uniform(-40.0, -10.0)))
        spectrum *= 1.0 + wet * room.rooms[rng.integers(ROOMS), : len(mix)]
    spectrum *= gain
    return fft.irfft(spectrum, room.length)[:, :num_samples]


def master(rng: np.random.Generator, audio: np.ndarray, here: Studio) -> np.ndarray:
    """A compressor on the sum, saturation, a limiter, noise of the medium: each sometimes."""
    num_samples = audio.shape[1]
    audio = audio / (np.sqrt(np.mean(np.square(audio))) + np.float32(1e-9))
    if rng.random() < 0.3:
        blocks = num_samples // HOP
        power = np.square(audio[:, : blocks * HOP]).mean(0).reshape(blocks, HOP).mean(1)
        smooth = np.convolve(np.pad(power, 24, mode="edge"), np.full(49, 1.0 / 49.0), "valid")
        over = np.maximum(10.0 * np.log10(smooth + 1e-9) - rng.uniform(-10.0, 0.0), 0.0)
        reduction = np.pad(-over * rng.uniform(0.1, 0.6), (0, 2), mode="edge")
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
        audio = audio + np.float32(db(rng.uniform(-75.0, -45.0))) * hiss
    if rng.random() < 0.4:
        audio = audio + np.float32(db(rng.uniform(-50.0, -28.0))) * here.slice_of("rumble", rng, num_samples)
    if rng.random() < 0.05:
        clicks = rng.integers(num_samples, size=num_samples // 5000)
        audio[:, clicks] += 0.3 * rng.standard_normal(len(clicks), dtype=np.float32)
    return audio


def render(
    rng: np.random.Generator, sample_rate: int, num_samples: int, channels: int, few: float = 0.0
) -> np.ndarray:
    """One segment of music, [C, T] float32, its peak between -12 and 0 dBFS; few as in `players`."""
    here = studio(sample_rate)
    mix = arrange(rng, here, num_samples, channels, few)
    while np.abs(mix).max() < 1e-4:  # everybody rests: play something else
        mix = arrange(rng, here, num_samples, channels, few)
    audio = master(rng, color(rng, mix, here), here)
    return (audio * np.float32(0.9999 * db(rng.uniform(-12.0, 0.0)) / np.abs(audio).max())).astype(np.float32)


class SyntheticSegments(Dataset):
    """Item `index` is a segment of music that exists nowhere else."""

    def __init__(
        self,
        sample_rate: int,
        num_samples: int,
        channels: int,
        seed: int,
        split: str,
        items: int,
        few: float,
    ) -> None:
        self.sample_rate, self.num_samples, self.channels = sample_rate, num_samples, channels
        self.seed, self.split, self.items, self.few = seed, split, items, few

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        rng = generator(self.seed, self.split, index)
        audio = render(rng, self.sample_rate, self.num_samples, self.channels, self.few)
        return {"dry": torch.from_numpy(audio), "name": f"{self.split}-{index}"}


class Synthetic(SegmentData):
    """Endless music made of seeds: no download, no disk, no two epochs alike.

    Bands in a room, through microphones and equalizers, on a medium with its noise; one segment of a piece
    each. `BANDS` says who plays and how often. An item's peak is drawn between -12 and 0 dBFS. Arguments as
    in SegmentData. Validation and test are such songs only, as in MUSDB18; in training every fifth item is
    of duos, soloists, singing or speech (`FEW`), for recordings are not always of bands: `few` of them.

    pool  training goes through this many segments again and again and keeps them in the memory of its worker,
          16 bits a sample; None: no segment comes twice. Making music takes as long as a step on one core
          where segments are long and steps fast

    Against 83 segments of 3 s from 20 recordings (mixes, masters, soloists, speech), mean and, in brackets,
    standard deviation over 300 items; levels in dB of a third of an octave relative to the whole:

            Hz   recordings     synthetic              Hz   recordings     synthetic
            39  -24.8 (13.9)  -21.0 (13.1)           2000  -22.3 ( 7.7)  -20.6 ( 5.5)
            62  -22.0 (13.9)  -15.0 (11.3)           4000  -26.3 ( 7.8)  -25.1 ( 6.6)
           125  -18.5 (12.3)  -15.1 ( 8.2)           8000  -34.0 (14.5)  -31.7 ( 8.0)
           250  -17.7 ( 8.9)  -13.1 ( 5.8)          12700  -42.6 (17.7)  -36.7 ( 9.4)
           500  -14.9 ( 5.7)  -14.0 ( 5.0)          16000  -48.0 (15.4)  -41.1 (10.1)
          1000  -19.5 ( 7.3)  -17.7 ( 5.2)

    From 80 Hz to 10 kHz no third octave is further off than 5.4 dB; below and above, where soloists and
    speech pull the recordings down, it is up to 7 dB. Recordings differ more among themselves in the bass
    and from 6 kHz up. Crest factor 14.2 (3.0) dB and 13.9 (3.1) dB; range of the level of 100 ms blocks, 10th
    to 95th percentile, 11.5 (10.0) dB and 11.8 (11.9) dB; spectral flux 2.0 (0.7) dB and 2.1 (0.7) dB.
    `scripts/measure_synthetic.py FOLDER` measures it again.

    The random coloring of an item is kept small on purpose: it sounds like an equalizer that nobody can tell
    from the one to be estimated. Steering every mix towards one spectrum was tried: validation improves
    faster (0.43 instead of 0.61 after four epochs of the default run), and on recordings the estimator is
    then worse than doing nothing.

    Cost: 10 ms an item of 131,072 samples on one core, 13 ms in stereo; the tables take 1 s once and 65 MB,
    made before the workers fork and shared by them.
    """

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
        few: float = 0.2,
        pool: int | None = None,
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )
        if not 0.0 <= few <= 1.0:
            raise ValueError(f"Synthetic: few must lie in 0..1, got {few}")
        self.few, self.pool = few, pool

    def setup(self, stage: str) -> None:
        """Make the tables before the workers fork, so that they share them."""
        studio(self.sample_rate)
        acoustics(self.sample_rate, self.num_samples)

    def dataset(self, split: str) -> Dataset:
        few = self.few if split == "train" else 0.0
        data = SyntheticSegments(
            self.sample_rate, self.num_samples, self.channels, self.seed, split, self.items[split], few
        )
        return data if self.pool is None or split != "train" else Kept(data, self.pool)
