"""Playing as a rule would: on the beat, for any two decks."""

from functools import partial

import pytest
import torch

from difffx.dj import TRANSITIONS, create_mixer, index_of, transition
from difffx.dj.meeting import Meeting
from difffx.dj_evaluation import evaluate
from difffx.losses import Curves, TransitionLoss
from difffx.networks import FrameTransformer
from difffx.tasks import DJImitation
from difffx.tasks.dj_imitation import by_run, grid_features, rule_curves, told

RATE, SECONDS, FRAMES = 16_000, 4.0, 17
MIXER = create_mixer(RATE)


def small(loss=None, **options):
    torch.manual_seed(0)
    return DJImitation(MIXER, loss or Curves(RATE), partial(torch.optim.Adam, lr=3e-3), width=32, **options)


def grid(tempo_bpm=120.0, start_s=0.5):
    """Phases of beat and bar with a downbeat at start_s, [F, 2]; zeros without a tempo."""
    if not tempo_bpm:
        return torch.zeros(FRAMES, 2)
    beats = (torch.linspace(0.0, SECONDS, FRAMES) - start_s) * tempo_bpm / 60.0
    return torch.stack((beats % 1.0, beats / 4.0 % 1.0), -1)


def batch(items=3, tempo_bpm=120.0, start_s=0.5):
    stems = torch.randn(2, items, 4, 1, round(SECONDS * RATE), generator=torch.Generator().manual_seed(0))
    return {
        "a": 0.1 * stems[0],
        "b": 0.1 * stems[1],
        "tempo_bpm": torch.full((items,), tempo_bpm),
        "beats": grid(tempo_bpm, start_s).expand(items, -1, -1),
        "name": [f"val-{i}" for i in range(items)],
    }


def quiet(task):
    task.log_terms = lambda stage, terms, total, size: total
    return task


def test_the_rule_fills_the_whole_bars_from_the_first_downbeat_on():
    curves = rule_curves("crossfade", FRAMES, SECONDS, 120.0, 0.75)  # downbeat after 0.5 s, bars of 2 s
    gain = curves[:, index_of("a", "drums", "gain")]
    times = torch.linspace(0.0, SECONDS, FRAMES)
    assert (gain[times <= 0.5] == 1.0).all() and gain[times >= 2.5].max() < 1e-6
    assert gain[times == 1.5].item() == pytest.approx(0.5**0.5, abs=1e-4)


def test_without_a_beat_the_rule_fills_everything():
    assert torch.equal(rule_curves("cut", FRAMES, SECONDS, 0.0, 0.0), transition("cut", FRAMES, bars=4.0))
    assert torch.equal(rule_curves("cut", FRAMES, SECONDS, 40.0, 0.0), transition("cut", FRAMES, bars=4.0))


@pytest.mark.parametrize(("tempo", "bars"), [(120.0, 1.0), (0.0, 1.0), (180.0, 2.0)])
def test_the_network_can_count_bars(tempo, bars):
    features = grid_features(grid(tempo)[None])
    place, count = features[0, :, 4], features[0, :, 6]
    assert place[0] == 0.0 and place[-1] == 1.0 and (place.diff() >= 0).all()
    assert 2.0 ** (4.0 * count[0].item()) == pytest.approx(bars)
    if tempo == 120.0:
        expected = ((torch.linspace(0.0, SECONDS, FRAMES) - 0.5) / 2.0).clamp(0.0, 1.0)
        assert torch.allclose(place, expected, atol=1e-5)


@pytest.mark.parametrize("loss", [Curves(RATE), TransitionLoss(RATE)], ids=["curves", "response"])
@pytest.mark.parametrize("network", [None, FrameTransformer], ids=["lstm", "transformer"])
def test_the_loss_falls_on_a_batch_that_is_learned_by_heart(loss, network):
    task, items = quiet(small(loss, **({"network": network} if network else {}))), batch()
    optimizer, losses = torch.optim.Adam(task.parameters(), lr=5e-3), []
    for _ in range(25):
        optimizer.zero_grad()
        value = task.step(items, "val", 0)
        value.backward()
        assert all(p.grad.isfinite().all() for p in task.parameters())
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.6 * losses[0]


