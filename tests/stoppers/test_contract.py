"""What every stopper must do; stoppers are found through the union."""

import math
from collections.abc import Callable, Mapping
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat import plan
from ziggurat.domain import (
    Candidate,
    Decision,
    Failure,
    FailureKind,
    Goal,
    Job,
    Measurement,
    Objective,
    TrialStatus,
)
from ziggurat.events import SegmentFinished, SegmentPlanned
from ziggurat.history import fold
from ziggurat.searchers import RandomSearch
from ziggurat.stoppers import AnyStopper, Asha, Median, Percentile

KINDS = get_args(get_args(AnyStopper)[0])
SETTINGS = [
    *(kind() for kind in KINDS),
    *(Asha(type=t, keep=k) for t in ("stopping", "promotion") for k in ("share", "front", "either")),
    *(Asha(type=t, brackets=3) for t in ("stopping", "promotion")),
    *(Asha(type=t, brackets=2, grace=1) for t in ("stopping", "promotion")),
    Asha(grace=1),
    Asha(reduction_factor=2.0, floor="reference"),
    *(Percentile(percentile=p, min_peers=1) for p in (1, 99)),
    Percentile(grace=1),
    Median(min_peers=1),
]
LATENCY = Objective("latency_p50_ms", Goal.MINIMIZE, reference=50.0)
ONE, TWO, THREE = (ACCURACY,), (ACCURACY, PARAMETERS), (ACCURACY, PARAMETERS, LATENCY)
TOP = 2
Outcome = Callable[[int, int], float]
"""Accuracy of a trial at a rung."""
Known = Callable[[int], Mapping[str, float]]
"""What is known of a trial before training."""

every_setting = pytest.mark.parametrize("stopper", list(dict.fromkeys(SETTINGS)), ids=repr)
every_number = pytest.mark.parametrize("objectives", [ONE, TWO, THREE], ids=["one", "two", "three"])


def told(count: int, **changes) -> Story:
    """A story of trials at the lowest rung, accuracy growing with the number, size too."""
    story = Story()
    for i in range(count):
        number = story.propose(Candidate({"width": i}), known(i))
        story.finish(number, val_accuracy=changes.get("accuracy", 0.5 + 0.01 * i))
    return story


def growing(number: int, rung: int) -> float:
    return 0.5 + 0.01 * ((number * 7) % 12) + 0.1 * rung


def known(number: int) -> dict[str, float]:
    return {"parameters": 100.0 + number, "latency_p50_ms": 1.0 + (number * 5) % 7}


def drive(
    stopper: AnyStopper,
    outcome: Outcome = growing,
    objectives: tuple[Objective, ...] = TWO,
    *,
    before: Known = known,
    failures: Mapping[tuple[int, int], FailureKind] | None = None,
    trials: int = 12,
) -> Story:
    """A whole search by the production plan with three workers; the segment that began last ends first.

    `failures` say for a trial and the rung it trains towards how its first attempt fails.
    """
    story, running, failing = Story(), [], dict(failures or {})
    for _ in range(20 * trials):
        step = plan.next_jobs(
            story.context(objectives=objectives, trials=trials),
            3 - len(running),
            searcher=RandomSearch(),
            stopper=stopper,
            rules=plan.Rules(max_failures=1.0),
        )
        for body in step.bodies:
            story.add(body)
        for job, forecast in step.jobs:
            story.add(SegmentPlanned(job, forecast.seconds, forecast.usd))
            running.append(job)
        for _ in range(step.want):
            number = len(story.history.trials)
            story.propose(Candidate({"width": number}), before(number))
        if running:
            job = running.pop()
            end(story, job, outcome, failing.pop((job.trial, job.to_rung), None))
        elif step.done:
            return story
    pytest.fail("the search does not end")


def end(story: Story, job: Job, outcome: Outcome, kind: FailureKind | None) -> None:
    """The end of a segment, with a result or with a failure."""
    failure = None if kind is None else Failure(kind, "told to")
    found = (Measurement("val_accuracy", outcome(job.trial, job.to_rung), step=1),) if failure is None else ()
    retry = kind in {FailureKind.PREEMPTED, FailureKind.LOST}
    story.add(SegmentFinished(job.key, job.trial, 1.0, 0.0, failure, found, retry=retry))


def full(story: Story) -> list[int]:
    """Numbers of the trials that have reached the top rung."""
    return [t.number for t in story.history.at_rung("search", TOP)]


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
@every_number
def test_the_first_good_trial_at_a_rung_is_not_stopped(stopper, objectives):
    story = told(1)
    assert stopper.decide(story.trial(0), story.context(objectives=objectives)) is not Decision.STOP


@every_setting
def test_only_a_paused_trial_is_promoted(stopper):
    story = told(9)
    assert stopper.promote(story.context()) is None


