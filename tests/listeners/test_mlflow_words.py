"""The translation of events into MLflow's words."""

import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ziggurat.domain import Job, JobKind, Measurement, TrialStatus
from ziggurat.events import Measured, SegmentFinished, SegmentPlanned, TrialEnded
from ziggurat.listeners import mlflow_words
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_fold import Fold


def told(run: Any) -> list[mlflow_words.Point]:
    """All points of the first trial."""
    fold = Fold(About(run.objectives))
    fold.add(run.events)
    return fold.told(0, len(run.events))[0]


def test_a_curve_and_the_final_result_do_not_give_the_same_point_twice(run: Any) -> None:
    run.begin()
    run.propose(0)
    run.train(0, accuracy=0.9)
    found = [p for p in told(run) if p.name == "val_accuracy"]
    assert [(p.step, round(p.value, 3)) for p in found] == [(1, 0.3), (2, 0.6), (3, 0.9)]


def test_points_carry_the_time_of_their_event(run: Any) -> None:
    run.begin()
    run.clock = 1_700_000_000.5
    run.propose(0)
    assert [p.utc_ms for p in told(run)] == [1_700_000_000_500]


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


def test_a_measurement_without_a_step_lies_at_step_zero(run: Any) -> None:
    run.begin()
    run.propose(0)
    run.add(Measured("j", 0, 0, None, (Measurement("flops", math.inf),)))
    assert told(run)[-1].step == 0


def test_a_retrained_model_is_called_after_its_architecture_and_seed(run: Any) -> None:
    run.begin()
    run.propose(0, width=4)
    run.propose(1, width=8)
    for number, width in enumerate([8, 4, 8], start=2):
        run.propose(number, width=width, stage="retrain")
    titles = [mlflow_words.title(run.history.trials[n], run.history) for n in (1, 2, 3, 4)]
    assert titles == ["search 00001", "trial 1, seed 0", "trial 0, seed 0", "trial 1, seed 1"]
    assert set(mlflow_words.params(run.history.trials[4])) == {"width", "activation", "epochs"}
    assert mlflow_words.identity(run.history.trials[4], run.history, "p")["ziggurat.architecture"] == "1"


def test_tags_tell_front_device_and_kind_of_failure(run: Any) -> None:
    run.begin()
    run.propose(0)
    run.add(SegmentPlanned(Job("j", JobKind.PROFILE, "search", 0), 1.0, 0.0))
    found = (Measurement("latency_p50_ms", 1.0, device="phone"),)
    run.add(SegmentFinished("j", 0, 1.0, 0.0, measurements=found))
    tags = mlflow_words.state(run.history.trials[0], frozenset({0}))
    assert (tags["ziggurat.front"], tags["ziggurat.device"]) == ("yes", "phone")
    run.propose(1)
    run.fail(1)
    tags = mlflow_words.state(run.history.trials[1], frozenset({0}))
    assert (tags["ziggurat.front"], tags["ziggurat.failure_kind"]) == ("no", "diverged")


def test_a_metric_of_a_device_keeps_a_readable_name() -> None:
    assert mlflow_words.name("latency_p50_ms@phone") == "latency_p50_ms.phone"


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
