"""Effects that may be off: drawn so, answered so, judged so."""

from functools import partial

import pytest
import torch
from lightning import Trainer

from difffx.data import Synthetic
from difffx.encoders import StaticHead, TimeFrequencyEncoder
from difffx.evaluation import evaluate, heard_errors
from difffx.graph import GraphError, ProcessorGraph, shaped, simplified, switched
from difffx.losses import Estimate, Mel, Params, Response
from difffx.processors import Compressor, Normalize, ParametricClipper, ParametricEQ, Switch
from difffx.tasks import BlindEstimation, SettingsFirst

RATE = 16_000


def chain(*kinds):
    nodes = {}
    for kind in kinds or (ParametricEQ, ParametricClipper):
        name = kind.__name__.lower()
        nodes |= {f"level_{name}": Normalize(RATE), name: kind(RATE)}
    return ProcessorGraph(nodes)


def noise(batch=2, seed=0, length=2 * RATE):
    return 0.3 * torch.randn(batch, 1, length, generator=torch.Generator().manual_seed(seed))


def task(sfx, afx=None, loss=None, first=None):
    torch.manual_seed(0)
    return BlindEstimation(
        sfx,
        afx or sfx,
        TimeFrequencyEncoder(RATE, envelope=8),
        loss or Mel(RATE, n_fft=1024, hop=256, bands=40),
        partial(torch.optim.Adam, lr=3e-3),
        head=partial(StaticHead, hidden=(64,)),
        first=first,
    )


def test_effects_with_knobs_get_a_switch_and_keep_their_names():
    graph = switched(chain(), 0.3)
    assert isinstance(graph.processors["parametriceq"], Switch)
    assert isinstance(graph.processors["level_parametriceq"], Normalize)
    plain = [name for name in graph.spec.names if not name.endswith(".active")]
    assert plain == chain().spec.names
    assert [graph.spec.labels[i] for i in graph.spec.switches] == [
        "parametriceq.active",
        "parametricclipper.active",
    ]


def test_no_bypass_leaves_the_graph_alone_and_a_chance_above_one_is_refused():
    graph = chain()
    assert switched(graph, 0.0) is graph
    with pytest.raises(GraphError, match=r"bypass: expected a chance in 0\.\.1, got 1\.5"):
        switched(graph, 1.5)


def test_an_effect_that_is_off_is_not_heard_and_one_that_is_on_is_the_effect():
    plain, graph, x = chain(), switched(chain(), 0.5), noise()
    z = graph.spec.sample(2, generator=torch.Generator().manual_seed(1))
    z[:, graph.spec.switches] = 1.0
    kept = [i for i in range(len(graph.spec)) if i not in graph.spec.switches]
    expected = plain(x, controls=plain.from_unit(z[:, kept]))
    assert torch.equal(graph(x, controls=graph.from_unit(z)), expected)
    z[:, graph.spec.switches] = 0.0
    level = Normalize(RATE)
    assert torch.allclose(graph(x, controls=graph.from_unit(z)), level(x), atol=1e-6)


def test_switches_are_drawn_as_often_as_they_say():
    spec = switched(chain(), 0.3).spec
    z = spec.sample(4000, generator=torch.Generator().manual_seed(0))[:, spec.switches]
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert (z.mean((0, 2)) - 0.7).abs().max() < 0.03
    both_off = (z.amax(1) == 0).float().mean().item()
    assert abs(both_off - 0.09) < 0.02


def test_the_knobs_of_what_is_off_do_not_count():
    spec = switched(chain(), 0.5).spec
    z = spec.sample(1, generator=torch.Generator().manual_seed(2))
    place = spec.labels.index("parametricclipper.active")
    z[:, spec.switches] = 1.0
    z[:, place] = 0.0
    heard = spec.heard(z)
    unheard = [label for label, h in zip(spec.labels, heard[0, :, 0].tolist(), strict=True) if h == 0]
    assert unheard == [f"parametricclipper.{knob}" for knob in ("drive_db", "offset", "shape")]
    x = noise(1)
    other = z.clone()
    other[:, place + 1 : place + 4] = 1.0 - other[:, place + 1 : place + 4]
    loss = Params(1.0)
    assert loss(Estimate(x, other), Estimate(x, z, heard))["params"] == 0.0
    assert loss(Estimate(x, other), Estimate(x, z))["params"] > 0.0
    errors = heard_errors(spec, other, Estimate(x, z, heard))
    assert len(errors["parametricclipper.shape"]) == 0 and len(errors["parametriceq.peak_1_q"]) == 1


