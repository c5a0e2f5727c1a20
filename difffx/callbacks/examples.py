"""What a run sounds and looks like: into the loggers while it trains, into its folder at the end."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from difffx import plots
from difffx.data import audio_io
from difffx.inference import at_level_of
from difffx.plots.moves import moves
from difffx.tasks.dj import TransitionExamples

CEILING = 0.98


class LogExamples(Callback):
    """Players (dry, wet, wet_hat) and figures of the first validation batch, to every logger that shows them.

    every_n_epochs  and when training ends
    items           how many players

    A task without `examples` is left alone.
    """

    def __init__(self, every_n_epochs: int = 5, items: int = 4) -> None:
        if every_n_epochs < 1 or items < 1:
            raise ValueError(
                f"LogExamples: every_n_epochs and items must be 1 or more, got {every_n_epochs} and {items}"
            )
        self.every_n_epochs, self.items = every_n_epochs, items
        self.batch: Mapping | None = None

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        outputs: object,
        batch: Mapping,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx or dataloader_idx or not trainer.is_global_zero or not hasattr(task, "examples"):
            return
        self.batch = batch
        if not trainer.sanity_checking and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._log(trainer, task)

    def on_train_end(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        if (
            self.batch is not None and trainer.current_epoch % self.every_n_epochs
        ):  # the epoch is counted on before this hook
            self._log(trainer, task)

    def _log(self, trainer: lightning.Trainer, task: lightning.LightningModule) -> None:
        watched = [logger for logger in trainer.loggers if _shows(logger)]
        if not watched:
            return
        examples = example_batch(task, self.batch)
        players, figures = example_players(examples, self.items), example_figures(task, examples, self.items)
        for logger in watched:
            _show(logger, players, figures, task.sample_rate, trainer.global_step)


def example_batch(task: lightning.LightningModule, batch: Mapping) -> object:
    """`task.examples` of a batch, in evaluation mode, on the device of the task; the mode is put back."""
    training = task.training
    batch = {name: x.to(task.device) if isinstance(x, Tensor) else x for name, x in batch.items()}
    task.eval()
    with torch.no_grad():
        examples = task.examples(batch)
    task.train(training)
    return examples


def example_players(examples: object, items: int = 4) -> dict[str, Tensor]:
    """{"0/dry": [C, T], "0/wet": ..., "0/wet_hat": ...}, an item's equally loud, none above 0.98.

    Of a transition: a, b, mix, mix_hat.
    """
    players: dict[str, Tensor] = {}
    batch = example_sounds(examples)
    first = next(iter(batch))
    for item in range(min(items, len(batch[first]))):
        sounds = {name: x[item].detach().float().cpu() for name, x in batch.items()}
        leveled = {name: at_level_of(x, sounds[first]) for name, x in sounds.items()}
        peak = max(x.abs().max().item() for x in leveled.values())
        turn = min(1.0, CEILING / max(peak, 1e-9))
        players |= {f"{item}/{name}": turn * x for name, x in leveled.items()}
    return players


def example_sounds(examples: object) -> dict[str, Tensor]:
    """All that there is to hear, by name, [B, C, T]: what went in, the truth, the answer."""
    if isinstance(examples, TransitionExamples):
        return examples.sounds
    return {"dry": examples.dry, "wet": examples.target.audio, "wet_hat": examples.pred.audio}


def example_figures(task: lightning.LightningModule, examples: object, items: int = 4) -> dict[str, Figure]:
    """Every figure that there is material for: curves and settings need knobs, the scatter true ones."""
    sounds = {name: x[0] for name, x in example_sounds(examples).items()}
    figures = {"spectrograms": plots.spectrograms(sounds, task.sample_rate)}
    if isinstance(examples, TransitionExamples):
        pairs = list(zip(examples.found, examples.true, strict=True))[:items]
        return figures | {f"moves_{i}": moves(*pair, examples.seconds) for i, pair in enumerate(pairs)}
    z, z_hat = examples.target.z, examples.pred.z
    if z_hat is None:
        return figures
    comparable = z is not None and task.sfx.spec == task.afx.spec
    true = None if z is None else plots.node_settings(task.sfx, z)
    figures |= plots.curve_figures(plots.node_settings(task.afx, z_hat), true, items)
    figures["settings"] = plots.settings_table(task.afx.spec, z_hat[0], z[0] if comparable else None)
    if comparable:
        figures["knobs"] = plots.knob_scatter(task.afx.spec, z, z_hat)
    return figures


def write_results(
    task: lightning.LightningModule, batch: Mapping, folder: str | Path, items: int = 4
) -> list[Path]:
    """figures/*.png and audio/*.wav (0_dry.wav, 0_wet.wav, 0_wet_hat.wav) of a batch, and their paths.

    Nothing for a task without `examples`.
    """
    if not hasattr(task, "examples"):
        return []
    examples = example_batch(task, batch)
    written: list[Path] = []
    for name, figure in example_figures(task, examples, items).items():
        written.append(Path(folder) / "figures" / f"{name}.png")
        plots.save_figure(figure, written[-1])
    for name, sound in example_players(examples, items).items():
        written.append(Path(folder) / "audio" / f"{name.replace('/', '_')}.wav")
        audio_io.save(written[-1], sound, task.sample_rate)
    return written


def _shows(logger: Logger) -> bool:
    return isinstance(logger, (TensorBoardLogger, WandbLogger))


def _show(
    logger: Logger, players: Mapping[str, Tensor], figures: Mapping[str, Figure], sample_rate: int, step: int
) -> None:
    pictures = {name: as_image(figure) for name, figure in figures.items()}
    if isinstance(logger, WandbLogger):
        import wandb

        shown = {f"figures/{name}": wandb.Image(picture) for name, picture in pictures.items()}
        shown |= {
            f"examples/{name}": wandb.Audio(sound.T.numpy(), sample_rate=sample_rate)
            for name, sound in players.items()
        }
        logger.experiment.log({**shown, "trainer/global_step": step})
        return
    for name, picture in pictures.items():
        logger.experiment.add_image(f"figures/{name}", picture, step, dataformats="HWC")
    for name, sound in players.items():
        _tensorboard_audio(logger, f"examples/{name}", sound, sample_rate, step)
    logger.experiment.flush()


def _tensorboard_audio(
    logger: TensorBoardLogger, tag: str, sound: Tensor, sample_rate: int, step: int
) -> None:
    """`SummaryWriter.add_audio` takes mono only; the format itself does not mind."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    audio = Summary.Audio(
        sample_rate=sample_rate,
        num_channels=sound.shape[0],
        length_frames=sound.shape[1],
        encoded_audio_string=wav_bytes(sound, sample_rate),
        content_type="audio/wav",
    )
    summary = Summary(value=[Summary.Value(tag=tag, audio=audio)])
    logger.experiment._get_file_writer().add_summary(summary, step)


def wav_bytes(sound: Tensor, sample_rate: int) -> bytes:
    """[C, T] as a 16-bit WAV file in memory."""
    samples = (sound.clamp(-1, 1) * 32_767).round().to(torch.int16).T.contiguous().numpy()
    memory = io.BytesIO()
    with wave.open(memory, "wb") as file:
        file.setnchannels(sound.shape[0])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.tobytes())
    return memory.getvalue()


def as_image(figure: Figure) -> np.ndarray:
    """A figure as [H, W, 3] bytes."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
