"""The published formulas keep the defects that were measured: the comparison is with what was published."""

import math

import pytest
import torch

from difffx.dj import (
    LABELS,
    STEM_NAMES,
    SimpleCrossfader,
    create_mixer,
    get_default_params,
    index_of,
)

RATE = 44_100


def pink(samples, level_db, seed):
    """Stereo noise of equal power in every octave from 30 Hz up, [1, 2, T]."""
    white = torch.randn(1, 2, samples, generator=torch.Generator().manual_seed(seed))
    hz = torch.fft.rfftfreq(samples, 1 / RATE)
    spectrum = torch.fft.rfft(white) * torch.where(hz >= 30.0, hz.clamp(min=1.0).rsqrt(), 0.0)
    x = torch.fft.irfft(spectrum, samples)
    return x * (10 ** (level_db / 20) / x.square().mean().sqrt())


def click(samples):
    return torch.nn.functional.pad(torch.ones(1, 2, 1), (0, samples - 1))


def rendered(x, params, silence=True, **options):
    """[2, T]; deck A plays x as its vocals."""
    mixer = create_mixer(RATE, compat=True, **options)
    return mixer({"vocals": x}, {"vocals": torch.zeros_like(x)}, params)[0][0]


def settings(**knobs):
    params = get_default_params(2)
    for name, value in knobs.items():
        place = "sends" if name.startswith(("reverb", "delay")) else "vocals"
        params[..., index_of("a", place, name)] = value
    return params


def signal_to_noise_db(y, x):
    return (20 * torch.log10(x.norm() / (y - x).norm())).item()


@pytest.mark.parametrize(
    ("level_db", "published"), [(-30.0, 20.2), (-20.0, 19.8), (-14.0, 17.5), (-9.0, 13.0)]
)
def test_neutral_settings_change_the_sound(level_db, published):
    x = pink(4 * RATE, level_db, seed=0)
    assert signal_to_noise_db(rendered(x, get_default_params(1)), x[0]) == pytest.approx(published, abs=0.5)


def test_a_gain_of_one_droops_to_9_of_17_at_the_edges():
    mixer = create_mixer(RATE, compat=True)
    x = torch.ones(1, 1, 3000)
    knobs = {name: torch.ones(1, 2) for name in ("gain", "eq_low", "eq_mid", "eq_high", "lpf")}
    mixer.published._masked = lambda x, mask: x  # the gain alone
    y = mixer.published._strip(x, knobs | {"hpf": torch.zeros(1, 2)})[0, 0]
    assert y[[0, -1]].tolist() == pytest.approx([9 / 17, 9 / 17])
    assert y[[8, 1500, -9]].tolist() == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize(("octaves", "published"), [(-0.5, -0.16), (0.0, -6.02), (0.25, -18.5), (0.5, -34.9)])
