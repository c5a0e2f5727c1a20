"""A recording is what each part says and no more, and it is heard in training only."""

import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from difffx.encoders import MixtureHead, StaticHead, TimeFrequencyEncoder
from difffx.functional.spectra import third_octave_db
from difffx.graph import ProcessorGraph
from difffx.losses import Mel, Response
from difffx.processors import Normalize, ParametricEQ
from difffx.tasks import BlindEstimation, SettingsFirst
from difffx.tasks.augment import SLOPES, Recordings, noises, round_trip

RATE = 44_100
PARTS = ("polarity", "stereo", "noise", "band", "level", "codec")


def only(rate=RATE, **chances):
    """A recording to which nothing happens but what is named."""
    return Recordings(rate, **{**dict.fromkeys(PARTS, 0.0), **chances})


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def music(items=4, channels=1, seconds=1.0, rate=RATE, seed=0):
    """Pink noise in bursts, other in each channel: a spectrum and an envelope like those of music."""
    samples = round(seconds * rate)
    white = torch.fft.rfft(torch.randn(items, channels, samples, generator=seeded(seed)))
    pink = torch.fft.irfft(white / torch.arange(1.0, white.shape[-1] + 1).sqrt(), samples)
    time = torch.arange(samples) / rate
    sound = pink * torch.exp(-6.0 * (time % 0.25))
    return 0.5 * sound / sound.abs().amax((1, 2), keepdim=True)


def power_db(x):
    return 10.0 * x.double().square().mean((1, 2)).log10()


def test_where_nothing_has_a_chance_nothing_happens():
    x = music()
    assert only()(x, seeded()) is x


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("part", PARTS)
def test_every_part_changes_the_sound_and_neither_its_shape_nor_what_it_was_given(part, channels):
    x = music(channels=channels)
    before = x.clone()
    y = only(**{part: 1.0})(x, seeded(1))
    assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
    assert torch.equal(x, before)
    assert not any(torch.equal(*pair) for pair in zip(x, y, strict=True))


