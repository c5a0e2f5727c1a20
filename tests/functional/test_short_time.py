import pytest
import torch

from difffx.functional.short_time import frame_positions, from_spectrum, to_spectrum


def noise(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


@pytest.mark.parametrize("samples", [1, 7, 1000, 5000])
@pytest.mark.parametrize("frames", [(2048, 512), (256, 100), (64, 32), (16, 1)])
def test_there_and_back_is_the_sound_at_any_length(samples, frames):
    x = noise(2, 1, samples)
    y = from_spectrum(to_spectrum(x, *frames), samples, *frames)
    assert y.shape == x.shape
    assert (y - x).norm() < 1e-6 * x.norm()


def test_a_tone_lies_in_its_bin():
    x = torch.cos(2 * torch.pi * 5 / 64 * torch.arange(640, dtype=torch.float64))
    planes = to_spectrum(x, 64, 16)
    power = planes.square().sum(0)
    assert power[20].argmax() == 5
    assert power[20, 5].sqrt() == pytest.approx(16.0, rel=1e-9)  # half of the window's sum


def test_frames_are_where_they_say():
    x = torch.zeros(400)
    x[137] = 1.0
    positions = frame_positions(400, 64, 16)
    power = to_spectrum(x, 64, 16).square().sum((0, 2))
    assert len(positions) == len(power)
    assert (positions[power.argmax()] - 137).abs() <= 8
    assert (power[(positions - 137).abs() >= 32] == 0.0).all()


def test_a_quiet_part_says_nothing_about_a_loud_one_further_than_a_frame_away():
    x = noise(1, 1000)
    longer = torch.cat((x, noise(1, 1000)), 1)
    first, second = (from_spectrum(to_spectrum(y, 64, 16) ** 3, y.shape[1], 64, 16) for y in (x, longer))
    assert torch.allclose(first[:, :936], second[:, :936], atol=1e-6)


def test_both_ways_are_adjoint_to_their_gradients():
    x = noise(1, 20, dtype=torch.float64).requires_grad_()
    planes = to_spectrum(x, 8, 3)
    assert torch.autograd.gradcheck(lambda x: to_spectrum(x, 8, 3), x)
    planes = noise(*planes.shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: from_spectrum(p, 20, 8, 3), planes)


@pytest.mark.parametrize(("n_fft", "hop"), [(64, 33), (63, 16), (64, 0)])
def test_frames_that_leave_gaps_are_refused(n_fft, hop):
    with pytest.raises(ValueError, match=f"frames of {n_fft} samples, {hop} apart"):
        to_spectrum(torch.zeros(1, 100), n_fft, hop)
