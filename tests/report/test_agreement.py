"""Cheap against dear rankings, checked by hand and by the definition of Kendall's tau."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ziggurat.domain import Goal, Objective
from ziggurat.report.agreement import agreements, kendall
from ziggurat.report.summary import summarize

ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, 0.5)


def found(story):
    summary = summarize((ACCURACY,), story.history)
    return {a.id: a for a in agreements(ACCURACY, summary, story.history)}


def climbed(story, accuracies, stage="search", candidate=None):
    number = story.propose(candidate or {"width": len(story.history.trials)}, stage=stage)
    for rung, accuracy in enumerate(accuracies):
        story.segment(number, rung, val_accuracy=accuracy)
        if rung < 2:
            story.decide(number, "continue", rung)
    return number


@given(st.lists(st.integers(0, 50), min_size=3, max_size=8, unique=True), st.randoms())
def test_tau_counts_pairs_in_order(values, random):
    other = list(values)
    random.shuffle(other)
    pairs = list(itertools.combinations(range(len(values)), 2))
    agree = sum((values[i] - values[j]) * (other[i] - other[j]) > 0 for i, j in pairs)
    assert kendall(values, other)[0] == pytest.approx(2 * agree / len(pairs) - 1)


def test_interval_of_tau_is_fishers():
    # tau .5 of 20: atanh(.5) = .5493, half width 1.96 sqrt(.437 / 16) = .3239
    import numpy as np

    rng = np.random.default_rng(0)
    a = rng.normal(size=20)
    tau, low, high = kendall(a, a + rng.normal(size=20))
    middle = math.atanh(tau)
    assert (low, high) == pytest.approx((math.tanh(middle - 0.3239), math.tanh(middle + 0.3239)), abs=1e-4)


@pytest.mark.parametrize("first", [[], [1.0], [1.0, 1.0, 1.0]])
def test_tau_of_nothing_or_of_ties_is_not_defined(first):
    assert all(math.isnan(v) for v in kendall(first, list(range(len(first)))))


def test_few_pairs_have_no_interval():
    tau, low, _ = kendall([1, 2, 3], [1, 2, 3])
    assert tau == pytest.approx(1.0)
    assert math.isnan(low)


def test_lowest_rung_is_held_against_the_top_rung_of_the_same_trial(make_story):
    story = make_story()
    climbed(story, (0.5, 0.6, 0.9))
    climbed(story, (0.6, 0.7, 0.8))
    stopped = story.propose({"width": 99})
    story.segment(stopped, 0, val_accuracy=0.2)
    rungs = found(story)["rungs"]
    assert (rungs.trials, rungs.cheap, rungs.dear) == ((0, 1), (0.5, 0.6), (0.9, 0.8))
    assert rungs.tau == pytest.approx(-1.0)


def test_probes_are_kept_apart_and_do_not_count_once_the_search_has_its_own(make_story):
    story = make_story()
    for i in range(4):
        climbed(story, (0.5 + i / 100, 0.6, 0.9 - i / 100), stage="proxy")
    assert found(story)["rungs"].count == 4
    climbed(story, (0.5, 0.6, 0.8))
    climbed(story, (0.6, 0.7, 0.9))
    rungs = found(story)["rungs"]
    assert rungs.probed == (True, True, True, True, False, False)
    assert (rungs.count, rungs.tau) == (2, pytest.approx(1.0))


def test_search_is_held_against_the_mean_of_the_retrained_seeds(make_story):
    story = make_story()
    for width, accuracy in ((8, 0.9), (16, 0.8)):
        climbed(story, (0.5, 0.6, accuracy), candidate={"width": width})
    for width, values in ((8, (0.92, 0.94)), (16, (0.85, 0.87))):
        for seed, value in enumerate(values):
            number = story.propose({"width": width}, stage="retrain", seed=seed)
            story.segment(number, 2, val_accuracy=value)
    both = found(story)["retrained"]
    assert both.cheap == (0.9, 0.8)
    assert both.dear == pytest.approx((0.93, 0.86))
    assert both.low == (0.92, 0.85)
    assert both.high == (0.94, 0.87)


def test_values_that_are_no_numbers_are_left_out(make_story):
    story = make_story()
    climbed(story, (math.nan, 0.6, 0.9))
    climbed(story, (0.5, 0.6, 0.9))
    assert found(story) == {}
