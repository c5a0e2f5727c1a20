"""From features to all settings that could have been it: densities over the unit cube, and the heads that
make them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from zuko.flows import NSF

from difffx.encoders.heads import StaticHead

EDGE = 1e-6  # how near 0 and 1 a setting may come: 4.75 standard deviations
APART = 0.05  # candidates differ by this share of its range on one knob at least
SAMPLES = 256
CLUSTERS = 8


def to_normal(z: Tensor) -> Tensor:
    """0..1 -> the quantile of a standard normal, so that even chances become a normal distribution."""
    return torch.special.ndtri(_precise(z).clamp(EDGE, 1.0 - EDGE))


def from_normal(x: Tensor) -> Tensor:
    """The inverse of `to_normal`."""
    return torch.special.ndtr(_precise(x)).clamp(EDGE, 1.0 - EDGE)


class Posterior:
    """Which settings could have made each of B sounds, as a density over the unit cube of P values.

    Subclasses write `density`, `draw` and `landmarks`, all in the space of `to_normal`, where settings of
    which nothing is known are standard normal, which both kinds of density can be exactly.
    """

    def density(self, x: Tensor) -> Tensor:
        """Natural logarithm relative to the standard normal, x [B, N, P] -> [B, N]."""
        raise NotImplementedError

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Samples [B, N, P], with gradients."""
        raise NotImplementedError

    def landmarks(self, count: int) -> Tensor:
        """Points that stand for many, [B, M, P]: the best answers are chosen from them."""
        raise NotImplementedError

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density in nats, z [B, P, 1] -> [B], or [B, N, P, 1] -> [B, N]; 0 where nothing is known."""
        if z.ndim == 3:
            return self.log_prob(z[:, None])[:, 0]
        return self.density(to_normal(z[..., 0]))

    def rsample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Settings drawn from it, z [B, N, P, 1]; gradients reach whatever it is made of."""
        return from_normal(self.draw(count, generator))[..., None]

    def mean(self) -> Tensor:
        """The mean settings, z [B, P, 1]: the one answer that is least wrong on average. From samples."""
        return from_normal(self.draw(SAMPLES, _always_the_same())).mean(1)[..., None]

    def above_half(self) -> Tensor:
        """The chance of each value to be above 0.5, [B, P]: that a switch is on. From samples."""
        return (self.draw(SAMPLES, _always_the_same()) > 0.0).to(torch.float32).mean(1)

    def rank(self, z: Tensor) -> Tensor:
        """What candidates are ordered by, z [B, N, P, 1] -> [B, N]: log density in the space of `to_normal`.

        A knob of which nothing is known is best in its middle there. Over the unit cube it would be as good
        anywhere, and one that is vaguely above its middle best at its end, far from most of the density.
        """
        x = to_normal(z[..., 0])
        return self.density(x) + _normal(x).sum(-1)

    def candidates(self, count: int) -> tuple[Tensor, Tensor]:
        """The best distinct answers, z [B, N, P, 1], and their `rank` [B, N] in falling order.

        They are landmarks, and samples where those are too few. Two differ by 5 % of its range on one knob at
        least, unless the density is too narrow for that.
        """
        landmarks, samples = self.landmarks(count), self.draw(max(SAMPLES, count), _always_the_same())
        z = from_normal(torch.cat([landmarks, samples], 1))[..., None]
        rank = self.rank(z)
        picked = distinct(z[..., 0], rank, count, landmarks.shape[1])
        return z[torch.arange(len(z), device=z.device)[:, None], picked], rank.gather(1, picked)


