import pytest
import torch

from difffx.functional.send_echo import send_echo


def click(samples, batch=1):
    x = torch.zeros(batch, 1, samples, dtype=torch.float64)
    x[..., 0] = 1.0
    return x


def static(value):
    return torch.full((1, 1, 1), value, dtype=torch.float64)


def test_echoes_come_on_time_the_first_in_full():
    y = send_echo(click(35), 10, static(0.5))[0, 0]
    assert y.nonzero().flatten().tolist() == [10, 20, 30]
    assert y[[10, 20, 30]].tolist() == [1.0, 0.5, 0.25]


def test_a_feedback_that_is_taken_down_ends_the_tail():
    feedback = torch.full((1, 1, 60), 0.9, dtype=torch.float64)
    feedback[..., 25:] = 0.0
    y = send_echo(click(60), 10, feedback)[0, 0]
    assert y.nonzero().flatten().tolist() == [10, 20, 30]  # what is in the line at 25 still comes out once


def test_each_item_may_have_its_own_time():
    y = send_echo(click(30, batch=2), [7, 12], static(0.0))
    assert y[:, 0].argmax(1).tolist() == [7, 12]


def test_a_delay_beyond_the_end_is_silence():
    assert send_echo(click(30), 40, static(0.5)).abs().max() == 0.0


def test_gradients_to_the_sound_and_to_the_feedback():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 40, dtype=torch.float64, generator=generator).requires_grad_()
    feedback = torch.rand(2, 1, 40, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, f: send_echo(x, [7, 50], 0.7 * f), (x, feedback))


def test_a_wrong_number_of_times_is_refused():
    with pytest.raises(ValueError, match="expected one delay or 1 of them, got 2"):
        send_echo(click(30), [1, 2], static(0.5))
