"""What two decks of stems and a mix of them have to do with each other, frame by frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from difffx.dj import DJMixer, create_mixer
from difffx.dj.layout import DECK_NAMES, ENTRIES, N_GLOBAL_PARAMS, N_STEM_PARAMS, N_STEMS
from difffx.dj.regression import N_RETURNS, N_STRIPS, Explained, strips_from
from difffx.dj.responses import bands_of, joined, strips
from difffx.networks.frame_convolutions import FrameConvolutions

DECKS = len(DECK_NAMES)
HIGH = tuple(param.high for param in ENTRIES.values())
NEARLY_OPEN = tuple(0.97 if param.name == "lpf" else 1.0 for param in ENTRIES.values())
NEARLY_CLOSED = tuple(
    {"hpf": 0.03, "reverb_send": 0.1, "delay_send": 0.1, "delay_feedback": 0.3}.get(param.name, 0.0)
    for param in ENTRIES.values()
)
MARGIN = 0.02
"""How far beyond 0..1 the answers of a sigmoid are stretched, so that a fader can be all the way down."""


class StemPair(nn.Module):
    """Two decks and their mix in, a row of features for each of 8 strips and 2 decks out, [B, 10 * width, F].

    mixer     whose settings are asked for: its filters, its echo, its hall; None: the usual one
    width     of a row
    rounds    how often each strip looks along time, then at the other strips
    network   (width) -> what looks along time, [R, width, F] -> [R, width, F]
    per_octave   bands of the regression

    Its material is least squares, not spectrograms: how much of each stem is in the mix in each band around
    each control point, how sure that is, how loud the stem is there, how much of each deck's hall and echoes
    there is, and what is left over. All strips share their weights.
    """

    def __init__(
        self,
        sample_rate: int,
        mixer: DJMixer | None = None,
        width: int = 96,
        rounds: int = 3,
        network: Callable[[int], nn.Module] = FrameConvolutions,
        per_octave: float = 3.0,
    ) -> None:
        super().__init__()
        mixer = mixer or create_mixer(sample_rate)
        self.mixer = (mixer,)  # not a part of this module
        self.bands = bands_of(mixer.config, per_octave)
        self.width, self.embed_dim = width, (N_STRIPS + DECKS) * width
        bands = len(self.bands)
        self.strip_in = nn.Linear((3 + N_RETURNS + 2) * bands + N_STEM_PARAMS, width)
        self.deck_in = nn.Linear((2 * N_RETURNS + 2) * bands, width)
        self.names = nn.Parameter(0.1 * torch.randn(N_STRIPS + DECKS, width))
        self.along = nn.ModuleList(network(width) for _ in range(rounds))
        self.across = nn.ModuleList(nn.Linear(3 * width, width) for _ in range(rounds))

    def forward(self, heard: Explained) -> Tensor:
        if not isinstance(heard, Explained):
            raise ValueError("StemPair hears two decks and their mix, not one sound: use it with task=dj")
        rows = self._rows(heard)  # [B, 10, F, width]
        for along, across in zip(self.along, self.across, strict=True):
            rows = along(rows.flatten(0, 1).mT).mT.unflatten(0, rows.shape[:2])
            rows = rows + across(around(rows))
        return rows.mT.flatten(1, 2)

    def _rows(self, heard: Explained) -> Tensor:
        """[B, 10, F, width]."""
        gains = heard.gains.clamp(-0.5, 2.5)
        loudest = heard.power.amax((1, 2), keepdim=True)[..., None] + 1e-12
        level = 1.0 + (heard.powers / loudest + 1e-8).log10() / 4.0
        own = torch.cat([x[..., :N_STRIPS] for x in (gains, heard.sure, level)], 2)  # [B, F, 3 K, 8]
        effects = (gains * heard.sure)[..., N_STRIPS:].unflatten(-1, (DECKS, N_RETURNS))
        effects = effects.permute(0, 3, 1, 4, 2).flatten(3)  # [B, 2, F, returns * K]
        sure = heard.sure[..., N_STRIPS:].unflatten(-1, (DECKS, N_RETURNS)).permute(0, 3, 1, 4, 2).flatten(3)
        whole = 1.0 + (heard.power / loudest[..., 0] + 1e-8).log10() / 4.0
        rest = torch.cat((heard.rest, whole), 2)[:, None]  # [B, 1, F, 2 K]
        start = strips(self.first_guess(heard).mT).flatten(2, 3).movedim(1, 2)  # [B, 8, F, 6]
        rows = torch.cat(
            (
                own.permute(0, 3, 1, 2),
                effects.repeat_interleave(N_STEMS, 1),
                rest.expand(-1, N_STRIPS, -1, -1),
                start,
            ),
            -1,
        )
        decks = torch.cat((effects, sure, rest.expand(-1, DECKS, -1, -1)), -1)
        return torch.cat((self.strip_in(rows), self.deck_in(decks)), 1) + self.names[:, None]

    def first_guess(self, heard: Explained) -> Tensor:
        """Strips by least squares, filters never quite open, sends a little: z [B, 54, F] in 0..1."""
        gains, weight = (x[..., :N_STRIPS].mT for x in (heard.gains, heard.powers.sqrt() * heard.sure))
        found = strips_from(gains, weight, self.bands, self.mixer[0].config)  # [B, F, 8, 6]
        found = found.unflatten(2, (DECKS, N_STEMS))
        params = joined(found, torch.zeros_like(found[..., 0, :N_GLOBAL_PARAMS]))
        params = params * params.new_tensor(NEARLY_OPEN) + params.new_tensor(NEARLY_CLOSED)
        return (params / params.new_tensor(HIGH)).mT


class StripHead(nn.Module):
    """Rows of strips and decks to the 54 settings, [B, 10 * width, F] -> z [B, 54, F] in 0..1.

    width   of a row

    One layer for all strips, one for both decks; with a start, z [B, 54, F], its answers are moves away from
    there. Ends of the range are reached, and a gradient leads back from them.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.strip, self.deck = (
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, count))
            for count in (N_STEM_PARAMS, N_GLOBAL_PARAMS)
        )
        with torch.no_grad():
            for layers in (self.strip, self.deck):
                layers[-1].weight.mul_(0.1)
                layers[-1].bias.zero_()

    def forward(self, embedding: Tensor, start: Tensor | None = None) -> Tensor:
        rows = embedding.unflatten(1, (N_STRIPS + DECKS, self.width)).permute(0, 3, 1, 2)
        values = self.strip(rows[:, :, :N_STRIPS]).unflatten(2, (DECKS, N_STEMS))
        moved = joined(values, self.deck(rows[:, :, N_STRIPS:])).mT
        return stretched(moved if start is None else moved + unstretched(start))


def around(rows: Tensor) -> Tensor:
    """What each of 8 strips and 2 decks may know of the others: the mean strip of its deck, that of the other
    deck, and its deck; [B, 10, F, width] -> [B, 10, F, 3 * width]."""
    own = rows[:, :N_STRIPS].unflatten(1, (DECKS, N_STEMS)).mean(2)
    parts = (own, own.flip(1), rows[:, N_STRIPS:])
    return torch.cat([torch.cat((part.repeat_interleave(N_STEMS, 1), part), 1) for part in parts], -1)


def stretched(x: Tensor) -> Tensor:
    """Any number -> 0..1, both ends within reach; beyond them the gradient goes on as if there was no end."""
    z = (1.0 + 2.0 * MARGIN) * torch.sigmoid(x) - MARGIN
    return z + (z.clamp(0.0, 1.0) - z).detach()


def unstretched(z: Tensor) -> Tensor:
    """The inverse of `stretched` within 0..1."""
    return torch.logit((z.clamp(0.0, 1.0) + MARGIN) / (1.0 + 2.0 * MARGIN))
