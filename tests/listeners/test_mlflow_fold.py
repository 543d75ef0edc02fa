"""What events say to MLflow: the same points, however they are portioned."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.listeners.conftest import Run
from ziggurat.domain import Job, JobKind, Measurement
from ziggurat.events import Charged, SegmentFinished, SegmentPlanned, SegmentStarted
from ziggurat.listeners.mlflow_about import About
from ziggurat.listeners.mlflow_fold import PARENT, Fold
from ziggurat.listeners.mlflow_words import Point


def searched() -> Run:
    """A short search with a retrained model."""
    run = Run()
    run.begin()
    for number in range(4):
        run.propose(number, parameters=500 - number)
        run.train(number, accuracy=0.8 + 0.01 * number)
    run.propose(4)
    run.fail(4)
    run.propose(5, stage="retrain", width=8)
    run.train(5, accuracy=0.95)
    run.end()
    return run


def points(run: Run, cuts: list[int]) -> dict[int, list[Point]]:
    """All points of a run that is folded and told in portions."""
    fold, found = Fold(About(run.objectives)), {}
    edges = sorted({0, len(run.events), *(min(c, len(run.events)) for c in cuts)})
    for start, stop in itertools.pairwise(edges):
        fold.add(run.events[start:stop])
        for number, rows in fold.told(start, stop).items():
            found.setdefault(number, []).extend(rows)
        fold.forget(stop)
    return found


@given(st.lists(st.integers(0, 60), max_size=6))
def test_portions_change_nothing(cuts: list[int]) -> None:
    run = searched()
    assert points(run, cuts) == points(run, [])


def test_what_needs_no_training_is_said_once() -> None:
    run = Run()
    run.begin()
    run.propose(0, parameters=500)
    job = Job("0-1", JobKind.PROFILE, "search", 0)
    again = (Measurement("parameters", 500.0), Measurement("flops", 7.0))
    run.add(SegmentPlanned(job, 1.0, 0.0), SegmentStarted("0-1", 0, "x"))
    run.add(SegmentFinished("0-1", 0, 1.0, 0.0, measurements=again))
    names = [p.name for p in points(run, [])[0]]
    assert (names.count("parameters"), names.count("flops")) == (1, 1)


def test_cost_is_what_a_trial_had_cost_at_that_moment() -> None:
    run = Run()
    run.begin()
    run.propose(0, rungs=2)
    run.train(0, rung=0, cost_usd=0.01)
    run.train(0, rung=1, cost_usd=0.02)
    found = [(p.step, round(p.value, 4)) for p in points(run, [])[0] if p.name == "cost_usd"]
    assert found == [(3, 0.01), (9, 0.03)]


def test_the_use_of_the_machine_is_named_as_mlflow_names_it() -> None:
    run = Run()
    run.begin()
    run.propose(0)
    key = run.plan(0)
    run.clock += 7
    used = {
        "cpu_utilisation": 0.5,
        "gpu_utilisation": 0.25,
        "memory_mb": 300.0,
        "gpu_memory_mb": 9.0,
        "x": 1.0,
    }
    run.add(SegmentFinished(key, 0, 7.0, 0.0, usage=used))
    found = {p.name: (p.value, p.step) for p in points(run, [])[0] if p.name.startswith("system/")}
    assert found == {
        "system/cpu_utilization_percentage": (50.0, 7),
        "system/gpu_0_utilization_percentage": (25.0, 7),
        "system/system_memory_usage_megabytes": (300.0, 7),
        "system/gpu_0_memory_usage_megabytes": (9.0, 7),
    }


def test_the_parent_has_curves_of_the_front_and_of_money() -> None:
    found: dict[str, list[tuple[int, float]]] = {}
    for p in points(searched(), [])[PARENT]:
        found.setdefault(p.name, []).append((p.step, p.value))
    assert [v for _, v in found["best_val_accuracy"]] == pytest.approx([0.8, 0.81, 0.82, 0.83, 0.83, 0.83])
    volumes = [v for _, v in found["hypervolume"]]
    assert volumes == sorted(volumes)
    assert volumes[0] == pytest.approx((0.8 - 0.1) * (10_000 - 500))
    assert found["spent_usd"][-1][1] == pytest.approx(0.051)
    assert found["trials_failed"][-1] == (6, 1.0)
    assert found["final/val_accuracy"][-1][1] == pytest.approx(0.95)


def test_a_charge_that_no_trial_caused_is_on_the_curve_of_money() -> None:
    run = Run()
    run.begin()
    run.add(Charged("idle", 10.0, 0.5, "search"))
    assert [(p.name, p.value) for p in points(run, [])[PARENT]][-1] == ("spent_usd", 0.5)


def test_the_whole_cost_is_forecast_now_and_then() -> None:
    run = searched()
    fold = Fold(About(run.objectives, projected=lambda history: history.spent_usd + 1.0))
    fold.add(run.events)
    found = [p.value for p in fold.told(0, len(run.events))[PARENT] if p.name == "projected_usd"]
    assert found[-1] == pytest.approx(1.051)
    assert len(found) < 8


def test_a_trial_that_is_only_touched_is_told_without_points(run: Any) -> None:
    from ziggurat.events import Decided

    run.begin()
    run.propose(0, rungs=2)
    run.train(0)
    fold = Fold(About(run.objectives))
    fold.add(run.events)
    length = len(run.events)
    run.add(Decided("stopper", "pause", 0, 0))
    fold.add(run.events[length:])
    assert fold.told(length, length + 1) == {0: []}
