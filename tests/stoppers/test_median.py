"""The median rule: a trial's best against its peers' running averages."""

import math

import pytest

from tests.stoppers.paths import told
from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat.domain import Decision
from ziggurat.stoppers import Median

ONE, BOTH = (ACCURACY,), (ACCURACY, PARAMETERS)


def stops(stopper: Median, story: Story, number: int, objectives=ONE) -> bool:
    return stopper.decide(story.trial(number), story.context(objectives=objectives)) is Decision.STOP


@pytest.mark.parametrize(("accuracy", "stopped"), [(0.66, False), (0.65, False), (0.64, True)])
def test_at_the_lowest_rung_it_is_the_plain_median(accuracy, stopped):
    assert stops(Median(min_peers=4), told((0.5,), (0.6,), (0.7,), (0.8,), (accuracy,)), 4) is stopped


def test_later_the_running_average_of_the_peers_counts():
    # averages of the peers: .5, .6, .7; their last results are .7, .8, .9
    peers = ((0.3, 0.7), (0.4, 0.8), (0.5, 0.9))
    assert not stops(Median(min_peers=3), told(*peers, (0.4, 0.61)), 3)
    assert stops(Median(min_peers=3), told(*peers, (0.4, 0.59)), 3)


def test_the_best_of_the_trial_counts_not_its_average():
    peers = ((0.5, 0.7), (0.5, 0.7), (0.5, 0.7))
    assert not stops(Median(min_peers=3), told(*peers, (0.61, 0.3)), 3)


def test_too_few_peers_stop_nobody():
    story = told((0.5,), (0.6,), (0.7,), (0.2,))
    assert stops(Median(min_peers=3), story, 3)
    assert not stops(Median(min_peers=4), story, 3)
    assert not stops(Median(), story, 3)


def test_below_the_grace_rung_nobody_is_stopped():
    story = told((0.5, 0.5), (0.6, 0.6), (0.7, 0.7), (0.2, 0.2))
    assert stops(Median(min_peers=3, grace=1), story, 3)
    assert not stops(Median(min_peers=3, grace=2), story, 3)


def test_several_objectives_are_compared_by_non_dominated_rank():
    # the peers rank 0, 0 and 1; the last trial is dominated by 2 as well
    story = told((0.9,), (0.5,), (0.8,), (0.75,), sizes=(500.0, 100.0, 600.0, 700.0))
    assert stops(Median(min_peers=3), story, 3, BOTH)
    story = told((0.9,), (0.5,), (0.8,), (0.75,), sizes=(500.0, 100.0, 600.0, 300.0))
    assert not stops(Median(min_peers=3), story, 3, BOTH)


def test_an_unknown_result_on_the_way_counts_a_peer_as_the_worst():
    peers = ((math.nan, 0.9), (math.nan, 0.9), (0.5, 0.7))
    assert not stops(Median(min_peers=3), told(*peers, (0.2, 0.3)), 3)


@pytest.mark.parametrize("accuracy", [0.1, 0.05, math.nan])
def test_a_trial_that_has_learned_nothing_is_stopped_without_peers(accuracy):
    assert stops(Median(), told((accuracy,)), 0)
