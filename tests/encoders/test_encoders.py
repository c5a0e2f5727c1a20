from __future__ import annotations

import pytest
import torch
from torch import nn

from difffx.encoders import MusicalEffectsEncoder, StaticHead, TimbreEncoder, TimeFrequencyEncoder
from difffx.encoders.histograms import Histograms, histogram

RATE = 44_100
KINDS = [TimbreEncoder, TimeFrequencyEncoder, MusicalEffectsEncoder]
TIMBRE = {"statistics": ["mean"], "hop": 512, "standardize": False, "norm": "batch"}
TIME_FREQUENCY = {
    "channels": 64,
    "time_kernel": 128,
    "time_context": 31,
    "statistics": ["max"],
    "hop": 512,
    "envelope": 0,
    "spectrum": False,
    "standardize": False,
    "norm": "batch",
}
EFFECTS = {
    "channels": [16, 32, 64, 128, 256, 256, 512, 512, 1024, 1024, 2048, 2048],
    "kernels": [25, 25, 15, 15, 10, 10, 10, 10, 5, 5, 5, 5],
    "strides": [4, 4, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1],
    "statistics": ["mean"],
}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def built(kind: type, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    return kind(RATE, **arguments)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("kind", "arguments", "encoder_size", "whole_size"),
    [
        (TimbreEncoder, TIMBRE, 10_503, 2_785_561),
        (TimeFrequencyEncoder, TIME_FREQUENCY, 453_700, 3_355_734),
        (MusicalEffectsEncoder, EFFECTS, 81_392_228, 88_226_422),
    ],
)
def test_the_published_sizes_are_reached_to_the_last_parameter(kind, arguments, encoder_size, whole_size):
    with torch.device("meta"):
        encoder = kind(RATE, **arguments)
        head = StaticHead(encoder.embed_dim, 15, hidden=[2048, 1024, 512], norm="batch")
    assert count(encoder) == encoder_size
    assert count(encoder) + count(head) == whole_size


@pytest.mark.parametrize(
    ("kind", "arguments"), [(TimbreEncoder, TIMBRE), (TimeFrequencyEncoder, TIME_FREQUENCY)]
)
def test_the_published_encoders_take_one_second_and_one_item_in_training(kind, arguments):
    encoder = built(kind, **arguments).train()
    head = StaticHead(encoder.embed_dim, 3, norm="batch").train()
    head(encoder(noise(1, 1, RATE))).sum().backward()


@pytest.mark.parametrize("kind", KINDS)
def test_the_default_is_small(kind):
    assert count(built(kind)) < 1_000_000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("samples", [RATE, RATE + 1, 2 * RATE + 777, 5 * RATE])
def test_any_length_from_a_second_up_gives_one_embedding(kind, samples):
    encoder = built(kind).eval()
    with torch.inference_mode():
        embedding = encoder(noise(2, 1, samples))
    assert embedding.shape == (2, encoder.embed_dim, 1)
    assert torch.isfinite(embedding).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [22_050, 32_000, 48_000])
