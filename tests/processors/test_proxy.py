from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from difffx.data import Synthetic
from difffx.graph import ProcessorGraph, proxied
from difffx.metrics import audio_metrics
from difffx.networks import weight_count
from difffx.processors import (
    Compressor,
    Gain,
    HybridProxy,
    NeuralProxy,
    ParametricClipper,
    ParametricEQ,
)

RATE = 44_100
KNOBS = ("threshold_db", "ratio", "attack_ms", "release_ms", "knee_db", "makeup_db")


@pytest.fixture(scope="module")
def proxy() -> NeuralProxy:
    return NeuralProxy(Compressor(RATE))


@pytest.fixture
def audio() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    bursts = torch.rand(3, 1, 8, 1, generator=generator).expand(3, 1, 8, 1000).flatten(2)
    return bursts * (2.0 * torch.rand(3, 2, 8000, generator=generator) - 1.0)


@pytest.fixture(scope="module")
def music() -> Tensor:
    data = Synthetic(RATE, seconds=3.0, seed=77)
    data.setup("test")
    items = data.dataset("test")
    return torch.stack([items[i]["dry"] for i in range(6)])


def settings(batch: int, seed: int = 0) -> dict[str, Tensor]:
    comp = Compressor(RATE)
    return comp.from_unit(comp.spec.sample(batch, generator=torch.Generator().manual_seed(seed)))


def test_the_shipped_compressor_beats_the_published_proxy_on_unheard_music(
    proxy: NeuralProxy, music: Tensor
) -> None:
    comp, dry = Compressor(RATE), music / music.abs().amax((1, 2), keepdim=True)
    dry, controls = dry.repeat(3, 1, 1), settings(18)
    wet = comp(dry, controls=controls)
    scores = {k: v.mean() for k, v in audio_metrics(proxy(dry, controls=controls), wet, RATE).items()}
    nothing = {k: v.mean() for k, v in audio_metrics(dry, wet, RATE).items()}
    assert scores["mel"] < 0.053
    assert scores["si_sdr"] > 26.1
    assert scores["envelope_db"] < 0.43
    assert scores["mel"] < 0.4 * nothing["mel"]


def test_the_shipped_compressor_is_no_larger_than_the_published_proxy(proxy: NeuralProxy) -> None:
    assert weight_count(proxy) <= 8004


def test_no_sample_of_the_output_depends_on_a_later_one(proxy: NeuralProxy, audio: Tensor) -> None:
    changed = audio.clone()
    changed[..., 5001:] = 0.9
    before, after = (proxy(x, controls=settings(3)) for x in (audio, changed))
    assert torch.equal(before[..., :5001], after[..., :5001])


def test_items_keep_their_own_settings(proxy: NeuralProxy, audio: Tensor) -> None:
    controls = settings(3)
    alone = [
        proxy(audio[i : i + 1], controls={name: value[i : i + 1] for name, value in controls.items()})
        for i in range(3)
    ]
    torch.testing.assert_close(proxy(audio, controls=controls), torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_one_gain_for_both_channels_from_the_louder(proxy: NeuralProxy, audio: Tensor) -> None:
    y = proxy(audio, controls=settings(3))
    loud = audio.abs().amin(1) > 1e-3
    gains = y / audio
    torch.testing.assert_close(gains[:, 0][loud], gains[:, 1][loud])
    loudest = audio.abs().amax(1, keepdim=True)
    mono = proxy(loudest, controls=settings(3)) / loudest
    torch.testing.assert_close(gains[:, :1][loud[:, None]], mono[loud[:, None]])


def test_the_gain_is_between_0_and_1_before_makeup(proxy: NeuralProxy, audio: Tensor) -> None:
    y = proxy(audio, controls={**settings(3), "makeup_db": torch.zeros(3, 1, 1)})
    assert (y.abs() <= audio.abs()).all()


def test_level_and_threshold_moved_together_scale_the_output(proxy: NeuralProxy, audio: Tensor) -> None:
    controls = settings(3)
    controls["threshold_db"] = torch.full((3, 1, 1), -20.0)
    lower = {**controls, "threshold_db": controls["threshold_db"] - 6.0}
    scaled = proxy(audio * 10 ** (-6 / 20), controls=lower)
    torch.testing.assert_close(
        scaled, proxy(audio, controls=controls) * 10 ** (-6 / 20), rtol=1e-3, atol=1e-5
    )


def test_makeup_is_a_plain_gain_and_may_be_a_curve(proxy: NeuralProxy, audio: Tensor) -> None:
    controls = {**settings(3), "makeup_db": torch.zeros(3, 1, 1)}
    louder = proxy(audio, controls={**controls, "makeup_db": torch.full((3, 1, 5), 6.0)})
    torch.testing.assert_close(louder, proxy(audio, controls=controls) * 10 ** (6 / 20))


def test_the_gradient_reaches_the_audio_and_every_knob_but_no_weight(
    proxy: NeuralProxy, audio: Tensor
) -> None:
    controls = {name: value.requires_grad_() for name, value in settings(3).items()}
    audio.requires_grad_()
    proxy(audio, controls=controls).square().sum().backward()
    for name in KNOBS:
        assert controls[name].grad.isfinite().all()
        assert controls[name].grad.abs().max() > 0, name
    assert audio.grad.isfinite().all()
    assert (audio.grad.abs().amax((1, 2)) > 0).all()
    assert not any(p.requires_grad for p in proxy.parameters())


@pytest.mark.parametrize("knob", ["threshold_db", "ratio"])
def test_knobs_pull_where_those_of_the_compressor_pull(proxy: NeuralProxy, music: Tensor, knob: str) -> None:
    slopes = []
    for effect in (proxy, Compressor(RATE)):
        controls = {name: value.requires_grad_() for name, value in settings(6, seed=3).items()}
        effect(music, controls=controls).square().mean((1, 2)).clamp(min=1e-12).log().sum().backward()
        slopes.append(controls[knob].grad.flatten())
    felt = slopes[1].abs() > 0.05 * slopes[1].abs().max()
    assert torch.equal(slopes[0][felt].sign(), slopes[1][felt].sign())


@pytest.mark.parametrize("samples", [1, 31, 32, 1000])
def test_silence_of_any_length_stays_silence(proxy: NeuralProxy, samples: int) -> None:
    silence = torch.zeros(1, 1, samples, requires_grad=True)
    y = proxy(silence)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(1, 1, samples))
    assert silence.grad.isfinite().all()