@pytest.mark.parametrize("part", PARTS)
def test_silence_is_no_trouble(part):
    assert only(**{part: 1.0})(torch.zeros(2, 1, RATE // 4), seeded()).abs().max() < 1e-9


def test_a_chance_is_how_many_items_are_taken():
    x = torch.rand(4000, 1, 8) + 0.1
    taken = (only(polarity=0.3)(x, seeded()) != x).any(-1).float().mean()
    assert abs(taken - 0.3) < 4.0 * math.sqrt(0.3 * 0.7 / 4000)


def test_the_same_seed_does_the_same_and_another_does_not():
    x, everything = music(channels=2), Recordings(RATE, *[0.9] * 6)
    assert torch.equal(everything(x, seeded(3)), everything(x, seeded(3)))
    assert not torch.equal(everything(x, seeded(3)), everything(x, seeded(4)))


def test_what_one_part_draws_does_not_depend_on_the_chances_of_the_others():
    x = music()
    flipped = only(polarity=1.0, level=1.0)(x, seeded(5))
    assert torch.equal(flipped, -only(level=1.0)(x, seeded(5)))


@pytest.mark.parametrize("level_db", [-70.0, -35.0])
def test_noise_stands_where_it_should_below_the_sound(level_db):
    x = music(channels=2)
    floor = only(noise=1.0, noise_db=(level_db, level_db))(x.double(), seeded()) - x.double()
    assert torch.allclose(power_db(floor), power_db(x) + level_db, atol=0.01)


def test_noise_is_white_pink_and_brown_and_other_in_each_channel():
    bands = third_octave_db(noises(RATE, RATE, torch.device("cpu"))[:, None], RATE)[:, 0, 5:]
    octaves = torch.arange(bands.shape[1]) / 3.0
    for slope, row in zip(SLOPES, bands, strict=True):
        found = np.polyfit(octaves, row, 1)[0]
        assert found == pytest.approx(3.01 - 6.02 * slope, abs=0.1)  # a band's width doubles with each octave
    x = music(channels=2)
    floor = (only(noise=1.0)(x, seeded()) - x).flatten(0, 1)
    assert (torch.corrcoef(floor) - torch.eye(len(floor))).abs().max() < 0.3


def test_nothing_is_left_above_the_edge_and_all_below_it():
    x = music()
    y = only(band=1.0, band_hz=(13_000.0, 13_000.0))(x, seeded())
    hz = torch.fft.rfftfreq(x.shape[-1], 1.0 / RATE)
    before, after = (torch.fft.rfft(sound.double()).abs().square() for sound in (x, y))
    left = after[..., hz > 13_500].sum() / before[..., hz > 13_500].sum()
    changed = torch.fft.rfft((y - x).double()).abs().square()[..., hz < 12_500].sum() / before.sum()
    assert left < 1e-3 and changed < 1e-5
    untouched = only(16_000, band=1.0)(x, seeded())
    assert torch.allclose(untouched, x, atol=1e-6)


def test_the_level_is_drawn_and_sixteen_bits_are_left():
    x = music()
    y = only(level=1.0, level_db=(-20.0, -20.0))(x, seeded())
    assert torch.allclose(y.abs().amax((1, 2)), torch.full((4,), 0.1), atol=2e-5)
    assert torch.allclose((y * 32_767).round(), y * 32_767, atol=1e-2)
    gain = y.abs().amax((1, 2), keepdim=True) / x.abs().amax((1, 2), keepdim=True)
    assert power_db(y - gain * x).max() < -95.0


def test_two_channels_become_wider_or_swapped_or_one_of_them_or_their_mean():
    x = music(items=64, channels=2, seconds=0.05)
    y = only(stereo=1.0)(x, seeded())
    left, right = x[:, 0], x[:, 1]
    swapped = [torch.equal(b, a.flip(0)) for a, b in zip(x, y, strict=True)]
    alone = [
        torch.equal(b[0], b[1]) and any(torch.equal(b[0], c) for c in a) for a, b in zip(x, y, strict=True)
    ]
    mean = torch.isclose(y, 0.5 * (left + right)[:, None], atol=1e-6).flatten(1).all(1).tolist()
    middle = torch.isclose(y.mean(1), x.mean(1), atol=1e-6).all(1).tolist()
    ways = list(zip(swapped, alone, mean, middle, strict=True))
    assert set(ways) == {
        (True, False, False, True),
        (False, True, False, False),
        (False, False, True, True),
        (False, False, False, True),
    }
    assert {torch.equal(b[0], a[0]) for a, b, way in zip(x, y, ways, strict=True) if way[1]} == {True, False}


def test_one_channel_gets_a_faint_copy_of_itself_and_no_tone_color():
    x = torch.zeros(32, 1, RATE // 10)
    x[..., 0] = 1.0
    late = only(stereo=1.0)(x, seeded()) - x
    assert ((late != 0).sum((1, 2)) == 1).all()
    place, level = late.abs().max(-1).indices[:, 0] / RATE, 20.0 * late.abs().amax((1, 2)).log10()
    assert place.min() >= 0.003 and place.max() <= 0.01501
    assert -30.01 < level.min() < -27.0 and -17.0 < level.max() < -13.99
    assert (late.sum((1, 2)) > 0).any() and (late.sum((1, 2)) < 0).any()
    white = torch.randn(16, 1, 4 * RATE, generator=seeded())
    bent = third_octave_db(only(stereo=1.0)(white, seeded()), RATE) - third_octave_db(white, RATE)
    assert bent.abs().max() < 2.0 and bent[..., 13:].abs().max() < 0.6  # from 500 Hz up


def coded(x, kind, kbit_s, rate=RATE):
    return torch.from_numpy(round_trip(x[0].T.contiguous().numpy(), rate, kind, kbit_s).T)[None]


def error_db(x, y):
    return (power_db(y - x) - power_db(x)).item()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
@pytest.mark.parametrize(("kind", "kbit_s"), [("MP3", 96), ("MP3", 320), ("OGG", 96), ("OGG", 320)])
def test_what_comes_back_from_a_small_file_is_lined_up_to_the_sample(kind, kbit_s, rate, channels):
    x = music(1, channels, rate=rate)
    y = coded(x, kind, kbit_s, rate)
    assert y.shape == x.shape
    size = 2 * x.shape[-1]
    cross = torch.fft.irfft(torch.fft.rfft(y.sum(1), size) * torch.fft.rfft(x.sum(1), size).conj(), size)
    assert cross.argmax() == 0
    assert error_db(x, y) < (-6.0 if kbit_s == 96 else -13.0)
    assert all(error_db(x[..., ends], y[..., ends]) < -3.0 for ends in (slice(2000), slice(-2000, None)))


@pytest.mark.parametrize("kind", ["MP3", "OGG"])
def test_a_larger_file_is_nearer_to_the_sound(kind):
    x = music(1, 2)
    errors = [error_db(x, coded(x, kind, kbit_s)) for kbit_s in (96, 160, 320)]
    assert errors[0] - 1.0 > errors[1] > errors[2] + 1.0
    assert errors[2] < -17.0


def test_a_small_mp3_has_lost_its_treble():
    x = music(1, seconds=2.0)
    lost = third_octave_db(coded(x, "MP3", 96), RATE) - third_octave_db(x, RATE)
    assert lost[0, 0, 28] < -6.0 and abs(lost[0, 0, 16]) < 0.5  # 16 kHz and 1 kHz


def test_a_sound_over_full_scale_is_coded_and_not_clipped():
    x = music(1)
    assert error_db(20.0 * x, coded(20.0 * x, "OGG", 320)) < error_db(x, coded(x, "OGG", 320)) + 1.0


def test_a_rate_without_mp3_gets_the_other_codec():
    x = music(3, rate=96_000)
    heard = only(96_000, codec=1.0, kbit_s=(320.0, 320.0))(x, seeded())
    assert torch.equal(heard[:1], coded(x[:1], "OGG", 320, 96_000))


def test_items_are_coded_as_they_would_be_alone():
    x = music(6)
    heard = only(codec=1.0, kbit_s=(160.0, 160.0))(x, seeded())
    same = [
        [torch.equal(now, coded(sound[None], kind, 160)[0]) for kind in ("MP3", "OGG")]
        for now, sound in zip(heard, x, strict=True)
    ]
    assert all(any(found) for found in same) and all(map(any, zip(*same, strict=True)))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"codec": 1.5}, "codec is a chance"),
        ({"noise_db": (-35.0, -70.0)}, "noise_db is .least, most."),
        ({"band_hz": (11_000.0,)}, "band_hz"),
        ({"level_db": (-24.0, 3.0)}, "level_db"),
        ({"kbit_s": (8.0, 96.0)}, "kbit_s"),
    ],
)
def test_wrong_numbers_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        Recordings(RATE, **wrong)


