from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from difffx.data import Synthetic

OCTAVES_HZ = 62.5 * 2.0 ** np.arange(9)


def items(split="train", count=8, sample_rate=44_100, **arguments):
    data = Synthetic(sample_rate, **arguments).dataset(split)
    return [data[i]["dry"].numpy() for i in range(count)]


def balance_db(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Level of each octave from 62.5 Hz to 16 kHz, relative to the whole; [T] -> [9]."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    hz = np.fft.rfftfreq(len(audio), 1.0 / sample_rate)
    inside = [(hz >= f / 2**0.5) & (hz < f * 2**0.5) for f in OCTAVES_HZ]
    return 10.0 * np.log10(np.array([power[band].sum() for band in inside]) / power.sum() + 1e-9)


def test_the_same_seed_makes_the_same_music_and_another_seed_other_music():
    first, again, other = items(seed=5), items(seed=5), items(seed=6)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_an_item_does_not_depend_on_those_made_before_it():
    data = Synthetic(44_100).dataset("train")
    forwards = [data[i]["dry"] for i in range(6)]
    assert all(torch.equal(forwards[i], data[i]["dry"]) for i in reversed(range(6)))


def test_no_two_items_of_any_split_or_epoch_are_alike():
    data = Synthetic(44_100, seconds=0.5, train_items=6)
    loader = data.train_dataloader()
    epochs = []
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        epochs += [x for batch in loader for x in batch["dry"]]
    fixed = [data.dataset(split)[i]["dry"] for split in ("val", "test") for i in range(6)]
    sounds = torch.stack([x / x.norm() for x in (*epochs, *fixed)])[:, 0]
    alike = (sounds @ sounds.T).fill_diagonal_(0.0).abs().max()
    assert len(sounds) == 30 and alike < 0.9


def test_a_pool_comes_again_in_every_round_the_same_for_all_to_16_bits():
    endless, pooled = (Synthetic(16_000, seconds=0.5, pool=pool).dataset("train") for pool in (None, 3))
    first = [pooled[i]["dry"] for i in range(3)]
    assert all(torch.equal(pooled[i + 3]["dry"], first[i]) for i in range(3))
    assert all((endless[i]["dry"] - first[i]).abs().max() < 1.0 / 32_767 for i in range(3))
    assert pooled[4]["name"] == "train-1"
    test = Synthetic(16_000, seconds=0.5, pool=3, test_items=5).dataset("test")
    assert len({test[i]["dry"].sum().item() for i in range(5)}) == 5


def test_validation_and_test_stay_the_same_in_every_epoch():
    data = Synthetic(44_100, seconds=0.5, val_items=6, batch_size=4)
    first, second = (torch.cat([batch["dry"] for batch in data.val_dataloader()]) for _ in range(2))
    assert first.shape == (6, 1, 22_050) and torch.equal(first, second)


def test_workers_do_not_change_the_batches():
    runs = []
    for workers in (0, 2):
        loader = Synthetic(
            44_100, seconds=0.5, train_items=10, batch_size=4, num_workers=workers
        ).train_dataloader()
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            epochs += list(loader)
        runs.append(epochs)
    for a, b in zip(*runs, strict=True):
        assert a["name"] == b["name"] and torch.equal(a["dry"], b["dry"])


class Listener(LightningModule):
    """Learns nothing; remembers what it heard."""

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(()))
        self.heard: list[tuple[int, list[str], float]] = []

    def training_step(self, batch, _):
        self.heard.append((self.current_epoch, batch["name"], batch["dry"].square().sum().item()))
        return self.gain * batch["dry"].square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 1e-3)


def test_training_that_is_resumed_hears_what_it_would_have_heard(tmp_path):
    def train(epochs, **how):
        model = Listener()
        trainer = Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, default_root_dir=tmp_path,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(model, datamodule=Synthetic(8_000, seconds=0.5, train_items=6, batch_size=2), **how)
        return trainer, model.heard

    _, whole = train(3)
    trainer, begun = train(2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    _, resumed = train(3, ckpt_path=tmp_path / "two.ckpt")
    assert len(whole) == 9 and len({name for _, names, _ in whole for name in names}) == 18
    assert begun + resumed == whole


@pytest.mark.parametrize(
    ("sample_rate", "seconds", "channels"),
    [(44_100, 3.0, 1), (48_000, 1.3, 2), (22_050, 2.0, 1), (16_000, 0.5, 2)],
)
def test_every_item_is_audible_finite_and_below_full_scale(sample_rate, seconds, channels):
    for audio in items(count=40, sample_rate=sample_rate, seconds=seconds, channels=channels):
        assert audio.shape == (channels, round(seconds * sample_rate)) and audio.dtype == np.float32
        assert np.isfinite(audio).all()
        assert 10 ** (-12.1 / 20) < np.abs(audio).max() < 1.0
        assert np.sqrt(np.mean(audio**2)) > 0.002


def test_stereo_has_a_middle_and_sides():
    correlations = []
    for left, right in items(count=30, channels=2):
        assert min(left.std(), right.std()) > 0.02 * max(left.std(), right.std())
        correlations.append(np.corrcoef(left, right)[0, 1])
    assert 0.5 < np.median(correlations) < 0.9999


@pytest.fixture(scope="module")
def spectra():
    """[150, 9] octave levels of 150 items."""
    return np.array([balance_db(audio[0], 44_100) for audio in items(count=150)])


def test_the_balance_is_that_of_recordings(spectra):
    # measured in the same way on 83 segments of 20 recordings: mixes, soloists, speech
    recordings_db = np.array([-16.4, -12.0, -9.1, -8.7, -12.4, -16.1, -20.6, -27.6, -40.9])
    assert np.abs(spectra.mean(0) - recordings_db).max() < 6.0


def test_items_differ_in_balance_as_recordings_do(spectra):
    recordings_db = np.array([14.6, 12.2, 2.9, 4.9, 7.1, 8.0, 7.8, 13.2, 16.7])
    assert (spectra.std(0) > 0.4 * recordings_db).all()
    assert (spectra.std(0) < recordings_db + 6.0).all()


def test_peaks_stand_out_as_they_do_in_recordings():
    crest = [20 * np.log10(np.abs(a).max() / np.sqrt(np.mean(a**2))) for a in items(count=60)]
    assert 12.0 < np.mean(crest) < 16.0 and 2.0 < np.std(crest) < 5.0  # recordings: 14.2, 3.0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"channels": 3}, "channels must be 1 or 2, got 3"),
        ({"seed": -1}, "seed must not be negative"),
        ({"seconds": 0.0}, "seconds must lie within"),
        ({"val_items": 0}, "val_items must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(wrong, says):
    with pytest.raises(ValueError, match=says):
        Synthetic(44_100, **wrong)


def test_validation_and_test_are_bands_and_training_has_soloists_too():
    def bass_db(split):
        return np.array([balance_db(audio[0], 44_100)[0] for audio in items(split, 40)])

    # somebody without drums and bass has next to nothing at 62 Hz
    assert bass_db("test").min() > -20.0 and bass_db("val").min() > -20.0
    assert (bass_db("train") < -25.0).mean() > 0.05
