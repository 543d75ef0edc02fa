"""Counts, fronts, hypervolume and spreads, checked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.domain import (
    Failure,
    FailureKind,
    Goal,
    JobKind,
    Measurement,
    Objective,
    RunStatus,
    TrialStatus,
)
from ziggurat.events import RunStarted, TrialEnded
from ziggurat.history import History
from ziggurat.report.summary import over_seeds, summarize

PAIR = (
    Objective("val_accuracy", Goal.MAXIMIZE, 0.5),
    Objective("parameters", Goal.MINIMIZE, 100.0, limit=90.0),
)


def three(story):
    """Two points of a front, a dominated one, and one beyond the limit."""
    for accuracy, size in ((0.9, 60.0), (0.7, 20.0), (0.6, 40.0), (0.99, 95.0)):
        number = story.propose({"width": int(size)}, {"parameters": size})
        story.segment(number, 2, 36.0, val_accuracy=accuracy)


def test_front_leaves_out_dominated_points_and_points_beyond_a_limit(make_story):
    story = make_story()
    three(story)
    rows = summarize(PAIR, story.history).front
    assert [(r.trial, r.metrics["val_accuracy"], r.metrics["parameters"]) for r in rows] == [
        (0, 0.9, 60.0),
        (1, 0.7, 20.0),
    ]


def test_hypervolume_is_raw_and_against_the_references(make_story):
    story = make_story()
    three(story)
    # (0.9 - 0.5) x (100 - 60) = 16, and (0.7 - 0.5) x (60 - 20) = 8 beside it
    assert summarize(PAIR, story.history).hypervolume == pytest.approx(24.0)


def test_paused_trials_count_as_stopped_and_rejected_ones_not_at_all(make_story):
    story = make_story()
    done, paused, stopped, failed, rejected, waiting = (story.propose({"width": i}) for i in range(6))
    story.segment(done, 2, val_accuracy=0.9)
    for number, verdict in ((paused, "pause"), (stopped, "stop")):
        story.segment(number, 0, val_accuracy=0.5)
        story.decide(number, verdict, 0)
    story.fail(failed, FailureKind.DIVERGED, "NaN")
    story.tell(TrialEnded(rejected, TrialStatus.REJECTED))
    other = story.propose({"width": 9}, stage="validate")
    story.segment(other, 2, val_accuracy=0.9)
    counts = summarize(PAIR, story.history).counts
    assert (counts.total, counts.completed, counts.stopped, counts.failed) == (5, 1, 2, 1)
    assert (counts.open, counts.rejected) == (1, 1)
    assert waiting not in {s.end.trial for s in story.history.segments.values()}


def test_segments_are_successful_trainings_of_all_stages(make_story):
    story = make_story()
    story.complete({"width": 1}, stage="validate", val_accuracy=0.6)
    number = story.complete({"width": 1}, val_accuracy=0.6)
    story.fail(story.propose({"width": 2}), FailureKind.TIMEOUT, "slow")
    story.segment(number, 2, kind=JobKind.PROFILE, latency_p50_ms=1.0)
    assert summarize(PAIR, story.history).segments == 2


def test_utilisation_is_search_training_over_the_search_stages_worker_seconds(make_story):
    story = make_story(workers=2)
    story.complete({"width": 1}, stage="validate", cost_s=500.0, val_accuracy=0.6)
    story.begin("search")
    number = story.complete({"width": 1}, cost_s=100.0, val_accuracy=0.6)
    story.segment(number, 2, 20.0, kind=JobKind.PROFILE, latency_p50_ms=1.0)
    story.end("search")
    # 100 s of training in (100 + 20) x 1.06 / 2 s of wall time on two workers
    assert summarize(PAIR, story.history, workers=2).utilisation == pytest.approx(100 / (120 * 1.06))


def test_no_search_has_no_utilisation():
    assert summarize(PAIR, History()).utilisation is None


def test_retrained_models_are_grouped_by_candidate_with_mean_and_sample_deviation(make_story):
    story = make_story()
    origin = story.complete({"width": 8}, val_accuracy=0.8)
    for seed, accuracy in enumerate((0.90, 0.94)):
        trial = story.propose({"width": 8}, {"parameters": 80.0}, stage="retrain", seed=seed)
        story.segment(trial, 2, val_accuracy=accuracy)
        story.segment(trial, 2, kind=JobKind.EVALUATE, stage="measure", test_accuracy=accuracy - 0.02)
        story.segment(trial, 2, kind=JobKind.PROFILE, stage="measure", **{"latency_p50_ms@edge": 1.0 + seed})
    (row,) = summarize(PAIR, story.history).retrained
    assert (row.trial, row.seeds, row.trials) == (origin, (0, 1), (1, 2))
    assert row.metrics["test_accuracy"].mean == pytest.approx(0.90)
    assert row.metrics["test_accuracy"].spread == pytest.approx(0.04 / math.sqrt(2))
    assert row.metrics["parameters"].spread == 0
    assert row.find("latency_p50_ms").values == (1.0, 2.0)


def test_a_retraining_that_failed_is_left_out_of_its_models_mean(make_story):
    story = make_story()
    for seed in range(2):
        trial = story.propose({"width": 8}, stage="retrain", seed=seed)
        if seed:
            story.fail(trial, FailureKind.LOST, "gone")
        else:
            story.segment(trial, 2, val_accuracy=0.9)
    (row,) = summarize(PAIR, story.history).retrained
    assert row.seeds == (0,)
    assert row.metrics["val_accuracy"].spread is None


def test_retrained_models_are_ordered_by_validation_not_by_test(make_story):
    story = make_story()
    for width, validated, tested in ((1, 0.9, 0.5), (2, 0.8, 0.99)):
        trial = story.propose({"width": width}, stage="retrain")
        story.segment(trial, 2, val_accuracy=validated)
        story.segment(trial, 2, kind=JobKind.EVALUATE, stage="measure", test_accuracy=tested)
    assert [r.candidate.choices["width"] for r in summarize(PAIR, story.history).retrained] == [1, 2]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6))
def test_mean_over_seeds_lies_between_its_values(values):
    found = over_seeds([Measurement("val_loss", v) for v in values])
    assert min(values) - 1e-6 <= found.mean <= max(values) + 1e-6
    assert (found.spread is None) == (len(values) == 1)


def test_status_while_the_report_is_written_follows_from_the_stages(make_story):
    story = make_story()
    assert summarize(PAIR, story.history).status is RunStatus.RUNNING
    story.begin("search")
    story.end("search", "ok")
    story.begin("report")
    assert summarize(PAIR, story.history).status is RunStatus.COMPLETED
    story.end("search", "stopped_by_budget")
    assert summarize(PAIR, story.history).status is RunStatus.STOPPED_BY_BUDGET
    story.finish(RunStatus.INTERRUPTED)
    assert summarize(PAIR, story.history).status is RunStatus.INTERRUPTED
    story.tell(RunStarted("digits", "0.1.0", "0", resumed=True))
    assert summarize(PAIR, story.history, status=RunStatus.FAILED).status is RunStatus.FAILED


def test_units_come_from_measurements_or_from_the_name(make_story):
    goals = (*PAIR, Objective("latency_p50_ms", Goal.MINIMIZE, 1.0))
    assert summarize(goals, History()).units == {
        "val_accuracy": "1",
        "parameters": "1",
        "latency_p50_ms": "ms",
    }


def test_wall_time_of_a_running_run_goes_on(make_story):
    story = make_story()
    story.complete({"width": 1}, val_accuracy=0.6)
    now = story.now + 100
    running = summarize(PAIR, story.history, utc=now).wall_s
    story.finish(RunStatus.FAILED)
    assert running == pytest.approx(summarize(PAIR, story.history, utc=now).wall_s + 100)


def test_a_trial_without_result_is_a_failure_not_an_answer(make_story):
    story = make_story()
    story.fail(story.propose({"width": 1}), FailureKind.NO_METRIC, "no val_accuracy")
    found = summarize(PAIR, story.history)
    assert found.front == ()
    assert found.hypervolume == 0
    assert story.history.trials[0].failure == Failure(FailureKind.NO_METRIC, "no val_accuracy")
