"""Probes that stand for a space: from cheap to dear, and unlike each other."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.support import CHOICES, parameters_of
from ziggurat import choices
from ziggurat.representatives import _turns, representatives

RNG = np.random.default_rng(0)
POOL = list({c.key: c for c in (choices.sample(CHOICES, RNG) for _ in range(48))}.values())
COST = [parameters_of(c) for c in POOL]


def test_every_stratum_of_cost_gives_one():
    chosen = representatives(CHOICES, POOL, COST, 6)
    order = sorted(COST)
    strata = [sum(parameters_of(c) >= order[s * 8] for s in range(6)) - 1 for c in chosen]
    assert sorted(strata) == list(range(6))
    assert strata[:2] == [0, 5]  # the first two are the cheapest and the dearest part


def test_they_are_less_alike_than_those_that_come_first():
    def least(found):
        return min(choices.distance(CHOICES, a, b) for a in found for b in found if a != b)

    assert least(representatives(CHOICES, POOL, COST, 6)) > least(POOL[:6]) - 1
    mean = [choices.distance(CHOICES, a, b) for a in POOL for b in POOL if a != b]
    chosen = representatives(CHOICES, POOL, COST, 6)
    assert np.mean([choices.distance(CHOICES, a, b) for a in chosen for b in chosen if a != b]) > np.mean(
        mean
    )


def test_without_costs_they_differ_and_candidates_that_cannot_be_built_are_left_out():
    assert len(representatives(CHOICES, POOL, [math.nan] * len(POOL), 4)) == 4
    some = [math.nan if i % 2 else c for i, c in enumerate(COST)]
    assert not {POOL[i].key for i in range(1, len(POOL), 2)} & {
        c.key for c in representatives(CHOICES, POOL, some, 6)
    }


def test_a_small_pool_is_taken_whole():
    assert set(representatives(CHOICES, POOL[:3], COST[:3], 6)) == set(POOL[:3])


@given(st.integers(0, 40))
def test_strata_take_their_turns(count):
    assert sorted(_turns(count)) == list(range(count))
