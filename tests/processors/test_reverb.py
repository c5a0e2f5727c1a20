import pytest
import torch

from difffx.processors import ConvolutionReverb, FeedbackDelayNetwork, Freeverb, NoiseReverb

FS = 44_100
KINDS = [ConvolutionReverb, NoiseReverb, FeedbackDelayNetwork, Freeverb]


def impulse(samples=20_000, at=0):
    x = torch.zeros(1, 1, samples)
    x[..., at] = 1.0
    return x


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_mono_becomes_stereo_and_the_same_hall_twice_sounds_the_same(kind):
    x = impulse()
    y = kind(FS)(x, mix=1.0)
    assert y.shape == (1, 2, 20_000)
    assert not torch.allclose(y[:, 0], y[:, 1])
    assert torch.equal(y, kind(FS)(x, mix=1.0))


@pytest.mark.parametrize("kind", KINDS)
def test_predelay_is_silence_before_the_reverberation(kind):
    x = impulse(at=100)
    with_none, later = (kind(FS)(x, mix=1.0, predelay_ms=ms) for ms in (0.0, 100.0))
    assert later[..., :4500].abs().max() < 1e-6 * later.abs().max()
    torch.testing.assert_close(later[..., 4410:], with_none[..., :-4410], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_half_the_mix_is_half_of_each(kind):
    x = noise(1, 1, 3000)
    dry, half, wet = (kind(FS)(x, mix=mix) for mix in (0.0, 0.5, 1.0))
    torch.testing.assert_close(half, 0.5 * (dry + wet), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [NoiseReverb, FeedbackDelayNetwork, Freeverb])
def test_no_width_is_the_same_from_both_sides(kind):
    y = kind(FS)(noise(1, 2, 5000), mix=1.0, width=0.0)
    torch.testing.assert_close(y[:, 0], y[:, 1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [FeedbackDelayNetwork, Freeverb])
def test_a_bigger_room_answers_later(kind):
    small, large = (kind(FS, size=size)(impulse(), mix=1.0, predelay_ms=0.0) for size in (1.0, 2.0))
    first, later = (torch.nonzero(y.abs().amax((0, 1)))[0].item() for y in (small, large))
    assert later == pytest.approx(2 * first, rel=0.02)


@pytest.mark.parametrize("kind", [NoiseReverb, FeedbackDelayNetwork, Freeverb])
def test_a_longer_decay_leaves_more_behind(kind):
    processor = kind(FS)
    decays = [param.name for param in processor.params if param.name.startswith("decay")]
    tails = [
        processor(impulse(40_000), mix=1.0, **dict.fromkeys(decays, s))[..., 30_000:].square().sum()
        for s in (0.2, 1.0)
    ]
    assert tails[1] > 100 * tails[0]


@pytest.mark.parametrize("kind", [NoiseReverb, FeedbackDelayNetwork, Freeverb])
def test_the_level_of_a_steady_sound_hardly_follows_the_decay(kind):
    processor, x = kind(FS), noise(1, 1, 3 * FS)
    decays = [param.name for param in processor.params if param.name.startswith("decay")]
    levels_db = []
    for seconds in (0.3, 1.0):
        wet = processor(x, mix=1.0, **dict.fromkeys(decays, seconds))[..., 2 * FS :]
        levels_db.append(20 * torch.log10(wet.square().mean().sqrt() / x.square().mean().sqrt()).item())
    assert abs(levels_db[1] - levels_db[0]) < 3.0
    assert all(abs(level) < 8.0 for level in levels_db)


def test_a_given_response_is_what_an_impulse_sounds_like():
    ir = noise(2, 900)
    y = ConvolutionReverb(FS, ir=ir)(impulse(2000), mix=1.0, predelay_ms=0.0, gain_db=-6.0)
    torch.testing.assert_close(y[0, :, :900], ir * 10 ** (-6 / 20), rtol=0, atol=1e-5)
    assert y[..., 900:].abs().max() < 1e-5


def test_a_mono_response_leaves_mono_mono_and_a_matrix_crosses_the_sides():
    mono = ConvolutionReverb(FS, ir=noise(1, 50))
    assert not mono.stereo and mono(impulse(100)).shape == (1, 1, 100)
    crossing = torch.zeros(2, 2, 3)
    crossing[0, 1, 0] = crossing[1, 0, 0] = 1.0
    x = noise(1, 2, 100)
    swapped = ConvolutionReverb(FS, ir=crossing)(x, mix=1.0, predelay_ms=0.0)
    torch.testing.assert_close(swapped, x.flip(1), rtol=0, atol=1e-5)


def test_a_learned_response_finds_the_one_it_hears():
    target = 0.2 * noise(1, 32, seed=3)
    learner = ConvolutionReverb(FS, ir=torch.zeros(1, 32), learned=True)
    teacher = ConvolutionReverb(FS, ir=target)
    x = noise(4, 1, 512)
    optimizer = torch.optim.LBFGS(learner.parameters(), max_iter=40)

    def closure():
        optimizer.zero_grad()
        knobs = {"mix": 1.0, "predelay_ms": 0.0}
        loss = (learner(x, **knobs) - teacher(x, **knobs)).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert (learner.ir - target).norm() < 0.01 * target.norm()
    assert not list(teacher.parameters()) and "ir" in teacher.state_dict()


def test_decays_reach_as_far_as_the_taps():
    decay = next(p for p in NoiseReverb(FS, num_taps=88_200).params if p.name == "decay_s")
    assert decay.high == pytest.approx(2.0) and decay.size == 12


def test_wrong_constructions_are_refused():
    with pytest.raises(ValueError, match=r"ir \[1, N\]"):
        ConvolutionReverb(FS, ir=torch.zeros(3, 10))
    with pytest.raises(ValueError, match="bands"):
        NoiseReverb(FS, bands=0)
    with pytest.raises(ValueError, match="size"):
        FeedbackDelayNetwork(FS, size=0.0)
    with pytest.raises(ValueError, match="size"):
        Freeverb(FS, size=-1.0)
