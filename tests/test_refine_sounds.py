"""Whole sounds, long ones too, are refined and lined up."""

import pytest
import torch

from difffx import inference
from difffx.graph import ProcessorGraph
from difffx.processors import Normalize, ParametricClipper
from difffx.refine import line_up, loudest, refine_sound

RATE = 8_000


def noise(seconds, channels=1, seed=0):
    """Bursts of noise, [C, T]."""
    time = torch.arange(round(seconds * RATE)) / RATE
    white = torch.randn(channels, len(time), generator=torch.Generator().manual_seed(seed))
    return 0.1 * white * (0.1 + torch.exp(-4 * (time % 0.5)))


def clipper():
    return ProcessorGraph({"level": Normalize(RATE), "dist": ParametricClipper(RATE)}).eval()


@torch.no_grad()
def processed(graph, dry, z):
    return graph(dry[None], controls=graph.from_unit(z))[0]


class Guess(torch.nn.Module):
    """Always answers with the middle of every knob."""

    sample_rate, same_knobs = RATE, True

    def __init__(self):
        super().__init__()
        self.sfx = self.afx = clipper()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def apply(self, dry, z):
        return self.sfx(dry, controls=self.sfx.from_unit(z))


Z = torch.tensor([0.9, 0.3, 0.2]).reshape(1, 3, 1)
MIDDLE = torch.full((1, 3, 1), 0.5)


def test_the_loudest_seconds_are_found():
    audio = 0.01 * noise(30)
    audio[:, 12 * RATE : 22 * RATE] *= 50
    assert loudest(audio, RATE) == slice(12 * RATE, 22 * RATE)
    assert loudest(audio[:, : 9 * RATE], RATE) == slice(0, 9 * RATE)


def test_a_long_sound_is_searched_where_it_is_loudest_and_refined_as_a_whole():
    """A click outside the excerpt makes the level of the whole another one, and with it the drive."""
    graph, dry = clipper(), noise(13.5)
    dry[:, : 3 * RATE] *= 0.3
    dry[:, RATE] = 1.5 * dry.abs().max()
    wet = processed(graph, dry, Z)
    found, notes = refine_sound(graph, dry[None], wet[None], MIDDLE)
    assert notes == ["refined on 3 to 13 s, the loudest, then on the whole"]
    assert found.before > 0.05 and found.after < 0.005
    part = dry[None, :, 3 * RATE : 13 * RATE], wet[None, :, 3 * RATE : 13 * RATE]
    assert refine_sound(graph, *part, Z)[0].before > 5 * found.after


def test_a_late_sound_is_lined_up_and_said_to_be():
    dry = noise(2)
    wet = torch.nn.functional.pad(processed(clipper(), dry, Z), (160, 0))[:, : 2 * RATE]
    moved, notes = line_up(dry, wet, RATE)
    assert torch.equal(moved[:, 160:], dry[:, :-160]) and not moved[:, :160].any()
    assert notes == ["wet is 160 samples (20.0 ms) late: dry is moved there"]
    assert line_up(dry, dry, RATE) == (dry, [])


@pytest.mark.parametrize("channels", [1, 2])
def test_an_estimate_is_refined_and_shown_beside_the_result(channels):
    task, dry = Guess(), noise(1.5, channels)
    wet = inference.render(task, dry, RATE, Z)
    found, notes = inference.refined(task, dry, wet, RATE, MIDDLE)
    _, scores = inference.match(task, dry, wet, RATE, found.z, refined_from=MIDDLE)
    assert list(scores) == ["before", "estimate", "after"] and not notes
    assert scores["after"]["mel"] < 0.1 * min(scores["before"]["mel"], scores["estimate"]["mel"])
    assert scores["estimate"]["mel"] == pytest.approx(found.before, rel=0.1)
    knobs, sounds = inference.tables(task, found.z, scores)
    assert knobs.title == "refined settings"
    assert [str(column.header) for column in sounds.columns][1:] == ["dry", "estimate", "refined"]


def test_sounds_of_another_rate_are_compared_at_the_rate_of_the_run():
    task, dry = Guess(), noise(2)
    wet = inference.render(task, dry, 11_025, Z)
    far, near = (inference.refined(task, dry, wet, 11_025, z, seconds=0)[0] for z in (MIDDLE, Z))
    assert near.before < 0.5 * far.before and far.ended == "seconds"


def test_what_cannot_be_heard_is_refused():
    with pytest.raises(ValueError, match="silent"):
        inference.refined(Guess(), noise(2), torch.zeros(1, 2 * RATE), RATE, MIDDLE)
