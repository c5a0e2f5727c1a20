"""What the delays promise by name: where the echoes of an impulse stand, in milliseconds and beats."""

import pytest
import torch

from difffx.processors import (
    DampedDelay,
    Delay,
    FeedbackDelay,
    MultiTapDelay,
    PingPongDelay,
    SlapbackDelay,
    TempoDelay,
)
from difffx.processors.delays import DIVISIONS

RATE = 48_000


def impulse(seconds=1.0, channels=1):
    x = torch.zeros(1, channels, int(seconds * RATE))
    x[..., 0] = 1.0
    return x


def peaks_ms(y, least=0.05):
    """Where one channel is loud, [T] -> milliseconds."""
    return [round(n * 1000 / RATE, 3) for n in (y.abs() > least).nonzero().flatten().tolist()]


@pytest.mark.parametrize("kind", [Delay, SlapbackDelay])
def test_one_echo_after_so_many_milliseconds(kind):
    y = kind(RATE)(impulse(), delay_ms=100.0, mix=0.5)[0, 0]
    assert peaks_ms(y) == [0.0, 100.0]
    assert torch.allclose(y[[0, 4800]], torch.tensor([0.5, 0.5]))


def test_a_curve_of_times_is_followed():
    times = torch.tensor([[[100.0, 200.0]]])
    x = torch.zeros(1, 1, RATE)
    x[..., RATE // 2] = 1.0
    y = Delay(RATE)(x, delay_ms=times, mix=1.0)[0, 0]
    # Heard at t where t - delay(t) = 500 ms and delay(t) = 100 ms + t / 10.
    assert abs(y.abs().argmax().item() / RATE - 0.6 / 0.9) < 1e-4


@pytest.mark.parametrize("kind", [FeedbackDelay, DampedDelay])
def test_echoes_of_echoes_come_later_never_earlier(kind):
    x = impulse().roll(RATE // 4, -1)
    y = kind(RATE)(x, delay_ms=100.0, feedback=0.8, mix=1.0)[0, 0]
    assert not y[: RATE // 4 + 4798].any()
    assert y[RATE // 4 + 4800] == pytest.approx(1.0, abs=1e-5)
    assert y[RATE // 4 + 9600 : RATE // 4 + 9900].sum() == pytest.approx(0.8, abs=1e-3)


def test_clean_echoes_fall_by_the_feedback():
    y = FeedbackDelay(RATE)(impulse(), delay_ms=125.0, feedback=0.5, mix=1.0)[0, 0]
    assert peaks_ms(y, 1e-3) == [125.0, 250.0, 375.0, 500.0, 625.0, 750.0, 875.0]
    assert torch.allclose(y[6000::6000], 0.5 ** torch.arange(7))


def test_ping_pong_starts_on_the_left_for_mono_and_stereo():
    for channels in (1, 2):
        y = PingPongDelay(RATE)(impulse(channels=channels), delay_ms=100.0, damping_hz=20_000.0, mix=1.0)[0]
        assert y.shape == (2, RATE)
        left, right = (peaks_ms(channel, 0.03) for channel in y)
        assert left[0] == 100.0 and min(right) == 200.0 and 300.0 in left


def test_taps_have_their_own_times_and_levels():
    times, levels = torch.tensor([[[100.0], [50.0]]]), torch.tensor([[[0.5], [1.0]]])
    y = MultiTapDelay(RATE, num_taps=2)(impulse(), delay_ms=times, level=levels, mix=1.0)[0, 0]
    assert peaks_ms(y) == [50.0, 100.0] and torch.allclose(y[[2400, 4800]], torch.tensor([1.0, 0.5]))
    assert len(MultiTapDelay(RATE, num_taps=7).spec) == 15


@pytest.mark.parametrize(
    ("division", "at_ms"), [("1/4", 500), ("1/8", 250), ("1/8.", 375), ("1/4t", 1000 / 3)]
)
def test_echoes_fall_on_the_beat(division, at_ms):
    y = TempoDelay(RATE, division=division)(impulse(), tempo_bpm=120.0, feedback=0.0, mix=1.0)[0, 0]
    assert peaks_ms(y) == [pytest.approx(at_ms, abs=1e-3)]


def test_divisions_count_in_quarter_notes():
    assert DIVISIONS["1/4"] == 1.0 and DIVISIONS["1/2."] == 3.0 and DIVISIONS["1/8t"] == pytest.approx(1 / 3)
    assert len(DIVISIONS) == 18


def test_wrong_constructions_are_refused():
    with pytest.raises(ValueError, match="num_taps must be at least 1"):
        MultiTapDelay(RATE, num_taps=0)
    with pytest.raises(ValueError, match=r"division must be one of .*got '1/3'"):
        TempoDelay(RATE, division="1/3")
