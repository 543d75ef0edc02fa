"""The fold of events: what a trial, a segment and a stage become, and what is asked of them."""

import math

import pytest

from tests.support import ACCURACY, CHOICES, PARAMETERS, Story
from ziggurat import choices
from ziggurat.answers import blameless, eligible
from ziggurat.domain import (
    Candidate,
    Failure,
    FailureKind,
    Job,
    JobKind,
    Measurement,
    RunStatus,
    TrialStatus,
)
from ziggurat.events import (
    Alert,
    Amended,
    Decided,
    Event,
    Measured,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialEnded,
)
from ziggurat.history import History, fold


def story(trials=1):
    told = Story()
    for _ in range(trials):
        told.propose(choices.sample(CHOICES, told.context().rng), {"parameters": 5.0})
    return told


def climb(told, number, **metrics):
    """Train a trial to the top."""
    while not told.trial(number).ended:
        told.finish(number, **metrics)
        if not told.trial(number).ended:
            told.verdict(number, "continue")


def test_a_trial_waits_runs_is_judged_and_completes():
    told = story()
    assert told.trial(0).status is TrialStatus.WAITING
    told.start(0)
    assert told.trial(0).status is TrialStatus.RUNNING
    told = story()
    states = []
    for _ in range(3):
        told.finish(0, val_accuracy=0.9)
        states.append(told.trial(0).status)
        if not told.trial(0).ended:
            told.verdict(0, "continue")
    assert states == [TrialStatus.UNDECIDED, TrialStatus.UNDECIDED, TrialStatus.COMPLETED]
    assert (told.trial(0).rung, sorted(told.trial(0).results)) == (2, [0, 1, 2])


@pytest.mark.parametrize(
    ("verdict", "status"),
    [("continue", TrialStatus.READY), ("pause", TrialStatus.PAUSED), ("stop", TrialStatus.STOPPED)],
)
def test_a_verdict_moves_its_trial(verdict, status):
    told = story()
    told.finish(0, val_accuracy=0.9)
    assert told.verdict(0, verdict).status is status


def test_a_failed_segment_puts_its_trial_back_with_one_attempt_more():
    told = story()
    job = told.start(0)
    told.add(SegmentFinished(job.key, 0, 2.0, 0.5, Failure(FailureKind.LOST, "gone")))
    trial = told.trial(0)
    assert (trial.status, trial.attempt, trial.failure.kind) == (TrialStatus.WAITING, 1, FailureKind.LOST)
    assert (trial.cost_usd, trial.seconds, trial.job) == (0.5, 2.0, None)
    told.finish(0, val_accuracy=0.5)
    assert (told.trial(0).attempt, told.trial(0).failure) == (0, None)


def test_a_preempted_segment_keeps_its_checkpoint_and_costs_no_attempt():
    told = story()
    told.finish(0, val_accuracy=0.5)
    told.verdict(0, "continue")
    job = told.start(0)
    failure = Failure(FailureKind.PREEMPTED, "stopped")
    told.add(SegmentFinished(job.key, 0, 1.0, 0.0, failure, checkpoint="partial.ckpt", retry=True))
    trial = told.trial(0)
    assert (trial.status, trial.attempt, trial.checkpoint) == (TrialStatus.READY, 0, "partial.ckpt")
    assert blameless(trial)


def test_the_checkpoint_of_a_trial_survives_a_lost_segment():
    told = story()
    job = told.start(0)
    told.add(SegmentFinished(job.key, 0, 1.0, 0.0, checkpoint="rung-0.ckpt"))
    told.verdict(0, "continue")
    job = told.start(0)
    told.add(SegmentFinished(job.key, 0, 1.0, 0.0, Failure(FailureKind.LOST, "gone")))
    assert told.trial(0).checkpoint == "rung-0.ckpt"


def test_measuring_a_completed_trial_changes_only_what_is_known_of_it():
    told = story()
    climb(told, 0, val_accuracy=0.9)
    job = Job("0-profile-local-0", JobKind.PROFILE, "search", 0)
    told.add(SegmentPlanned(job, 1.0, 0.0))
    told.add(SegmentFinished(job.key, 0, 1.0, 0.1, measurements=(Measurement("latency_p50_ms", 3.0, "ms"),)))
    trial = told.trial(0)
    assert (trial.status, trial.rung, trial.value("latency_p50_ms")) == (TrialStatus.COMPLETED, 2, 3.0)


def test_values_come_from_the_rung_then_from_what_needs_no_training():
    told = story()
    told.finish(0, val_accuracy=0.3)
    told.verdict(0, "continue")
    told.finish(0, val_accuracy=0.6)
    trial = told.trial(0)
    assert (trial.value("val_accuracy"), trial.value("val_accuracy", 0), trial.value("parameters")) == (
        0.6,
        0.3,
        5.0,
    )
    assert math.isnan(trial.value("unheard_of"))
    assert trial.losses((ACCURACY, PARAMETERS)) == [-0.6, 5.0]


