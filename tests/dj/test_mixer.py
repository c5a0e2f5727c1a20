"""What the mixer promises: nothing happens at rest, every number is heard, no item hears another."""

import pytest
import torch

from difffx.dj import (
    LABELS,
    STEM_NAMES,
    DJMixer,
    MixerConfig,
    create_mixer,
    get_default_params,
    index_of,
    mixer_graph,
    recommended_start,
)
from difffx.dj.layout import RANGES

RATE = 16_000


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def track(batch, samples, channels=2, seed=0, stems=STEM_NAMES):
    return {stem: noise(batch, channels, samples, seed=10 * seed + i) for i, stem in enumerate(stems)}


def anywhere(batch, frames, seed=0):
    low, high = torch.tensor(RANGES).unbind(1)
    return low + (high - low) * torch.rand(batch, frames, 54, generator=torch.Generator().manual_seed(seed))


def difference_db(y, reference):
    return (20 * torch.log10((y - reference).norm() / reference.norm())).item()


@pytest.mark.parametrize(
    ("rate", "samples"), [(44_100, 30_000), (48_000, 1), (8_000, 777), (22_050, 5_000), (96_000, 100)]
)
@pytest.mark.parametrize("frames", [1, 5])
def test_neutral_settings_change_nothing(rate, samples, frames):
    a, b = track(2, samples), track(2, samples, seed=1)
    mixed, nothing = create_mixer(rate)(a, b, get_default_params(frames, 2))
    assert mixed.shape == (2, 2, samples) and nothing is None
    assert difference_db(mixed, sum(a.values())) < -125.0


def test_both_decks_at_rest_are_their_plain_sum():
    a, b = track(1, 3000), track(1, 3000, seed=1)
    params = get_default_params(1)
    params[..., [index_of("b", stem, "gain") for stem in STEM_NAMES]] = 1.0
    mixed, _ = create_mixer(RATE)(a, b, params)
    assert difference_db(mixed, sum(a.values()) + sum(b.values())) < -125.0


def test_a_constant_does_not_droop_at_the_edges():
    ones = {"other": torch.ones(1, 4000)}
    mixed, _ = create_mixer(RATE)(ones, {"other": torch.zeros(1, 4000)}, get_default_params(3))
    assert (mixed - 1.0).abs().max() < 1e-5


def test_loud_sounds_are_not_clipped_unless_a_limiter_is_asked_for():
    a, b = ({"drums": 20.0 * noise(1, 2, 8000, seed=seed)} for seed in (0, 1))
    params = get_default_params(1)
    loud, _ = create_mixer(RATE)(a, b, params)
    assert difference_db(loud, a["drums"]) < -125.0 and loud.abs().max() > 2.0
    limited, _ = create_mixer(RATE, limiter=True, limiter_ceiling_db=-3.0)(a, b, params)
    assert limited.abs().max() <= 10 ** (-3.0 / 20) and limited.abs().max() > 0.7


@pytest.mark.parametrize(("frames", "channels"), [(1, 2), (7, 2), (4, 1)])
def test_every_number_has_a_gradient_at_the_recommended_start(frames, channels):
    params = recommended_start(frames).requires_grad_()
    tracks = track(1, RATE, channels), track(1, RATE, channels, seed=1)
    mixed, _ = create_mixer(RATE)(*tracks, params)
    (mixed - noise(1, 2, RATE, seed=5)).square().mean().backward()
    heard = params.grad.abs().sum((0, 1))
    assert torch.isfinite(params.grad).all()
    assert heard.min() > 1e-9, [label for label, h in zip(LABELS, heard, strict=True) if h <= 1e-9]


@pytest.mark.parametrize("params", [get_default_params(3), anywhere(1, 3).round()])
def test_gradients_are_finite_where_knobs_stand_at_their_ends(params):
    params = params.clone().requires_grad_()
    mixed, _ = create_mixer(RATE)(track(1, 9000), track(1, 9000, seed=1), params)
    mixed.square().mean().backward()
    assert torch.isfinite(params.grad).all() and params.grad.abs().max() < 1e3