def test_any_sample_rate_is_taken(kind, rate):
    torch.manual_seed(0)
    assert torch.isfinite(kind(rate).eval()(noise(1, 1, rate))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_level_does_not_matter(kind):
    encoder = built(kind).eval()
    x = noise(1, 2, RATE)
    with torch.inference_mode():
        reference = encoder(x)
        for gain in (1e-4, 0.37, 50.0):
            torch.testing.assert_close(encoder(gain * x), reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_items(kind):
    encoder = built(kind).eval()
    x = noise(3, 1, RATE) * torch.tensor([1.0, 0.1, 4.0]).reshape(3, 1, 1)
    with torch.inference_mode():
        alone = torch.cat([encoder(item[None]) for item in x])
        torch.testing.assert_close(encoder(x), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_mono_doubled_to_stereo_sounds_the_same(kind):
    encoder = built(kind).eval()
    x = noise(1, 1, RATE)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x.expand(1, 2, -1)), encoder(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_silence_is_finite_and_so_are_its_gradients(kind):
    encoder = built(kind).train()
    x = torch.zeros(2, 1, RATE, requires_grad=True)
    encoder(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns_and_one_item_can_be_trained_on(kind):
    encoder = built(kind).train()
    weights = torch.linspace(-1, 1, encoder.embed_dim)[:, None]
    (encoder(noise(1, 1, 2 * RATE)) * weights).sum().backward()
    for name, p in encoder.named_parameters():
        assert p.grad is not None and torch.isfinite(p.grad).all(), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_short_clip_is_refused_with_name_and_seconds(kind):
    with pytest.raises(ValueError, match=rf"{kind.__name__}.*1 s.*0\.100 s"):
        built(kind)(torch.zeros(1, 1, RATE // 10))
    with pytest.raises(ValueError, match=r"\[B, C, T\]"):
        built(kind)(torch.zeros(RATE))


@pytest.mark.parametrize("kind", KINDS)
def test_different_balance_gives_a_different_embedding(kind):
    encoder = built(kind).eval()
    x = noise(1, 1, RATE)
    with torch.inference_mode():
        assert (encoder(x) - encoder(x + 0.95 * x.roll(1, -1))).abs().max() > 1e-2


def test_the_timbre_encoder_does_not_mind_a_transposition_but_the_time_frequency_encoder_does():
    t = torch.arange(2 * RATE) / RATE
    low, high = (torch.sin(6.283185 * f * t).reshape(1, 1, -1) for f in (440.0, 440.0 * 2 ** (5 / 12)))

    def moved(kind):
        encoder = built(kind).eval()
        with torch.inference_mode():
            a, b, other = encoder(low), encoder(high), encoder(noise(1, 1, 2 * RATE))
        return ((a - b).norm() / (a - other).norm()).item()

    assert moved(TimbreEncoder) < 0.5 * moved(TimeFrequencyEncoder)


def test_unknown_statistics_and_norms_are_refused():
    with pytest.raises(ValueError, match="median"):
        built(TimbreEncoder, statistics=["median"])
    with pytest.raises(ValueError, match="grop"):
        StaticHead(8, 3, norm="grop")


@pytest.mark.parametrize("norm", ["layer", "batch"])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_head_starts_near_the_middle_of_every_knob(norm, batch):
    torch.manual_seed(0)
    z = StaticHead(128, 20, norm=norm).train()(torch.randn(batch, 128, 7))
    assert z.shape == (batch, 20, 1)
    assert (z - 0.5).abs().max() < 0.1


def test_a_head_without_knobs_is_refused():
    with pytest.raises(ValueError, match="nothing to estimate"):
        StaticHead(8, 0)


def test_a_histogram_counts_what_lies_where_and_the_rest_in_the_outermost_bins():
    x = torch.tensor([[-0.9, -0.9, 0.1, 0.9], [-7.0, 0.6, 0.7, 3.0]])
    shares = histogram(x, -1.0, 1.0, 4)
    assert shares.tolist() == [[0.5, 0.0, 0.25, 0.25], [0.25, 0.0, 0.0, 0.75]]


def test_histograms_tell_a_clipped_sound_and_a_steadied_one_from_the_sound_before():
    subject = built(Histograms).eval()
    x = noise(1, 1, RATE)
    swell = x * torch.linspace(0.05, 1.0, RATE)
    clipped, steadied = swell.clamp(-0.05, 0.05), x

    def shares(sound):
        return subject(sound / sound.abs().max())[0].exp()

    plain = shares(swell)
    at_the_ends = slice(0, 64, 63)
    assert (shares(clipped)[at_the_ends] > 100.0 * plain[at_the_ends]).all()
    levels = slice(64, 64 + 40)
    assert (shares(steadied)[levels] > 1e-3).sum() < (plain[levels] > 1e-3).sum()


def test_histograms_go_into_the_embedding_and_nothing_else_changes():
    plain, more = (built(TimeFrequencyEncoder, histograms=kind).eval() for kind in (False, True))
    x = noise(2, 1, RATE)
    assert more.embed_dim == plain.embed_dim + Histograms.features
    assert torch.equal(more(x)[:, : plain.embed_dim], plain(x))
