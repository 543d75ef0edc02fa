"""The front that grows event by event is the one that is made anew."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat import pareto
from ziggurat.answers import eligible
from ziggurat.domain import Candidate, Fidelity
from ziggurat.listeners.mlflow_front import Front

GOALS = (ACCURACY, PARAMETERS)


def grown(rows: list[tuple[float, float]]) -> tuple[Story, Front]:
    """A search of trials with these accuracies and sizes, and the front that heeded every one."""
    story, front = Story(ladder=(Fidelity(1),)), Front(GOALS)
    for accuracy, size in rows:
        number = story.propose(Candidate({"width": len(story.history.trials)}), {"parameters": size})
        story.finish(number, val_accuracy=accuracy)
        front.heed(story.trial(number), story.history)
    return story, front


@given(st.lists(st.tuples(st.sampled_from([0.3, 0.5, 0.7, 0.9]), st.sampled_from([100.0, 300.0, 900.0]))))
def test_growing_is_the_same_as_making_it_anew(rows: list[tuple[float, float]]) -> None:
    story, front = grown(rows)
    trials = eligible(story.history, GOALS)
    losses = np.array([t.losses(GOALS) for t in trials]).reshape(-1, 2)
    wanted = {t.number for t, on in zip(trials, pareto.is_front(losses), strict=True) if on}
    assert front.numbers == wanted
    volume = pareto.hypervolume(losses, [-0.2, 1000.0])
    assert front.told().get("hypervolume", 0.0) == pytest.approx(volume)


def test_best_values_are_in_their_own_direction() -> None:
    _, front = grown([(0.5, 100.0), (0.9, 300.0), (0.4, 200.0)])
    told = front.told()
    assert (told["best_val_accuracy"], told["best_parameters"], told["front_size"]) == (0.9, 100.0, 2.0)


def test_a_trial_that_is_measured_anew_gives_its_place_back() -> None:
    from ziggurat.domain import Job, JobKind, Measurement
    from ziggurat.events import SegmentFinished, SegmentPlanned

    story, front = grown([(0.9, 100.0), (0.8, 200.0)])
    assert front.numbers == {0}
    job = Job("p", JobKind.PROFILE, "search", 0)
    story.add(SegmentPlanned(job, 1.0, 0.0))
    story.add(SegmentFinished("p", 0, 1.0, 0.0, measurements=(Measurement("parameters", 500.0),)))
    assert front.heed(story.trial(0), story.history)
    assert front.numbers == {0, 1}


@pytest.mark.parametrize("change", [{"stage": "retrain"}, {"ladder": (Fidelity(1), Fidelity(3))}])
def test_only_search_trials_at_their_top_rung_can_be_on_it(change: dict[str, Any]) -> None:
    story, front = Story(**{"ladder": (Fidelity(1),), **change}), Front(GOALS)
    number = story.propose(Candidate({"width": 1}), {"parameters": 10.0})
    story.finish(number, val_accuracy=0.9)
    assert not front.heed(story.trial(number), story.history)
    assert front.told() == {}