def small(augment=None, head=None, first=None):
    torch.manual_seed(0)
    chain = ProcessorGraph({"level": Normalize(RATE), "eq": ParametricEQ(RATE)})
    return BlindEstimation(
        chain,
        chain,
        TimeFrequencyEncoder(RATE, channels=0, envelope=8),
        Mel(RATE, n_fft=1024, hop=256, bands=40),
        partial(torch.optim.Adam, lr=1e-3),
        head=head or partial(StaticHead, hidden=(16,)),
        first=first and SettingsFirst(Response(chain, RATE, n_fft=1024, bands=40), first, 2),
        augment=augment,
    )


def fit(task, folder, epochs=1, resume=None, workers=0):
    task.losses = []
    task.on_train_batch_end = lambda outputs, *_: task.losses.append(outputs["loss"].item())
    trainer = Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, limit_val_batches=0,
        enable_model_summary=False, enable_checkpointing=False, default_root_dir=folder,
    )  # fmt: skip
    items = [{"dry": sound, "name": f"item {i}"} for i, sound in enumerate(music(4, seconds=1.1))]
    loader = DataLoader(items, batch_size=2, num_workers=workers)
    trainer.fit(task, loader, ckpt_path=resume)
    trainer.save_checkpoint(folder / "last.ckpt")
    return task.losses


def everything():
    return Recordings(RATE, *[0.6] * 6)


def watched(**options):
    """A task to whose sounds 1 is added; what its encoder hears, and what its losses compare with."""
    task = small(lambda wet, generator: wet + 1.0, first=1.0, **options)
    heard, goals = [], []
    task.encoder.register_forward_hook(lambda _, given, __: heard.append(given[0]))
    for loss in (task.loss, task.first.loss):
        loss.register_forward_hook(lambda _, given, __: goals.append(given[1].audio))
    task.log_terms = lambda stage, terms, total, size: total
    return task, {"dry": music(2, seconds=1.1), "name": ["a", "b"]}, heard, goals


@pytest.mark.parametrize("step", ["step", "step_by_settings"])
def test_the_network_hears_the_recording_and_the_loss_what_the_effects_made(step):
    task, batch, heard, goals = watched()
    task.step(batch, "train", 0) if step == "step" else task.step_by_settings(batch, 0)
    assert len(heard) == len(goals) == 1 and torch.equal(heard[0], goals[0] + 1.0)


def test_validation_and_test_hear_what_the_effects_made():
    task, batch, heard, goals = watched()
    task.step(batch, "val", 0)
    assert torch.equal(heard[0], goals[0])
    task.answers(batch)
    assert torch.equal(heard[1], task.render(batch, "test").audio)


@pytest.mark.parametrize("step", ["step", "step_by_settings"])
def test_a_density_is_taught_by_the_recording(step):
    task, batch, heard, _ = watched(head=partial(MixtureHead, components=2, hidden=(8,)))
    task.step(batch, "train", 0) if step == "step" else task.step_by_settings(batch, 0)
    assert len(heard) == 1 and heard[0].mean() > 0.9


def test_without_augmentation_training_is_what_it_was(tmp_path):
    assert fit(small(), tmp_path) == fit(small(only()), tmp_path)


@pytest.mark.slow
def test_one_seed_is_one_run_also_with_workers_and_when_resumed(tmp_path):
    losses = fit(small(everything()), tmp_path / "once", 2)
    assert fit(small(everything()), tmp_path / "workers", 2, workers=1) == losses
    assert fit(small(), tmp_path / "plain", 2) != losses
    half = fit(small(everything()), tmp_path / "half")
    resumed = fit(small(everything()), tmp_path / "rest", 2, resume=tmp_path / "half" / "last.ckpt")
    assert half + resumed == losses


@pytest.mark.slow
def test_the_command_line_trains_on_recordings(tmp_path):
    options = ["augment=recordings", "augment.codec=1", "debug=fast", "evaluate=false", "callbacks=none"]
    command = [sys.executable, "train.py", *options, "logger=none", f"hydra.run.dir={tmp_path}"]
    result = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 2
    assert "codec: 1" in (tmp_path / "config.yaml").read_text()
