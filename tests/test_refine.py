"""Known settings are found again from a wrong start."""

import pytest
import torch

from difffx.graph import ProcessorGraph
from difffx.params import Param
from difffx.processors import Compressor, Normalize, ParametricClipper, ParametricEQ, Processor
from difffx.refine import refine

RATE = 16_000


def music(channels=1, seconds=1.0, seed=0):
    """Decaying chords over noise, [1, C, T]."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(seconds * RATE)) / RATE
    tones = sum(torch.sin(2 * torch.pi * 110 * k * time + k) / k for k in range(1, 60))
    noise = torch.randn(1, channels, len(time), generator=generator)
    return 0.1 * (tones + noise) * torch.exp(-5 * (time % 0.5)) + 0.003 * noise


def chain():
    processors = {
        "level": Normalize(RATE),
        "peq": ParametricEQ(RATE, num_peaks=1),
        "level_comp": Normalize(RATE),
        "comp": Compressor(RATE),
    }
    return ProcessorGraph(processors, set={"comp": {"makeup_db": 0.0, "knee_db": 6.0}}).eval()


def clipper():
    return ProcessorGraph({"level": Normalize(RATE), "dist": ParametricClipper(RATE)}).eval()


@torch.no_grad()
def processed(graph, dry, z):
    return graph(dry, controls=graph.from_unit(z))


def drawn(graph, seed=0):
    return graph.spec.sample(1, generator=torch.Generator().manual_seed(seed))


class Stepped(Processor):
    """A clipper behind a knob that snaps to 100 places, one sound at a time, as a plug-in's may."""

    differentiable = False
    params = (Param("drive_db", -10.0, 20.0, default=0.0), Param("offset", 0.0, 1.0, default=0.0))

    def process(self, x, drive_db, offset):
        drive_db = (drive_db * 3.3).round() / 3.3
        return ParametricClipper(self.sample_rate)(x, drive_db=drive_db, offset=offset, shape=0.5)


def test_settings_of_a_chain_are_found_again_from_the_middle_of_all_knobs():
    graph, dry = chain(), music()
    z = drawn(graph, 2)
    found = refine(graph, dry, processed(graph, dry, z), torch.full_like(z, 0.5), renders=1_500)
    assert found.before > 0.2 and found.after < 0.001 and found.ended == "near"
    reachable = [label != "peq.high_shelf_hz" for label in graph.spec.labels]  # there it is above Nyquist
    assert (found.z - z)[0, reachable].abs().max() < 0.02


def test_a_graph_without_gradient_is_refined_too():
    graph, dry = ProcessorGraph({"level": Normalize(RATE), "plugin": Stepped(RATE)}), music()
    z = torch.tensor([0.8, 0.4]).reshape(1, 2, 1)
    found = refine(graph, dry, processed(graph, dry, z), torch.tensor([[[0.1], [0.9]]]), renders=400)
    assert not graph.differentiable
    assert found.before > 0.2 and found.after < 0.02
    assert (found.z - z).abs().max() < 0.05


@pytest.mark.parametrize("seed", range(3))
def test_refinement_is_never_farther_than_its_start_and_says_how_far(seed):
    graph, dry = clipper(), music()
    start = drawn(graph, seed)
    found = refine(graph, dry, music(seed=9), start, renders=60, seed=seed)
    again = [refine(graph, dry, music(seed=9), z, renders=1).before for z in (start, found.z)]
    assert again == pytest.approx([found.before, found.after], abs=1e-5)
    assert found.after <= found.before and found.renders >= 60 and found.ended == "renders"
    rests = [mel for _, mel in found.history]
    assert rests == sorted(rests, reverse=True) and rests[-1] == found.after


def test_the_truth_is_left_as_it_is():
    graph, dry = chain(), music()
    z = drawn(graph)
    found = refine(graph, dry, processed(graph, dry, z), z)
    assert found.before < 1e-5 and torch.equal(found.z, z) and found.ended == "near"


def test_the_same_seed_gives_the_same_answer():
    graph, dry = clipper(), music()
    once, twice, other = (
        refine(graph, dry, music(seed=9), drawn(graph), renders=120, seed=s) for s in (0, 0, 1)
    )
    assert torch.equal(once.z, twice.z) and once.history == twice.history
    assert once.history != other.history