class Mixture(Posterior):
    """Several normal distributions side by side, each with a chance.

    logits   [B, K]     of the chances
    centers  [B, K, P]  in the space of `to_normal`
    spreads  [B, K, P]  standard deviations there
    """

    def __init__(self, logits: Tensor, centers: Tensor, spreads: Tensor) -> None:
        self.log_weights = _precise(logits).log_softmax(-1)
        self.centers, self.spreads = _precise(centers), _precise(spreads)

    def density(self, x: Tensor) -> Tensor:
        off = (x[:, :, None] - self.centers[:, None]) / self.spreads[:, None]
        each = 0.5 * (x[:, :, None].square() - off.square()) - self.spreads[:, None].log()
        return (self.log_weights[:, None] + each.sum(-1)).logsumexp(-1)

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        batch, _, values = self.centers.shape
        with torch.no_grad():
            steps = self.log_weights.exp().cumsum(-1)[:, None, :-1]
            chance = torch.rand(batch, count, 1, generator=generator).to(steps)
            which = (chance > steps).sum(-1, keepdim=True).expand(-1, -1, values)
            noise = torch.randn(batch, count, values, generator=generator).to(steps)
            x = self.centers.gather(1, which) + self.spreads.gather(1, which) * noise
        return self.attached(x) if torch.is_grad_enabled() else x

    def attached(self, x: Tensor) -> Tensor:
        """Samples [B, N, P] with the exact gradient of where each would move, chances included.

        One value after the other is the inverse of its own distribution function given those before it.
        Graves, arXiv 1607.05690.
        """
        chances, moved = self.log_weights[:, None], []
        for value in range(x.shape[-1]):
            centers, spreads = self.centers[:, None, :, value], self.spreads[:, None, :, value]
            here = x[..., value, None]
            below = (chances.softmax(-1) * torch.special.ndtr((here - centers) / spreads)).sum(-1)
            with torch.no_grad():
                slope = (chances.softmax(-1) * _normal((here - centers) / spreads).exp() / spreads).sum(-1)
            moved.append(x[..., value] - (below - below.detach()) / slope.clamp(min=1e-4))
            chances = chances + _normal((moved[-1][..., None] - centers) / spreads) - spreads.log()
        return torch.stack(moved, -1)

    def mean(self) -> Tensor:
        each = torch.special.ndtr(self.centers / (1.0 + self.spreads.square()).sqrt())
        return (self.log_weights.exp()[..., None] * each).sum(1)[..., None]

    def above_half(self) -> Tensor:
        each = torch.special.ndtr(self.centers / self.spreads)
        return (self.log_weights.exp()[..., None] * each).sum(1)

    def landmarks(self, count: int) -> Tensor:
        """The tops of the density and the centers."""
        return torch.cat([self.uphill(self.centers), self.centers], 1)

    def uphill(self, x: Tensor, moves: int = 20) -> Tensor:
        """Points [B, N, P] moved to where the density is highest, each by its share in every component."""
        sharpness = self.spreads.square().reciprocal()[:, None]
        for _ in range(moves):
            off = (x[:, :, None] - self.centers[:, None]).square() * sharpness
            logits = (self.log_weights - self.spreads.log().sum(-1))[:, None] - 0.5 * off.sum(-1)
            pull = logits.softmax(-1)[..., None] * sharpness
            x = (pull * self.centers[:, None]).sum(2) / pull.sum(2)
        return x


class Flow(Posterior):
    """Normal noise bent, one invertible step after the other, until it has the shape of what is likely.

    bend    of `zuko`: settings in the space of `to_normal` [B, N, P] -> noise, for a context [B, 1, E]
    batch   B
    values  P
    """

    def __init__(self, bend: torch.distributions.Transform, batch: int, values: int, like: Tensor) -> None:
        self.bend, self.batch, self.values, self.like = bend, batch, values, like

    def density(self, x: Tensor) -> Tensor:
        noise, stretch = self.bend.call_and_ladj(x)
        return stretch + 0.5 * (x.square() - noise.square()).sum(-1)

    def draw(self, count: int, generator: torch.Generator | None) -> Tensor:
        noise = torch.randn(self.batch, count, self.values, generator=generator)
        return self.bend.inv(noise.to(self.like))

    def landmarks(self, count: int) -> Tensor:
        """The middles of clusters of samples."""
        samples = self.draw(max(SAMPLES, count), _always_the_same())
        return to_normal(cluster(from_normal(samples), max(CLUSTERS, count)))


class PosteriorHead(nn.Module):
    """Contract of the heads that know several answers; called, it gives their mean, z [B, P, 1] in (0, 1).

    As a single answer the mean sounds nearer than the likeliest setting, which in twenty dimensions is a
    matter of chance; who wants the likeliest asks `posterior` for candidates.

    entropy  what a nat of entropy is worth in training by ear, in units of the loss: settings whose loss is
             higher by so much end up 1/e as likely, and samples cost about half of it a value
    """

    def __init__(self, num_values: int, entropy: float) -> None:
        super().__init__()
        name = type(self).__name__
        if num_values < 1:
            raise ValueError(f"{name}: there is nothing to estimate, {num_values} values")
        if not entropy >= 0:
            raise ValueError(f"{name}: entropy must be 0 or more, got {entropy}")
        self.num_values, self.entropy = num_values, float(entropy)

    def posterior(self, embedding: Tensor) -> Posterior:
        """[B, E, F] -> a density for each item. Subclasses write this."""
        raise NotImplementedError

    def forward(self, embedding: Tensor) -> Tensor:
        return self.posterior(embedding).mean()


