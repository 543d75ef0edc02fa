"""How different recent candidates are: as the sum over pairs says, and fast enough for long searches."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import CHOICES
from ziggurat import choices as space
from ziggurat.analysis.diversity import over_time
from ziggurat.diversity import Recent, mean_distance
from ziggurat.domain import Candidate


def plainly(candidates):
    pairs = list(combinations(candidates, 2))
    return sum(space.distance(CHOICES, a, b) for a, b in pairs) / len(pairs)


@given(seed=st.integers(0, 1000), count=st.integers(2, 40), window=st.integers(2, 12))
def test_incremental_mean_equals_the_sum_over_all_pairs(seed, count, window):
    rng = np.random.default_rng(seed)
    candidates = [space.sample(CHOICES, rng) for _ in range(count)]
    for index, value in over_time(CHOICES, candidates, window):
        assert value == pytest.approx(plainly(candidates[max(0, index - window + 1) : index + 1]))


def test_equal_candidates_have_no_distance_and_one_has_none_either():
    one = space.sample(CHOICES, np.random.default_rng(1))
    assert mean_distance(CHOICES, [one] * 7) == 0
    assert mean_distance(CHOICES, [one]) == mean_distance(CHOICES, []) == 0
    assert over_time(CHOICES, [one]) == []


def test_existence_of_a_choice_counts():
    shallow = Candidate({"width": 8, "rate": 0.01, "depth": 1, "activation": "relu"})
    deep = Candidate({"width": 8, "rate": 0.01, "depth": 2, "activation": "relu", "second": 8})
    assert mean_distance(CHOICES, [shallow, deep]) == 2


def test_numbers_that_are_equal_count_as_equal():
    mixed = {"flag": space.Values(values=[0, 1]), "other": space.Values(values=["1", "0"])}
    assert (
        mean_distance(mixed, [Candidate({"flag": 1, "other": "1"}), Candidate({"flag": 1.0, "other": "1"})])
        == 0
    )


def test_only_the_last_candidates_count():
    rng = np.random.default_rng(3)
    same = space.sample(CHOICES, rng)
    recent = Recent(CHOICES, 5)
    for _ in range(20):
        recent.add(space.sample(CHOICES, rng))
    assert recent.mean > 0
    for _ in range(5):
        last = recent.add(same)
    assert last == 0


def test_five_thousand_candidates_take_well_under_a_second():
    rng = np.random.default_rng(0)
    candidates = [space.sample(CHOICES, rng) for _ in range(500)] * 10
    begun = time.process_time()
    over_time(CHOICES, candidates)
    assert time.process_time() - begun < 0.5