def test_of_several_starts_the_best_counts():
    graph, dry = clipper(), music()
    z = drawn(graph)
    found = refine(graph, dry, processed(graph, dry, z), torch.cat([1 - z, z]), restarts=False)
    assert found.before > 0.05 and found.after < 1e-5 and torch.equal(found.z, z)


def test_levels_and_polarity_do_not_count():
    graph, dry = clipper(), music()
    z = drawn(graph)
    found = refine(graph, 0.1 * dry, -3.0 * processed(graph, dry, z), z, renders=1)
    assert found.before < 1e-4


def test_channels_share_their_settings():
    graph, dry = clipper(), music(channels=2)
    z = drawn(graph)
    found = refine(graph, dry, processed(graph, dry, z), torch.full_like(z, 0.5), renders=500)
    assert found.z.shape == z.shape and found.after < 0.01


def test_a_search_interrupted_at_its_first_sound_keeps_the_start():
    graph, dry = clipper(), music()
    z = drawn(graph)
    start = torch.full_like(z, 0.5)

    def at_once(done, total, mel):
        raise KeyboardInterrupt

    found = refine(graph, dry, processed(graph, dry, z), start, progress=at_once)
    assert found.ended == "interrupted" and torch.equal(found.z, start)
    assert found.before == found.after > 0.0


def test_an_interrupted_search_keeps_the_best():
    graph, dry = clipper(), music()
    wet, seen = processed(graph, dry, drawn(graph)), []

    def stop_soon(done, total, mel):
        seen.append((done, total, mel))
        if done > 30:
            raise KeyboardInterrupt

    found = refine(graph, dry, wet, torch.full((1, 3, 1), 0.5), renders=5_000, progress=stop_soon)
    assert found.ended == "interrupted" and found.renders == seen[-1][0] < 60
    assert found.after == seen[-1][2] < found.before and seen[-1][1] == 5_000


def test_out_of_time_the_start_is_the_answer():
    graph, dry = clipper(), music()
    start = drawn(graph)
    found = refine(graph, dry, music(seed=9), start, seconds=0.0)
    assert found.ended == "seconds" and torch.equal(found.z, start) and found.after == found.before


def test_settings_at_which_an_effect_fails_are_avoided():
    class Fragile(Processor):
        params = (Param("gain", 0.0, 1.0, default=0.5),)

        def process(self, x, gain):
            return torch.where(gain > 0.6, torch.nan, (8.0 * gain * x).tanh())

    graph, dry = ProcessorGraph({"fragile": Fragile(RATE)}), music()
    wet = processed(graph, dry, torch.full((1, 1, 1), 0.55))
    found = refine(graph, dry, wet, torch.full((1, 1, 1), 0.9), renders=200)
    assert found.before == torch.inf and found.after < 0.01
    assert found.z.item() == pytest.approx(0.55, abs=0.02)


MISTAKES = {
    "lengths": (lambda x, z: (x, x[..., 1:], z), r"two sounds \[1, C, T\] of one shape"),
    "no batch": (lambda x, z: (x[0], x[0], z), r"two sounds \[1, C, T\]"),
    "knobs": (lambda x, z: (x, x, z[:, 1:]), r"start: expected z \[N, 3, 1\], got \(1, 2, 1\)"),
    "no start": (lambda x, z: (x, x, z[:0]), "start: expected"),
    "nan": (lambda x, z: (x, torch.full_like(x, torch.nan), z), "wet: has samples that are NaN"),
    "short": (lambda x, z: (x[..., :999], x[..., :999], z), "an STFT of 4096 needs more than 2048"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_refined_is_refused(mistake):
    arrange, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message):
        refine(clipper(), *arrange(music(), torch.full((1, 3, 1), 0.5)))


def test_a_graph_without_knobs_is_refused():
    graph = ProcessorGraph({"level": Normalize(RATE)})
    with pytest.raises(ValueError, match="no knobs"):
        refine(graph, music(), music(), torch.zeros(1, 0, 1))


def test_what_was_found_in_an_excerpt_counts_when_the_budget_ends_there():
    graph, dry = clipper(), music(seconds=6.0)
    z = drawn(graph)
    found = refine(graph, dry, processed(graph, dry, z), torch.full_like(z, 0.5), renders=10)
    assert found.ended == "renders" and found.after < 0.2 * found.before
