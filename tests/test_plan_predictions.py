"""The plan where a latency is predicted: what is trained, what is rejected, and what is measured first."""

from dataclasses import replace

import pytest

from tests.support import CHOICES, Story
from ziggurat import choices, plan
from ziggurat.domain import Goal, JobKind, Measurement, Objective, TrialStatus
from ziggurat.events import SegmentFinished, SegmentPlanned, TrialEnded, TrialProposed
from ziggurat.plan import Rules
from ziggurat.searchers import Sobol
from ziggurat.stoppers import Never

METRIC = "latency_p50_ms"
LIMITED = Objective(METRIC, Goal.MINIMIZE, 20.0, 10.0)
RULES = Rules(device="phone", measured=(METRIC,))


def predicted(value, error=0.5):
    return Measurement(METRIC, value, "ms", device="phone", spread=error)


def story(*values, error=0.5):
    """Trials whose latency is predicted with some error."""
    told = Story()
    rng = told.context().rng
    for number, value in enumerate(values):
        static = (predicted(value, error),)
        candidate = choices.sample(CHOICES, rng)
        told.add(TrialProposed(number, number, "search", candidate, 0, told.ladder, static=static))
    return told


def step(told, rules=RULES, objective=LIMITED):
    context = replace(told.context(), objectives=(objective,))
    return plan.next_jobs(context, 2, searcher=Sobol(), stopper=Never(), rules=rules)


def jobs(found):
    return [(job.kind, job.trial) for job, _ in found.jobs]


def rejected(found):
    return {b.trial: b.reason for b in found.bodies if isinstance(b, TrialEnded)}


def measure(told, trial, value, samples=100):
    (job,) = (job for job, _ in step(told).jobs if job.kind is JobKind.PROFILE)
    assert job.trial == trial
    told.add(SegmentPlanned(job, 1.0, 0.0))
    found = (Measurement(METRIC, value, "ms", device="phone", spread=0.1, samples=samples),)
    told.add(SegmentFinished(job.key, trial, 1.0, 0.0, measurements=found))


@pytest.mark.parametrize("value", [1.0, 8.9])
def test_what_is_predicted_well_within_the_limit_is_trained_without_measuring(value):
    assert jobs(step(story(value))) == [(JobKind.TRAIN, 0)]


@pytest.mark.parametrize("value", [11.1, 50.0])
def test_what_is_predicted_well_beyond_the_limit_is_rejected_at_once(value):
    found = step(story(value))
    assert found.jobs == ()
    assert rejected(found) == {0: f"latency_p50_ms predicted as {value:g}, the limit is 10"}


@pytest.mark.parametrize("value", [9.1, 10.0, 10.9])
def test_what_is_predicted_near_the_limit_is_measured_first(value):
    found = step(story(value))
    assert jobs(found) == [(JobKind.PROFILE, 0)]
    assert rejected(found) == {}


def test_an_exact_prediction_needs_no_measurement_even_at_the_limit():
    assert jobs(step(story(10.0, error=0.0))) == [(JobKind.PROFILE, 0)]
    assert jobs(step(story(9.999, error=0.0))) == [(JobKind.TRAIN, 0)]


def test_the_measured_value_replaces_the_prediction():
    told = story(10.4)
    measure(told, 0, 9.8)
    assert told.trial(0).static[METRIC].value == 9.8
    assert jobs(step(told)) == [(JobKind.TRAIN, 0)]
    told = story(9.6)
    measure(told, 0, 10.2)
    assert rejected(step(told)) == {0: "latency_p50_ms is 10.2, the limit is 10"}


def test_a_device_that_tells_no_samples_is_asked_once_only():
    told = story(9.6)
    measure(told, 0, 9.9, samples=None)
    assert jobs(step(told)) == [(JobKind.TRAIN, 0)]
    told = story(9.6)
    measure(told, 0, 10.1, samples=None)
    assert list(rejected(step(told))) == [0]


def test_others_are_trained_while_a_doubtful_one_is_measured():
    found = step(story(10.1, 5.0, 6.0))
    assert sorted(jobs(found)) == [(JobKind.PROFILE, 0), (JobKind.TRAIN, 1), (JobKind.TRAIN, 2)]


def test_without_a_limit_a_prediction_is_as_good_as_a_measurement():
    assert jobs(step(story(9.6), objective=Objective(METRIC, Goal.MINIMIZE, 20.0))) == [(JobKind.TRAIN, 0)]


def test_a_metric_that_is_not_predicted_is_still_measured():
    rules = Rules(device="phone", measured=(METRIC, "latency_p99_ms"))
    assert jobs(step(story(1.0), rules)) == [(JobKind.PROFILE, 0)]


def test_a_rejected_trial_was_never_trained():
    told = story(50.0)
    for body in step(told).bodies:
        told.add(body)
    trial = told.trial(0)
    assert (trial.status, trial.rung, dict(trial.results)) == (TrialStatus.REJECTED, -1, {})
