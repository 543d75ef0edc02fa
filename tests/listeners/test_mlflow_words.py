"""The translation of events into MLflow's words."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ziggurat.domain import Measurement, TrialStatus
from ziggurat.events import SegmentFinished, TrialEnded
from ziggurat.listeners import mlflow_words


def test_a_curve_and_the_final_result_do_not_give_the_same_point_twice(run: Any) -> None:
    run.begin()
    run.propose(0)
    run.train(0, accuracy=0.9)
    found = [p for p in mlflow_words.points(run.events, run.history)[0] if p.name == "val_accuracy"]
    assert [(p.step, round(p.value, 3)) for p in found] == [(1, 0.3), (2, 0.6), (3, 0.9)]


def test_points_carry_the_time_of_their_event(run: Any) -> None:
    run.begin()
    run.clock = 1_700_000_000.5
    run.propose(0)
    assert [p.utc_ms for p in mlflow_words.points(run.events, run.history)[0]] == [1_700_000_000_500]


def test_only_trials_that_can_be_on_the_front_count_as_best(run: Any) -> None:
    run.begin()
    for number, accuracy in enumerate([0.8, 0.9]):
        run.propose(number, parameters=500 - 100 * number)
        run.train(number, accuracy=accuracy)
    run.propose(2, rungs=2, parameters=1)
    run.train(2, rung=0, accuracy=0.99)
    best = mlflow_words.best(run.history, run.objectives)
    assert best == {"val_accuracy": 0.9, "parameters": 400}


def test_before_the_first_result_there_is_no_best(run: Any) -> None:
    run.begin()
    assert mlflow_words.best(run.history, run.objectives) == {}


def test_states_follow_the_trial_and_nothing_runs_on_after_the_run(run: Any) -> None:
    run.begin()
    run.propose(0)
    assert mlflow_words.child_status(run.history.trials[0], over=False) == "RUNNING"
    assert mlflow_words.child_status(run.history.trials[0], over=True) == "KILLED"
    run.train(0)
    assert mlflow_words.child_status(run.history.trials[0], over=True) == "FINISHED"
    run.propose(1)
    run.fail(1)
    assert mlflow_words.child_status(run.history.trials[1], over=False) == "FAILED"
    run.propose(2)
    run.add(TrialEnded(2, TrialStatus.STOPPED))
    assert mlflow_words.child_status(run.history.trials[2], over=False) == "KILLED"


def test_a_proposal_job_belongs_to_no_child(run: Any) -> None:
    run.begin()
    key = "propose-0-a0"
    run.events.append(run.events[0].__class__(2, 0.0, "x", SegmentFinished(key, -1, 1.0, 0.0)))
    assert mlflow_words.points(run.events, run.history) == {}


def test_a_measurement_without_a_step_lies_at_step_zero(run: Any) -> None:
    run.begin()
    run.propose(0)
    run.events.append(
        run.events[0].__class__(
            9, 1.0, "x", SegmentFinished("j", 0, 1.0, 0.0, measurements=(Measurement("flops", math.inf),))
        )
    )
    assert mlflow_words.points(run.events, run.history)[0][-1].step == 0


@example(".")
@example("../a")
@example("a//b")
@example("a/./b")
@given(st.text(max_size=400) | st.text(alphabet="./ a", max_size=8))
def test_any_choice_gets_a_name_that_mlflow_takes(text: str) -> None:
    from mlflow.utils.validation import _validate_param_name

    _validate_param_name(mlflow_words.name(text))


@pytest.mark.parametrize("name", ["lr", "block 1/width", "a.b-c_d:e"])
def test_a_name_that_mlflow_takes_stays_as_it_is(name: str) -> None:
    assert mlflow_words.name(name) == name
