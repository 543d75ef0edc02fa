"""Who takes part in an evolutionary search, and how far beyond the bounds a result lies."""

import math

import numpy as np
import pytest

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat import choices as space
from ziggurat.domain import Candidate, Fidelity, Goal, Objective, TrialStatus
from ziggurat.events import TrialEnded
from ziggurat.searchers import evidence, population

LETTERS = {name: space.Values(values=["a", "b", "c"]) for name in ("north", "east")}
TWO_RUNGS = (Fidelity(1), Fidelity(3))


def told(count: int, upper: int = 0) -> Story:
    """A story of `count` trials at the lowest rung, of which the first `upper` reached the next one too."""
    story = Story(ladder=TWO_RUNGS)
    for i in range(count):
        number = story.propose(Candidate({"north": "abc"[i % 3]}), {"parameters": 100.0 + i})
        story.finish(number, val_accuracy=0.3 + 0.01 * i)
        story.verdict(number, "pause" if i % 2 else "stop")
        if i < upper:
            story.finish(number, val_accuracy=0.6 + 0.01 * i)
    return story


def compared(story: Story, last: int | None = None, **changes):
    return population.compared(story.context(choices=LETTERS, ladder=TWO_RUNGS, **changes), last)


@pytest.mark.parametrize(("upper", "rung", "numbers"), [(0, 0, 12), (7, 0, 12), (8, 1, 8), (12, 1, 12)])
def test_the_highest_rung_with_eight_results_is_looked_at(upper, rung, numbers):
    story = told(12, upper)
    found = compared(story)
    assert [t.number for t in found.trials] == list(range(numbers))
    assert found.losses[1] == pytest.approx([-0.61 if rung else -0.31, 101.0])
    seen = evidence.gather(story.context(choices=LETTERS, ladder=TWO_RUNGS))
    assert (seen.rung, sorted(seen.results)) == (rung, list(range(numbers)))


@pytest.mark.parametrize(("count", "upper", "rung"), [(5, 5, 0), (5, 3, 0), (7, 6, 0)])
def test_where_no_rung_has_enough_the_fullest_counts_and_the_lower_of_two_equals(count, upper, rung):
    story = told(count, upper)
    assert compared(story).losses[0][0] == pytest.approx(-0.6 if rung else -0.3)
    assert evidence.gather(story.context(choices=LETTERS, ladder=TWO_RUNGS)).rung == rung


def test_what_a_trial_showed_before_it_failed_is_evidence_but_it_has_no_children():
    story = told(9)
    story.add(TrialEnded(4, TrialStatus.FAILED))
    assert [t.number for t in compared(story).trials] == [0, 1, 2, 3, 5, 6, 7, 8]
    seen = evidence.gather(story.context(choices=LETTERS, ladder=TWO_RUNGS))
    assert sorted(seen.results) == list(range(9))


def test_the_last_by_index_are_kept_in_their_order():
    assert [t.number for t in compared(told(12), 3).trials] == [9, 10, 11]
    assert [t.number for t in compared(told(12, 9), 3).trials] == [6, 7, 8]


def test_failed_rejected_unknown_and_unfinished_trials_take_no_part():
    story = told(4)
    story.fail(0)
    story.add(TrialEnded(1, TrialStatus.REJECTED))
    story.finish(story.propose(Candidate({"north": "a"}), {"parameters": 1.0}), val_accuracy=math.nan)
    story.finish(story.propose(Candidate({"north": "b"})), val_accuracy=0.5)
    story.start(story.propose(Candidate({"north": "c"})))
    assert [t.number for t in compared(story).trials] == [2, 3]
    assert population.hopeful(story.context()) == 5


def test_without_results_nobody_takes_part():
    found = compared(Story(ladder=TWO_RUNGS))
    assert found.trials == []
    assert found.losses.shape == (0, 2)
    assert found.excess.shape == (0,)


def test_excess_is_the_scaled_distance_beyond_the_tighter_of_reference_and_limit():
    limited = Objective("parameters", Goal.MINIMIZE, reference=1000.0, limit=500.0)
    losses = np.array([[-0.5, 500.0], [-0.1, 500.0], [-0.15, 700.0], [-0.5, 900.0]])
    assert population.excess(losses, (ACCURACY, limited)) == pytest.approx([0.0, 1.0, 0.5 + 0.5, 1.0])
    assert population.excess(losses, (ACCURACY, PARAMETERS)) == pytest.approx([0.0, 1.0, 0.5, 0.0])
    assert population.excess(losses[:1], (ACCURACY, limited)) == pytest.approx([0.0])