def test_narrower_ranges_mean_the_same_physical_settings(proxy: NeuralProxy, audio: Tensor) -> None:
    narrow = NeuralProxy(Compressor(RATE, ranges={"ratio": [3, 5], "release_ms": [50, 100]}))
    knobs = {"ratio": 4.0, "release_ms": 80.0, "threshold_db": -30.0}
    torch.testing.assert_close(narrow(audio, **knobs), proxy(audio, **knobs))


def test_threshold_and_makeup_may_go_further_than_in_training(audio: Tensor) -> None:
    wide = NeuralProxy(Compressor(RATE, ranges={"threshold_db": [-60, 0], "makeup_db": [0, 40]}))
    assert wide(audio, threshold_db=-55.0).isfinite().all()


def test_a_sidechain_listens_to_the_key(audio: Tensor) -> None:
    proxy = NeuralProxy(Compressor(RATE, sidechain=True))
    key = torch.zeros_like(audio)
    unmoved = proxy(audio, key, threshold_db=-40.0)
    torch.testing.assert_close(unmoved[..., 1000:], audio[..., 1000:], rtol=0.06, atol=0.0)
    assert (proxy(audio, audio, threshold_db=-40.0).abs() < 0.5 * audio.abs()).any()


def test_the_hybrid_is_the_proxy_in_training_and_the_effect_after(audio: Tensor, proxy: NeuralProxy) -> None:
    comp = Compressor(RATE)
    hybrid = HybridProxy(comp)
    assert torch.equal(hybrid.train()(audio, ratio=8.0), proxy(audio, ratio=8.0))
    assert torch.equal(hybrid.eval()(audio, ratio=8.0), comp(audio, ratio=8.0))


def test_proxies_stand_in_a_graph_with_the_same_knobs(audio: Tensor) -> None:
    graph = ProcessorGraph({"peq": ParametricEQ(RATE), "comp": Compressor(RATE)})
    for hybrid in (False, True):
        other = proxied(graph, hybrid=hybrid)
        assert other.spec == graph.spec
        assert other(audio, controls=other.from_unit(other.spec.defaults(3))).shape == audio.shape


def test_one_step_of_training_lowers_the_distance(audio: Tensor) -> None:
    torch.manual_seed(0)
    comp, proxy = Compressor(RATE), NeuralProxy(Compressor(RATE), weights=None)
    wet = comp(audio, threshold_db=-30.0)
    optimizer = torch.optim.SGD(proxy.parameters(), lr=1e-2)
    losses = []
    for _ in range(2):
        loss = (proxy(audio, threshold_db=-30.0) - wet).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


def test_an_effect_without_threshold_is_imitated_as_audio(audio: Tensor) -> None:
    torch.manual_seed(0)
    clip = ParametricClipper(RATE)
    proxy = NeuralProxy(clip, weights=None, output="audio", network={"dilations": [1, 2]})
    wet = clip(audio, drive_db=10.0)
    optimizer = torch.optim.Adam(proxy.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = (proxy(audio, drive_db=10.0) - wet).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_what_was_saved_comes_back(tmp_path: Path, audio: Tensor) -> None:
    torch.manual_seed(0)
    small = {"channels": 4, "dilations": [1, 4]}
    proxy = NeuralProxy(Compressor(RATE), network=small, weights=None)
    proxy.save(tmp_path / "proxy.safetensors", command="train", figures={"mel": 0.1})
    again = NeuralProxy(Compressor(RATE), weights=tmp_path / "proxy.safetensors")
    assert torch.equal(again(audio), proxy(audio))
    assert [p.name for p in tmp_path.iterdir()] == ["proxy.safetensors"]


def test_no_shipped_weights_is_one_line_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"no proxy of Gain ships.*python train.py task=proxy sfx=") as error:
        NeuralProxy(Gain(RATE))
    assert "\n" not in str(error.value)


def test_another_sample_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"trained at 44100 Hz, this Compressor runs at 48000 Hz"):
        NeuralProxy(Compressor(48_000))


def test_wider_ranges_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ratio was trained on 2\.\.10, this Compressor goes 1\.\.10"):
        HybridProxy(Compressor(RATE, ranges={"ratio": [1, 10]}))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "proxy.safetensors"
    NeuralProxy(Compressor(RATE), weights=None).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"proxy\.safetensors: damaged"):
        NeuralProxy(Compressor(RATE), weights=path)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: not written by NeuralProxy"):
        NeuralProxy(Compressor(RATE), weights=tmp_path / "other.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.safetensors: there is no such file"):
        NeuralProxy(Compressor(RATE), weights=tmp_path / "none.safetensors")


def test_weights_of_another_effect_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "proxy.safetensors"
    NeuralProxy(ParametricClipper(RATE), weights=None, output="audio").save(path)
    with pytest.raises(ValueError, match="a proxy of ParametricClipper, not of this Compressor"):
        NeuralProxy(Compressor(RATE), weights=path)
