"""What modulation promises by name: constructions, stereo, and that mono effects do not cross channels."""

import pytest
import torch

from difffx.processors import (
    AutoWah,
    Chorus,
    FeedbackFlanger,
    Flanger,
    Phaser,
    RingModulator,
    StereoChorus,
    StereoFlanger,
    Tremolo,
    Vibrato,
)

RATE = 44_100
SHAPES = ("sine", "triangle", "saw", "square")
SHAPED = [
    Chorus,
    FeedbackFlanger,
    Flanger,
    Phaser,
    RingModulator,
    StereoChorus,
    StereoFlanger,
    Tremolo,
    Vibrato,
]


def noise(items=1, channels=1, samples=3000):
    return 0.3 * torch.randn(items, channels, samples, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", SHAPED)
def test_every_shape_of_oscillator_sounds_different(kind):
    x = noise(samples=8000)
    speed = {} if kind is RingModulator else {"rate_hz": 5.0}
    heard = [kind(RATE, shape=shape)(x, **speed) for shape in SHAPES]
    for i, one in enumerate(heard):
        assert one.isfinite().all()
        assert all((one - other).abs().max() > 1e-3 for other in heard[:i])


@pytest.mark.parametrize("kind", SHAPED)
def test_an_unknown_shape_is_refused_by_name(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: shape must be one of sine"):
        kind(RATE, shape="random")


@pytest.mark.parametrize("kind", [StereoChorus, StereoFlanger])
def test_mono_becomes_wide_and_without_spread_stays_in_the_middle(kind):
    x = noise()
    left, right = kind(RATE)(x)[0]
    assert (left - right).abs().max() > 0.05
    left, right = kind(RATE)(x, spread=0.0)[0]
    assert torch.equal(left, right)


@pytest.mark.parametrize("kind", [Chorus, Flanger, FeedbackFlanger, Phaser, RingModulator, Tremolo, Vibrato])
def test_a_silent_channel_stays_silent(kind):
    x = noise(channels=2)
    x[:, 1] = 0.0
    y = kind(RATE)(x)
    assert y[:, 0].any() and not y[:, 1].any()


def test_voices_and_stages_are_counted():
    x = noise()
    assert (Chorus(RATE, voices=3)(x) - Chorus(RATE)(x)).abs().max() > 1e-2
    assert (Phaser(RATE, stages=8)(x) - Phaser(RATE)(x)).abs().max() > 1e-2
    with pytest.raises(ValueError, match="StereoChorus: voices must be at least 1"):
        StereoChorus(RATE, voices=0)
    with pytest.raises(ValueError, match="stages must be at least 1"):
        Phaser(RATE, stages=0)


def test_the_wah_follows_the_louder_channel_for_both():
    x = noise(channels=2, samples=6000)
    alone = AutoWah(RATE)(x[:, :1])
    x[:, 1] *= 1e-3
    assert torch.allclose(AutoWah(RATE)(x)[:, :1], alone, atol=1e-6)


def test_a_curve_of_rates_speeds_a_tremolo_up():
    y = Tremolo(1000)(torch.ones(1, 1, 4000), rate_hz=torch.tensor([[[1.0, 9.0]]]), depth=1.0)[0, 0] - 0.5
    crossings = (y[1:] * y[:-1] < 0).nonzero().flatten()
    assert (crossings < 2000).sum() == pytest.approx(2 * 6, abs=1)  # 1 + 2 t Hz: 6 cycles, then 14
    assert (crossings >= 2000).sum() == pytest.approx(2 * 14, abs=1)