def test_rules_are_fixed_in_validation_and_new_in_training():
    task, names = small(), [f"item {i}" for i in range(40)]
    fixed = [task.rule_of(name, "val", 0) for name in names]
    assert fixed == [task.rule_of(name, "val", 7) for name in names]
    assert len(set(fixed)) > 4 and set(fixed) <= set(TRANSITIONS)
    assert fixed != [task.rule_of(name, "train", 0) for name in names]
    assert {small(rules=["cut"]).rule_of(name, "test", 0) for name in names} == {"cut"}


def test_now_and_then_a_rule_is_kept_from_the_network_in_training_only():
    drawn = torch.stack([told("train", 64, 0, step) for step in range(20)])
    assert 0.85 < drawn.mean() < 0.95 and told("val", 64, 0, 0) is None
    task, items = small(), batch(2)
    stems = torch.stack((items["a"], items["b"]), 1)
    without = task(stems, items["beats"], ["cut", "cut"], torch.tensor([0.0, 1.0]))
    assert torch.allclose(without[:1], task(stems[:1], items["beats"][:1], [None]), atol=1e-5)
    assert not torch.allclose(without[1:], task(stems[1:], items["beats"][1:], [None]), atol=1e-5)


def test_prediction_takes_decks_by_name_with_stems_missing():
    task = small()
    stereo = 0.1 * torch.randn(2, round(SECONDS * RATE), generator=torch.Generator().manual_seed(1))
    deck = {"drums": stereo, "other": stereo[:1]}
    curves = task.predict(deck, {"other": stereo}, grid(), rule="bass_swap")
    assert curves.shape == (FRAMES, 54) and ((curves >= 0) & (curves <= task.highest)).all()
    assert torch.equal(curves, task.predict(deck, {"other": stereo}, grid(), "bass_swap"))
    assert not torch.equal(curves, task.predict({"other": stereo}, {"other": stereo}, grid()))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rule": "bas_swap"}, "did you mean 'bass_swap'"),
        ({"deck_a": {"drum": torch.zeros(1, RATE)}}, "did you mean 'drums'"),
        ({"deck_b": {}}, "deck_b: no stems"),
    ],
)
def test_wrong_names_are_refused(wrong, message):
    deck = {"drums": torch.zeros(1, RATE)}
    with pytest.raises(ValueError, match=message):
        small().predict(**{"deck_a": deck, "deck_b": deck, "beats": grid(), **wrong})


@pytest.mark.parametrize("rate", [RATE, 22_050])
def test_a_run_draws_the_curves_of_a_hand_over_of_songs_at_any_rate(rate):
    stems = {"drums": 0.1 * torch.randn(2, 6 * rate, generator=torch.Generator().manual_seed(0))}
    meeting = Meeting(stems, {"other": stems["drums"]}, rate, rate, 5 * rate, rate, bars=2, tempo_bpm=120.0)
    curves = by_run(small(), "cut")(meeting, 65)
    assert curves.shape == (65, 54) and curves.isfinite().all()
    assert not torch.equal(curves, by_run(small())(meeting, 65))


def test_only_what_knows_the_rule_draws_it():
    with pytest.raises(ValueError, match="task=dj_imitation"):
        by_run(MIXER)
    with pytest.raises(ValueError, match="knows no rule 'bass_swap'"):
        by_run(small(rules=["cut"]), "bass_swap")


def test_an_unknown_rule_is_refused_when_the_task_is_made():
    with pytest.raises(ValueError, match="did you mean 'cut'"):
        small(rules=["cot"])


def test_it_is_scored_beside_what_it_must_beat():
    results = evaluate(small(), [batch()])
    assert list(results["metrics"]["curves"]) == ["estimate", "default", "linear", "equal_power", "untold"]
    assert "fitted" not in results and results["items"] == 3