def test_decided_rounds_switches_and_nothing_else():
    spec = switched(chain(), 0.5).spec
    z = torch.full((1, len(spec), 1), 0.4)
    z[:, spec.switches[1]] = 0.6
    decided = spec.decided(z)
    assert decided[0, spec.switches, 0].tolist() == [0.0, 1.0]
    rest = [i for i in range(len(spec)) if i not in spec.switches]
    assert torch.equal(decided[:, rest], z[:, rest])


def test_chances_are_told_as_if_on_and_off_were_equally_frequent():
    spec = switched(chain(ParametricClipper), 0.2).spec
    z = torch.full((3, len(spec), 1), 0.3)
    place = spec.switches[0]
    z[:, place, 0] = torch.tensor([0.8, 1.0, 0.5])
    told = spec.evened(z)
    # Bayes: odds of 4 to 1 are what four of five data say; even odds speak four times against it.
    assert torch.allclose(told[:, place, 0], torch.tensor([0.5, 1.0, 0.2]))
    rest = [i for i in range(len(spec)) if i != place]
    assert torch.equal(told[:, rest], z[:, rest])


def test_the_response_of_a_switched_equalizer_is_flat_when_off():
    graph = switched(chain(ParametricEQ), 0.5)
    hz = torch.linspace(20.0, 7000.0, 50)
    z = graph.spec.sample(1, generator=torch.Generator().manual_seed(0))
    z[:, graph.spec.switches] = 0.0
    assert graph.response(graph.from_unit(z), hz).abs().max() == 0.0
    z[:, graph.spec.switches] = 1.0
    plain = chain(ParametricEQ)
    kept = [i for i in range(len(graph.spec)) if i not in graph.spec.switches]
    assert torch.equal(
        graph.response(graph.from_unit(z), hz), plain.response(plain.from_unit(z[:, kept]), hz)
    )


def test_a_compressor_with_a_switch_has_no_response():
    assert not hasattr(Switch(Compressor(RATE)), "response")


def test_the_estimate_that_is_told_what_is_on_keeps_its_own_settings():
    blind = task(switched(chain(), 0.5)).eval()
    spec, batch = blind.sfx.spec, {"dry": noise(4), "name": list("abcd")}
    with torch.inference_mode():
        target, answers = blind.answers(batch)
        z = blind.estimate(target.audio)
        z[:, spec.switches] = target.z[:, spec.switches]
        assert torch.equal(answers["told"].audio, blind.apply(batch["dry"], z))
        assert 0.0 < target.z[:, spec.switches].mean() < 1.0
        assert "told" not in task(chain()).eval().answers(batch)[1]


@pytest.mark.parametrize(
    "afx",
    [
        lambda: switched(simplified(chain(ParametricEQ, Compressor)), 0.5),
        lambda: switched(chain(ParametricEQ, Compressor), 0.5),
    ],
)
def test_the_network_is_told_what_was_on_through_any_afx(afx):
    sfx = switched(chain(ParametricEQ, Compressor), 0.5)
    subject = task(sfx, afx())
    loss = subject.training_step({"dry": noise(4), "name": list("abcd")}, 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert subject.switch_weight > 0
    last = subject.head.layers[-1].bias.grad[subject.afx.spec.switches]
    assert (last.abs() > 0).all()


def test_unlike_effects_still_share_their_switches():
    sfx = switched(chain(ParametricClipper), 0.5)
    subject = task(sfx, switched(shaped(chain(ParametricClipper), "taylor"), 0.5))
    assert subject.switch_weight > 0 and not subject.same_knobs
    assert torch.isfinite(subject.training_step({"dry": noise(2), "name": ["a", "b"]}, 0))


@pytest.mark.slow
def test_an_estimator_learns_to_leave_alone_what_is_untouched(tmp_path):
    sfx = switched(chain(ParametricClipper), 0.5)
    subject = task(
        sfx,
        loss=Params(),
        first=SettingsFirst(Response(switched(chain(ParametricClipper), 0.5), RATE), 0.5, 2),
    )
    music = Synthetic(RATE, seconds=1.2, batch_size=8, train_items=480, val_items=8, test_items=24, seed=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    trainer.fit(subject, music)
    results, _ = evaluate(subject, music.test_dataloader())
    untouched = results["untouched"]
    assert untouched["left alone"] > 0.6
    assert untouched["mel"] < 0.5 * results["metrics"]["mel"]["dry"]
    assert untouched["parametricclipper"] < 0.5
