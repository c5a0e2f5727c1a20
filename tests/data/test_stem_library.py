from __future__ import annotations

import json
import os
import sys

import numpy as np
import pytest
import soundfile
import torch

from difffx.data import audio_io, stem_library, stems
from difffx.data.audio_io import AudioError
from difffx.data.stem_library import Library, LibraryError, Song, find_songs
from difffx.dj import STEM_NAMES

RATE = 44_100
SETTINGS = {"model": "none", "weights": "none", "overlap": 0.25, "shifts": 0, "segment": None, "exact": False}
SETTINGS |= {"format": "flac", "limit_seconds": None}
SHARES = {"drums": 0.1, "bass": 0.2, "vocals": 0.3, "other": 0.4}
WHOLE = stems.load_separator("none", device="cpu")


def sound(seed=0, seconds=1.2, channels=2, level=0.1):
    rng = np.random.default_rng(seed)
    return level * rng.uniform(-1, 1, (round(RATE * seconds), channels))


@pytest.fixture
def music(tmp_path):
    """Two albums, of which one has two files of one name, and things that are no songs."""
    folder = tmp_path / "meine Musik"
    files = ["a.flac", "a.wav", "A.ogg", "Größe 音/b c.wav", "Größe 音/deeper/Vol. 1.5.wav"]
    for seed, name in enumerate([*files, ".hidden/c.wav", "._a.wav"]):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, sound(seed), RATE)
    (folder / "cover.jpg").write_bytes(b"")
    (folder / "one.m4a").write_bytes(b"")
    return folder


@pytest.fixture
def in_quarters(monkeypatch):
    """A separation that is known: four shares of the song."""

    def separate(audio, sample_rate, separator, **_):
        return {stem: share * audio for stem, share in SHARES.items()}

    monkeypatch.setattr(stem_library, "separate", separate)


def build(out, songs, **more):
    """Everything that is not done yet; the names that were done before."""
    with Library(out, {**SETTINGS, **more.pop("settings", {})}, **more) as library:
        to_do, done = library.plan(songs)
        for song in to_do:
            library.add(song, WHOLE)
    return [song.name for song in to_do], [song.name for song in done]


