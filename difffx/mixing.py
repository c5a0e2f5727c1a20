"""Files in, a hand-over described: what scripts/mix.py and scripts/score_transitions.py share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from difffx.data import audio_io
from difffx.data.audio_io import AudioError
from difffx.data.stems import open_deck, stem_files
from difffx.dj.alignment import Aligned
from difffx.dj.analysis import analyze
from difffx.dj.handover import HandOver
from difffx.dj.meeting import Song, together
from difffx.dj.tonality import camelot, key_distance

SURE = 0.2  # confidence in a grid of beats


def tempo(text: str) -> str | float:
    """What --tempo takes: a, b, or beats a minute."""
    return text if text in ("a", "b") else float(text)


def native_rate(path: str | Path) -> int:
    """Hz of a song, or of the first of its stems."""
    path = Path(path)
    return audio_io.info(next(iter(stem_files(path).values())) if path.is_dir() else path).sample_rate


def open_song(
    path: str | Path, sample_rate: int, tempo_bpm: float | None = None, downbeat_s: float | None = None
) -> Song:
    """A song file or a folder of stems at a rate, and what is found in it, as `analyze`.

    Raises AudioError in one line that names the file.
    """
    stems = open_deck(path, sample_rate)
    apart = stems if len(stems) > 1 else None
    try:
        analysis = analyze(together(stems), sample_rate, apart, tempo_bpm=tempo_bpm, downbeat_s=downbeat_s)
    except ValueError as error:
        raise AudioError(f"{path}: {str(error).removeprefix('analyze: ')}") from None
    return Song(str(path), stems, analysis)


def doubt(song: Song, deck: str) -> list[str]:
    """A line where the beat that was found in a song should not be trusted."""
    if song.analysis.confidence >= SURE:
        return []
    return [
        f"the beat of {song.name} is hard to hear, {song.analysis.tempo_bpm:.2f} bpm may be wrong: "
        f"if you know better, say --bpm-{deck} and --downbeat-{deck}"
    ]


def description(
    handed: HandOver,
    aligned: Aligned,
    songs: tuple[Song, Song],
    chosen: Mapping[str, object],
    measures: Mapping[str, float | None],
    notes: Sequence[str] = (),
) -> dict:
    """All there is to know of a hand-over, for params.json.

    chosen     who drew the curves: {"rule": ..., "options": ...} or {"run": ...}
    measures   of `difffx.metrics.transition`

    Times of a song are in its own seconds, before it is stretched; all others in those of the mix.
    """
    meeting, rate = handed.meeting, handed.meeting.sample_rate
    decks = {}
    for number, (deck, song) in enumerate(zip("ab", songs, strict=True)):
        found, speed = song.analysis, aligned.speeds[number]
        played_s = aligned.start_s - aligned.begins_s[number]
        decks[deck] = {
            "path": song.name,
            "stems": list(song.stems),
            "seconds": found.seconds,
            "tempo_bpm": found.tempo_bpm,
            "confidence": found.confidence,
            "key": found.key,
            "camelot": camelot(found.key),
            "loudness_lufs": found.loudness_lufs,
            "cue_in_s": found.cue_in_s,
            "cue_out_s": found.cue_out_s,
            "transition_begins_s": played_s * speed,
            "speed": speed,
            "gain_db": aligned.gain_db[number],
        }
    return {
        **decks,
        "key_distance": key_distance(*(song.analysis.key for song in songs)),
        "transition": {
            **chosen,
            "bars": meeting.bars,
            "tempo_bpm": meeting.tempo_bpm,
            "begins_s": meeting.first / rate,
            "ends_s": meeting.last / rate,
            "b_begins_s": meeting.offset / rate,
            "b_moved_ms": aligned.lag_ms,
            "frames": len(handed.curves),
        },
        "mix": {"sample_rate": rate, "seconds": handed.mix.shape[1] / rate},
        "measures": dict(measures),
        "notes": list(notes),
    }
