"""What one hears of each knob: tones that live or die, decays and echoes that come on time."""

import math

import pytest
import scipy.signal
import torch

from difffx.dj import STEM_NAMES, create_mixer, get_default_params, index_of

RATE = 44_100


def tone(hz, samples, rate=RATE):
    return (0.25 * torch.sin(2 * math.pi * hz / rate * torch.arange(samples)))[None, None]


def click(samples, at=0):
    x = torch.zeros(1, 1, samples)
    x[..., at] = 1.0
    return x


def settings(frames=1, **knobs):
    """Neutral but for what is given of deck A's strips (lpf=0.5) and sends (delay_send=0.5)."""
    params = get_default_params(frames)
    for name, value in knobs.items():
        places = ("sends",) if name.startswith(("reverb", "delay")) else STEM_NAMES
        for place in places:
            params[..., index_of("a", place, name)] = torch.as_tensor(value, dtype=torch.float32)
    return params


def played(x, params, rate=RATE, **options):
    """Deck A's vocals alone, [2, T]."""
    mixer = create_mixer(rate, **options)
    return mixer({"vocals": x}, {"vocals": torch.zeros_like(x)}, params)[0][0]


def level_db(y, x):
    """Of the middle half."""
    quarter = y.shape[-1] // 4
    middle = slice(quarter, -quarter)
    return (10 * torch.log10(y[..., middle].square().mean() / x[..., middle].square().mean())).item()


@pytest.mark.parametrize(
    ("knob", "dead", "alive"),
    [("eq_low", 80.0, 1000.0), ("eq_mid", 1100.0, 60.0), ("eq_high", 9000.0, 1000.0)],
)
def test_a_band_at_zero_is_gone_and_the_others_stay(knob, dead, alive):
    params = settings(**{knob: 0.0})
    assert level_db(played(tone(dead, 16_384), params), tone(dead, 16_384)) < -75.0
    assert level_db(played(tone(alive, 16_384), params), tone(alive, 16_384)) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(("knob", "hz"), [("eq_low", 60.0), ("eq_mid", 1100.0), ("eq_high", 9000.0)])
def test_a_band_at_two_is_6_db_louder(knob, hz):
    y = played(tone(hz, 16_384), settings(**{knob: 2.0}))
    assert level_db(y, tone(hz, 16_384)) == pytest.approx(6.02, abs=0.05)


@pytest.mark.parametrize("rate", [16_000, 44_100, 96_000])
@pytest.mark.parametrize(("knob", "way"), [("lpf", 1.0), ("hpf", -1.0)])
def test_a_sweep_is_6_db_down_at_its_cutoff_and_69_an_octave_on(knob, way, rate):
    cutoff, samples = 20.0 * 1000.0**0.65, rate // 3
    params = settings(**{knob: 0.65})
    for octaves, expected, within in (
        (-1.0, 0.0, 0.1),
        (0.0, -6.02, 0.2),
        (0.5, -34.9, 1.0),
        (1.0, -69.5, 3.0),
    ):
        x = tone(cutoff * 2 ** (way * octaves), samples, rate)
        assert level_db(played(x, params, rate), x) == pytest.approx(expected, abs=within)


def test_between_two_points_a_cutoff_moves_in_pitch_and_not_in_hz():
    x = tone(20.0 * 1000.0**0.5, 2 * RATE)  # 632 Hz, half-way from 0.3 to 0.7 in octaves; in Hz 1338 is
    y = played(x, settings(2, lpf=torch.tensor([0.3, 0.7])))
    window = slice(RATE - 1000, RATE + 1000)
    middle = 10 * torch.log10(y[..., window].square().mean() / x[..., window].square().mean())
    assert middle.item() == pytest.approx(-6.0, abs=0.5)


def test_a_fader_moves_in_a_straight_line():
    x = torch.ones(1, 1, RATE)
    y = played(x, settings(2, gain=torch.tensor([1.0, 0.0])))
    line = torch.linspace(1.0, 0.0, RATE)
    assert (y - line)[:, 2048:-2048].abs().max() < 2e-4
    assert (y - line).abs().max() < 0.01  # at the ends the curve bends


