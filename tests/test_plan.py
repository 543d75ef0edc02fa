"""The plan: what starts next, inside budget, limits and failure tolerance, without processes or a clock."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import CHOICES, LADDER, Story
from ziggurat import choices, plan
from ziggurat.domain import (
    Decision,
    Failure,
    FailureKind,
    Goal,
    JobKind,
    Objective,
    TrialStatus,
)
from ziggurat.events import Decided, SegmentFinished, SegmentPlanned, TrialEnded
from ziggurat.plan import Limit, Meter, Rules
from ziggurat.protocols import Forecast
from ziggurat.searchers import Sobol
from ziggurat.stoppers import Asha, Never

RULES = Rules()


def story(trials=0, **static):
    told = Story()
    rng = told.context().rng
    for _ in range(trials):
        told.propose(choices.sample(CHOICES, rng), static or {"parameters": 10.0})
    return told


def step(told, free=2, stopper=None, usd=0.0, **given_):
    rules = given_.pop("rules", Rules())
    context = told.context(trials=given_.pop("trials", 4), forecast=lambda *_: Forecast(1.0, usd))
    return plan.next_jobs(
        context,
        free,
        searcher=given_.pop("searcher", Sobol()),
        stopper=stopper or Never(),
        rules=rules,
        **given_,
    )


def test_an_empty_history_asks_for_proposals_and_starts_nothing():
    found = step(story())
    assert found.jobs == ()
    assert found.want == 4
    assert not found.done


def test_no_more_is_asked_for_than_the_trials_that_are_left():
    assert step(story(3), free=0, trials=4).want == 1
    assert step(story(4), free=0, trials=4).want == 0


def test_nothing_is_asked_for_while_a_request_is_under_way():
    assert step(story(), asking=True).want == 0


def test_waiting_trials_start_in_their_order_as_far_as_slots_are_free():
    found = step(story(4), free=2)
    assert [job.trial for job, _ in found.jobs] == [0, 1]
    assert all((job.from_rung, job.to_rung, job.attempt) == (-1, 0, 0) for job, _ in found.jobs)


def test_a_planned_trial_is_not_planned_again():
    told = story(4)
    told.start(0)
    assert [job.trial for job, _ in step(told, free=4).jobs] == [1, 2, 3]


def test_a_trial_that_goes_on_comes_before_new_ones():
    told = story(3)
    told.finish(1, val_accuracy=0.9)
    found = step(told, free=1)
    assert isinstance(found.bodies[0], Decided)
    assert [(job.trial, job.from_rung, job.to_rung) for job, _ in found.jobs] == [(1, 0, 1)]


def test_a_promotion_comes_before_new_trials():
    told = story(5)
    for number, accuracy in enumerate([0.9, 0.5, 0.4]):
        told.finish(number, val_accuracy=accuracy)
        told.verdict(number, Decision.PAUSE)
    found = step(told, free=2, stopper=Asha(reduction_factor=3), trials=5)
    assert [(job.trial, job.to_rung) for job, _ in found.jobs] == [(0, 1), (3, 0)]


def test_two_free_slots_do_not_promote_one_trial_twice():
    told = story(6)
    for number in range(6):
        told.finish(number, val_accuracy=0.5 + number / 20)
        told.verdict(number, Decision.PAUSE)
    found = step(told, free=4, stopper=Asha(reduction_factor=3), trials=6)
    assert len({job.trial for job, _ in found.jobs}) == len(found.jobs) == 2


def test_a_known_break_of_a_hard_limit_is_never_trained():
    told = story(2)
    context = replace(told.context(), objectives=(Objective("parameters", Goal.MINIMIZE, 20.0, 5.0),))
    found = plan.next_jobs(context, 2, searcher=Sobol(), stopper=Never(), rules=Rules())
    assert found.jobs == ()
    assert [b.status for b in found.bodies if isinstance(b, TrialEnded)] == [TrialStatus.REJECTED] * 2


def test_rejected_trials_do_not_count_as_trials():
    told = story(4)
    for number in range(3):
        told.add(TrialEnded(number, TrialStatus.REJECTED))
    assert step(told, free=0, trials=4).want == 3


def test_candidates_are_profiled_before_training_if_an_objective_needs_it():
    rules = Rules(device="local", measured=("latency_p50_ms",))
    found = step(story(3), rules=rules, trials=3)
    assert [(job.kind, job.exclusive) for job, _ in found.jobs] == [(JobKind.PROFILE, True)]
    busy = step(story(3), rules=rules, trials=3, service_free=False)
    assert busy.jobs == ()
    known = step(story(3, latency_p50_ms=1.0), rules=rules, trials=3)
    assert [job.kind for job, _ in known.jobs] == [JobKind.TRAIN] * 2


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT])
def test_a_lost_segment_is_tried_again_and_then_given_up(kind):
    told = story(1)
    for attempt in range(3):
        (job, _), *_ = step(told, trials=1).jobs
        assert job.attempt == attempt
        told.add(SegmentPlanned(job, 1.0, 0.0))
        told.add(SegmentFinished(job.key, 0, 1.0, 0.0, Failure(kind, "gone")))
    found = step(told, trials=1)
    assert found.jobs == ()
    assert found.bodies[0].status is TrialStatus.FAILED


@pytest.mark.parametrize("kind", [FailureKind.USER_ERROR, FailureKind.DIVERGED, FailureKind.NO_METRIC])
def test_a_failure_of_the_candidate_is_final(kind):
    told = story(1)
    job = told.start(0)
    told.add(SegmentFinished(job.key, 0, 1.0, 0.0, Failure(kind, "bad")))
    found = step(told, trials=1)
    assert (found.jobs, found.bodies[0].failure.kind) == ((), kind)
    assert found.done


def test_a_preempted_segment_is_tried_again_without_end_and_from_its_checkpoint():
    told = story(1)
    for attempt in range(8):
        (job, _), *_ = step(told, trials=1).jobs
        assert (job.attempt, job.checkpoint) == (attempt, "half.ckpt" if attempt else None)
        told.add(SegmentPlanned(job, 1.0, 0.0))
        failure = Failure(FailureKind.PREEMPTED, "gone")
        told.add(SegmentFinished(job.key, 0, 1.0, 0.0, failure, checkpoint="half.ckpt", retry=True))
    assert told.trial(0).attempt == 0


def test_too_many_failed_trials_end_the_search_with_the_last_reason():
    told = story(12)
    for number in range(7):
        told.fail(number)
    found = step(told, trials=40, rules=Rules(max_failures=0.5))
    assert found.failed
    assert "7 trials failed" in found.blocked
    assert found.jobs == ()


def test_a_job_that_does_not_fit_the_budget_is_not_started():
    told = story(3)
    rules = Rules(limit_usd=1.0, reserve_usd=0.3)
    assert len(step(told, free=3, usd=0.3, rules=rules).jobs) == 2
    found = step(told, free=3, usd=0.8, rules=rules)
    assert found.jobs == ()
    assert "0.7 are free" in found.blocked
    assert found.done


@given(
    st.lists(st.floats(0.01, 2.0), min_size=1, max_size=30),
    st.floats(0.1, 5.0),
    st.floats(0.0, 0.5),
    st.floats(0.0, 0.2),
)
def test_money_committed_never_exceeds_the_limit(forecasts, limit, reserve, margin):
    told = story(len(forecasts))
    prices = iter(forecasts)
    context = told.context(trials=len(forecasts), forecast=lambda *_: Forecast(1.0, next(prices)))
    meter = Meter(usd_per_hour=lambda _: 3600.0, stop_s=lambda _: margin)
    rules = Rules(limit_usd=limit, reserve_usd=reserve, meter=meter)
    found = plan.next_jobs(context, 99, searcher=Sobol(), stopper=Never(), rules=rules)
    assert sum(f.usd + margin for _, f in found.jobs) <= max(0.0, limit - reserve) + 1e-9


def test_a_running_job_that_outran_its_forecast_is_stopped_before_the_limit():
    told = story(2)
    context = told.context(forecast=lambda *_: Forecast(10.0, 10.0 / 3600))
    for job, forecast in plan.next_jobs(context, 2, searcher=Sobol(), stopper=Never(), rules=Rules()).jobs:
        told.add(SegmentPlanned(job, forecast.seconds, forecast.usd))
    first, second = told.history.open_segments

    def late(elapsed):
        meter = Meter(lambda _: 1.0, lambda _: 2.0, {first: elapsed, second: 1.0})
        return plan.overdue(told.history, Rules(limit_usd=25.0 / 3600, meter=meter))

    assert late(7.0) == []
    assert late(12.0) == []  # 12 + 2 and the 10 of the other fit into 25
    assert late(13.5) == [first]


def test_without_a_limit_nothing_is_stopped():
    told = story(1)
    told.start(0)
    late = dict.fromkeys(told.history.open_segments, 1e9)
    assert plan.overdue(told.history, Rules(meter=Meter(lambda _: 1.0, lambda _: 2.0, late))) == []


def test_the_search_is_done_when_all_trials_have_ended_and_nothing_runs():
    told = story(2)
    for number in range(2):
        for _ in LADDER:
            told.finish(number, val_accuracy=0.9)
            if not told.trial(number).ended:
                told.verdict(number, Decision.CONTINUE)
    assert step(told, trials=2).done
    assert not step(told, trials=3).done
    assert step(told, trials=3, exhausted=True).done


def test_the_plan_leaves_the_history_as_it_was():
    told = story(4)
    told.finish(0, val_accuracy=0.9)
    before = (told.history.length, dict(told.history.trials), dict(told.history.segments))
    step(told, free=3)
    assert before == (told.history.length, dict(told.history.trials), dict(told.history.segments))


def retrained(models):
    told = Story(stage="retrain")
    for number in range(models):
        told.propose(choices.sample(CHOICES, told.context().rng))
        for _ in LADDER:
            told.finish(number, val_accuracy=0.9)
            if not told.trial(number).ended:
                told.verdict(number, Decision.CONTINUE)
    return told


def measure(told, free, free_devices=(), alone=(), usd=lambda _: 0.0, rules=RULES):
    return plan.measure_jobs(
        told.history, "retrain", free, devices=["a", "b", "c"], free_devices=free_devices, alone=alone,
        forecast=lambda _, device: Forecast(1.0, usd(device)), rules=rules,
    )  # fmt: skip


def test_measuring_waits_for_its_slot_and_ends_when_everything_is_known():
    told = retrained(1)
    assert measure(told, 0).jobs == ()
    for expected in (("evaluate", None), *(("profile", d) for d in "abc"), ("export", None)):
        (job, forecast), *_ = measure(told, 1, "abc").jobs
        assert (job.kind.value, job.device) == expected
        told.add(SegmentPlanned(job, forecast.seconds, forecast.usd))
        assert measure(told, 1, "abc").jobs == ()  # a model does one thing at a time
        told.add(SegmentFinished(job.key, 0, 1.0, 0.0))
    assert measure(told, 1, "abc").done


def test_devices_of_the_run_take_turns_and_those_with_machines_of_their_own_do_not():
    told = retrained(4)
    shared = [job.device for job, _ in measure(told, 0, "abc").jobs]
    assert shared == ["a"]
    own = {job.device for job, _ in measure(told, 0, "abc", alone="bc").jobs}
    assert own == {"a", "b", "c"}
    assert {job.device for job, _ in measure(told, 0, "c", alone="bc").jobs} == {"c"}


def test_every_device_is_held_against_the_limit_at_its_own_price():
    told = retrained(3)
    rules = Rules(limit_usd=1.5)
    found = measure(told, 0, "ab", alone="ab", usd=lambda d: {"a": 1.0, "b": 5.0}[d], rules=rules)
    assert [job.device for job, _ in found.jobs] == ["a"]
    assert "forecast at 5 USD" in found.blocked


def test_candidates_are_measured_beside_proposing_only_by_machines_of_their_own():
    told = story(2)
    rules = Rules(device="a", measured=("latency_p50_ms",))
    shared = step(told, rules=rules)
    assert ([job.device for job, _ in shared.jobs], shared.want) == (["a"], 0)
    own = step(told, rules=rules, device_free=True)
    assert ([job.device for job, _ in own.jobs], own.want) == (["a"], 2)
    busy = step(told, rules=rules, device_free=False)
    assert (busy.jobs, busy.want) == ((), 2)
    assert step(told, rules=rules, device_free=True, service_free=False).want == 0


def running(*forecasts):
    """A history with open segments of so many seconds, at a dollar a second."""
    told = story(len(forecasts))
    for number, seconds in enumerate(forecasts):
        job = told.start(number)
        told.add(SegmentPlanned(job, seconds, seconds))
    return told.history


def metered(history, elapsed, **changes):
    seconds = dict(zip(history.open_segments, elapsed, strict=True))
    return Meter(lambda _: 3600.0, lambda _: 2.0, seconds, **changes)


def test_a_running_job_is_committed_with_its_forecast_and_the_time_to_stop_it():
    history = running(10.0, 20.0)
    assert metered(history, (0.0, 0.0)).committed_usd(history.open_segments.values()) == 34.0
    assert metered(history, (12.0, 19.0)).committed_usd(history.open_segments.values()) == 12.0 + 20.0 + 4.0


def test_a_job_that_keeps_to_its_forecast_is_never_stopped_once_it_was_admitted():
    history = running(10.0, 10.0)
    meter = metered(history, (10.0, 10.0))
    assert plan.overdue(history, Rules(limit_usd=24.0, meter=meter)) == []
    assert len(plan.overdue(history, Rules(limit_usd=23.9, meter=meter))) == 2


def test_held_machines_are_committed_until_the_last_job_ends():
    history = running(10.0, 20.0)
    meter = metered(history, (4.0, 5.0), held=lambda _: True, held_usd_per_hour=3 * 3600.0, unpaid_usd=1.0)
    # 9 have been worked, 1 was idle; three machines are there for 15 more seconds and 2 to stop
    assert meter.committed_usd(history.open_segments.values()) == 9.0 + 1.0 + 3 * 17.0
    job = story(3).start(2)
    assert meter.extra_usd(history.open_segments.values(), job, Forecast(15.0, 15.0)) == 0.0
    assert meter.extra_usd(history.open_segments.values(), job, Forecast(16.0, 16.0)) == 3.0


def test_machines_that_are_held_are_all_stopped_before_the_limit():
    history = running(100.0, 100.0)
    meter = metered(history, (4.0, 5.0), held=lambda _: True, held_usd_per_hour=3 * 3600.0, unpaid_usd=1.0)
    assert plan.overdue(history, Rules(limit_usd=16.0, meter=meter)) == []
    assert len(plan.overdue(history, Rules(limit_usd=15.9, meter=meter))) == 2


@pytest.mark.parametrize("kind", [JobKind.PROFILE, JobKind.EXPORT, JobKind.EVALUATE])
def test_any_kind_of_job_is_stopped_before_the_limit(kind):
    told = story(1)
    training = told.start(0)
    told.add(SegmentFinished(training.key, 0, 0.0, 0.0))
    job = replace(training, kind=kind, key="00000-other-0")
    told.add(SegmentPlanned(job, 1.0, 1.0))
    meter = Meter(lambda _: 3600.0, lambda _: 2.0, {job.key: 5.0})
    assert plan.overdue(told.history, Rules(limit_usd=6.9, meter=meter)) == [job.key]


def test_the_tightest_limit_is_named_and_only_one_that_can_grow_is_asked_for_more():
    told = story(3)
    stage = Limit(0.5, 0.0, name="budget.stages.search")
    found = step(told, usd=0.8, rules=Rules(limit_usd=1.0, others=(stage,)))
    assert "of the limit of 0.5 USD for budget.stages.search only 0.5 are free" in found.blocked
    assert found.lacking_usd == 0.0
    team = Limit(0.3, 0.0, name="the account team", grows=True)
    found = step(told, usd=0.8, rules=Rules(limit_usd=1.0, others=(team,)))
    assert found.lacking_usd == pytest.approx(0.5)
    found = step(told, usd=0.8, rules=Rules(limit_usd=0.7, others=(team,)))
    assert ("of the limit of 0.7 USD only" in found.blocked, found.lacking_usd) == (True, 0.0)


@given(
    st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(0.0, 20.0)), min_size=1, max_size=5),
    st.floats(1.0, 90.0),
)
def test_no_limit_comes_near_in_the_quiet_time(jobs, limit):
    history = running(*(f for f, _ in jobs))
    rules = Rules(limit_usd=limit, meter=metered(history, [e for _, e in jobs]))
    quiet = plan.quiet_s(history, rules)
    later = replace(rules, meter=metered(history, [e + quiet * 0.999 for _, e in jobs]))
    assert quiet == 0.0 or plan.passing(history, later) is None
    assert plan.quiet_s(history, Rules(meter=rules.meter)) == float("inf")
