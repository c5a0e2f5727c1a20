import numpy as np
import pytest
import scipy.signal
import torch

from difffx.functional.convolution import convolve, fft_length


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def error_db(y, reference):
    return 20 * torch.log10((y.double() - reference).norm() / reference.norm()).item()


def reference(x, ir):
    """Directly from the definition, [B, C, T] with [B, C', C, N]."""
    total = [
        sum(scipy.signal.oaconvolve(x[b, c], ir[b, o, c])[: x.shape[-1]] for c in range(x.shape[1]))
        for b in range(x.shape[0])
        for o in range(ir.shape[1])
    ]
    return torch.from_numpy(np.stack(total)).view(x.shape[0], ir.shape[1], -1)


def diagonal(ir):
    """[B, C, N] -> [B, C, C, N], each channel to itself."""
    return torch.diag_embed(ir.movedim(-1, 0)).movedim(0, -1)


@pytest.mark.parametrize(
    ("samples", "taps"),
    [(1, 1), (1, 50), (500, 700), (500, 1), (30_000, 200), (30_000, 5000), (40_000, 2500)],
)
def test_every_length_equals_the_definition(samples, taps):
    x, ir = noise(2, 2, samples), noise(2, 2, taps, seed=1)
    expected = reference(x, diagonal(ir))
    assert error_db(convolve(x, ir), expected) < -270
    rough = convolve(x.float(), ir.float())
    assert error_db(rough, expected) < -120


def test_mono_through_two_responses_is_stereo_and_one_response_serves_both_channels():
    x, ir = noise(2, 2, 3000), noise(1, 2, 900, seed=1)
    assert convolve(x[:, :1], ir).shape == (2, 2, 3000)
    torch.testing.assert_close(convolve(x[:, :1], ir), convolve(x[:, :1].expand(-1, 2, -1), ir))
    torch.testing.assert_close(convolve(x, ir[:, :1]), convolve(x, ir[:, :1].expand(2, 2, -1)))


@pytest.mark.parametrize("samples", [700, 20_000])
def test_true_stereo_sums_what_each_input_sends_to_each_side(samples):
    x, ir = noise(2, 2, samples), noise(2, 3, 2, 400, seed=1)
    assert error_db(convolve(x, ir), reference(x, ir)) < -270


def test_nothing_sounds_before_the_impulse_and_nothing_wraps_around():
    x = torch.zeros(1, 1, 9000, dtype=torch.float64)
    x[..., 6000] = 1.0
    ir = noise(1, 1, 5000, seed=1)
    y = convolve(x, ir)
    assert y[..., :6000].abs().max() < 1e-13
    torch.testing.assert_close(y[..., 6000:], ir[..., :3000])


@pytest.mark.parametrize(("samples", "taps"), [(40, 90), (9000, 60)])
def test_gradients_of_one_transform_and_of_blocks_are_those_of_the_definition(samples, taps):
    x, ir = noise(2, 2, samples).requires_grad_(), noise(1, 2, 2, taps, seed=1).requires_grad_()
    weight = noise(2, 2, samples, seed=2)
    by_x, by_ir = torch.autograd.grad((convolve(x, ir) * weight).sum(), (x, ir))
    backward = scipy.signal.oaconvolve(weight[1, 0].flip(0), ir[0, 0, 1].detach())[:samples][::-1]
    backward = backward + scipy.signal.oaconvolve(weight[1, 1].flip(0), ir[0, 1, 1].detach())[:samples][::-1]
    torch.testing.assert_close(by_x[1, 1], torch.from_numpy(backward.copy()))
    for lag in range(min(taps, samples)):
        expected = (weight[:, 0, lag:] * x[:, 1, : samples - lag]).sum()
        torch.testing.assert_close(by_ir[0, 0, 1, lag], expected.detach())


def test_an_item_with_a_nan_spoils_no_other():
    x, ir = noise(3, 1, 500), noise(1, 2, 80, seed=1)
    spoiled = x.clone()
    spoiled[1, 0, 9] = float("nan")
    torch.testing.assert_close(convolve(spoiled, ir)[::2], convolve(x, ir)[::2])


@pytest.mark.parametrize("at_least", [1, 2, 3, 7, 97, 1499, 65_537, 196_607])
def test_the_length_of_an_fft_is_the_smallest_of_small_factors(at_least):
    def smooth(n):
        for factor in (2, 3, 5):
            while n % factor == 0:
                n //= factor
        return n == 1

    assert fft_length(at_least) == next(
        n for n in range(at_least, 2 * at_least + 2) if n % 2 == 0 and smooth(n)
    )


def test_wrong_shapes_are_told():
    with pytest.raises(ValueError, match=r"expected x \[B, C, T\]"):
        convolve(noise(1, 100), noise(1, 1, 10))
    with pytest.raises(ValueError, match=r"expected x \[B, C, T\]"):
        convolve(noise(3, 1, 100), noise(2, 1, 10))
    with pytest.raises(ValueError, match="3 channels"):
        convolve(noise(1, 3, 100), noise(1, 2, 10))
    with pytest.raises(ValueError, match="1 channels"):
        convolve(noise(1, 1, 100), noise(1, 2, 2, 10))