def test_a_gradient_goes_to_the_sound_too():
    a = {"bass": noise(1, 1, 500).double().requires_grad_()}
    mixed, _ = create_mixer(8000)(a, {"bass": noise(1, 1, 500, seed=1).double()}, anywhere(1, 2).double())
    direction = noise(1, 1, 500, seed=2).double()
    (slope,) = torch.autograd.grad(mixed.square().sum(), a["bass"])
    ahead, behind = (
        create_mixer(8000)(
            {"bass": a["bass"].detach() + step * direction},
            {"bass": noise(1, 1, 500, seed=1).double()},
            anywhere(1, 2).double(),
        )[0]
        .square()
        .sum()
        for step in (1e-4, -1e-4)
    )
    assert (slope * direction).sum().item() == pytest.approx((ahead - behind).item() / 2e-4, rel=1e-5)


def test_a_batch_is_its_items():
    mixer, params = create_mixer(RATE), anywhere(3, 4)
    a, b = track(3, 6000), track(3, 6000, seed=1)
    a["vocals"][1] *= 50.0
    together, _ = mixer(a, b, params)
    for i in range(3):
        alone, _ = mixer(
            *({stem: x[i : i + 1] for stem, x in deck.items()} for deck in (a, b)), params[i : i + 1]
        )
        assert difference_db(together[i : i + 1], alone) < -125.0


