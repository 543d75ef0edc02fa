"""The percentile rule: whose best so far lies too low among its peers."""

import math

import pytest

from tests.stoppers.paths import told
from tests.support import ACCURACY, PARAMETERS, Story
from ziggurat.domain import Decision
from ziggurat.stoppers import Percentile

ONE, BOTH = (ACCURACY,), (ACCURACY, PARAMETERS)


def stops(stopper: Percentile, story: Story, number: int, objectives=ONE) -> bool:
    return stopper.decide(story.trial(number), story.context(objectives=objectives)) is Decision.STOP


PEERS = ((0.5,), (0.6,), (0.7,), (0.8,))


@pytest.mark.parametrize(
    ("percentile", "accuracy", "stopped"),
    [
        (50, 0.61, False),
        (50, 0.6, False),
        (50, 0.59, True),
        (25, 0.51, False),
        (25, 0.49, True),
        (75, 0.7, False),
        (75, 0.69, True),
        (80, 0.8, False),
        (80, 0.79, True),
    ],
)
def test_a_trial_below_the_percentile_of_its_peers_is_stopped(percentile, accuracy, stopped):
    stopper = Percentile(percentile=percentile, min_peers=4)
    assert stops(stopper, told(*PEERS, (accuracy,)), 4) is stopped


def test_too_few_peers_stop_nobody():
    story = told(*PEERS, (0.2,))
    assert stops(Percentile(min_peers=4), story, 4)
    assert not stops(Percentile(min_peers=5), story, 4)


def test_below_the_grace_rung_nobody_is_stopped():
    story = told(*[(p[0], p[0]) for p in PEERS], (0.2, 0.2))
    assert stops(Percentile(min_peers=4, grace=1), story, 4)
    assert not stops(Percentile(min_peers=4, grace=2), story, 4)


def test_only_peers_at_the_rung_count():
    story = told((0.9,), (0.9,), (0.5, 0.5), (0.5, 0.5), (0.6, 0.6))
    assert not stops(Percentile(min_peers=2), story, 4)


def test_the_best_so_far_counts_on_both_sides():
    # trial 4 fell from .75 to .55; its peers' best are .5, .6, .7 and .8
    story = told((0.5, 0.4), (0.6, 0.5), (0.7, 0.7), (0.8, 0.6), (0.75, 0.55))
    assert not stops(Percentile(min_peers=4), story, 4)
    assert stops(Percentile(min_peers=4, percentile=90), story, 4)
    story = told((0.5, 0.4), (0.6, 0.5), (0.7, 0.7), (0.8, 0.6), (0.55, 0.55))
    assert stops(Percentile(min_peers=4), story, 4)


def test_several_objectives_are_compared_by_non_dominated_rank():
    # ranks: 0 and 1 lie on the front, 2 is on the second, 3 on the third
    sizes = (500.0, 100.0, 600.0, 700.0, 650.0)
    story = told((0.9,), (0.5,), (0.8,), (0.7,), (0.75,), sizes=sizes)
    # trial 4 lies between 2 and 3, on a front of its own: ranks 0, 0, 1, 3 of the peers
    assert stops(Percentile(min_peers=4), story, 4, BOTH)
    assert not stops(Percentile(min_peers=4, percentile=20), story, 4, BOTH)
    assert not any(stops(Percentile(min_peers=4, percentile=99), story, n, BOTH) for n in (0, 1))


def test_unknown_results_of_peers_count_as_worse():
    nothing = (math.nan,)
    assert not stops(Percentile(min_peers=4), told(nothing, nothing, nothing, (0.8,), (0.5,)), 4)


@pytest.mark.parametrize("accuracy", [0.1, 0.05, math.nan])
def test_a_trial_that_has_learned_nothing_is_stopped_without_peers(accuracy):
    assert stops(Percentile(), told((accuracy,)), 0)


def test_the_floor_can_be_the_reference():
    assert stops(Percentile(floor="reference"), told((0.15,)), 0)
    assert not stops(Percentile(), told((0.15,)), 0)


def test_reach_falls_by_the_percentile_at_every_decision():
    assert Percentile(percentile=25, grace=1).reach(3) == [1.0, 1.0, 0.75, 0.5625]
