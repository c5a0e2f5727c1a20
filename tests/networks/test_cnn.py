import torch

from difffx.networks.cnn import RunningNorm


def batches(count: int = 200) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scale, shift = torch.tensor([0.1, 1.0, 30.0]), torch.tensor([5.0, 0.0, -100.0])
    return [torch.randn(8, 3, generator=generator) * scale + shift for _ in range(count)]


def test_features_are_brought_to_mean_zero_and_spread_one():
    norm = RunningNorm(3)
    for x in batches():
        norm(x)
    y = norm.eval()(torch.cat(batches()))
    assert y.mean(0).abs().max() < 0.05
    assert (y.std(0) - 1).abs().max() < 0.05


def test_training_and_evaluation_do_the_same_and_one_item_is_enough():
    norm = RunningNorm(3)
    for x in batches():
        norm(x)
    before = norm.eval()(x[:1])
    assert torch.allclose(norm.train()(x[:1]), before, atol=0.02)
    assert torch.equal(norm.eval()(x)[:1], norm(x[:1]))


def test_a_constant_feature_stays_finite():
    norm = RunningNorm(2)
    x = torch.ones(4, 2, requires_grad=True)
    norm(x).sum().backward()
    assert norm(x).isfinite().all() and x.grad.isfinite().all()