def test_a_click_rings_ahead_of_itself_for_milliseconds_only():
    x = click(RATE // 2, at=RATE // 4)
    for params, early_ms in ((settings(eq_mid=0.0, eq_high=0.0), 8.0), (settings(eq_low=0.0), 8.0)):
        y = played(x, params)
        ahead = y[..., : RATE // 4 - round(early_ms * RATE / 1000)]
        assert ahead.square().sum() < 1e-4 * y.square().sum()


@pytest.mark.parametrize("rate", [22_050, 44_100])
@pytest.mark.parametrize("decay_s", [0.4, 1.0])
def test_the_hall_fades_60_db_in_its_decay_time(rate, decay_s):
    params = settings(reverb_send=1.0)
    y = played(
        click(round(1.3 * decay_s * rate)), params, rate, reverb_decay_time=decay_s, reverb_pre_delay_ms=0.0
    )
    sections = scipy.signal.butter(4, (200.0, 1000.0), "bandpass", fs=rate, output="sos")
    low = torch.tensor(scipy.signal.sosfilt(sections, y[..., 1:].double()))
    left = low.square().sum(0).flip(0).cumsum(0).flip(0)
    curve = 10 * torch.log10(left / left[0])
    first, last = (int((curve < level).nonzero()[0]) for level in (-5.0, -35.0))
    assert 2.0 * (last - first) / rate == pytest.approx(decay_s, rel=0.06)


def test_damping_makes_treble_fade_sooner_and_bass_not():
    def late_db(damping, low, high):
        y = played(click(RATE), settings(reverb_send=1.0), reverb_damping=damping, reverb_decay_time=1.0)
        spectrum, hz = torch.fft.rfft(y[..., RATE // 2 :]), torch.fft.rfftfreq(RATE // 2, 1 / RATE)
        return 10 * torch.log10(spectrum[..., (hz > low) & (hz < high)].abs().square().mean()).item()

    assert late_db(0.0, 9000, 14_000) - late_db(0.8, 9000, 14_000) > 20.0
    assert late_db(0.0, 100, 800) - late_db(0.8, 100, 800) == pytest.approx(0.0, abs=1.0)


def test_the_hall_is_stereo_and_as_loud_as_what_is_sent():
    x = 0.1 * torch.randn(1, 1, 3 * RATE, generator=torch.Generator().manual_seed(0))
    params = settings(reverb_send=1.0)
    wet = (played(x, params) - x[0])[..., RATE:]
    assert (10 * torch.log10(wet.square().mean() / x.square().mean())).item() == pytest.approx(0.0, abs=1.0)
    left, right = wet
    assert abs((left * right).mean() / (left.square().mean() * right.square().mean()).sqrt()) < 0.1


@pytest.mark.parametrize(("tempo", "beats"), [(120.0, 0.75), (128.0, 1.0), (93.0, 0.5)])
@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_echoes_come_on_the_beat(tempo, beats, rate):
    params = settings(delay_send=0.5, delay_feedback=0.5)
    y = played(click(2 * rate), params, rate, tempo_bpm=tempo, beats=beats)[0]
    step = beats * 60.0 / tempo * rate
    peaks = (y > 0.05).nonzero().flatten()[1:4]
    assert (peaks - torch.tensor([step, 2 * step, 3 * step])).abs().max() <= 1.5
    assert torch.allclose(y[peaks], 0.5 * torch.tensor([1.0, 0.35, 0.35**2]), atol=1e-5)


def test_without_a_tempo_the_echo_is_375_ms_and_a_call_may_bring_a_tempo_for_each_item():
    params = settings(delay_send=0.5)
    assert played(click(RATE), params)[0, 1:].argmax() + 1 == round(0.375 * RATE)
    two = {"vocals": click(RATE).expand(2, -1, -1)}
    silent = {"vocals": torch.zeros(2, 1, RATE)}
    mixed, _ = create_mixer(RATE, beats=0.5)(two, silent, params, tempo_bpm=[120.0, 60.0])
    assert (mixed[:, 0, 1:].argmax(1) + 1).tolist() == [RATE // 4, RATE // 2]


@pytest.mark.parametrize("name", ["reverb_send", "delay_send"])
def test_tails_outlive_their_send(name):
    send = torch.zeros(9)
    send[:4] = 0.8  # closed from 4/8 of the sound on
    sound = tone(500.0, 2 * RATE)
    sound[..., RATE:] = 0.0
    closed = settings(9, **{name: torch.zeros(9), "delay_feedback": 0.9})
    opened = settings(9, **{name: send, "delay_feedback": 0.9})
    options = {"tempo_bpm": 120.0, "beats": 0.5}
    after = slice(RATE + 3000, RATE + RATE // 2)
    quiet, ringing = (
        played(sound, params, **options)[..., after].square().mean() for params in (closed, opened)
    )
    assert quiet < 1e-12 and ringing > 1e-5


def test_a_deck_that_is_cut_leaves_its_echoes():
    gain, send = torch.ones(41), torch.zeros(41)
    gain[20:], send[15:20] = 0.0, 1.0
    params = settings(41, gain=gain, delay_send=send, delay_feedback=0.9)
    y = played(tone(500.0, 2 * RATE), params, tempo_bpm=120.0, beats=0.5)
    assert y[..., RATE + 3000 : RATE + 9000].square().mean() > 1e-3
    dry = played(tone(500.0, 2 * RATE), settings(41, gain=gain))
    assert dry[..., RATE + 3000 :].abs().max() < 1e-4


def test_the_hall_does_not_hear_the_rest_of_the_batch():
    mixer, params = create_mixer(22_050), settings(reverb_send=0.7)
    x = 0.1 * torch.randn(1, 1, 8000, generator=torch.Generator().manual_seed(0))
    pair = torch.cat((x, 30.0 * click(8000, at=7999)))
    alone, beside = (mixer({"drums": y}, {"drums": torch.zeros_like(y)}, params)[0][0] for y in (x, pair))
    assert (alone - beside).norm() < 1e-6 * alone.norm()