def test_one_pair_of_tracks_takes_many_settings_and_many_pairs_one():
    mixer, params, a, b = create_mixer(RATE), anywhere(2, 3), track(2, 2000), track(1, 2000, seed=1)
    one = {stem: x[:1] for stem, x in a.items()}
    many, _ = mixer(one, b, params)
    assert torch.allclose(many[1:], mixer(one, b, params[1:])[0], atol=1e-6)
    shared, _ = mixer(a, b, params[0])
    assert torch.allclose(shared[1:], mixer({s: x[1:] for s, x in a.items()}, b, params[:1])[0], atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_graph_of_13_nodes_of_three_kinds_is_the_same_mixer(channels):
    mixer = create_mixer(RATE, tempo_bpm=125.0)
    a, b, params = track(2, 9000, channels), track(2, 9000, channels, seed=1), anywhere(2, 5)
    mixed, _ = mixer(a, b, params)
    signals = {f"{deck}_{stem}_stem": x for deck, t in (("a", a), ("b", b)) for stem, x in t.items()}
    traced = mixer.graph.trace(signals, controls=mixer.controls(params))
    assert difference_db(mixed, traced.output) < -120.0
    nodes = list(mixer.graph.processors.values())
    assert len(nodes) == 13 and len({type(node) for node in nodes}) == 3
    assert mixer.graph.spec.names == list(LABELS) == mixer.spec.names


def test_a_graph_with_a_limiter_is_the_mixer_with_a_limiter():
    mixer = create_mixer(RATE, limiter=True)
    a, b, params = track(1, 4000), track(1, 4000, seed=1), recommended_start(2)
    signals = {f"{deck}_{stem}_stem": 9 * x for deck, t in (("a", a), ("b", b)) for stem, x in t.items()}
    loud = ({stem: 9 * x for stem, x in t.items()} for t in (a, b))
    expected = mixer.graph(signals, controls=mixer.controls(params))
    assert difference_db(mixer(*loud, params)[0], expected) < -100.0


def test_a_graph_of_fewer_stems_and_one_deck():
    graph = mixer_graph(RATE, stems=("drums", "other"), decks=("a",))
    assert graph.inputs == ("a_drums_stem", "a_other_stem") and len(graph.spec) == 15
    with pytest.raises(ValueError, match=r"no option 'tempo'.*did you mean 'tempo_bpm'"):
        mixer_graph(RATE, tempo=120)


def test_settings_go_through_a_network_s_unit_range_and_back():
    mixer, params = create_mixer(RATE), anywhere(2, 3)
    z = mixer.spec.flatten(mixer.controls(params))
    assert z.shape == (2, 54, 3) and z.min() >= 0.0 and z.max() <= 1.0
    assert torch.allclose(mixer.params(mixer.spec.unflatten(z)), params, atol=1e-6)


def test_prepared_tracks_sound_the_same_and_pass_gradients():
    mixer, a, b = create_mixer(RATE), track(2, 3000), track(2, 3000, seed=1)
    params = anywhere(2, 3).requires_grad_()
    ready = mixer.prepare(a)
    mixed, _ = mixer(ready, b, params)
    assert torch.equal(mixed, mixer(a, b, params)[0])
    assert torch.autograd.grad(mixed.sum(), params)[0].abs().sum() > 0.0
    with pytest.raises(ValueError, match="track_a was prepared by a mixer with sample_rate"):
        create_mixer(44_100)(ready, b, params)


def test_intermediates_show_every_stage_and_change_nothing():
    mixer, a, b, params = create_mixer(RATE), track(2, 3000), track(2, 3000, seed=1), anywhere(2, 3)
    mixed, parts = mixer(a, b, params, return_intermediates=True)
    assert difference_db(mixer(a, b, params)[0], mixed) < -120.0
    assert set(parts) == {"track_a", "track_b", "params_a", "params_b"}
    assert list(parts["track_a"]["stems"]) == list(STEM_NAMES)
    assert torch.allclose(sum(parts["track_b"]["stems"].values()), parts["track_b"]["summed"])
    assert torch.allclose(parts["track_a"]["final"] + parts["track_b"]["final"], mixed)
    assert torch.equal(
        parts["params_b"]["stems"]["bass"]["eq_low"], params[..., index_of("b", "bass", "eq_low")]
    )


def test_stems_may_be_missing_and_then_their_numbers_mean_nothing():
    mixer, params = create_mixer(RATE), anywhere(1, 2)
    a, b = track(1, 2000, stems=("vocals",)), track(1, 2000, seed=1, stems=("drums", "other"))
    silent = {stem: torch.zeros(1, 2, 2000) for stem in STEM_NAMES}
    assert torch.allclose(mixer(a, b, params)[0], mixer(silent | a, silent | b, params)[0], atol=1e-6)


def test_stems_without_channels_are_mono_and_mono_meets_stereo():
    mixer, params = create_mixer(RATE), anywhere(1, 2)
    a = {"drums": noise(1, 900), "bass": noise(1, 2, 900, seed=1)}
    wide = {"drums": a["drums"][:, None].expand(1, 2, 900), "bass": a["bass"]}
    assert torch.allclose(mixer(a, a, params)[0], mixer(wide, wide, params)[0], atol=1e-6)


def test_float64_is_mixed_in_float64():
    mixer, params = create_mixer(RATE), get_default_params(2)
    a = {stem: x.double() for stem, x in track(1, 3000).items()}
    mixed, _ = mixer(a, a, params)
    assert mixed.dtype == torch.float64
    assert difference_db(mixed, sum(a.values())) < -280.0


def test_the_same_seed_is_the_same_hall():
    a, b, params = track(1, 4000), track(1, 4000, seed=1), recommended_start(1)
    first, again, other = (create_mixer(RATE, seed=seed)(a, b, params)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again) and difference_db(other, first) > -40.0


def test_settings_beyond_their_range_are_held_and_led_back():
    mixer, a, b = create_mixer(RATE), track(1, 2000), track(1, 2000, seed=1)
    params = get_default_params(1)
    gain = index_of("a", "drums", "gain")
    params[..., gain] = 1.3
    assert torch.equal(mixer(a, b, params)[0], mixer(a, b, get_default_params(1))[0])
    params.requires_grad_()
    mixed, _ = mixer(a, b, params)
    power = mixed.square().sum()
    inwards, outwards = (torch.autograd.grad(s * power, params, retain_graph=True)[0] for s in (1, -1))
    assert inwards[..., gain].item() > 0.0 and outwards[..., gain].item() == 0.0


SECOND = {"drums": torch.zeros(1, 2, 100)}
REFUSED = {
    "stem": ({"drum": torch.zeros(1, 100)}, None, "track_a: no stem 'drum' .did you mean 'drums'"),
    "none": ({}, None, "track_a: no stems; expected at least one of drums, bass, vocals, other"),
    "no dictionary": (torch.zeros(1, 100), None, "track_a: expected a dictionary of stems, got Tensor"),
    "shape": ({"bass": torch.zeros(100)}, None, r"track_a.bass: expected audio .* got \(100,\)"),
    "channels": ({"bass": torch.zeros(1, 3, 100)}, None, "track_a.bass: expected mono or stereo"),
    "empty": ({"bass": torch.zeros(1, 2, 0)}, None, "track_a.bass: .* not empty"),
    "integers": ({"bass": torch.zeros(1, 2, 9, dtype=torch.int16)}, None, "track_a.bass: expected floats"),
    "NaN": ({"bass": torch.full((1, 2, 9), torch.nan)}, None, "track_a.bass: the audio is not finite"),
    "length": ({"drums": torch.zeros(1, 9), "other": torch.zeros(1, 8)}, None, "track_a.other has 8 samples"),
    "tracks": ({"drums": torch.zeros(1, 99)}, None, "track_b has 100 samples, track_a has 99"),
    "items": ({"drums": torch.zeros(3, 100)}, torch.zeros(2, 1, 54), "expected 1 or 3"),
    "53": (SECOND, torch.zeros(1, 1, 53), r"params: expected \[B, F, 54\] or \[F, 54\], got \(1, 1, 53\)"),
    "NaN set": (
        SECOND,
        get_default_params(2).index_fill(2, torch.tensor([29]), torch.nan),
        "params: b_drums.eq_mid is nan in frame 0 of item 0",
    ),
}


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize(("a", "params", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_named_in_one_line(a, params, message, compat):
    with pytest.raises(ValueError, match=message) as error:
        create_mixer(RATE, compat=compat)(a, SECOND, get_default_params(1) if params is None else params)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 0}, "sample_rate must be a positive whole number"),
        ({"n_fft": 1024, "hop_length": 600}, "hop_length at most half"),
        ({"reverb_decay_time": 0.0}, "reverb_decay_time must be above 0"),
        ({"delay_max_feedback": 1.0}, "delay_max_feedback must be 0 to 0.99"),
        ({"tempo_bpm": 40.0, "beats": 1.0}, "an echo after 1500 ms is longer than delay_max_ms, 1000"),
        ({"lpf_min": 500.0, "lpf_max": 400.0}, "lpf_min must be below lpf_max"),
    ],
)
def test_a_wrong_configuration_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MixerConfig(**options)


def test_frames_last_as_long_at_every_rate():
    sizes = {rate: MixerConfig(rate).n_fft for rate in (8_000, 16_000, 44_100, 48_000, 96_000)}
    assert sizes == {8_000: 512, 16_000: 1024, 44_100: 2048, 48_000: 2048, 96_000: 4096}
    assert MixerConfig().hop_length == 512 and not list(DJMixer().parameters())


def test_a_network_that_answers_up_to_two_trains_as_in_the_publication():
    """The published training loop scales all 54 numbers to 0..2, most of them beyond their ranges."""
    network = torch.nn.Linear(8, 54)
    torch.nn.init.constant_(network.bias, 1.0)
    features, mixer = noise(1, 4, 8), create_mixer(RATE)
    tracks = [mixer.prepare(track(1, 4000, seed=seed)) for seed in (0, 1)]
    target, _ = mixer(*tracks, get_default_params(4))
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=0.1), []
    for _ in range(40):
        mixed, _ = mixer(*tracks, 2.0 * torch.sigmoid(network(features)))
        losses.append((mixed - target).square().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
