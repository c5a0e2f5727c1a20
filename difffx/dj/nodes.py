"""What a DJ's mixer is made of: a strip for every stem, two sends for every deck, sums."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from difffx.dj.config import MixerConfig
from difffx.dj.layout import DECK_NAMES, GLOBAL_PARAMS, STEM_NAMES, STEM_PARAMS
from difffx.functional import reverb, short_time, stem_masks
from difffx.functional.control import at_audio_rate
from difffx.functional.convolution import convolve
from difffx.functional.send_echo import send_echo
from difffx.graph import ProcessorGraph
from difffx.params import unknown
from difffx.processors import Limiter, Processor, Sum

REVERB_BANDS = 10


class ChannelStrip(Processor):
    """One stem's fader, three-band isolator, low-pass and high-pass, all of them moving, none turning phases.

    config   of the mixer: its rate, frames and filters; None: the usual ones at this rate

    One mask over short spectra (`functional.stem_masks`), in which nothing happens at the neutral settings. A
    curve moves in steps of a hop, smoothed over a frame: 46 ms, half of them before the move. Cutoffs move in
    equal steps of pitch.
    """

    params = STEM_PARAMS
    neutral: ClassVar = {"gain": 1.0, "eq_low": 1.0, "eq_mid": 1.0, "eq_high": 1.0, "lpf": 1.0, "hpf": 0.0}

    def __init__(self, sample_rate: int, config: MixerConfig | None = None) -> None:
        super().__init__(sample_rate)
        self.config = config or MixerConfig(self.sample_rate)
        self.order = stem_masks.steepness(self.config.filter_transition_octaves)
        log_hz = stem_masks.bin_log_hz(self.sample_rate, self.config.n_fft)
        edges = self.config.eq_low_hz, self.config.eq_high_hz
        bands = stem_masks.isolator_bands(log_hz, *edges, self.order)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("slope", self.order * log_hz, persistent=False)

    def process(self, x: Tensor, **knobs: Tensor) -> Tensor:
        curves = torch.cat(torch.broadcast_tensors(*knobs.values()), 1)  # [B or 1, 6, F]
        curves = curves.unsqueeze(1).expand(x.shape[0], -1, -1, -1)
        return self.sound(self.mixed([self.spectrum(x)], curves, x.shape[-1]), x.shape[-1])

    def spectrum(self, x: Tensor) -> Tensor:
        """[B, C, T] -> [B, C, 2, M, N]."""
        return short_time.to_spectrum(x, self.config.n_fft, self.config.hop_length)

    def sound(self, planes: Tensor, samples: int) -> Tensor:
        """[B, C, 2, M, N] -> [B, C, samples]."""
        return short_time.from_spectrum(planes, samples, self.config.n_fft, self.config.hop_length)

    def mixed(self, stems: Sequence[Tensor], curves: Tensor, samples: int) -> Tensor:
        """S spectra, [B or 1, C, 2, M, N], each through a strip of its own, added.

        curves   [B, S, 6, F]  in the order of `params`
        returns  [B, C, 2, M, N]
        """
        curves = self._at_frames(curves.to(stems[0]), samples)
        coefficients = stem_masks.strip_coefficients(
            *curves.unbind(2),
            order=self.order,
            lpf_hz=(self.config.lpf_min, self.config.lpf_max),
            hpf_hz=(self.config.hpf_min, self.config.hpf_max),
        )
        return stem_masks.mixed_stems(stems, coefficients, self.bands.to(curves), self.slope.to(curves))

    def _at_frames(self, curves: Tensor, samples: int) -> Tensor:
        """[..., F] -> [..., M]: straight lines from the first sample to the last, read where frames are."""
        at = short_time.frame_positions(samples, self.config.n_fft, self.config.hop_length)
        last = curves.shape[-1] - 1
        at = at.clamp(0, samples - 1).double() * (last / max(samples - 1, 1))
        first = at.floor().clamp(max=max(last - 1, 0)).long()
        share = (at - first).to(curves)
        first = first.to(curves.device)
        return torch.lerp(curves[..., first], curves[..., (first + 1).clamp(max=last)], share)


class Sends(Processor):
    """A deck with what it sends into a hall and into an echo on the beat; both ring on when a send is closed.

    config   of the mixer: decay, damping and seed of the hall, time and feedback of the echo

    The dry sound stays as it is. The hall is noise that fades (`functional.reverb`), as loud as the sound
    itself when its send is 1, and does not depend on what else is played; the first echo is as loud as what
    was sent, each later one by delay_max_feedback times the feedback of that moment quieter. What rings
    beyond the end of the sound is not kept.
    """

    params = GLOBAL_PARAMS
    stereo = True
    neutral: ClassVar = {"reverb_send": 0.0, "delay_send": 0.0}

    def __init__(self, sample_rate: int, config: MixerConfig | None = None) -> None:
        super().__init__(sample_rate)
        self.config = config or MixerConfig(self.sample_rate)
        self.register_buffer("ir", hall(self.config), persistent=False)

    def process(self, x: Tensor, reverb_send: Tensor, delay_send: Tensor, delay_feedback: Tensor) -> Tensor:
        echoes = self.echoes(x, delay_send, delay_feedback, self.config.echo_samples())
        return x + self.reverberation(self.sent(x, reverb_send)) + echoes

    def sent(self, x: Tensor, send: Tensor) -> Tensor:
        """What goes into an effect: x [B, 2, T], send [B, 1, F]."""
        return x * at_audio_rate(send.to(x), x.shape[-1])

    def reverberation(self, sent: Tensor) -> Tensor:
        """The hall alone, [B, 2, T]."""
        return convolve(sent, self.ir.to(sent))

    def echoes(self, x: Tensor, send: Tensor, feedback: Tensor, delay: int | Sequence[int]) -> Tensor:
        """The echoes alone, [B, 2, T]; delay in samples, for all items or for each."""
        kept = at_audio_rate(feedback.to(x), x.shape[-1]) * self.config.delay_max_feedback
        return send_echo(self.sent(x, send), delay, kept)


@functools.lru_cache(maxsize=8)
def hall(config: MixerConfig) -> Tensor:
    """The mixer's impulse response, [1, 2, N]: 10 bands of noise, each fading 60 dB in its own time.

    A steady sound and its reverberation are equally loud. It ends 72 dB down.
    """
    with torch.inference_mode(False):  # else the buffer could not be saved for a gradient later
        return _hall(config)


def _hall(config: MixerConfig) -> Tensor:
    centers = torch.tensor(reverb.band_centers_hz(REVERB_BANDS, config.sample_rate))
    treble = (torch.log2(centers / 1000.0) / 4.0).clamp(0.0, 1.0)  # 0 up to 1 kHz, 1 at 16 kHz
    decay_s = config.reverb_decay_time * (1.0 - 0.9 * config.reverb_damping * treble)
    taps = max(2, round(1.2 * config.reverb_decay_time * config.sample_rate))
    noise = reverb.band_noise(REVERB_BANDS, taps, config.sample_rate, seed=config.seed)
    level = torch.zeros(1, REVERB_BANDS, 1)
    ir = reverb.noise_ir(level, decay_s.reshape(1, -1, 1), noise, config.sample_rate)
    before = round(config.reverb_pre_delay_ms * config.sample_rate / 1000.0)
    return torch.nn.functional.pad(ir, (before, 0))


def mixer_graph(
    sample_rate: int = 44_100,
    stems: Sequence[str] = STEM_NAMES,
    decks: Sequence[str] = DECK_NAMES,
    config: MixerConfig | None = None,
    **options: object,
) -> ProcessorGraph:
    """The mixer as a graph: 13 nodes of three kinds, or as many as these stems and decks need.

    stems, decks   names; with the usual ones the spec's 54 knobs are those of `layout`, in that order
    config         of the mixer; or any of its fields as options: tempo_bpm=126, limiter=True

    Inputs are a_drums_stem ... b_other_stem; nodes a_drums, ..., a_sum, a_sends, b_..., mix, and a limiter if
    there is one.
    """
    for name in options:
        if name not in MixerConfig.names():
            raise ValueError(f"mixer_graph: no option {unknown(name, MixerConfig.names())}")
    config = replace(config, **options) if config else MixerConfig(sample_rate, **options)
    if config.compat:
        raise ValueError("mixer_graph: the published formulas, compat=True, are no graph; use create_mixer")
    rate = config.sample_rate
    nodes, wires = {}, {}
    for deck in decks:
        strips = [f"{deck}_{stem}" for stem in stems]
        nodes |= {strip: ChannelStrip(rate, config) for strip in strips}
        wires |= {strip: [f"{strip}_stem"] for strip in strips}
        nodes |= {f"{deck}_sum": Sum(rate), f"{deck}_sends": Sends(rate, config)}
        wires |= {f"{deck}_sum": strips, f"{deck}_sends": [f"{deck}_sum"]}
    nodes["mix"], wires["mix"] = Sum(rate), [f"{deck}_sends" for deck in decks]
    fixed = {}
    if config.limiter:
        nodes["limiter"], wires["limiter"] = Limiter(rate), ["mix"]
        fixed = {"limiter": {"ceiling_db": config.limiter_ceiling_db, "drive_db": 0.0, "release_ms": 100.0}}
    inputs = [f"{deck}_{stem}_stem" for deck in decks for stem in stems]
    return ProcessorGraph(nodes, wires=wires, inputs=inputs, set=fixed)