def test_the_low_pass_has_the_published_slope(octaves, published):
    cutoff = 20.0 * 1000.0**0.75
    x = 0.01 * torch.sin(2 * math.pi * cutoff * 2**octaves / RATE * torch.arange(RATE)).expand(1, 2, -1)
    y = rendered(x, settings(lpf=0.75))
    middle = slice(RATE // 4, -RATE // 4)
    level = 10 * torch.log10(y[:, middle].square().mean() / x[0, :, middle].square().mean())
    assert level.item() == pytest.approx(published, abs=0.5)


@pytest.mark.parametrize(("peak", "loss_db"), [(0.5, -0.97), (1.0, -3.0)])
def test_two_clippers_stand_in_a_row(peak, loss_db):
    x = peak * torch.sin(2 * math.pi * 1000.0 / RATE * torch.arange(RATE)).expand(1, 2, -1)
    y = rendered(x, get_default_params(1))
    once = torch.tanh(torch.tanh(x[0]))
    assert (y - once)[:, 4000:-4000].abs().max() < 0.01
    level = 10 * torch.log10(y.square().mean() / x.square().mean()).item()
    assert level == pytest.approx(loss_db, abs=0.05)


def test_the_reverb_hears_the_rest_of_the_batch_and_the_future():
    mixer, params = create_mixer(RATE, compat=True), settings(reverb_send=0.7)
    x = pink(RATE, -20.0, seed=0)
    beside = torch.cat((x, click(RATE).roll(RATE // 2, -1)))
    alone, together = (
        mixer({"vocals": y}, {"vocals": torch.zeros_like(y)}, params)[0][0] for y in (x, beside)
    )
    assert signal_to_noise_db(together, alone) < 10.0
    spiked = x.clone()
    spiked[..., -1] = 5.0
    assert (
        signal_to_noise_db(rendered(spiked, params)[:, : RATE // 2], rendered(x, params)[:, : RATE // 2])
        < 10.0
    )


def test_what_is_called_a_decay_of_1500_ms_fades_60_db_in_987():
    response = create_mixer(RATE, compat=True).published.ir[882:].double()
    left = response.square().flip(0).cumsum(0).flip(0)
    curve = 10 * torch.log10(left / left[0])
    first, last = (int((curve < level).nonzero()[0]) for level in (-5.0, -35.0))
    assert 2.0 * (last - first) / RATE == pytest.approx(0.987, rel=0.03)
    assert response.abs().max() == 1.0 and len(response) == 44_100 - 882


def test_echoes_end_after_four_whatever_the_feedback():
    x = 0.01 * click(3 * RATE)
    y = rendered(x, settings(delay_send=1.0, delay_feedback=1.0, lpf=1.0))[0]
    distance = 16_537
    peaks = [y[n * distance : n * distance + 10].abs().max().item() for n in range(8)]
    ratios = [peak / peaks[0] for peak in peaks]
    assert ratios[1:5] == pytest.approx([0.7, 0.49, 0.343, 0.2401], rel=1e-3)
    assert max(ratios[5:]) < 1e-3


def gradient(params, **options):
    a, b = ({stem: pink(RATE, -25.0, seed=s + i) for i, stem in enumerate(STEM_NAMES)} for s in (0, 10))
    params = params.clone().requires_grad_()
    mixed, _ = create_mixer(RATE, **options)(a, b, params)
    target = pink(RATE, -20.0, seed=99)
    (mixed - target).square().mean().backward()
    return params.grad


def test_25_of_54_numbers_have_no_gradient_at_the_default_settings():
    dead = gradient(get_default_params(3), compat=True).abs().sum((0, 1)) == 0.0
    names = {label for label, d in zip(LABELS, dead.tolist(), strict=True) if d}
    assert len(names) == 25
    assert {"a_sends.delay_send", "a_sends.delay_feedback", "b_bass.eq_low", "b_sends.reverb_send"} <= names


def test_a_crossfade_leaves_four_dead_where_ours_leaves_none_but_the_feedbacks():
    params = SimpleCrossfader("equal_power")(5)
    published, ours = (gradient(params, compat=compat).abs().sum((0, 1)) == 0.0 for compat in (True, False))
    assert published.sum() == 4
    assert [LABELS[i] for i in ours.nonzero().flatten()] == [
        "a_sends.delay_feedback",
        "b_sends.delay_feedback",
    ]


def test_the_feedback_is_one_number_for_all_frames():
    params = get_default_params(4)
    params[..., 25:27] = 0.3
    by_feedback = gradient(params, compat=True)[0, :, 26]
    assert by_feedback.abs().min() > 0 and torch.allclose(by_feedback, by_feedback[:1].expand(4))


def test_cutoffs_move_in_hz():
    x = 0.01 * torch.sin(2 * math.pi * 1338.0 / RATE * torch.arange(2 * RATE)).expand(1, 2, -1)
    params = get_default_params(2)
    params[0, :, index_of("a", "vocals", "lpf")] = torch.tensor([0.3, 0.7])
    window = slice(RATE - 1000, RATE + 1000)
    y = rendered(x, params)
    level = 10 * torch.log10(y[:, window].square().mean() / x[0, :, window].square().mean())
    assert level.item() == pytest.approx(-6.0, abs=0.5)


def test_its_noise_has_a_seed_and_its_parts_have_names():
    first, again, other = (create_mixer(RATE, compat=True, seed=seed).published.ir for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    a = {"drums": pink(4000, -20.0, 0)}
    mixed, parts = create_mixer(RATE, compat=True)(a, a, get_default_params(1), return_intermediates=True)
    final = parts["track_a"]["final"] + parts["track_b"]["final"]
    assert torch.equal(mixed, torch.tanh(final)) and list(parts["track_a"]["stems"]) == ["drums"]


def test_it_has_no_graph_and_nothing_to_prepare():
    mixer = create_mixer(RATE, compat=True)
    with pytest.raises(ValueError, match="nothing to prepare"):
        mixer.prepare({"drums": click(4000)})
    assert mixer.graph is None and len(mixer.spec) == 54
