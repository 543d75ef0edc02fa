"""What the Pareto chart holds, point by point."""

from __future__ import annotations

import json

import pytest

from ziggurat.analysis import curves
from ziggurat.choices import Values
from ziggurat.report import parallel, summarize
from ziggurat.report.charts import pareto
from ziggurat.report.gain_charts import reached
from ziggurat.report.panels import panels


@pytest.fixture
def chart(make_story, make_spec):
    story = make_story()
    for width, accuracy, size in ((8, 0.7, 10.0), (16, 0.8, 20.0), (32, 0.81, 40.0)):
        story.segment(story.propose({"width": width}, {"parameters": size}), 2, val_accuracy=accuracy)
    for seed, accuracy in enumerate((0.84, 0.86, 0.88)):
        number = story.propose({"width": 16}, {"parameters": 20.0}, stage="retrain", seed=seed)
        story.segment(number, 2, val_accuracy=accuracy)
    spec = make_spec(
        2,
        objectives=[{"metric": "val_accuracy", "reference": 0.5}, {"metric": "parameters", "reference": 50}],
    )
    (panel,) = panels(summarize(spec.goals(), story.history), story.history)
    return pareto(panel, 3)


def trace(chart, name):
    return next(t for t in chart["data"] if t.get("name") == name)


def test_bars_of_a_retrained_model_reach_from_its_worst_to_its_best_seed(chart):
    found = trace(chart, "Retrained, mean and range of seeds")
    assert found["y"] == pytest.approx([86.0])
    assert found["error_y"]["array"] == pytest.approx([2.0])
    assert found["error_y"]["arrayminus"] == pytest.approx([2.0])
    assert found["error_x"]["array"] == [0.0]
    assert found["customdata"] == ["r1"]


def test_a_retrained_model_is_tied_to_its_trial(chart):
    ties = next(t for t in chart["data"] if t["mode"] == "lines" and "name" not in t)
    assert ties["x"] == [20.0, 20.0, None]
    assert ties["y"] == pytest.approx([80.0, 86.0, None])


def test_the_knee_and_the_reference_have_signs_of_their_own(chart):
    assert trace(chart, "Knee")["x"] == [20.0]
    assert chart["layout"]["annotations"][0]["text"] == "knee"
    star = trace(chart, "Reference point")
    assert (star["x"], star["y"], star["marker"]["symbol"]) == ([50.0], [50.0], "star")


def test_colour_is_the_order_of_the_trials(chart):
    assert trace(chart, "Top rung")["marker"]["color"] == [1, 2, 3]


def test_lines_of_what_was_reached_go_on_until_the_money_is_spent(make_story, make_spec):
    story = make_story(usd_per_hour=3600.0)
    story.complete({"width": 1}, cost_s=10.0, val_accuracy=0.7)
    story.segment(story.propose({"width": 2}), 0, 5.0, val_accuracy=0.1)
    curve = curves.curve(story.history, make_spec(1).goals()[:1])
    drawn = reached(curve, None, [("plan", 20.0), ("limit", 100.0)])
    best, volume = drawn["data"]
    assert (best["x"], best["y"]) == ([], []), "70 % breaks the limit of 80 %"
    story.complete({"width": 3}, cost_s=10.0, val_accuracy=0.9)
    story.segment(story.propose({"width": 4}), 0, 5.0, val_accuracy=0.1)
    curve = curves.curve(story.history, make_spec(1).goals())
    drawn = reached(curve, None, [("plan", 40.0), ("limit", 100.0)])
    best, volume = drawn["data"]
    assert (best["x"], best["y"]) == ([25.0, 30.0], [90.0, 90.0])
    assert volume["x"] == [0.0, 25.0, 30.0]
    # the limit lies too far off to be drawn
    assert [s["label"]["text"] for s in drawn["layout"]["shapes"]] == ["plan of the run $40.00"]


def test_no_name_in_a_chart_is_markup(make_story, make_spec):
    evil = "<img src=x>"
    story = make_story()
    for value in (evil, "plain"):
        story.segment(story.propose({evil: value}), 2, val_accuracy=0.9)
    goals = make_spec(1).goals()
    rows = parallel.rows({evil: Values(values=[evil, "plain"])}, story.history.of_stage("search"), goals)
    drawn = parallel.parallel(rows, story.history.of_stage("search"), [], goals[0])
    assert "<img" not in json.dumps(drawn)
