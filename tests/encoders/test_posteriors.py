"""Densities over settings: they are densities, they are sampled as they say, and they find what is there."""

import numpy as np
import pytest
import torch
from scipy import stats

from difffx.encoders import FlowHead, Mixture, MixtureHead, StaticHead, distinct, to_normal
from difffx.encoders.posteriors import from_normal

EMBED = 8
HEADS = {
    "mixture": lambda values: MixtureHead(EMBED, values, components=4, hidden=(16,)),
    "flow": lambda values: FlowHead(EMBED, values, context=8, widths=(32,), hidden=(16,)),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sounds(batch=1, seed=0):
    return torch.randn(batch, EMBED, 1, generator=generator(seed))


def shaped(kind, values, seed=1):
    """A head in float64 whose weights are large enough that its densities are far from even."""
    torch.manual_seed(seed)
    head = HEADS[kind](values).double()
    with torch.no_grad():
        head.layers[-1].weight.mul_(3.0)
        for name, weight in head.named_parameters():
            if name.startswith("flow"):
                weight.mul_(2.0)
    return head


def posterior(kind, values, batch=1, seed=1):
    return shaped(kind, values, seed).posterior(sounds(batch).double())


def grid(values, points):
    """Middles of cells of the unit cube, finer towards its faces, [1, N, P, 1], and their volumes [N]."""
    edges = torch.special.ndtr(torch.linspace(-4.75, 4.75, points + 1, dtype=torch.float64))
    z = torch.cartesian_prod(*[0.5 * (edges[1:] + edges[:-1])] * values).reshape(1, -1, values, 1)
    sizes = torch.cartesian_prod(*[edges.diff()] * values).reshape(-1, values)
    return z, sizes.prod(-1)


def mixture(batch=1, components=3, values=2, seed=0):
    draws = torch.randn(3, batch, components, values, generator=generator(seed), dtype=torch.float64)
    return draws[0, ..., 0], draws[1], 0.3 + 0.5 * torch.sigmoid(draws[2])


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize(("values", "points"), [(1, 5_000), (2, 200)])
def test_a_density_adds_up_to_one(kind, values, points):
    z, cells = grid(values, points)
    with torch.no_grad():
        log_prob = posterior(kind, values).log_prob(z)[0]
    assert log_prob.std() > 0.3  # far from even
    assert (log_prob.exp() @ cells).item() == pytest.approx(1.0, abs=1e-3)


def test_the_density_of_a_mixture_is_the_closed_form_with_the_slope_of_the_map():
    logits, centers, spreads = mixture(batch=2)
    z = torch.rand(2, 5, 2, 1, generator=generator(3), dtype=torch.float64)
    x = stats.norm.ppf(z[..., 0].numpy())
    for item in range(2):
        weights = np.exp(logits[item].numpy()) / np.exp(logits[item].numpy()).sum()
        parts = stats.norm.pdf(x[item][:, None], centers[item].numpy(), spreads[item].numpy()).prod(-1)
        expected = np.log(parts @ weights) - stats.norm.logpdf(x[item]).sum(-1)
        found = Mixture(logits, centers, spreads).log_prob(z)[item]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_who_knows_nothing_has_density_one_everywhere():
    zeros = torch.zeros(1, 1, 3)
    even = Mixture(torch.zeros(1, 1), zeros, zeros + 1.0)
    z = torch.rand(1, 50, 3, 1, generator=generator())
    assert even.log_prob(z).abs().max() < 1e-5


def test_one_setting_and_many_have_the_same_density():
    found = posterior("flow", 3, batch=2)
    z = torch.rand(2, 4, 3, 1, generator=generator(), dtype=torch.float64)
    assert torch.allclose(found.log_prob(z)[:, 1], found.log_prob(z[:, 1]))


@pytest.mark.parametrize("kind", HEADS)
def test_samples_follow_the_density(kind):
    """Kolmogorov and Smirnov: the largest gap of 4,000 samples stays under 0.0258, but for 1 in 100."""
    found = posterior(kind, 1)
    z, cells = grid(1, 5_000)
    with torch.no_grad():
        mass = found.log_prob(z).exp()[0] * cells
        samples = found.rsample(4000, generator(5)).flatten().numpy()
    below = (mass.cumsum(0) - 0.5 * mass).numpy()
    assert stats.kstest(samples, lambda q: np.interp(q, z.flatten().numpy(), below)).statistic < 0.0258
    assert stats.kstest(samples, "uniform").statistic > 0.05  # which the even density does not pass


@pytest.mark.parametrize("kind", HEADS)
def test_samples_of_two_values_have_the_moments_of_their_density(kind):
    found = posterior(kind, 2, seed=4)
    z, cells = grid(2, 200)
    with torch.no_grad():
        density = found.log_prob(z)[0].exp() * cells
        samples = found.rsample(40_000, generator(6))[0, ..., 0]
    points = z[0, ..., 0]
    mean = density @ points
    assert torch.allclose(samples.mean(0), mean, atol=5e-3)
    product = density @ points.prod(-1)
    assert torch.allclose(samples.prod(-1).mean(), product, atol=5e-3)


@pytest.mark.parametrize("kind", HEADS)
def test_one_answer_is_the_mean_and_a_switch_its_share_above_the_middle(kind):
    head, embedding = shaped(kind, 2, seed=4), sounds(3).double()
    with torch.no_grad():
        samples = head.posterior(embedding).rsample(40_000, generator(8))
        mean, above = head(embedding), head.posterior(embedding).above_half()
    tolerance = {"mixture": 5e-3, "flow": 0.05}[kind]  # of 256 samples
    assert mean.shape == (3, 2, 1) and mean.std() > 0.02
    assert torch.allclose(mean, samples.mean(1), atol=tolerance)
    share = (samples[..., 0] > 0.5).double().mean(1)
    assert torch.allclose(above.double(), share, atol=2 * tolerance) and share.std() > 0.03


def test_samples_of_a_mixture_move_as_its_moments_do():
    """E[x^2] = sum w (center^2 + spread^2), E[x y] = sum w center_x center_y: gradients of samples agree."""
    parts = [part.requires_grad_() for part in mixture(seed=2)]
    x = to_normal(Mixture(*parts).rsample(60_000, generator(1)))[0, ..., 0]
    found = torch.autograd.grad((x[:, 1].square() + x[:, 0] * x[:, 1]).mean(), parts)
    logits, centers, spreads = parts
    squares = centers[..., 1].square() + spreads[..., 1].square() + centers.prod(-1)
    expected = torch.autograd.grad((logits.softmax(-1) * squares).sum(), parts)
    for mine, true in zip(found, expected, strict=True):
        assert torch.allclose(mine, true, atol=0.03 * max(p.abs().max() for p in expected))


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("way", ["likelihood", "samples"])
def test_gradients_reach_every_weight(kind, way):
    torch.manual_seed(0)
    head = HEADS[kind](5)
    found = head.posterior(sounds(6))
    if way == "likelihood":
        found.log_prob(torch.rand(6, 5, 1, generator=generator())).mean().backward()
    else:
        z = found.rsample(2, generator())
        (z.square().mean() + found.log_prob(z).mean()).backward()
    dead = [name for name, p in head.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("values", [2, 6])
def test_candidates_are_distinct_and_sorted_and_the_first_is_always_the_same(kind, values):
    head, embedding = shaped(kind, values), sounds(3).double()
    with torch.no_grad():
        z, rank = head.posterior(embedding).candidates(8)
        again = head.posterior(embedding).candidates(8)[0]
        few = head.posterior(embedding).candidates(3)[0]
    assert z.shape == (3, 8, values, 1) and rank.shape == (3, 8)
    assert (rank.diff(dim=1) <= 0).all()
    assert torch.equal(z, again)
    assert torch.equal(few[:, 0], z[:, 0])
    apart = (z[:, :, None] - z[:, None]).abs().amax((-2, -1)) + torch.eye(8)
    assert apart.min() >= 0.05
    slopes = torch.distributions.Normal(0.0, 1.0).log_prob(to_normal(z)).sum((-2, -1))
    assert torch.allclose(head.posterior(embedding).log_prob(z) + slopes, rank)
    assert ((z > 0) & (z < 1)).all()


def test_more_candidates_than_components_are_drawn():
    z, _ = posterior("mixture", 3).candidates(12)
    apart = (z[:, :, None] - z[:, None]).abs().amax((-2, -1)) + torch.eye(12)
    assert z.shape == (1, 12, 3, 1) and apart.min() >= 0.05


def test_the_tops_of_a_mixture_are_where_its_density_is_flat():
    found = Mixture(*mixture(batch=2, components=4))
    top = found.uphill(found.centers, 200).requires_grad_()
    height = found.density(top) - 0.5 * top.square().sum(-1)
    assert torch.autograd.grad(height.sum(), top)[0].abs().max() < 1e-3
    assert (height >= found.density(found.centers) - 0.5 * found.centers.square().sum(-1)).all()


def test_the_densest_come_first_and_near_duplicates_only_where_nothing_else_is_left():
    points = torch.tensor([0.50, 0.51, 0.20, 0.90]).view(1, 4, 1)
    log_prob = torch.tensor([[2.0, 3.0, 1.0, -5.0]])
    assert distinct(points, log_prob, 3).tolist() == [[1, 2, 3]]
    assert distinct(points, log_prob, 4).tolist() == [[1, 0, 2, 3]]
    assert distinct(points.flip(1), log_prob.flip(1), 2, landmarks=2).tolist() == [[1, 0]]
    with pytest.raises(ValueError, match="candidates: expected a count from 1 to 4, got 5"):
        distinct(points, log_prob, 5)


@pytest.mark.parametrize("kind", HEADS)
def test_two_truths_are_both_found_where_one_answer_is_between_them(kind):
    """One sound, made with 0.2 or with 0.8: half of each."""
    torch.manual_seed(0)
    head, point = HEADS[kind](1), StaticHead(EMBED, 1, hidden=(16,))
    optimizer = torch.optim.Adam([*head.parameters(), *point.parameters()], lr=1e-2)
    embedding = sounds(1).expand(64, -1, -1)
    for step in range(150):
        draw = torch.randn(64, 1, 1, generator=generator(step))
        truth = torch.where(draw > 0, 0.8, 0.2) + 0.02 * draw
        loss = (point(embedding) - truth).square().mean() - head.posterior(embedding).log_prob(truth).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        z, _ = head.posterior(embedding[:1]).candidates(2)
        one, samples = point(embedding[:1]).item(), head.posterior(embedding[:1]).rsample(1000, generator())
    assert sorted(z.flatten().tolist()) == pytest.approx([0.2, 0.8], abs=0.06)
    assert one == pytest.approx(0.5, abs=0.08)
    assert (samples > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.12)
    assert ((samples > 0.35) & (samples < 0.65)).float().mean() < 0.1


@pytest.mark.parametrize("kind", HEADS)
def test_the_ends_of_the_range_have_a_density_and_a_gradient(kind):
    torch.manual_seed(0)
    head = HEADS[kind](2)
    z = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])[..., None].requires_grad_()
    log_prob = head.posterior(sounds(3)).log_prob(z)
    log_prob.sum().backward()
    assert torch.isfinite(log_prob).all() and torch.isfinite(z.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_of_another_seed_says_the_same_with_the_weights_of_the_first(kind, tmp_path):
    first, second = shaped(kind, 6), shaped(kind, 6, seed=2)
    z = torch.rand(2, 6, 1, generator=generator(), dtype=torch.float64)
    assert not torch.allclose(*(head.posterior(sounds(2).double()).log_prob(z) for head in (first, second)))
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    same = [head.posterior(sounds(2).double()) for head in (first, second)]
    assert torch.equal(same[0].log_prob(z), same[1].log_prob(z))
    assert torch.equal(same[0].candidates(4)[0], same[1].candidates(4)[0])


@pytest.mark.parametrize("kind", HEADS)
def test_half_precision_does_not_cut_the_ends_off(kind):
    torch.manual_seed(0)
    head = HEADS[kind](4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head.posterior(sounds(2))
        log_prob = found.log_prob(torch.full((2, 4, 1), 0.999))
        z = found.rsample(500, generator())
    assert log_prob.dtype == z.dtype == torch.float32
    assert torch.isfinite(log_prob).all() and z.amax() > 0.997


def test_the_map_to_normal_and_back_is_one():
    z = torch.linspace(0.001, 0.999, 99)
    assert torch.allclose(from_normal(to_normal(z)), z, atol=1e-6)
    assert to_normal(torch.tensor(0.975)).item() == pytest.approx(1.95996, abs=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MixtureHead(EMBED, 0), "MixtureHead: there is nothing to estimate"),
        (lambda: FlowHead(EMBED, 0), "FlowHead: there is nothing to estimate"),
        (lambda: MixtureHead(EMBED, 2, components=0), "components must be at least 1"),
        (lambda: FlowHead(EMBED, 2, entropy=-1.0), "entropy must be 0 or more"),
    ],
)
def test_a_wrong_head_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
