"""What probes on the subset show, against values worked out by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from tests.support import CHOICES, Story
from ziggurat import choices
from ziggurat.domain import Fidelity, Goal, Objective
from ziggurat.stages.subset import Shown, facts_of, fault, opinion, subset_facts
from ziggurat.stages.subset_stats import between, binomial, repeats

LOSS = Objective("val_loss", Goal.MINIMIZE, 0.0)


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


def test_the_share_between_candidates_by_hand():
    """Means 1, 2 and 3 with two values 0.1 around each: 2 and 0.02 are the mean squares."""
    share = between([(0.9, 1.1), (1.9, 2.1), (2.9, 3.1)])
    assert share.value == pytest.approx((2 - 0.02) / (2 + 0.02))
    f = stats.f(2, 3).ppf(0.975), stats.f(3, 2).ppf(0.975)
    assert share.low == pytest.approx((100 / f[0] - 1) / (100 / f[0] + 1))
    assert share.high == pytest.approx((100 * f[1] - 1) / (100 * f[1] + 1))


def test_the_share_of_equal_seeds_is_all_and_of_one_group_unknown():
    assert between([(1.0, 1.0), (2.0, 2.0)]).value == 1.0
    assert math.isnan(between([(1.0, 2.0)]).value)
    assert math.isnan(between([(1.0,), (2.0,)]).value)


def test_the_interval_of_the_share_holds_it_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        groups = rng.normal(size=(6, 1)) + rng.normal(size=(6, 2))  # half of the variance lies between
        share = between(groups.tolist())
        held += share.low <= 0.5 <= share.high
    assert 272 <= held <= 297  # 285 at 95 %, and three standard deviations around


@pytest.mark.parametrize(("hits", "of"), [(0, 12), (3, 12), (12, 12), (1, 1)])
def test_the_interval_of_a_share_is_that_of_scipy(hits, of):
    share = binomial(hits, of)
    exact = stats.binomtest(hits, of).proportion_ci(0.95, "exact")
    assert (share.low, share.high) == (pytest.approx(exact.low), pytest.approx(exact.high))


def test_repeats_are_those_that_came_before():
    assert repeats([1, 2, 1, 1, 3, 2]) == 3


def test_candidates_with_the_same_numbers_are_told():
    facts = subset_facts(probes([(0.5, 0.7), (0.5, 0.7), (0.6, 0.8)]), "val_accuracy", 0.1, 100)
    assert facts.repeats == 1
    assert "1 candidates give exactly the numbers of another one" in opinion(facts)


def of_loss(values):
    """Trials with a loss, one seed each."""
    story = Story(ladder=(Fidelity(1),))
    for value in values:
        candidate = choices.sample(CHOICES, story.context().rng)
        story.finish(story.propose(candidate), val_loss=value)
    return story.history.of_stage("search")


@pytest.mark.parametrize(("best", "learns"), [(2.0, True), (2.31, False)])
def test_a_loss_learns_if_it_is_below_that_of_equal_probabilities(best, learns):
    facts = facts_of(of_loss([2.5, best]), LOSS, math.log(10))
    assert facts.learns(LOSS) is learns


def test_chance_must_be_beaten_by_more_than_seeds_differ():
    facts = facts_of(probes([(0.14, 0.06), (0.10, 0.02)]), Objective("val_accuracy", Goal.MAXIMIZE, 0), 0.1)
    assert facts.noise == pytest.approx(math.sqrt(0.0032))
    assert facts.margin == pytest.approx(2 * facts.noise)
    assert not facts.learns(Objective("val_accuracy", Goal.MAXIMIZE, 0))


def test_a_metric_of_unknown_chance_learns_if_it_moves():
    same, different = (
        facts_of(of_loss([1.0, 1.0]), LOSS, math.nan),
        facts_of(of_loss([1.0, 0.9]), LOSS, math.nan),
    )
    assert (same.learns(LOSS), different.learns(LOSS)) == (False, True)
    trials = of_loss([1.0, 1.0])
    told = fault(spec_of(), same, trials, Shown(LOSS, scripted=True))
    assert told.startswith("nothing learns on the subset: all 2 probes and epochs tell val_loss 1")


def spec_of(**validate):
    from tests.real import plain
    from ziggurat import spec

    return spec.parse(plain(validate={"enabled": True, **validate}), "test")
