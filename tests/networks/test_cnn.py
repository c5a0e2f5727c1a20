import pytest
import torch

from difffx.networks.cnn import RunningNorm, pool_time


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


def test_an_equalizer_moves_the_levels_of_a_log_spectrogram_and_leaves_its_spread_and_its_flux():
    x = torch.randn(2, 1, 9, 50, generator=torch.Generator().manual_seed(0))
    curve = torch.linspace(-1.0, 1.0, 9).view(1, 1, 9, 1)
    for name, moved in (("mean", True), ("max", True), ("min", True), ("std", False), ("flux", False)):
        before, after = pool_time(x, (name,)), pool_time(x + curve, (name,))
        assert torch.allclose(after, before + moved * curve[..., 0], atol=1e-5), name


def test_contrast_and_flux_are_mean_absolute_steps_in_frequency_and_in_time():
    steps = torch.tensor([[0.0, 2.0, 2.0, 5.0]])
    assert pool_time(steps[:, None], ("flux",)).item() == pytest.approx(5.0 / 3.0)
    assert pool_time(steps[..., None].expand(1, 4, 6)[:, None], ("contrast",))[0, 0].tolist() == [0, 2, 0, 3]
