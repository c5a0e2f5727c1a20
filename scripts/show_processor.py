"""What does an effect do? python scripts/show_processor.py NAME [--set KNOB=VALUE ...]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from difffx import plots
from difffx.benchmark import processor_of
from difffx.data import Synthetic, audio_io
from difffx.params import ControlSpec, unknown
from difffx.processors import Processor

SECONDS = 6.0


def settings(processor: Processor, given: list[str], seed: int) -> dict[str, torch.Tensor]:
    """The defaults and two random settings, or the defaults and what was given; z [1, P, 1] each."""
    spec = processor.spec
    defaults = spec.defaults()
    if given:
        return {"default": defaults, "set": changed(spec, defaults, given)}
    if not len(spec):
        return {"default": defaults}
    draws = spec.sample(2, generator=torch.Generator().manual_seed(seed))
    return {"default": defaults, "random 1": draws[:1], "random 2": draws[1:]}


def changed(spec: ControlSpec, z: torch.Tensor, given: list[str]) -> torch.Tensor:
    """KNOB=VALUE, or KNOB=V1,V2,... for a knob of several values."""
    preset = spec.preset(z)
    for text in given:
        name, _, value = text.partition("=")
        if name not in spec.entries:
            raise ValueError(f"--set {text}: no knob {unknown(name, spec.entries)}")
        try:
            numbers = [float(part) for part in value.split(",")]
        except ValueError:
            raise ValueError(f"--set {text}: expected {name}=NUMBER") from None
        preset[name] = numbers * spec.entries[name].size if len(numbers) == 1 else numbers
    return spec.from_preset(preset)


@torch.no_grad()
def show(options: argparse.Namespace) -> None:
    """Writes page.png, dry.wav, and a WAV for each setting."""
    processor = processor_of(options.name).eval()
    chosen = settings(processor, options.set, options.seed)
    rate, out = processor.sample_rate, options.out or Path("shown") / options.name
    music = Synthetic(rate, SECONDS, channels=2, seed=options.seed).dataset("test")
    dry = audio_io.load(options.audio, rate, channels=2)[0] if options.audio else music[0]["dry"]
    other = music[1]["dry"].repeat(1, -(-dry.shape[-1] // music.num_samples))[:, : dry.shape[-1]]
    plots.save_figure(plots.processor_page(processor, chosen, options.name), out / "page.png")
    audio_io.save(out / "dry.wav", dry, rate)
    for name, z in chosen.items():
        wet = plots.play(processor, dry[None], processor.from_unit(z), other[None])[0]
        audio_io.save(out / f"{name.replace(' ', '_')}.wav", wet, rate)
    print(f"written to {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="as in scripts/list_processors.py")
    parser.add_argument(
        "--out", type=Path, help="the folder for page.png and the sounds; shown/NAME if not given"
    )
    parser.add_argument("--audio", type=Path, help="a sound instead of six seconds of synthetic music")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KNOB=VALUE", help="instead of random settings"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the music and the random settings")
    options = parser.parse_args()
    try:
        show(options)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    main()
