"""MUSDB18-HQ: 150 songs as WAV, each with its stems."""

from __future__ import annotations

from pathlib import Path

from torch.utils.data import Dataset

from difffx.data import audio_io
from difffx.data.folder import Cut, FixedSegments, RandomSegments, Track
from difffx.data.segments import SegmentData

SIGNALS = ("mixture", "drums", "bass", "other", "vocals")
# the 14 training songs that the data set's own tools hold out for validation
VALIDATION = frozenset({
    "ANiMAL - Rockshow",
    "Actions - One Minute Smile",
    "Alexander Ross - Goodbye Bolero",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Fergessen - Nos Palpitants",
    "James May - On The Line",
    "Johnny Lokke - Promises & Lies",
    "Leaf - Summerghost",
    "Meaxic - Take A Step",
    "Patrick Talbot - A Reason To Leave",
    "Skelpolu - Human Mistakes",
    "Traffic Experiment - Sirens",
    "Triviul - Angelsaint",
    "Young Griffo - Pennies",
})  # fmt: skip


class MUSDB18(SegmentData):
    """Segments of the songs of MUSDB18-HQ: 86 to train, 14 to validate, 50 to test.

    root    the folder that holds train/ and test/, in it one folder a song: `<Artist - Title>/mixture.wav`
            and the stems; nothing is read before the first loader is made
    signal  "mixture", or a stem: "drums", "bass", "other", "vocals"

    Places, silence and damaged files as in Folder. The data: https://zenodo.org/records/3338373
    """

    def __init__(
        self,
        sample_rate: int,
        root: str | None = None,
        signal: str = "mixture",
        seconds: float = 3.0,
        channels: int = 1,
        batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        train_items: int = 1024,
        val_items: int = 56,
        test_items: int = 100,
    ) -> None:
        super().__init__(
            sample_rate, seconds, channels, batch_size, num_workers, seed, train_items, val_items, test_items
        )
        if signal not in SIGNALS:
            raise ValueError(f"MUSDB18: signal must be one of {', '.join(SIGNALS)}, got {signal!r}")
        self.root, self.signal = root, signal

    def setup(self, stage: str) -> None:
        """Look for the songs, so that a wrong folder is known before the first step."""
        for split in ("train", "val") if stage == "fit" else ("test",):
            self.songs(split)

    def songs(self, split: str) -> list[Track]:
        """The songs of a split, by name."""
        if self.root is None:
            raise ValueError(
                "data=musdb18 needs to know where MUSDB18-HQ is: set MUSDB18_ROOT, "
                "or add data.root=<folder with train/ and test/>"
            )
        part = Path(self.root).expanduser() / ("test" if split == "test" else "train")
        if not part.is_dir():
            raise ValueError(f"data.root={self.root}: expected MUSDB18-HQ, which has a folder {part.name}/")
        songs = sorted(path for path in part.iterdir() if (path / f"{self.signal}.wav").is_file())
        if not songs:
            mp4 = " (these are the .mp4 stems, the HQ version is wanted)" if any(part.glob("*.mp4")) else ""
            raise ValueError(f"{part}: expected folders <Artist - Title>/{self.signal}.wav, found none{mp4}")
        if split != "test":
            songs = [song for song in songs if (song.name in VALIDATION) == (split == "val")]
        if not songs:
            kind = "validation" if split == "val" else "training"
            raise ValueError(f"{part}: has no {kind} songs of MUSDB18 in it")
        files = [song / f"{self.signal}.wav" for song in songs]
        return [Track(file.parent.name, file, audio_io.info(file).seconds) for file in files]

    def dataset(self, split: str) -> Dataset:
        kind = RandomSegments if split == "train" else FixedSegments
        cut = Cut(self.sample_rate, self.num_samples, self.channels)
        return kind(self.songs(split), cut, self.seed, split, self.items[split])