class MixtureHead(PosteriorHead):
    """K answers, each with a chance and, knob by knob, how far it may be off: [B, E, F] -> `Mixture`.

    components  K
    hidden, norm, embed_dim, num_values  as in `StaticHead`

    Training starts with K broad components around the middle of the knobs.
    """

    narrowest = 0.03  # standard deviations of `to_normal`; 0.012 of the range, in its middle

    def __init__(
        self,
        embed_dim: int,
        num_values: int,
        components: int = 8,
        hidden: Sequence[int] = (1024, 512),
        norm: str = "layer",
        entropy: float = 0.01,
    ) -> None:
        super().__init__(num_values, entropy)
        if components < 1:
            raise ValueError(f"MixtureHead: components must be at least 1, got {components}")
        self.components = components
        self.layers = StaticHead(embed_dim, components * (1 + 2 * num_values), hidden, norm).layers
        self.starts = nn.Parameter(0.5 * torch.randn(components, num_values))

    def posterior(self, embedding: Tensor) -> Mixture:
        sizes = [1, self.num_values, self.num_values]
        raw = self.layers(embedding.mean(-1)).unflatten(-1, (self.components, sum(sizes)))
        logits, centers, spreads = _precise(raw).split(sizes, -1)
        spreads = self.narrowest + functional.softplus(spreads + math.log(math.expm1(1.0 - self.narrowest)))
        return Mixture(logits[..., 0], self.starts + centers, spreads)


class FlowHead(PosteriorHead):
    """A density of any shape, [B, E, F] -> `Flow`: rational-quadratic splines that condition one another.

    steps         splines of all knobs, one after the other; each bends half of the knobs by the other half
    bins          of each spline
    context       how many numbers of the sound the splines hear
    widths        of the layers that set the splines
    hidden, norm, embed_dim, num_values  as in `StaticHead`

    Candidates are the middles of clusters of 256 samples. Durkan and others, Neural Spline Flows (2019), by
    the library zuko.
    """

    def __init__(
        self,
        embed_dim: int,
        num_values: int,
        steps: int = 4,
        bins: int = 8,
        context: int = 64,
        widths: Sequence[int] = (128, 128),
        hidden: Sequence[int] = (1024,),
        norm: str = "layer",
        entropy: float = 0.01,
    ) -> None:
        super().__init__(num_values, entropy)
        self.layers = StaticHead(embed_dim, context, hidden, norm).layers
        self.flow = NSF(
            num_values, context, transforms=steps, bins=bins, passes=2, hidden_features=widths, randperm=True
        )

    def posterior(self, embedding: Tensor) -> Flow:
        context = _precise(self.layers(embedding.mean(-1)))
        return Flow(self.flow(context[:, None]).transform, len(context), self.num_values, context)


def distinct(
    points: Tensor, rank: Tensor, count: int, landmarks: int | None = None, apart: float = APART
) -> Tensor:
    """Which points are best and `apart` in one value at least, by falling rank.

    points     [B, M, P]
    rank       [B, M]
    landmarks  so many, from the first, are preferred to the others; None: all are alike
    returns    [B, N], places among the M

    Where fewer than `count` are that far from each other, those farthest from the rest fill up.
    """
    if not 1 <= count <= points.shape[1]:
        raise ValueError(f"candidates: expected a count from 1 to {points.shape[1]}, got {count}")
    rows = torch.arange(len(points), device=points.device)
    preferred = torch.arange(points.shape[1], device=points.device) < (landmarks or points.shape[1])
    away, picks = torch.full_like(rank, math.inf), []
    for _ in range(count):
        free = away >= apart
        first = free & preferred
        allowed = torch.where(first.any(1, keepdim=True), first, free)
        highest = rank.masked_fill(~allowed, -math.inf).argmax(1)
        picks.append(torch.where(free.any(1), highest, away.argmax(1)))
        away = torch.minimum(away, (points - points[rows, picks[-1], None]).abs().amax(-1))
    picked = torch.stack(picks, 1)
    return picked.gather(1, rank.gather(1, picked).argsort(dim=1, descending=True, stable=True))


def cluster(points: Tensor, count: int, rounds: int = 10) -> Tensor:
    """The middles of `count` clusters of points [B, M, P] -> [B, N, P], by Lloyd's algorithm from the first
    points; an empty cluster stays where it was."""
    middles = points[:, :count]
    for _ in range(rounds):
        nearest = torch.cdist(points, middles).argmin(-1)
        share = functional.one_hot(nearest, middles.shape[1]).to(points).mT
        size = share.sum(-1, keepdim=True)
        middles = torch.where(size > 0, share @ points / size.clamp(min=1.0), middles)
    return middles


def _normal(x: Tensor) -> Tensor:
    """Log density of the standard normal distribution."""
    return -0.5 * x.square() - 0.5 * math.log(2.0 * math.pi)


def _precise(x: Tensor) -> Tensor:
    """At least float32: quantiles of half precision end at three standard deviations."""
    return x if x.dtype == torch.float64 else x.float()


def _always_the_same() -> torch.Generator:
    return torch.Generator().manual_seed(0)