@every_setting
@every_number
def test_unknown_results_do_no_harm(stopper, objectives):
    story = told(4, accuracy=math.nan)
    assert stopper.decide(story.trial(0), story.context(objectives=objectives)) in set(Decision)
    assert stopper.promote(story.context(objectives=objectives)) is None


@every_setting
def test_failed_trials_are_never_promoted(stopper):
    story = told(9)
    for number in range(9):
        story.verdict(number, "continue")
        story.fail(number)
    assert stopper.promote(story.context(trials=9)) is None


@every_setting
@every_number
@pytest.mark.parametrize("count", [1, 2, 5, 20])
def test_a_search_ends_with_a_trial_at_the_top_rung(stopper, objectives, count):
    story = drive(stopper, objectives=objectives, trials=count)
    assert full(story)
    assert len(story.history.trials) == count
    assert all(t.ended or t.status is TrialStatus.PAUSED for t in story.history.trials.values())


@every_setting
@every_number
def test_a_trial_that_is_better_than_all_others_in_everything_reaches_the_top(stopper, objectives):
    def before(number: int) -> dict[str, float]:
        return {"parameters": 1.0, "latency_p50_ms": 0.1} if number == 7 else known(number)

    story = drive(stopper, lambda n, r: 0.99 if n == 7 else growing(n, r), objectives, before=before)
    assert 7 in full(story)


@every_setting
@every_number
def test_constant_objectives_and_duplicates_do_no_harm(stopper, objectives):
    alike = {"parameters": 9.0, "latency_p50_ms": 1.0}
    story = drive(stopper, lambda *_: 0.5, objectives, before=lambda _: alike)
    assert full(story)


@every_setting
@every_number
def test_ties_in_one_objective_do_no_harm(stopper, objectives):
    story = drive(stopper, lambda n, _: 0.5 + 0.1 * (n % 2), objectives, before=lambda n: known(n // 4))
    assert any(story.trial(n).value("val_accuracy") == 0.6 for n in full(story))


@every_setting
@every_number
def test_trials_without_a_number_never_stand_in_the_way(stopper, objectives):
    story = drive(stopper, lambda n, r: math.nan if n % 3 == 0 else growing(n, r), objectives)
    assert any(not math.isnan(story.trial(n).value("val_accuracy")) for n in full(story))


@every_setting
@every_number
def test_a_trial_that_loses_its_number_later_is_not_the_only_full_one(stopper, objectives):
    story = drive(stopper, lambda n, r: math.nan if r and n < 3 else growing(n, r), objectives)
    assert any(not math.isnan(story.trial(n).value("val_accuracy")) for n in full(story))


@every_setting
@every_number
def test_failed_trials_are_left_behind(stopper, objectives):
    kinds = [FailureKind.DIVERGED, FailureKind.USER_ERROR, FailureKind.OUT_OF_MEMORY]
    failures = {(n, n % 3): kinds[n % 3] for n in range(0, 12, 2)}
    story = drive(stopper, objectives=objectives, failures=failures)
    assert full(story)
    assert {n for n, t in story.history.trials.items() if t.status is TrialStatus.FAILED} <= {
        0,
        2,
        4,
        6,
        8,
        10,
    }
    assert story.trial(0).status is TrialStatus.FAILED


@every_setting
@every_number
def test_pre_empted_segments_are_made_up_for(stopper, objectives):
    failures = {(n, r): FailureKind.PREEMPTED for n in range(12) for r in range(TOP + 1) if (n + r) % 4 == 0}
    story = drive(stopper, objectives=objectives, failures=failures)
    assert full(story)
    assert all(0 in t.results and t.status is not TrialStatus.FAILED for t in story.history.trials.values())


@every_setting
@every_number
def test_a_front_of_one_point_leaves_the_share_to_go_on(stopper, objectives):
    story = drive(stopper, lambda n, r: 0.9 - 0.02 * n + 0.01 * r, objectives)
    assert 0 in full(story)


@every_setting
@every_number
@given(st.lists(st.sampled_from([math.nan, 0.05, 0.5, 0.6, 0.7, 0.8]), min_size=36, max_size=36))
@settings(max_examples=2, deadline=None)
def test_a_resumed_search_decides_as_before(stopper, objectives, values):
    story = drive(stopper, lambda n, r: values[3 * n + r], objectives)
    again = Story(history=fold(story.events))
    for number, trial in story.history.trials.items():
        if trial.status is not TrialStatus.COMPLETED:
            contexts = [s.context(objectives=objectives, trials=12) for s in (story, again)]
            first, second = (stopper.decide(c.history.trials[number], c) for c in contexts)
            assert first is second
    assert stopper.promote(story.context(objectives=objectives, trials=12)) is None
