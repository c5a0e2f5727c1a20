from __future__ import annotations

import numpy as np
import pytest
import torch
from auraloss.freq import MultiResolutionSTFTLoss, STFTLoss

from difffx.functional.spectra import mel_bank, normalize_rms
from difffx.graph import ProcessorGraph
from difffx.losses import Estimate, Loss, Mel, MultiScale, Params, Response, Weighted
from difffx.params import ControlSpec, Param
from difffx.processors import Compressor, GraphicEQ, ParametricEQ

RATE = 44_100


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pair(channels: int = 1, samples: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    x = 0.2 * noise(2, channels, samples, seed=1)
    return x, torch.cumsum(x, -1) * 0.05 + 0.1 * x.roll(300, -1)


def test_mel_is_auralosss():
    pred, target = pair()
    reference = STFTLoss(4096, 1024, 4096, w_sc=0.0, w_log_mag=1.0, eps=1e-8)
    reference.scale, reference.fb = "mel", mel_bank(RATE)[None]
    want = reference(normalize_rms(pred), normalize_rms(target))
    got = Mel(RATE)(Estimate(pred), Estimate(target))["mel"]
    assert got.item() == pytest.approx(want.item(), abs=1e-5)


def test_mel_is_its_formula_in_float64():
    pred, target = (x[0, 0].double().numpy() for x in pair())

    def log_mel(x):
        x = x - x.mean()
        x = x / np.sqrt((x**2).mean())
        padded = np.pad(x, 2048, mode="reflect")
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
        frames = np.stack([padded[m : m + 4096] * window for m in range(0, len(x) + 1, 1024)])
        magnitude = np.sqrt(np.maximum(np.abs(np.fft.rfft(frames)) ** 2, 1e-8))
        return np.log(magnitude @ mel_bank(RATE).double().numpy().T)

    want = np.abs(log_mel(pred) - log_mel(target)).mean()
    first = [Estimate(x[:1]) for x in pair()]
    assert Mel(RATE)(*first)["mel"].item() == pytest.approx(want, abs=1e-5)


def test_multi_scale_is_auralosss():
    pred, target = pair(channels=2)
    reference = MultiResolutionSTFTLoss([256, 1024, 4096], [64, 256, 1024], [256, 1024, 4096])
    want = reference(normalize_rms(pred), normalize_rms(target))
    got = MultiScale()(Estimate(pred), Estimate(target))["multi_scale"]
    assert got.item() == pytest.approx(want.item(), abs=1e-6)


@pytest.mark.parametrize("loss", [Mel(RATE), MultiScale()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("channels", [1, 2])
def test_the_same_sound_louder_offset_and_inverted_is_at_distance_zero(loss, channels):
    x, _ = pair(channels)
    terms = loss(Estimate(-3.0 * x + 0.1), Estimate(x))
    assert loss.total(terms).item() < 1e-3


@pytest.mark.parametrize("loss", [Mel(RATE), MultiScale()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("gain", [0.0, 1e-8, 1e-4])
def test_silence_and_near_silence_have_finite_losses_and_gradients(loss, gain):
    for pred, target in (
        (gain * noise(1, 2, 8000), noise(1, 2, 8000)),
        (noise(1, 2, 8000), gain * noise(1, 2, 8000)),
    ):
        pred = pred.requires_grad_()
        total = loss.total(loss(Estimate(pred), Estimate(target)))
        total.backward()
        assert torch.isfinite(total)
        assert torch.isfinite(pred.grad).all()


def test_a_pure_tone_in_silence_has_a_finite_gradient():
    t = torch.arange(20_000) / RATE
    pred = torch.sin(6.28 * 440 * t).reshape(1, 1, -1).requires_grad_()
    Mel(RATE)(Estimate(pred), Estimate(noise(1, 1, 20_000)))["mel"].backward()
    assert torch.isfinite(pred.grad).all()
    assert pred.grad.abs().max() > 0


def test_the_target_takes_no_gradient():
    x, y = pair()
    y.requires_grad_()
    z, goal = torch.rand(2, 3, 1, requires_grad=True), torch.rand(2, 3, 1, requires_grad=True)
    loss = Weighted({"mel": Mel(RATE), "params": Params()}, {"mel": 1.0, "params": 1.0})
    loss.total(loss(Estimate(x.requires_grad_(), z), Estimate(y, goal))).backward()
    assert y.grad is None
    assert goal.grad is None
    assert x.grad is not None


def test_params_is_the_mean_square_and_its_weight_is_ten():
    z, goal = torch.tensor([[[0.5], [0.7]]]), torch.tensor([[[0.5], [0.3]]])
    audio = torch.zeros(1, 1, 10)
    loss = Params()
    terms = loss(Estimate(audio, z), Estimate(audio, goal))
    assert terms["params"].item() == pytest.approx(0.08)
    assert loss.total(terms).item() == pytest.approx(0.8)


def test_params_refuses_unlike_knobs_and_names_them():
    gain, q = Param("gain_db", -12, 12, 0), Param("q", 0.1, 2, 0.7)
    sfx, afx = (
        ControlSpec({"peq.gain_db": gain, "peq.q": q}),
        ControlSpec({"peq.gain_db": gain.with_range(-6, 6)}),
    )
    with pytest.raises(ValueError, match=r"peq\.q.*peq\.gain_db") as caught:
        Params().require(sfx, afx)
    assert "\n" not in str(caught.value)
    Params().require(sfx, sfx)
    Mel(RATE).require(sfx, afx)


def test_params_without_settings_says_so():
    audio = torch.zeros(1, 1, 10)
    with pytest.raises(ValueError, match="loss=mel"):
        Params()(Estimate(audio, torch.zeros(1, 1, 1)), Estimate(audio))


def test_a_weight_of_zero_is_logged_but_neither_counted_nor_differentiated():
    x, y = pair()
    z, goal = torch.rand(2, 3, 1, requires_grad=True), torch.rand(2, 3, 1)
    loss = Weighted({"mel": Mel(RATE), "params": Params()}, {"mel": 2.0, "params": 0.0})
    terms = loss(Estimate(x.requires_grad_(), z), Estimate(y, goal))
    assert terms["params"].item() == pytest.approx((z - goal).square().mean().item())
    assert not terms["params"].requires_grad
    assert terms["mel"].requires_grad
    assert loss.total(terms).item() == pytest.approx(2 * terms["mel"].item())


def test_several_losses_need_what_each_of_them_needs():
    specs = [ControlSpec({"q": Param("q", 0.1, high, 0.7)}) for high in (1, 2)]
    terms = {"mel": Mel(RATE), "params": Params()}
    for weight in (1.0, 0.0):
        with pytest.raises(ValueError, match="q has another range"):
            Weighted(terms, {"mel": 1.0, "params": weight}).require(*specs)


def test_the_weights_one_reads_are_those_that_count():
    class Two(Loss):
        def __init__(self):
            super().__init__({"a": 1.0, "b": 0.5})

        def measure(self, pred, target):
            return {"a": pred.audio.mean(), "b": pred.audio.mean() * 4}

    loss = Weighted({"two": Two(), "params": Params()}, {"two": 3.0, "params": 10.0})
    assert loss.weights == {"two/a": 3.0, "two/b": 1.5, "params": 10.0}
    one = Estimate(torch.ones(1, 1, 4), torch.zeros(1, 1, 1))
    assert loss.total(loss(one, one)).item() == pytest.approx(3 + 6)


def test_names_without_a_weight_and_negative_weights_are_refused():
    with pytest.raises(ValueError, match="weights for"):
        Weighted({"params": Params()}, {"parms": 1.0})
    with pytest.raises(ValueError, match="0 or more"):
        Params(weight=-1.0)


def test_sounds_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        Mel(RATE)(Estimate(torch.zeros(1, 1, 5000)), Estimate(torch.zeros(1, 2, 5000)))


def equalizers() -> ProcessorGraph:
    return ProcessorGraph({"peq": ParametricEQ(RATE), "geq": GraphicEQ(RATE)})


def settings(graph: ProcessorGraph, batch: int, seed: int) -> torch.Tensor:
    return graph.spec.sample(batch, generator=torch.Generator().manual_seed(seed))


def test_response_reads_what_mel_hears_of_two_equalized_noises():
    graph = equalizers()
    dry = 0.1 * noise(4, 1, 3 * RATE)
    one, other = (settings(graph, 4, seed) for seed in (1, 2))
    sounds = [Estimate(graph(dry, controls=graph.from_unit(z)), z) for z in (one, other)]
    heard = Mel(RATE)(*sounds)["mel"].item()
    assert heard > 0.3
    assert Response(graph, RATE)(*sounds)["response"].item() == pytest.approx(heard, rel=0.1)


def test_response_does_not_see_a_gain_over_the_whole_spectrum():
    graph = ProcessorGraph({"geq": GraphicEQ(RATE)})
    flat, louder = torch.full((2, 10, 1), 0.5), torch.full((2, 10, 1), 0.6)
    x = noise(2, 1, RATE)
    loss = Response(graph, RATE)
    bent = loss(Estimate(x, settings(graph, 2, 3)), Estimate(x, flat))["response"]
    assert loss(Estimate(x, louder), Estimate(x, flat))["response"] < 0.25 * bent


def test_knobs_without_a_response_count_by_their_distance():
    graph = ProcessorGraph({"peq": ParametricEQ(RATE), "comp": Compressor(RATE)})
    z = settings(graph, 3, 4)
    moved = z.clone()
    moved[:, -6:] = (z[:, -6:] - 0.5).abs()
    x = noise(3, 1, RATE)
    terms = Response(graph, RATE)(Estimate(x, moved), Estimate(x, z))
    assert terms["response"].item() == pytest.approx(0.0, abs=1e-5)
    assert terms["others"].item() == pytest.approx((moved - z)[:, -6:].square().mean().item(), rel=1e-5)


def test_response_teaches_every_knob_of_an_equalizer_and_refuses_other_graphs():
    graph = equalizers()
    x, z = noise(2, 1, RATE), settings(graph, 2, 5).requires_grad_()
    loss = Response(graph, RATE)
    loss.total(loss(Estimate(x, z), Estimate(x, settings(graph, 2, 6)))).backward()
    assert (z.grad.abs() > 0).all()
    with pytest.raises(ValueError, match="differ"):
        loss.require(graph.spec, ProcessorGraph({"peq": ParametricEQ(RATE)}).spec)
