from __future__ import annotations

import pytest
import torch

from difffx.networks import Conditioner, FiLM, MultiRateTCN, weight_count

SMALL = {"frame": 8, "channels": 4, "kernel": 3, "dilations": (1, 4), "taps": 17}


@pytest.fixture
def network() -> MultiRateTCN:
    torch.manual_seed(0)
    network = MultiRateTCN(2, **SMALL)
    network.filters.data.normal_()
    return network.double()


@pytest.mark.parametrize("moment", [0, 7, 8, 100, 203])
def test_no_sample_depends_on_a_later_one(network: MultiRateTCN, moment: int) -> None:
    x, z = torch.rand(1, 1, 205, dtype=torch.float64), torch.rand(1, 2, dtype=torch.float64)
    changed = x.clone()
    changed[..., moment + 1 :] += 1.0
    before, after = network(x, z), network(changed, z)
    assert torch.equal(before[..., : moment + 1], after[..., : moment + 1])
    assert not torch.allclose(before, after)


def test_what_is_heard_now_counts_now(network: MultiRateTCN) -> None:
    x = torch.rand(1, 1, 205, dtype=torch.float64).add_(2.0).requires_grad_()
    network(x, torch.rand(1, 2, dtype=torch.float64))[0, 0, 101].backward()
    assert x.grad[0, 0, 101] != 0


def test_it_looks_back_as_far_as_it_says(network: MultiRateTCN) -> None:
    x = torch.rand(1, 1, 600, dtype=torch.float64).add_(2.0).requires_grad_()
    network(x, torch.rand(1, 2, dtype=torch.float64))[0, 0, -1].backward()
    reach = 600 - x.grad[0, 0].nonzero().min().item()
    assert reach <= network.receptive_field
    assert reach > network.receptive_field - 3 * network.frame


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 1000])
def test_any_length_comes_out_as_it_went_in(network: MultiRateTCN, samples: int) -> None:
    x = torch.rand(3, 1, samples, dtype=torch.float64)
    assert network(x, torch.rand(3, 2, dtype=torch.float64)).shape == x.shape


def test_a_longer_sound_begins_like_a_shorter_one(network: MultiRateTCN) -> None:
    x, z = torch.rand(2, 1, 300, dtype=torch.float64), torch.rand(2, 2, dtype=torch.float64)
    torch.testing.assert_close(network(x, z)[..., :77], network(x[..., :77], z), rtol=1e-12, atol=1e-12)


def test_items_of_a_batch_do_not_hear_each_other(network: MultiRateTCN) -> None:
    x, z = torch.rand(3, 1, 100, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)
    alone = torch.cat([network(x[i : i + 1], z[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x, z), alone, rtol=1e-12, atol=1e-12)


def test_the_fast_filter_is_a_plain_convolution(network: MultiRateTCN) -> None:
    x = torch.rand(2, network.lanes, 5, network.frame, dtype=torch.float64)
    flat = x.flatten(2)
    wanted = torch.zeros(2, flat.shape[-1], dtype=torch.float64)
    for lane in range(network.lanes):
        for tap in range(network.taps):
            delayed = flat[:, lane, : flat.shape[-1] - tap]
            wanted[:, tap:] += network.filters[lane, tap] * delayed
    torch.testing.assert_close(network._filtered(x.unbind(1)).flatten(1), wanted)


def test_curves_run_straight_between_frames_one_frame_late(network: MultiRateTCN) -> None:
    knots = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64)
    curve = network._between_frames(knots).flatten()
    assert curve[network.frame - 1] == 0.0
    assert curve[2 * network.frame - 1] == 1.0
    assert curve[3 * network.frame - 1] == 3.0
    assert curve[3 * network.frame - 1 - network.frame // 2] == 2.0


def test_knobs_steer(network: MultiRateTCN) -> None:
    x = torch.rand(1, 1, 100, dtype=torch.float64)
    z = torch.rand(1, 2, dtype=torch.float64).requires_grad_()
    network(x, z).sum().backward()
    assert (z.grad != 0).all()


def test_a_filter_longer_than_two_frames_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 17"):
        MultiRateTCN(1, **{**SMALL, "taps": 18})


def test_the_default_size_is_smaller_than_the_published_network() -> None:
    assert weight_count(MultiRateTCN(4)) <= 8004


def test_a_film_without_weights_changes_nothing() -> None:
    film = FiLM(3, 5)
    film.affine.weight.data.zero_()
    x = torch.rand(2, 5, 7)
    assert torch.equal(film(x, torch.rand(2, 3)), x)


def test_film_scales_and_shifts_each_channel_of_each_item() -> None:
    torch.manual_seed(0)
    film, x, c = FiLM(3, 5), torch.rand(2, 5, 4, 6), torch.rand(2, 3)
    scale, shift = film.affine(c).chunk(2, 1)
    wanted = x * (1 + scale)[..., None, None] + shift[..., None, None]
    torch.testing.assert_close(film(x, c), wanted)


def test_the_conditioner_tells_knobs_apart() -> None:
    torch.manual_seed(0)
    conditioner = Conditioner(2, 4)
    rows = conditioner(torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    assert rows.shape == (3, 4)
    assert (rows[0] - rows[1]).abs().max() > 0.01
