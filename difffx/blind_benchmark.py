"""A benchmark of blind estimation that anyone can repeat: stored settings on whatever music there is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from difffx.data.audio_io import AudioError
from difffx.data.folder import Cut, Track, scan
from difffx.params import ControlSpec, unknown

SETTINGS = Path(__file__).with_name("blind_settings.json")
SECONDS = 10.0
PER_CLIP = 4
SILENCE = 1e-5


def stored_settings(spec: ControlSpec) -> Tensor:
    """The settings of the benchmark for a chain of the published effects, z [N, P, 1]; all switches are on.

    Raises ValueError for an effect that has none, and for ranges that leave one out.
    """
    rows = json.loads(SETTINGS.read_text(encoding="utf-8"))["settings"]
    nodes = list(dict.fromkeys(path.partition(".")[0] for path in spec.names))
    for node in nodes:
        if node not in rows[0]:
            raise ValueError(f"benchmark=blind: no settings for effect {unknown(node, rows[0])}")
    active = {node: {"active": 1.0} if f"{node}.active" in spec.entries else {} for node in nodes}
    return torch.cat([spec.from_preset({node: row[node] | active[node] for node in nodes}) for row in rows])


class BlindBenchmark:
    """Batches of one excerpt each, the middle ten seconds of a file, at several stored settings.

    root      a folder of music, every file of it in the order of names
    channels  1: the mean of all

    Batches hold dry [K, C, T], z [K, P, 1], name "file #setting" and clip, the file. Files shorter than the
    excerpt are repeated, silent ones are refused by name. The settings of a file depend on its place alone.
    """

    def __init__(self, root: str | Path, spec: ControlSpec, sample_rate: int, channels: int = 1) -> None:
        self.settings = stored_settings(spec)
        self.cut = Cut(sample_rate, round(SECONDS * sample_rate), channels)
        self.tracks: list[Track] = scan(Path(root))

    def __len__(self) -> int:
        return len(self.tracks)

    def __iter__(self) -> Iterator[dict]:
        for place, track in enumerate(self.tracks):
            dry = self.cut.read(track, 0.5 * (track.seconds - SECONDS))
            if dry.square().mean().sqrt() < SILENCE:
                raise AudioError(f"{track.path}: its middle {SECONDS:g} s are silent; take the file out")
            rows = [(place * PER_CLIP + k) % len(self.settings) for k in range(PER_CLIP)]
            yield {
                "dry": dry.expand(PER_CLIP, -1, -1),
                "z": self.settings[rows],
                "name": [f"{track.name} #{row + 1}" for row in rows],
                "clip": PER_CLIP * [track.name],
            }
