"""How close is a proxy to its effect on real audio? python scripts/score_proxy.py FOLDER [--weights FILE]"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

import torch

from difffx import processors
from difffx.data import audio_io
from difffx.functional.levels import normalize_peak
from difffx.metrics import audio_metrics
from difffx.networks import weight_count

METRICS = ("mel", "si_sdr", "envelope_db")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="searched for audio files")
    parser.add_argument("--effect", default="Compressor")
    parser.add_argument("--weights", default="auto", help="a proxy.safetensors; default: those that ship")
    parser.add_argument("--sample-rate", type=int, default=44_100)
    parser.add_argument("--settings", type=int, default=3, help="random settings for each file")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    effect = getattr(processors, options.effect)(options.sample_rate)
    proxy = processors.NeuralProxy(effect, weights=options.weights).eval()
    files = sorted(path for path in options.folder.rglob("*") if audio_io.is_audio(path))
    if not files:
        parser.error(f"{options.folder}: no audio files in it")
    generator = torch.Generator().manual_seed(options.seed)
    scores, seconds = {"proxy": defaultdict(list), "dry": defaultdict(list)}, []
    for path in files:
        sound, _ = audio_io.load(path, options.sample_rate, seconds=options.seconds, channels=1)
        dry = normalize_peak(sound[None]).expand(options.settings, 1, -1)
        controls = effect.from_unit(effect.spec.sample(options.settings, generator=generator))
        with torch.inference_mode():
            wet = effect(dry, controls=controls)
            start = time.perf_counter()
            wet_hat = proxy(dry, controls=controls)
            seconds.append((time.perf_counter() - start) / dry.numel() * options.sample_rate)
        for name, answer in (("proxy", wet_hat), ("dry", dry)):
            for metric, values in audio_metrics(answer, wet, options.sample_rate).items():
                scores[name][metric] += values.tolist()
    print(f"{len(files)} files, {options.settings} settings each")
    for metric in METRICS:
        mean = {name: sum(row[metric]) / len(row[metric]) for name, row in scores.items()}
        print(f"{metric:12} {mean['proxy']:.4f}   nothing done {mean['dry']:.4f}")
    print(f"{'parameters':12} {weight_count(proxy):,}")
    print(f"{'s per 10 s':12} {10.0 * min(seconds):.4f} with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
