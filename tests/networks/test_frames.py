"""Networks along frames: any number of them, each sees the others."""

import pytest
import torch

from difffx.networks import FrameConvolutions, FrameLSTM, FrameTransformer
from difffx.networks.transformer import positions

KINDS = [FrameConvolutions, FrameLSTM, FrameTransformer]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 2, 33])
def test_any_number_of_frames_keeps_its_shape(kind, frames):
    torch.manual_seed(0)
    x = torch.randn(3, 16, frames)
    assert kind(16)(x).shape == x.shape and kind(16)(x).isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_hears_the_one_before_and_the_one_after_and_no_other_item(kind):
    torch.manual_seed(0)
    network, x = kind(16).eval(), torch.randn(2, 16, 9)
    changed = x.clone()
    changed[0, 0, 4] += 1.0
    moved = (network(changed) - network(x)).abs().amax(1)
    assert (moved[0, 3:6] > 1e-6).all() and (moved[1] < 1e-6).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient(kind):
    torch.manual_seed(0)
    network = kind(16)
    network(torch.randn(2, 16, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_no_two_frames_have_the_same_place():
    places = positions(500, 16)
    assert places.shape == (16, 500)
    near = torch.cdist(places.T, places.T) + 10.0 * torch.eye(500)
    assert near.min() > 1e-2


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [(FrameConvolutions, {"kernel": 4}), (FrameLSTM, {"width": 15}), (FrameTransformer, {"heads": 5})],
)
def test_sizes_that_do_not_fit_are_refused(kind, wrong):
    with pytest.raises(ValueError, match=kind.__name__):
        kind(**{"width": 16, **wrong})
