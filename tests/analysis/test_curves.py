"""What was reached for which money, where the knee is, and what a point cost."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat.analysis.curves import cost_per_point, curve, knee_of, stage_costs
from ziggurat.domain import Candidate, Fidelity, Measurement
from ziggurat.events import Charged, SegmentFinished, SegmentStarted, StageFinished
from ziggurat.history import History


def story(rows, usd=0.5):
    """Trials with an accuracy and a size, one after the other."""
    told = Story(ladder=(Fidelity(9),))
    for width, accuracy in rows:
        number = told.propose(Candidate({"width": width}), {"parameters": float(width)})
        job = told.start(number)
        told.add(SegmentStarted(job.key, number, "h"))
        found = (Measurement("val_accuracy", accuracy, step=9),)
        told.add(SegmentFinished(job.key, number, 10.0, usd, measurements=found))
    return told


def test_best_value_and_hypervolume_grow_with_the_cost():
    found = curve(
        story([(10, 0.5), (20, 0.4), (100, 0.9), (50, 0.8)]).history, (ACCURACY, PARAMETERS), "mine"
    )
    assert found.name == "mine"
    assert found.metric == "val_accuracy"
    assert found.cost_usd == (0.5, 1.0, 1.5, 2.0)
    assert found.seconds == (10, 20, 30, 40)
    assert found.best == (0.5, 0.5, 0.9, 0.9)
    # against 0.2 and 1000: 0.3 * 990, then 0.4 * 900 beyond it, then 0.3 * 50 between them
    assert found.hypervolume == pytest.approx((297, 297, 657, 672))
    assert found.total == found.total_usd == 2.0
    assert found.stages == {"search": 2.0}


def test_without_a_price_seconds_are_the_cost():
    found = curve(story([(10, 0.5), (20, 0.6)], usd=0.0).history, (ACCURACY, PARAMETERS))
    assert not found.priced
    assert found.cost == (10, 20)
    assert found.total == 20


def test_what_had_been_reached_by_a_cost():
    found = curve(story([(10, 0.5), (100, 0.9)]).history, (ACCURACY, PARAMETERS))
    assert found.at(0.7) == (0.5, found.hypervolume[0])
    assert found.at(1.0) == (0.9, found.hypervolume[1])
    assert math.isnan(found.at(0.1)[0])
    assert found.at(0.1)[1] == 0


def test_trials_beyond_a_limit_are_no_answers():
    from dataclasses import replace

    found = curve(story([(10, 0.5), (100, 0.9)]).history, (ACCURACY, replace(PARAMETERS, limit=50)))
    assert found.best == (0.5,)


def test_idle_machines_count_towards_the_whole_and_their_stage():
    told = story([(10, 0.5)])
    told.add(Charged("idle", 60.0, 0.25, "search"))
    told.add(Charged("linger", 60.0, 0.125))
    assert curve(told.history, (ACCURACY, PARAMETERS)).total_usd == 0.75
    assert stage_costs(told.history) == {"search": 0.75, "idle": 0.125}


def test_empty_history_has_an_empty_curve():
    found = curve(History(), (ACCURACY, PARAMETERS))
    assert found.cost == found.best == ()
    assert found.knee is None
    assert cost_per_point(History(), (ACCURACY,)) is None


def test_knee_is_where_the_curve_is_farthest_above_its_chord():
    assert knee_of([0, 1, 2, 3, 10], [0, 5, 8, 9, 10]) == 2
    assert knee_of([0, 1, 9, 10], [0, 0.9, 0.95, 1]) == 1


@pytest.mark.parametrize(
    ("cost", "value"),
    [([], []), ([1], [1]), ([1, 2, 3], [1, 1, 2]), ([0, 5, 10], [0, 5, 10]), ([0, 8, 10], [0, 1, 10])],
    ids=["nothing", "one", "two values", "straight", "hollow"],
)
def test_curve_without_a_bend_has_no_knee(cost, value):
    assert knee_of(cost, value) is None


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 10)), min_size=1, max_size=30))
def test_knee_does_not_depend_on_units(steps):
    cost, value, x, y = [], [], 0.0, 0.0
    for dx, dy in steps:
        x, y = x + dx, y + dy
        cost.append(x)
        value.append(y)
    at = knee_of(cost, value)
    assert at == knee_of([8 * c for c in cost], [4 * v for v in value])
    assert at is None or 0 <= at < len(cost)


def test_points_are_counted_from_chance_where_the_preflight_found_it():
    told = story([(10, 0.5), (100, 0.9)])
    by_reference = cost_per_point(told.history, (ACCURACY, PARAMETERS))
    assert (by_reference.above, by_reference.base) == ("reference", 0.2)
    assert by_reference.points == pytest.approx(70)
    assert by_reference.per_point == pytest.approx(1.0 / 70)
    assert by_reference.per_front_point == pytest.approx(0.5)
    told.add(StageFinished("preflight", "ok", {"chance.val_accuracy": 0.1}))
    by_chance = cost_per_point(told.history, (ACCURACY, PARAMETERS))
    assert (by_chance.above, by_chance.points) == ("chance", pytest.approx(80))


def test_best_that_is_no_better_than_chance_has_no_price_for_a_point():
    told = story([(10, 0.15)])
    found = cost_per_point(told.history, (ACCURACY, PARAMETERS))
    assert found.points < 0
    assert found.per_point is None
