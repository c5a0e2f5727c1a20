"""Two decks of stems, 54 curves, one mix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difffx.dj.compat import PublishedMixer
from difffx.dj.config import MixerConfig
from difffx.dj.layout import (
    DECK_NAMES,
    ENTRIES,
    LABELS,
    N_PARAMS_PER_TRACK,
    N_STEM_PARAMS,
    N_STEMS,
    STEM_NAMES,
    ParameterParser,
    checked,
)
from difffx.dj.nodes import ChannelStrip, Sends, mixer_graph
from difffx.dj.tracks import PreparedTrack, Track, checked_track, shared_batch
from difffx.params import Controls, ControlSpec

Tempo = float | Sequence[float] | Tensor
CheckedTrack = dict[str, Tensor] | PreparedTrack


class DJMixer(nn.Module):
    """Everything a DJ does with stems, differentiable: faders, isolators, filter sweeps, a hall, an echo.

    `graph` is the same mixer as a `ProcessorGraph` of 13 nodes, for YAML, `trace` and editing; a call here
    computes what it computes, 130 dB apart in float32, in one go: one short spectrum for each stem, one mask
    for all that happens to it, one way back for each deck, one hall for both.

    Strips work on short spectra: transparent at rest but for rounding, steep where a stem is to be gone, the
    same on every device. Eight stereo stems of 30 s, forward and back, take 1.1 s of one core; recursive
    filters (a Linkwitz-Riley isolator, low- and high-pass of 24 dB an octave, compiled) take 3.7 s, and at
    rest their bands add up to an all-pass, as far from the plain sum as it is loud. What they spare is what
    rings ahead of a sound, and that is short: of a click, what comes more than 5 ms ahead is 53 dB down with
    the bass taken away, 34 dB with bass alone, 57 dB through a low-pass at 632 Hz; 10 ms ahead of one at
    100 Hz, 29 dB.
    """

    def __init__(self, config: MixerConfig | None = None) -> None:
        super().__init__()
        self.config = config or MixerConfig()
        self.published = PublishedMixer(self.config) if self.config.compat else None
        self.graph = None if self.config.compat else mixer_graph(config=self.config)

    @property
    def spec(self) -> ControlSpec:
        """The 54 knobs by name, for heads that speak 0..1."""
        return ControlSpec(ENTRIES)

    def controls(self, params: Tensor) -> Controls:
        """params [B, F, 54] or [F, 54] -> what `graph` takes."""
        return ControlSpec.tree(dict(zip(LABELS, checked(params).mT.split(1, 1), strict=True)))

    def params(self, controls: Controls) -> Tensor:
        """The inverse of `controls`: what `spec.unflatten` makes of a network's z -> [B, F, 54]."""
        flat = self.spec.check(controls)
        return torch.cat(torch.broadcast_tensors(*(flat[label] for label in LABELS)), 1).mT

    def prepare(self, track: Track, name: str = "track") -> PreparedTrack:
        """Stems transformed once, for many renders: a call takes it in place of the stems."""
        if self.graph is None:
            raise ValueError("with compat=True stems are transformed anew each time: nothing to prepare")
        return self._prepared(checked_track(name, track))

    def forward(
        self,
        track_a: Track | PreparedTrack,
        track_b: Track | PreparedTrack,
        params: Tensor,
        return_intermediates: bool = False,
        tempo_bpm: Tempo | None = None,
    ) -> tuple[Tensor, dict | None]:
        """The mix of two tracks.

        track_a, track_b   stems by name, drums, bass, vocals, other, some may be missing; [B, T] or
                           [B, C, T], mono or stereo, all equally long; or what `prepare` made of them
        params             [B, F, 54] or [F, 54], see `layout`; F points from the first sample to the last, in
                           straight lines; one item of tracks or settings serves all of the other
        tempo_bpm          of the echo, for all items or one for each; None: that of the mixer
        returns            [B, 2, T], and None; or with intermediates {"track_a": {"stems", "summed",
                           "final"}, "track_b": ..., "params_a": ..., "params_b": ...}

        Raises ValueError in one line naming the stem or the number that is wrong.
        """
        params = checked(params)
        decks = [self._checked("track_a", track_a), self._checked("track_b", track_b)]
        sizes = [_size(deck) for deck in decks]
        samples, batches = ({f"track_{d}": s[k] for d, s in zip("ab", sizes, strict=True)} for k in (0, 1))
        batch = shared_batch(samples, {**batches, "params": params.shape[0]})
        params = params.to(_any(decks[0])).expand(batch, -1, -1)
        if self.published is not None:
            return self.published(*decks, params, return_intermediates)
        delays = self._delays(tempo_bpm, batch)
        if return_intermediates:
            return self._with_intermediates([self._prepared(deck) for deck in decks], params, delays)
        return self._limited(self._mix(decks, params, delays)), None

    def _mix(self, decks: Sequence[CheckedTrack], params: Tensor, delays: int | list[int]) -> Tensor:
        """Deck after deck, so that without a gradient the spectra of one alone are held."""
        mix, into_hall = None, None
        for number, track in enumerate(decks):
            deck = self._prepared(track)
            bus = self._bus(deck, self._curves(params, number, deck))
            reverb_send, delay_send, feedback = self._send_curves(params, number)
            sent = self._sends.sent(bus, reverb_send)
            heard = bus + self._sends.echoes(bus, delay_send, feedback, delays)
            mix, into_hall = (heard, sent) if mix is None else (mix + heard, into_hall + sent)
        return mix + self._sends.reverberation(into_hall)

    def _with_intermediates(
        self, decks: Sequence[PreparedTrack], params: Tensor, delays: int | list[int]
    ) -> tuple[Tensor, dict]:
        found: dict = {}
        for number, (name, deck) in enumerate(zip(DECK_NAMES, decks, strict=True)):
            curves = self._curves(params, number, deck)
            stems = {
                stem: self._strip.sound(
                    self._strip.mixed([planes], curves[:, s : s + 1], deck.samples), deck.samples
                )
                for s, (stem, planes) in enumerate(deck.spectra.items())
            }
            summed = sum(x.expand(-1, 2, -1) for x in stems.values())
            reverb_send, delay_send, feedback = self._send_curves(params, number)
            final = summed + self._sends.reverberation(self._sends.sent(summed, reverb_send))
            final = final + self._sends.echoes(summed, delay_send, feedback, delays)
            found[f"track_{name}"] = {"stems": stems, "summed": summed, "final": final}
        found["params_a"], found["params_b"] = ParameterParser().parse(params)
        return self._limited(found["track_a"]["final"] + found["track_b"]["final"]), found

    def _bus(self, deck: PreparedTrack, curves: Tensor) -> Tensor:
        """A deck's stems through their strips, [B, 2, T]."""
        planes = self._strip.mixed(list(deck.spectra.values()), curves, deck.samples)
        return self._strip.sound(planes, deck.samples).expand(-1, 2, -1)

    def _curves(self, params: Tensor, number: int, deck: PreparedTrack) -> Tensor:
        """Those of the stems that are there, [B, S, 6, F]."""
        start = number * N_PARAMS_PER_TRACK
        strips = params[..., start : start + N_STEMS * N_STEM_PARAMS].unflatten(-1, (N_STEMS, N_STEM_PARAMS))
        return strips[:, :, [STEM_NAMES.index(stem) for stem in deck.spectra]].movedim(1, -1)

    def _send_curves(self, params: Tensor, number: int) -> Sequence[Tensor]:
        """Reverb send, delay send, feedback, [B, 1, F] each."""
        start = number * N_PARAMS_PER_TRACK + N_STEMS * N_STEM_PARAMS
        return params[..., start : (number + 1) * N_PARAMS_PER_TRACK].mT.split(1, 1)

    def _checked(self, name: str, track: Track | PreparedTrack) -> CheckedTrack:
        if not isinstance(track, PreparedTrack):
            return checked_track(name, track)
        if self.graph is None or track.frames != self._frames:
            raise ValueError(
                f"{name} was prepared by a mixer with sample_rate, n_fft, hop_length {track.frames}, "
                f"this one has {self._frames}{' and compat=True' if self.config.compat else ''}"
            )
        return track

    def _prepared(self, track: CheckedTrack) -> PreparedTrack:
        if isinstance(track, PreparedTrack):
            return track
        spectra = {stem: self._strip.spectrum(x) for stem, x in track.items()}
        return PreparedTrack(spectra, _any(track).shape[-1], self._frames)

    def _delays(self, tempo_bpm: Tempo | None, batch: int) -> int | list[int]:
        if tempo_bpm is None or isinstance(tempo_bpm, int | float):
            return self.config.echo_samples(tempo_bpm)
        tempos = torch.as_tensor(tempo_bpm).flatten().tolist()
        if len(tempos) not in (1, batch):
            raise ValueError(f"tempo_bpm: expected one number or {batch} of them, got {len(tempos)}")
        delays = [self.config.echo_samples(tempo) for tempo in tempos]
        return delays[0] if len(delays) == 1 else delays

    def _limited(self, mix: Tensor) -> Tensor:
        if not self.config.limiter:
            return mix
        return self.graph.processors["limiter"](mix, ceiling_db=self.config.limiter_ceiling_db)

    @property
    def _strip(self) -> ChannelStrip:
        return self.graph.processors["a_drums"]

    @property
    def _sends(self) -> Sends:
        return self.graph.processors["a_sends"]

    @property
    def _frames(self) -> tuple[int, int, int]:
        return self.config.sample_rate, self.config.n_fft, self.config.hop_length


def _any(track: CheckedTrack) -> Tensor:
    """One of its tensors, of which it has at least one."""
    return next(iter((track.spectra if isinstance(track, PreparedTrack) else track).values()))


def _size(track: CheckedTrack) -> tuple[int, int]:
    """Samples, items."""
    samples = track.samples if isinstance(track, PreparedTrack) else _any(track).shape[-1]
    return samples, _any(track).shape[0]


def create_mixer(
    sample_rate: int = 44_100,
    n_fft: int | None = None,
    hop_length: int | None = None,
    **options: object,
) -> DJMixer:
    """A mixer at this rate; options are fields of `MixerConfig`."""
    return DJMixer(MixerConfig(sample_rate, n_fft, hop_length, **options))
