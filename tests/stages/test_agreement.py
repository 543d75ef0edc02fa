"""Kendall's tau and its interval, against values worked out by hand and other implementations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ziggurat.stages.agreement import DRAWS, bootstrap, inverted, kendall, tau_interval


@pytest.mark.parametrize(
    ("cheap", "dear", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 1 / 3),  # of three pairs two agree and one does not
        ([1, 1, 2], [1, 2, 3], 2 / math.sqrt(2 * 3)),  # one tie on the cheap side
    ],
)
def test_tau_of_small_rankings(cheap, dear, tau):
    assert kendall(cheap, dear) == pytest.approx(tau)


def test_tau_of_a_constant_ranking_is_unknown():
    assert math.isnan(kendall([1, 1, 1], [1, 2, 3]))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=25))
def test_tau_is_that_of_scipy(pairs):
    from scipy.stats import kendalltau

    cheap, dear = zip(*pairs, strict=True)
    expected = kendalltau(cheap, dear).statistic
    assert kendall(cheap, dear) == pytest.approx(expected, nan_ok=True)


@settings(max_examples=10)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=8), st.floats(0.6, 0.95))
def test_the_interval_holds_tau_and_stays_within_its_bounds(pairs, confidence):
    cheap, dear = zip(*pairs, strict=True)
    tau, low, high = tau_interval(cheap, dear, confidence, np.random.default_rng(0))
    assert -1 <= low <= high <= 1
    assert math.isnan(tau) or low <= tau <= high


def test_a_reversed_ranking_of_eight_is_below_the_usual_gate():
    cheap = list(range(8))
    tau, low, high = tau_interval(cheap, cheap[::-1], 0.9, np.random.default_rng(0))
    assert (tau, low) == (-1.0, -1.0)
    assert -0.9 < high < -0.6  # even then not all of eight more candidates need be reversed


@pytest.mark.parametrize("n", [3, 4, 6, 12])
def test_perfect_order_of_few_is_no_certainty_though_the_bootstrap_says_so(n):
    order = np.arange(float(n))
    assert bootstrap(order, order, 0.9, np.random.default_rng(0)) == (1.0, 1.0) or n == 3
    tau, low, high = tau_interval(order, order, 0.9, np.random.default_rng(0))
    assert (tau, high) == (1.0, 1.0)
    assert low < 0.95


def test_the_end_of_the_simulated_interval_is_where_the_finding_becomes_rare():
    """At a true tau of 0 one sixth of three pairs is in perfect order: one of 3! orders."""
    low, _ = inverted(1.0, 3, 1 - 2 / 6)
    assert low == pytest.approx(0.0, abs=0.06)
    assert DRAWS >= 1000  # so that the sixth is met within a few hundredths


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Candidates in two groups, which formulas for normal data take for more than they are."""
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=4000)
    cheap, dear = group + rng.normal(0, 0.3, 4000), group + rng.normal(0, 0.3, 4000)
    true = kendall(cheap[:1500], dear[:1500])
    held = 0
    for _ in range(60):
        pick = rng.choice(4000, 8, replace=False)
        _, low, high = tau_interval(cheap[pick], dear[pick], 0.9, rng)
        held += low <= true <= high
    assert held >= 50  # 54 are expected at 90 %; fewer than 50 happen once in 30 times at that


def test_few_candidates_leave_the_gate_open():
    """With four candidates even a poor ranking is not proof; a gate that stops there would be wrong."""
    _, low, high = tau_interval([1, 2, 3, 4], [2, 4, 1, 3], 0.9, np.random.default_rng(0))
    assert low < 0
    assert high > 0.2


def test_more_confidence_is_a_wider_interval():
    rng = np.random.default_rng(1)
    cheap = rng.random(12)
    dear = cheap + rng.normal(0, 0.3, 12)
    _, low, high = tau_interval(cheap, dear, 0.6, np.random.default_rng(0))
    _, lower, higher = tau_interval(cheap, dear, 0.95, np.random.default_rng(0))
    assert lower < low < high < higher


def test_an_unknown_tau_has_the_whole_interval():
    tau, low, high = tau_interval([1, 1, 1], [1, 2, 3], 0.9, np.random.default_rng(0))
    assert (math.isnan(tau), low, high) == (True, -1.0, 1.0)
