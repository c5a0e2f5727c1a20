"""What a run logs to be seen and heard."""

import io
import wave
from types import SimpleNamespace

import lightning
import pytest
import soundfile
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from difffx.callbacks import LogExamples, write_results
from difffx.callbacks.examples import example_figures, example_players, wav_bytes
from difffx.graph import ProcessorGraph
from difffx.losses import Estimate
from difffx.processors import Compressor, ParametricEQ, SimpleCompressor

RATE = 8_000


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Quiet(lightning.LightningModule):
    """A task with nothing to see or hear."""

    def __init__(self):
        super().__init__()
        self.guess = torch.nn.Parameter(torch.tensor(0.5))

    def training_step(self, batch, batch_idx):
        return self.guess.square()

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.guess.detach())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Blind(Quiet):
    """Answers every sound with the same settings, whatever graph it is given."""

    sample_rate = RATE

    def __init__(self, sfx=None, afx=None):
        super().__init__()
        self.sfx = sfx or ProcessorGraph({"peq": ParametricEQ(RATE), "comp": Compressor(RATE)})
        self.afx = afx or self.sfx
        self.modes = []

    def examples(self, batch):
        self.modes.append(self.training)
        dry = batch["dry"]
        z = self.sfx.spec.sample(len(dry), generator=torch.Generator().manual_seed(1))
        z_hat = self.guess.expand(len(dry), len(self.afx.spec), 1)
        target = Estimate(self.sfx(dry, controls=self.sfx.from_unit(z)), z)
        pred = Estimate(self.afx(dry, controls=self.afx.from_unit(z_hat)), z_hat)
        return SimpleNamespace(dry=dry, target=target, pred=pred, names=batch["name"])


def batch(channels=2, items=3):
    return {"dry": 0.1 * noise(items, channels, RATE), "name": [f"val-{i}" for i in range(items)]}


def fit(task, tmp_path, callback, epochs=2):
    items = [{"dry": 0.1 * noise(2, RATE, seed=i), "name": f"item-{i}"} for i in range(2)]
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=tmp_path,
        logger=TensorBoardLogger(tmp_path, name="tensorboard", version="", default_hp_metric=False),
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=1,
        log_every_n_steps=1,
    )
    loader = DataLoader(items, batch_size=2)
    trainer.fit(task, loader, loader)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"audio": 0, "images": 0})
    return events.Reload()


@pytest.mark.filterwarnings("ignore")
def test_a_run_logs_players_and_figures(tmp_path):
    task = Blind()
    events = fit(task, tmp_path, LogExamples(every_n_epochs=2, items=1), epochs=3)
    assert events.Tags()["audio"] == ["examples/0/dry", "examples/0/wet", "examples/0/wet_hat"]
    assert set(events.Tags()["images"]) >= {"figures/response", "figures/compressor", "figures/knobs"}
    assert [event.step for event in events.Audio("examples/0/wet")] == [2, 3]
    with wave.open(io.BytesIO(events.Audio("examples/0/wet")[0].encoded_audio_string)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (2, RATE, RATE)
    assert task.modes == [False] * 2


@pytest.mark.filterwarnings("ignore")
def test_a_task_without_examples_trains_undisturbed(tmp_path):
    events = fit(Quiet(), tmp_path, LogExamples(every_n_epochs=1))
    assert events.Tags()["audio"] == [] == events.Tags()["images"]
    assert write_results(Quiet(), batch(), tmp_path) == []


def test_results_are_whole_files_with_the_rate_and_channels_of_the_run(tmp_path):
    written = write_results(Blind(), batch(channels=2), tmp_path, items=2)
    assert sorted(path.name for path in (tmp_path / "audio").iterdir()) == [
        f"{item}_{name}.wav" for item in (0, 1) for name in ("dry", "wet", "wet_hat")
    ]
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    info = soundfile.info(tmp_path / "audio" / "1_wet.wav")
    assert (info.samplerate, info.channels, info.frames) == (RATE, 2, RATE)


def test_results_do_not_change_the_mode_of_a_task(tmp_path):
    task = Blind(ProcessorGraph({"comp": Compressor(RATE)})).train()
    write_results(task, batch(), tmp_path, items=1)
    assert task.training
    assert task.modes == [False]


def test_the_players_of_an_item_are_equally_loud_and_none_clips():
    dry = noise(2, 1, RATE)
    wet, wet_hat = 30 * noise(2, 1, RATE, seed=1), 0.01 * noise(2, 1, RATE, seed=2)
    examples = SimpleNamespace(dry=dry, target=Estimate(wet), pred=Estimate(wet_hat))
    players = example_players(examples)
    assert list(players) == [f"{i}/{name}" for i in (0, 1) for name in ("dry", "wet", "wet_hat")]
    levels = torch.stack([players[f"0/{name}"].square().mean().sqrt() for name in ("dry", "wet", "wet_hat")])
    assert torch.allclose(levels, levels[:1].expand(3), rtol=1e-4)
    assert max(x.abs().max().item() for x in players.values()) == pytest.approx(0.98, abs=1e-4)


def test_silence_stays_silence_in_a_player():
    silent = torch.zeros(1, 1, RATE)
    examples = SimpleNamespace(dry=silent, target=Estimate(silent), pred=Estimate(silent))
    assert not any(x.any() for x in example_players(examples).values())


def test_a_task_that_knows_no_settings_shows_its_spectrograms_only():
    task = SimpleNamespace(sample_rate=RATE)
    sound = noise(1, 1, RATE)
    examples = SimpleNamespace(dry=sound, target=Estimate(sound), pred=Estimate(sound))
    assert list(example_figures(task, examples)) == ["spectrograms"]


def test_other_knobs_than_the_true_ones_are_not_scattered_against_them():
    task = Blind(ProcessorGraph({"comp": Compressor(RATE)}), ProcessorGraph({"comp": SimpleCompressor(RATE)}))
    figures = example_figures(task, task.examples(batch()))
    assert list(figures) == ["spectrograms", "compressor", "settings"]


def test_sixteen_bits_in_memory_are_the_sound():
    sound = 0.5 * noise(2, 100).clamp(-1, 1)
    read, rate = soundfile.read(io.BytesIO(wav_bytes(sound, RATE)), dtype="float32")
    assert rate == RATE
    assert torch.allclose(torch.from_numpy(read.T.copy()), sound, atol=2**-15)


def test_never_logging_is_refused():
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        LogExamples(every_n_epochs=0)