def test_open_segments_and_money_are_kept_while_folding():
    told = story(2)
    first, second = told.start(0), told.start(1)
    assert list(told.history.open_segments) == [first.key, second.key]
    told.add(SegmentStarted(first.key, 0, "local:1"))
    assert told.history.open_segments[first.key].handle == "local:1"
    told.add(SegmentFinished(first.key, 0, 3.0, 0.25))
    assert list(told.history.open_segments) == [second.key]
    assert told.history.spent_usd == 0.25
    assert told.history.segments[first.key].finished_utc is not None


def test_tries_are_counted_by_segment():
    history = History()
    for attempt in range(3):
        history.apply(
            Event(
                attempt, 0.0, "r", SegmentPlanned(Job(f"00001-train-0-{attempt}", JobKind.TRAIN, "s"), 1, 0)
            )
        )
    assert history.tries == {"00001-train-0": 3}


def test_a_clock_that_jumps_back_does_not_turn_time_round():
    history = fold(
        Event(i, utc, "run", body)
        for i, (utc, body) in enumerate(
            [
                (100.0, RunStarted("a", "1", "x")),
                (101.0, StageStarted("search")),
                (50.0, StageFinished("search", "ok")),
                (60.0, RunStarted("a", "1", "x", resumed=True)),
            ]
        )
    )
    assert (history.started_utc, history.last_utc) == (100.0, 101.0)
    assert history.finished("search")


def test_a_stage_that_is_taken_up_again_keeps_its_beginning():
    events = [StageStarted("search"), StageFinished("search", "stopped_by_budget"), StageStarted("search")]
    history = fold(Event(i, float(i), "run", body) for i, body in enumerate(events))
    assert history.stage_times["search"] == (0.0, None)


def test_a_run_that_is_resumed_runs_again():
    bodies = [
        RunStarted("a", "1", "x"),
        RunFinished(RunStatus.INTERRUPTED),
        RunStarted("a", "1", "x", resumed=True),
    ]
    states = []
    history = History()
    for i, body in enumerate(bodies):
        history.apply(Event(i, float(i), "run", body))
        states.append(history.status)
    assert states == [RunStatus.RUNNING, RunStatus.INTERRUPTED, RunStatus.RUNNING]


def test_alerts_amendments_and_decisions_are_kept():
    told = story()
    told.add(Alert("full", "warning", "The disk is full"))
    told.add(Amended({"budget.limit_usd": 3.0}))
    told.add(Decided("gate", "go", reason="first"))
    told.add(Decided("gate", "stop", reason="second"))
    assert list(told.history.alerts) == ["full"]
    assert told.history.amendments[0].changes == {"budget.limit_usd": 3.0}
    assert told.history.decision("gate").reason == "second"
    assert told.history.decision("unheard_of") is None


def test_curves_hold_numbers_with_a_step():
    told = story()
    told.add(Measured("j", 0, 0, 1, (Measurement("val_loss", 2.0, step=1),)))
    told.add(Measured("j", 0, 0, None, (Measurement("latency_p50_ms", 2.0),)))
    assert [step for step, _ in told.history.curves[0]] == [1]


def test_a_copy_can_be_folded_further_without_touching_the_original():
    told = story(2)
    copy = told.history.copy()
    job = Job("00000-train-0-0", JobKind.TRAIN, "search", 0)
    copy.apply(Event(copy.length, 0.0, "r", SegmentPlanned(job, 1.0, 0.0)))
    copy.apply(Event(copy.length, 0.0, "r", TrialEnded(1, TrialStatus.FAILED)))
    copy.apply(Event(copy.length, 0.0, "r", Decided("gate", "go")))
    assert not told.history.open_segments
    assert told.history.tries == {}
    assert told.trial(1).status is TrialStatus.WAITING
    assert told.history.decisions == []


def test_only_complete_trials_within_all_limits_are_material_for_a_front():
    told = story(4)
    for number, accuracy in enumerate([0.9, math.nan, 0.8]):
        climb(told, number, val_accuracy=accuracy)
    told.finish(3, val_accuracy=0.99)
    assert [t.number for t in eligible(told.history, (ACCURACY, PARAMETERS))] == [0, 2]
    tight = type(ACCURACY)("val_accuracy", ACCURACY.goal, 0.2, limit=0.85)
    assert [t.number for t in eligible(told.history, (tight, PARAMETERS))] == [0]


def test_a_stage_lists_its_trials_by_index_and_state():
    told = story(3)
    told.finish(2, val_accuracy=0.5)
    assert [t.number for t in told.history.of_stage("search")] == [0, 1, 2]
    assert [t.number for t in told.history.at_rung("search", 0)] == [2]
    assert [t.number for t in told.history.with_status("search", TrialStatus.WAITING)] == [0, 1]
    assert told.history.of_stage("retrain") == []
    assert told.history.successes(JobKind.TRAIN, "retrain") == []
    assert len(told.history.successes(JobKind.TRAIN)) == 1
    assert Candidate({}) not in {t.candidate for t in told.history.trials.values()}
