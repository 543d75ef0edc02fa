"""Kendall's tau, its interval, and what probes on the subset show, against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import CHOICES, Story
from ziggurat import choices
from ziggurat.domain import Fidelity
from ziggurat.stages.subset import subset_facts
from ziggurat.stages.validate import kendall, tau_interval


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


def test_a_reversed_ranking_is_below_any_gate_above_minus_one():
    cheap = list(range(8))
    assert tau_interval(cheap, cheap[::-1], 0.9, np.random.default_rng(0)) == (-1.0, -1.0, -1.0)


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


def probes(values, failed=0):
    """Trials of candidates with the accuracies of their seeds."""
    story = Story(ladder=(Fidelity(1),))
    for accuracies in values:
        candidate = choices.sample(CHOICES, story.context().rng)
        for accuracy in accuracies:
            number = story.propose(candidate)
            story.finish(number, val_accuracy=accuracy)
    for _ in range(failed):
        story.fail(story.propose(choices.sample(CHOICES, story.context().rng)))
    return story.history.of_stage("search")


def test_facts_of_the_subset_by_hand():
    facts = subset_facts(probes([(0.5, 0.7), (0.8, 0.8)], failed=1), "val_accuracy", 0.1, 100)
    assert facts.best == 0.8
    assert facts.failed_share == 0.2
    assert facts.margin == pytest.approx(3 * math.sqrt(0.1 * 0.9 / 100))
    assert facts.signal == pytest.approx(math.sqrt(2) * 0.1)  # of the means 0.6 and 0.8
    assert facts.noise == pytest.approx(0.1)  # of the variances 0.02 and 0


def test_probes_that_all_fail_have_no_best():
    facts = subset_facts(probes([], failed=3), "val_accuracy", 0.1, 100)
    assert math.isnan(facts.best)
    assert (facts.failed_share, facts.signal, facts.noise) == (1.0, 0.0, 0.0)


def test_one_seed_shows_no_noise_and_one_candidate_no_signal():
    assert subset_facts(probes([(0.5,), (0.9,)]), "val_accuracy", 0.1, 100).noise == 0.0
    assert subset_facts(probes([(0.5, 0.9)]), "val_accuracy", 0.1, 100).signal == 0.0
