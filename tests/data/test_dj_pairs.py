import json

import numpy as np
import pytest
import torch

from difffx.data.audio_io import save
from difffx.data.dj_pairs import DJPairs
from difffx.data.score import SCALES, write_score
from difffx.data.stem_music import draw_related_key, key_number
from difffx.dj import LABELS, STEM_NAMES
from difffx.dj.layout import RANGES
from difffx.dj.loudness import k_weighted

RATE = 16_000
SHORT = {"seconds": 1.5, "frames": 9}


def data(**options):
    return DJPairs(RATE, **{**SHORT, **options})


def items(count, split="train", **options):
    made = data(**options).dataset(split)
    return [made[index] for index in range(count)]


def equal(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


@pytest.fixture(scope="module")
def bars():
    """Twelve pairs of 5 s, curves every 10 ms."""
    return items(12, seconds=5.0, frames=501)


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    """Eight songs as stems: steady tones, one pitch a song and stem; some stems missing, one song short."""
    root = tmp_path_factory.mktemp("songs")
    for song in range(8):
        for number, stem in enumerate(STEM_NAMES):
            if song == 2 and stem == "vocals":
                continue
            time = torch.arange(round(RATE * (1.2 if song == 5 else 4.0))) / RATE
            tone = 0.1 * (number + 1) * torch.sin(2.0 * np.pi * (200 + 100 * song + 10 * number) * time)
            save(root / f"set/song {song}/{stem}.flac", 0.1 * (1 + song) * tone[None], RATE)
    lines = [{"name": f"set/song {song}", "tempo_bpm": 120.0 + song} for song in range(4)]
    (root / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


def test_an_item_depends_on_seed_split_and_index_alone():
    made = data(seed=3).dataset("train")
    forwards = [made[index] for index in range(3)]
    assert all(equal(forwards[index], made[index]) for index in reversed(range(3)))
    assert all(map(equal, forwards, items(3, seed=3)))
    assert not torch.equal(forwards[0]["a"], items(1, seed=4)[0]["a"])
    assert not torch.equal(forwards[0]["a"], items(1, "val", seed=3)[0]["a"])


def test_a_batch_holds_what_the_mixer_takes():
    batch = next(iter(data(batch_size=3, train_items=3).train_dataloader()))
    low, high = torch.tensor(RANGES).unbind(1)
    for deck in "ab":
        assert batch[deck].shape == (3, 4, 2, 24_000) and batch[deck].dtype == torch.float32
        assert batch[deck].isfinite().all() and (batch[deck].sum(1).abs().amax((1, 2)) < 1.0).all()
        assert (batch[deck].abs() < 1.0).all()
    assert batch["params"].shape == (3, 9, len(LABELS)) and batch["params"].dtype == torch.float32
    assert (batch["params"] >= low).all() and (batch["params"] <= high).all()
    assert batch["tempo_bpm"].shape == (3,) and batch["beats"].shape == (3, 9, 2)
    assert batch["tempo_bpm"].dtype == batch["beats"].dtype == torch.float32
    assert (batch["beats"] >= 0.0).all() and (batch["beats"] < 1.0).all()
    assert batch["keys"].shape == (3, 2) and batch["keys"].dtype == torch.int64
    assert len(batch["rule"]) == 3 and batch["name"] == ["train-0", "train-1", "train-2"]


def test_workers_do_not_change_the_batches_and_epochs_differ():
    def epochs(workers):
        loader = data(train_items=4, batch_size=2, num_workers=workers, seconds=0.5).train_dataloader()
        found = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            found += list(loader)
        return found

    alone, together = epochs(0), epochs(2)
    assert len(alone) == 4 and all(map(equal, alone, together))
    assert not torch.equal(alone[0]["a"], alone[2]["a"])


def test_the_music_of_data_synthetic_is_written_as_it_was_before_decks_shared_its_scores():
    score = write_score(np.random.default_rng(7), 88_200, 44_100)
    assert score.step == pytest.approx(5480.162791) and len(score.steps) == 30 and score.per_bar == 16
    assert score.steps[:4].tolist() == [-70_443, -65_457, -59_483, -54_496]
    assert score.places[:3].tolist() == [9, 10, 11] and score.scale == [9, 11, 1, 2, 4, 6, 7]
    assert score.chords == [[2, 6, 9, 1], [9, 1, 4, 7], [4, 7, 11, 2]]


def test_both_decks_are_about_as_loud(bars):
    def lufs(stems):
        return 10.0 * torch.log10(k_weighted(stems.sum(0), RATE).square().mean(-1).sum()).item()

    apart = [lufs(item["a"]) - lufs(item["b"]) for item in bars]
    assert max(map(abs, apart)) < 2.7 and np.std(apart) > 0.2


def onsets(drums, hop=32):
    """Times and strengths at which drums [C, T] get louder."""
    blocks = drums.mean(0).numpy()
    blocks = blocks[: len(blocks) // hop * hop].reshape(-1, hop)
    level = np.sqrt(np.square(blocks).mean(1))
    return (np.arange(len(level)) + 0.5) * hop / RATE, np.maximum(np.diff(level, prepend=level[0]), 0.0)


def test_drums_of_both_decks_fall_on_the_beats_that_are_declared(bars):
    lags = np.arange(-60, 61, 2) / 1000.0
    found = {"a": [], "b": []}
    for item in bars:
        phase = np.unwrap(2.0 * np.pi * item["beats"][:, 0].numpy()) / (2.0 * np.pi)
        whole = np.arange(np.ceil(phase[0]), np.floor(phase[-1]) + 1)
        beats_s = np.interp(whole, phase, np.linspace(0.0, 5.0 - 1.0 / RATE, len(phase)))
        assert np.diff(beats_s) == pytest.approx(60.0 / item["tempo_bpm"].item(), abs=1e-4)
        for deck, profiles in found.items():
            times, flux = onsets(item[deck][0])
            profile = np.array([np.interp(beats_s + lag, times, flux).mean() for lag in lags])
            if profile.sum() > 0.0:
                profiles.append(profile / profile.sum())
    for profiles in found.values():
        assert len(profiles) > 8
        assert abs(lags[np.mean(profiles, 0).argmax()]) < 0.005
        assert abs(np.median([lags[profile.argmax()] for profile in profiles])) < 0.008


def test_bars_of_both_decks_begin_together(bars):
    strength = np.zeros(16)  # of kicks on each sixteenth
    for item in bars:
        phase = np.unwrap(2.0 * np.pi * item["beats"][:, 1].numpy()) / (2.0 * np.pi)
        for deck in "ab":
            spectrum = np.fft.rfft(item[deck][0].numpy())
            spectrum[:, np.fft.rfftfreq(item[deck].shape[-1], 1.0 / RATE) > 150.0] = 0.0
            times, flux = onsets(torch.from_numpy(np.fft.irfft(spectrum)))
            place = np.interp(times, np.linspace(0.0, 5.0, len(phase)), phase)
            places = np.floor(16.0 * (place % 1.0) + 0.5).astype(int) % 16
            np.add.at(strength, places, flux / max(flux.sum(), 1e-9))
    assert strength.argmax() == 0 and strength[0] > 1.5 * strength.mean()


def test_the_key_that_is_declared_is_the_key_that_sounds(bars):
    scales = {0: (0, 2, 4, 5, 7, 9, 11, 10), 12: (0, 2, 3, 5, 7, 8, 10, 9)}  # each with its mode's other note
    inside = []
    for item in bars:
        for deck, key in zip("ab", item["keys"].tolist(), strict=True):
            power = np.square(np.abs(np.fft.rfft(item[deck][3].mean(0).numpy())))
            hz = np.fft.rfftfreq(item[deck].shape[-1], 1.0 / RATE)
            heard = (hz > 100.0) & (hz < 500.0)
            pitch = np.round(12.0 * np.log2(hz[heard] / 440.0) + 69.0).astype(int) % 12
            chroma = np.bincount(pitch, power[heard], minlength=12)
            notes = [(key + step) % 12 for step in scales[12 * (key // 12)]]
            if chroma.sum() > 0.0:
                inside.append(chroma[notes].sum() / chroma.sum())
    assert np.median(inside) > 0.93 and len(set(bars[0]["keys"].tolist())) <= 2


def test_related_keys_share_six_notes_and_others_need_not():
    def shared(one, other):
        return len(
            {(one[0] + s) % 12 for s in SCALES[one[1]]} & {(other[0] + s) % 12 for s in SCALES[other[1]]}
        )

    rng, home = np.random.default_rng(0), (4, 1)
    for mode in range(len(SCALES)):
        near = [draw_related_key(rng, (4, mode), 1.0) for _ in range(50)]
        assert min(shared((4, mode), key) for key in near) >= 6 and len(set(near)) == 4
    far = [draw_related_key(rng, home, 0.0) for _ in range(50)]
    assert min(shared(home, key) for key in far) < 5
    assert (key_number((0, 0)), key_number((9, 1)), key_number((2, 2))) == (0, 21, 14)


def test_keys_and_tempos_differ():
    found = items(24, seconds=0.2)
    apart = [(item["keys"][0] - item["keys"][1]).item() % 12 for item in found]
    assert apart.count(0) >= 3 and len(set(apart)) > 4
    tempos = [item["tempo_bpm"].item() for item in found]
    assert min(tempos) >= 80.0 and max(tempos) <= 180.0 and np.std(tempos) > 15.0


def test_stems_are_four_different_sounds_and_silent_at_times(bars):
    level = torch.stack([item[deck].square().mean((1, 2)) for item in bars for deck in "ab"])
    assert ((level > 1e-6).double().mean(0) > 0.6).all()
    blocks = torch.cat(
        [item[deck].unfold(-1, 8000, 8000).square().mean((1, -1)).T for item in bars for deck in "ab"]
    )
    silent = (blocks < 1e-8).double().mean(0)
    assert silent.max() > 0.03 and silent.max() < 0.6
    assert (blocks.amax(1) > 1e-7).all()  # somebody always plays
    share = torch.stack([power(item["a"][0], 5000.0) - power(item["a"][1], 5000.0) for item in bars])
    assert share.nanmedian() > 10.0  # drums are brighter than basses


def power(stem, above_hz):
    """dB above a frequency relative to the whole."""
    spectrum = torch.fft.rfft(stem).abs().square().sum(0)
    hz = torch.fft.rfftfreq(stem.shape[-1], 1.0 / RATE)
    return 10.0 * torch.log10(spectrum[hz > above_hz].sum() / spectrum.sum())


def test_stereo_has_sides_and_mono_is_one_channel():
    sides = [item["a"][3, 0] - item["a"][3, 1] for item in items(4)]
    assert sum(side.abs().max() > 1e-3 for side in sides) >= 3
    assert items(1, channels=1)[0]["a"].shape == (4, 1, 24_000)


def test_a_pool_pairs_its_pieces_anew_with_new_curves():
    made = data(pool=4, seconds=0.5).dataset("train")
    found = [made[index] for index in range(24)]

    def fingerprint(stems):
        return tuple(np.round(stems.flatten()[::97].numpy() / stems.abs().max().item(), 3))

    decks = [(fingerprint(item["a"]), fingerprint(item["b"])) for item in found]
    assert len({piece for pair in decks for piece in pair}) == 4
    assert len(set(decks)) > 8 and all(a != b for a, b in decks)
    assert len({item["tempo_bpm"].item() for item in found}) == 1
    assert len({item["params"].sum().item() for item in found}) > 18
    assert equal(made[5], data(pool=4, seconds=0.5).dataset("train")[5])
    assert torch.equal(items(1, "val", pool=4)[0]["a"], items(1, "val")[0]["a"])


def test_pieces_of_a_large_pool_meet_only_at_their_own_tempo():
    made = data(pool=24, seconds=0.3).dataset("train")
    assert len({made[index]["tempo_bpm"].item() for index in range(30)}) == 3


def hz_of(stems):
    """The song of [4, C, T], by the pitch of its drums."""
    hz = torch.fft.rfft(stems[0, 0]).abs().argmax().item() * RATE / stems.shape[-1]
    return round((hz - 200.0) / 100.0)


def test_songs_of_a_folder_are_split_by_song(songs):
    heard = {}
    made = data(root=str(songs))
    made.setup("fit")
    for split in ("train", "val", "test"):
        segments = made.dataset(split)
        found = [segments[index] for index in range(10)]
        heard[split] = {hz_of(item[deck]) for item in found for deck in "ab"}
        assert all(hz_of(item["a"]) != hz_of(item["b"]) for item in found)
    assert [len(heard[split]) for split in ("train", "val", "test")] == [4, 2, 2]
    assert len(set.union(*heard.values())) == 8
    assert {track.name for track in made.of_split("train")}.isdisjoint(
        track.name for track in made.of_split("val") + made.of_split("test")
    )


def test_a_folder_that_was_never_trained_on_is_tested_whole(songs):
    made = data(root=str(songs), test_items=3)
    assert len(made.of_split("test")) == 8
    made.setup("fit")
    assert len(made.of_split("test")) == 2
    assert len(data(root=str(songs), test="split").of_split("test")) == 2


def test_stems_of_a_song_keep_their_balance_and_those_missing_are_silent(songs):
    made = data(root=str(songs)).dataset("test")
    for index in range(16):
        item = made[index]
        for deck in "ab":
            level = item[deck].square().mean((1, 2)).sqrt()
            expected = torch.tensor([1.0, 2.0, 3.0, 4.0])
            if hz_of(item[deck]) == 2:
                expected[2] = 0.0
            assert torch.allclose(level / level[0], expected, rtol=0.03)
        name_a, name_b = item["name"].split(" + ")
        assert name_a.startswith(f"set/song {hz_of(item['a'])}@")
        assert name_b.startswith(f"set/song {hz_of(item['b'])}@")


def test_the_manifest_tells_the_tempo_and_where_it_does_not_there_is_none(songs):
    made = data(root=str(songs)).dataset("test")
    found = [made[index] for index in range(12)]
    for item in found:
        song = hz_of(item["a"])
        assert item["tempo_bpm"].item() == (120.0 + song if song < 4 else 0.0)
        assert (item["beats"] == 0.0).all() and (item["keys"] == -1).all()
    assert {item["tempo_bpm"].item() == 0.0 for item in found} == {True, False}


def test_a_pool_of_segments_of_songs_is_read_once(songs):
    made = data(root=str(songs), pool=8)
    made.setup("fit")
    segments = made.dataset("train")
    names = [segments[index]["name"] for index in range(60)]
    assert 6 <= len({name for both in names for name in both.split(" + ")}) <= 8
    assert len({segments[index]["params"].sum().item() for index in range(20)}) > 14


def test_the_same_song_twice_and_what_is_hidden_count_once(tmp_path):
    tone = torch.sin(torch.arange(2 * RATE) / 10.0)[None]
    for name in ("one", "copy", "two", ".partial"):
        save(tmp_path / name / "other.wav", tone, RATE)
    lines = [{"name": name, "source": {"sha256": "same"}} for name in ("one", "copy")]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert [track.name for track in data(root=str(tmp_path)).tracks] == ["copy", "two"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is damaged"),
        ('["a"]', "line 1 is damaged"),
        ('{"name": "a", "tempo_bpm": -3}', "line 1: tempo_bpm must lie within 0..400"),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, line, message):
    save(tmp_path / "a/other.wav", torch.ones(1, RATE), RATE)
    (tmp_path / "manifest.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=message):
        data(root=str(tmp_path)).setup("test")


def test_folders_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    def refusal(root, stage="fit"):
        with pytest.raises(ValueError) as error:
            data(root=str(root)).setup(stage)
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no such folder" in refusal(tmp_path / "none")
    assert "no folders with drums.*, bass.*, vocals.*, other.* in it" in refusal(tmp_path)
    for number in range(5):
        save(tmp_path / str(number) / "other.wav", torch.full((1, 2 * RATE), 0.1), RATE)
    assert "two at least to train, to validate and to test: needs 6, found 5" in refusal(tmp_path)
    assert "is a file, not a folder" in refusal(tmp_path / "0/other.wav")
    assert "a pair needs two songs, found 1" in refusal(tmp_path / "0", "test")
    save(tmp_path / "0/other.flac", torch.ones(1, 10), RATE)
    save(tmp_path / "1/other.wav", torch.ones(1, 10), RATE)
    data(root=str(tmp_path)).setup("test")


def test_songs_that_are_silent_are_named(tmp_path):
    for name in "ab":
        save(tmp_path / name / "bass.wav", torch.zeros(1, 2 * RATE), RATE)
    with pytest.raises(ValueError, match=r"tries found no segment with sound in it; the last: silent"):
        data(root=str(tmp_path)).dataset("test")[0]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"frames": 1}, "frames must be at least 2, got 1"),
        ({"pool": 1}, "pool must be at least 2, got 1"),
        ({"fractions": [0.5, 0.5]}, "fractions are three numbers that sum to 1"),
        ({"test": "some"}, "test must be auto, all or split, got 'some'"),
        ({"chances": {"ruel": 1.0}}, r"no kind 'ruel' .did you mean 'rule'"),
        ({"channels": 3}, "channels must be 1 or 2, got 3"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrong, says):
    with pytest.raises(ValueError, match=says):
        data(**wrong)


def test_the_chances_of_curves_are_an_option():
    assert {item["rule"] for item in items(3, seconds=0.3, chances={"smooth": 1.0})} == {"smooth"}
