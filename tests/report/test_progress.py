"""Series of the charts, checked by hand."""

from __future__ import annotations

import pytest

from ziggurat.domain import FailureKind, Goal, Objective
from ziggurat.report.panels import panels, stairs
from ziggurat.report.progress import bounds, rung_bars, spending
from ziggurat.report.summary import summarize

ONE = (Objective("val_accuracy", Goal.MAXIMIZE, 0.5),)
TWO = (*ONE, Objective("parameters", Goal.MINIMIZE, 100.0))


def test_stairs_go_around_what_is_dominated():
    # (1, 3) and (2, 1) are best; (2, 4) is dominated
    corners = stairs([(2.0, 1.0), (1.0, 3.0), (2.0, 4.0)], (5.0, 6.0))
    assert corners == [(1.0, 6.0), (1.0, 3.0), (2.0, 3.0), (2.0, 1.0), (5.0, 1.0)]


def test_stairs_of_nothing_are_nothing():
    assert stairs([], (1.0, 1.0)) == []


def test_best_so_far_of_a_single_objective_is_stepped(make_story):
    story = make_story()
    for accuracy in (0.6, 0.55, 0.7):
        story.complete({"lr": accuracy}, val_accuracy=accuracy)
    (panel,) = panels(summarize(ONE, story.history), story.history)
    assert [x for x, _ in panel.stairs] == [1, 2, 2, 3, 3]
    assert [y for _, y in panel.stairs] == pytest.approx([60, 60, 60, 60, 70])


def test_there_is_a_panel_for_each_pair_of_objectives(told, make_spec):
    for number, pairs in ((1, 1), (2, 1), (3, 3), (4, 6)):
        goals = make_spec(number).goals()
        assert len(panels(summarize(goals, told), told)) == pairs


def test_high_accuracies_are_laid_out_by_the_logarithm_of_their_error(told, make_spec):
    goals = make_spec(2).goals()
    (panel,) = panels(summarize(goals, told), told)
    assert (panel.y.kind, panel.x.kind) == ("error", "log")
    assert panel.y.at(0.98) == pytest.approx(0.02)
    assert "95 %" in [label for _, label in panel.y.ticks()]
    assert panel.reference == (40_000, 0.5)
    assert panel.limits == (None, pytest.approx(0.2))


def test_trials_below_the_top_rung_are_kept_apart(make_story):
    story = make_story()
    low = story.propose({"width": 1}, {"parameters": 10.0})
    story.segment(low, 1, val_accuracy=0.6)
    high = story.propose({"width": 2}, {"parameters": 20.0})
    story.segment(high, 2, val_accuracy=0.6)
    (panel,) = panels(summarize(TWO, story.history), story.history)
    assert (panel.lower.trials, panel.top.trials) == ((low,), (high,))


def test_rung_bars_count_each_search_trial_once(make_story):
    story = make_story()
    story.complete({"width": 1}, val_accuracy=0.9)
    stopped = story.propose({"width": 2})
    story.segment(stopped, 0, val_accuracy=0.5)
    story.decide(stopped, "stop", 0)
    story.fail(story.propose({"width": 3}), FailureKind.DIVERGED, "NaN")
    bars = [(b.label, b.completed, b.stopped, b.failed) for b in rung_bars(story.history)]
    assert bars == [
        ("before the first", 0, 0, 1),
        ("rung 0 · 3 epochs", 0, 1, 0),
        ("rung 1 · 9 epochs", 0, 0, 0),
        ("rung 2 · 27 epochs", 1, 0, 0),
    ]


def test_spending_adds_up_to_the_cost_of_the_run(told):
    lines = spending(told)
    assert lines[-1].usd[-1] == pytest.approx(told.spent_usd)
    assert [line.stage for line in lines] == ["validate", "baseline", "search", "retrain", "measure"]


def test_a_far_away_limit_is_not_drawn(told):
    lines = spending(told)
    assert bounds(lines, 0.2, 1000.0) == [("plan", 0.2)]
