"""What every stopper must do; stoppers are found through the union."""

import math
from typing import get_args

import pytest

from tests.support import ACCURACY, Story
from ziggurat.domain import Candidate, Decision
from ziggurat.stoppers import AnyStopper, Asha

KINDS = get_args(get_args(AnyStopper)[0])
SETTINGS = [kind() for kind in KINDS] + [Asha(type="stopping"), Asha(grace=1), Asha(reduction_factor=2.0)]

every_setting = pytest.mark.parametrize("stopper", SETTINGS, ids=repr)


def told(count: int, **changes) -> Story:
    """A story of trials at the lowest rung, accuracy growing with the number, size too."""
    story = Story()
    for i in range(count):
        number = story.propose(Candidate({"width": i}), {"parameters": 100.0 + i})
        story.finish(number, val_accuracy=changes.get("accuracy", 0.5 + 0.01 * i))
    return story


@every_setting
def test_a_decision_is_one_of_three_and_the_same_for_the_same_history(stopper):
    story = told(5)
    for number in range(5):
        decisions = {stopper.decide(story.trial(number), story.context()) for _ in range(2)}
        assert len(decisions) == 1
        assert decisions <= set(Decision)


@every_setting
def test_an_empty_history_promotes_nothing(stopper):
    assert stopper.promote(Story().context()) is None


@every_setting
def test_the_first_good_trial_at_a_rung_is_not_stopped(stopper):
    story = told(1)
    assert stopper.decide(story.trial(0), story.context()) is not Decision.STOP


@every_setting
def test_only_a_paused_trial_is_promoted(stopper):
    story = told(9)
    assert stopper.promote(story.context()) is None


@every_setting
def test_unknown_results_do_no_harm(stopper):
    story = told(4, accuracy=math.nan)
    assert stopper.decide(story.trial(0), story.context()) in set(Decision)
    assert stopper.promote(story.context()) is None


@every_setting
def test_failed_trials_are_never_promoted(stopper):
    story = told(9)
    for number in range(9):
        story.verdict(number, "continue")
        story.fail(number)
    assert stopper.promote(story.context(trials=9)) is None


@every_setting
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_search_ends_with_a_trial_at_the_top_rung(stopper, count):
    story = told(0)
    for i in range(count):
        number = story.propose(Candidate({"width": i}))
        story.finish(number, val_accuracy=0.9 - 0.001 * i)
        run(stopper, story, number, count)
    for _ in range(100):
        trial = stopper.promote(story.context(trials=count, objectives=(ACCURACY,)))
        if trial is None:
            break
        story.finish(trial.number, val_accuracy=0.9)
        run(stopper, story, trial.number, count)
    assert story.history.at_rung("search", 2)


def run(stopper, story: Story, number: int, count: int) -> None:
    """Decide about a trial and train it on for as long as it may continue."""
    while story.trial(number).rung < 2:
        context = story.context(trials=count, objectives=(ACCURACY,))
        decision = stopper.decide(story.trial(number), context)
        story.verdict(number, decision.value)
        if decision is not Decision.CONTINUE:
            return
        story.finish(number, val_accuracy=0.9 - 0.001 * number)