def tree(folder):
    """Path -> bytes of all files but the lock."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def manifest(out):
    return {line["name"]: line for line in map(json.loads, (out / "manifest.jsonl").open())}


def test_songs_are_found_in_files_and_folders_none_twice_and_none_of_the_output(music, tmp_path):
    out = music / "stems"
    (out / "x").mkdir(parents=True)
    soundfile.write(out / "x" / "drums.wav", sound(), RATE)
    songs, notes = find_songs([music / "a.wav", music, music / "Größe 音"], out)
    assert [song.name for song in songs] == ["a", "A", "Größe 音/b c", "Größe 音/deeper/Vol. 1.5", "a"]
    assert notes == ["left out: 1 .m4a (convert it to FLAC or WAV)"]


def test_places_without_songs_are_refused(tmp_path):
    with pytest.raises(LibraryError, match="nowhere: no such file or folder"):
        find_songs([tmp_path / "nowhere"], tmp_path / "out")
    (tmp_path / "only.m4a").write_bytes(b"")
    with pytest.raises(LibraryError, match=r"no songs in .*left out: 1 \.m4a"):
        find_songs([tmp_path], tmp_path / "out")


def test_the_manifest_says_all_about_a_song(music, tmp_path, in_quarters):
    songs, _ = find_songs([music], tmp_path / "out")
    build(tmp_path / "out", songs)
    line = manifest(tmp_path / "out")["Größe 音/b c"]
    path = music / "Größe 音" / "b c.wav"
    assert line["source"] == {
        "path": str(path),
        "bytes": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
        "sha256": stem_library._sha256(path),
    }
    assert line["stems"] == {stem: f"Größe 音/b c/{stem}.flac" for stem in STEM_NAMES}
    assert (line["sample_rate"], line["samples"], line["seconds"], line["channels"]) == (RATE, 52_920, 1.2, 2)
    assert line["settings"] == SETTINGS and line["sum_error_db"] < -120 and line["difffx"]
    song, _ = audio_io.load(path)
    for stem, file in line["stems"].items():
        audio, rate = audio_io.load(tmp_path / "out" / file)
        assert rate == RATE and (audio - SHARES[stem] * song).abs().max() < 2e-7  # 24 bit


def test_songs_of_one_name_get_folders_of_their_own_and_keep_them(music, tmp_path):
    songs, _ = find_songs([music], tmp_path / "out")
    names = ["A", "Größe 音/b c", "Größe 音/deeper/Vol. 1.5", "a-2", "a-3"]
    assert build(tmp_path / "out", songs) == (names, [])
    assert build(tmp_path / "out", songs[::-1]) == ([], names[::-1])
    for name, path in [("A", "A.ogg"), ("a-2", "a.flac"), ("a-3", "a.wav")]:
        assert manifest(tmp_path / "out")[name]["source"]["path"] == str(music / path)


def test_a_song_of_the_manifests_name_does_not_overwrite_it(tmp_path):
    soundfile.write(tmp_path / "manifest.jsonl.wav", sound(), RATE)
    build(tmp_path / "out", find_songs([tmp_path / "manifest.jsonl.wav"], tmp_path / "out")[0])
    assert list(manifest(tmp_path / "out")) == ["manifest.jsonl-2"]


def test_an_interrupted_run_that_goes_on_gives_the_files_of_one_in_one_go(music, tmp_path, monkeypatch):
    songs, _ = find_songs([music], tmp_path / "whole")
    build(tmp_path / "whole", songs)
    save, calls = audio_io.save, []

    def interrupted(path, audio, rate):
        calls.append(path)
        if len(calls) == 3:
            path.write_bytes(b"half")
            raise KeyboardInterrupt
        save(path, audio, rate)

    monkeypatch.setattr(audio_io, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "parts", songs)
    assert len(manifest(tmp_path / "parts")) == 2 and len(tree(tmp_path / "parts")) == 3
    assert build(tmp_path / "parts", songs)[1] == ["A", "Größe 音/b c"]
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_what_a_killed_run_left_is_cleared_and_no_half_song_counts(music, tmp_path, in_quarters, monkeypatch):
    """A kill is seen here as what it leaves: the lock gone, no clearing, some files in place."""
    songs, _ = find_songs([music], tmp_path / "whole")
    build(tmp_path / "whole", songs)
    replace = os.replace

    def killed(source, target):
        if target == tmp_path / "parts" / "A" / "vocals.flac":
            raise SystemExit
        replace(source, target)

    monkeypatch.setattr(os, "replace", killed)
    monkeypatch.setattr(Library, "_clear", lambda self: None)
    with pytest.raises(SystemExit):
        build(tmp_path / "parts", songs)
    monkeypatch.undo()
    assert {"A/drums.flac", "A/bass.flac", ".partial/new vocals.flac"} < set(tree(tmp_path / "parts"))
    assert manifest(tmp_path / "parts") == {}
    monkeypatch.setattr(
        stem_library, "separate", lambda audio, *_, **__: {s: share * audio for s, share in SHARES.items()}
    )
    assert build(tmp_path / "parts", songs)[1] == []
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_only_what_changed_or_lacks_a_stem_is_done_anew(music, tmp_path):
    out = tmp_path / "out"
    songs, _ = find_songs([music], out)
    build(out, songs)
    soundfile.write(music / "a.wav", sound(99), RATE)  # another song of the same length
    os.utime(music / "a.flac", ns=(1, 1))  # touched, not changed
    (out / "Größe 音" / "b c" / "other.flac").unlink()
    short, _ = audio_io.load(music / "A.ogg", seconds=0.5)
    audio_io.save(out / "A" / "other.flac", short, RATE)
    assert build(out, songs)[0] == ["A", "Größe 音/b c", "a-3"]
    assert np.abs(soundfile.read(out / "a-3" / "other.flac")[0] - sound(99)).max() < 1e-4
    assert build(out, songs)[0] == []


def test_a_music_folder_that_moved_is_known_again(music, tmp_path):
    out = tmp_path / "out"
    build(out, find_songs([music], out)[0])
    moved = music.rename(tmp_path / "elsewhere")
    soundfile.write(moved / "Größe 音" / "b c.wav", sound(99), RATE)
    to_do, done = build(out, find_songs([moved], out)[0])
    assert "Größe 音/deeper/Vol. 1.5" in done and "Größe 音/b c" not in done and "A" in done
    assert "Größe 音/b c-2" in to_do


def test_other_settings_are_refused_until_restart(music, tmp_path):
    out = tmp_path / "out"
    songs, _ = find_songs([music / "a.wav"], out)
    build(out, songs)
    with pytest.raises(
        LibraryError, match=r"the stems of a were made with overlap 0\.25, not 0\.5; write to"
    ):
        build(out, songs, settings={"overlap": 0.5})
    before = (out / "a" / "other.flac").read_bytes()
    assert build(out, songs, settings={"format": "wav"}, restart=True) == (["a"], [])
    assert [path.name for path in (out / "a").iterdir()] == ["other.wav"] and before
    assert manifest(out)["a"]["stems"] == {"other": "a/other.wav"}


def test_above_full_scale_nothing_is_clipped(tmp_path):
    soundfile.write(tmp_path / "loud.wav", sound(level=1.5), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "full.wav", sound(level=1.0), RATE, subtype="FLOAT")
    build(tmp_path / "out", find_songs([tmp_path / "loud.wav", tmp_path / "full.wav"], tmp_path / "out")[0])
    audio, _ = soundfile.read(tmp_path / "out" / "loud" / "other.wav")
    assert np.abs(audio - sound(level=1.5)).max() < 1e-6 and np.abs(audio).max() > 1.4
    assert (tmp_path / "out" / "full" / "other.flac").is_file()


def test_one_run_at_a_time_writes_to_a_folder(tmp_path):
    with Library(tmp_path, SETTINGS), pytest.raises(LibraryError, match="another run is writing there"):
        Library(tmp_path, SETTINGS).__enter__()
    with Library(tmp_path, SETTINGS):
        pass


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "a"}', "null"])
def test_a_damaged_manifest_is_named_by_its_line(tmp_path, music, text):
    build(tmp_path / "out", find_songs([music / "a.wav"], tmp_path / "out")[0])
    with (tmp_path / "out" / "manifest.jsonl").open("a") as file:
        file.write(text + "\n")
    with pytest.raises(LibraryError, match=r"manifest\.jsonl: line 2 is damaged; remove it"):
        build(tmp_path / "out", [])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("short", "too short"),
        ("silent", "is silent"),
        ("surround", "6 channels, expected mono or stereo"),
        ("nan", "1 samples that are NaN"),
        ("text", "not an audio file"),
    ],
)
def test_a_song_that_cannot_be_taken_apart_leaves_nothing(tmp_path, case, says):
    path, audio = tmp_path / "song.wav", sound()
    if case == "nan":
        audio[5, 1] = np.nan
    audio = {"short": audio[:4410], "silent": 1e-4 * audio, "surround": sound(channels=6)}.get(case, audio)
    soundfile.write(path, audio, RATE, subtype="FLOAT")
    if case == "text":
        path.write_text("no song")
    with Library(tmp_path / "out", SETTINGS) as library, pytest.raises(AudioError, match=says):
        library.add(Song("song", path), WHOLE)
    assert tree(tmp_path / "out") == {}


def test_the_beginning_alone_is_taken_where_a_limit_is_set(music, tmp_path):
    songs, _ = find_songs([music / "a.wav"], tmp_path / "out")
    build(tmp_path / "out", songs, settings={"limit_seconds": 1.1})
    assert manifest(tmp_path / "out")["a"]["samples"] == 48_510
    assert build(tmp_path / "out", songs, settings={"limit_seconds": 1.1})[1] == ["a"]


def test_a_disk_that_fills_up_at_the_last_bytes_stops_the_run(music, tmp_path, monkeypatch):
    """libsndfile does not say so where the end of a FLAC cannot be written."""
    songs, _ = find_songs([music / "a.wav", music / "A.ogg"], tmp_path / "out")
    build(tmp_path / "out", songs[1:])
    save = audio_io.save

    def truncated(path, audio, rate):
        save(path, audio, rate)
        os.truncate(path, path.stat().st_size - 5000)

    monkeypatch.setattr(audio_io, "save", truncated)
    with pytest.raises(LibraryError, match=r"out/a-2: cannot be written .* GB are free there"):
        build(tmp_path / "out", songs)
    assert set(tree(tmp_path / "out")) == {"manifest.jsonl", "A/other.flac"}


def test_a_manifest_that_cannot_be_written_stops_the_run(music, tmp_path, monkeypatch):
    songs, _ = find_songs([music / "a.wav"], tmp_path / "out")

    def full(self, lines):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Library, "_save", full)
    with pytest.raises(LibraryError, match=r"cannot be written \(\[Errno 28\] No space left on device\)"):
        build(tmp_path / "out", songs)


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_names_that_are_no_utf_8_are_left_out(tmp_path):
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", sound(), RATE)
    (tmp_path / "a.wav").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    songs, notes = find_songs([tmp_path], tmp_path / "out")
    assert [song.name for song in songs] == ["b"]
    assert notes == ["left out: 1 whose name is no UTF-8 (rename it)"]


def test_a_library_opens_as_decks(music, tmp_path, in_quarters):
    build(tmp_path / "out", find_songs([music / "a.wav"], tmp_path / "out")[0])
    deck = stems.open_deck(tmp_path / "out" / "a", RATE)
    song, _ = audio_io.load(music / "a.wav")
    assert tuple(deck) == STEM_NAMES
    assert torch.allclose(sum(deck.values()), song, atol=1e-6)
