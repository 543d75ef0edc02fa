"""Choices: declaration, sampling, mutation, crossover, encoding and distance."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tests.support import CHOICES
from ziggurat import choices
from ziggurat.choices import Choice, Range, Values

DECLARED = TypeAdapter(dict[str, Choice])
seeds = st.integers(0, 2**32 - 1).map(np.random.default_rng)


def declare(**plain):
    return DECLARED.validate_python(plain)


def test_a_bare_list_and_a_bare_value_are_short_for_values():
    found = declare(a=[1, 2], b="relu")
    assert found["a"] == Values(values=[1, 2])
    assert found["b"] == Values(values=["relu"])


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"values": []}, "at least 1"),
        ({"values": [1, 1]}, "repeat"),
        ({"min": 3, "max": 3}, "must be below max"),
        ({"min": 0, "max": 3, "log": True}, "above 0"),
        ({"min": 0, "max": 3, "step": 5}, "at most"),
        ({"min": 0, "max": 3, "stepp": 1}, "Extra inputs"),
        ({"min": "a", "max": 3}, "valid integer"),
    ],
)
def test_a_senseless_choice_is_refused(plain, message):
    with pytest.raises(ValidationError, match=message):
        declare(a=plain)


def test_whole_bounds_give_whole_numbers_and_reach_both_ends():
    choice = Range(min=1, max=3)
    assert {choice.at(u) for u in np.linspace(0, 1, 50)} == {1, 2, 3}
    assert all(isinstance(choice.at(u), int) for u in (0.0, 0.5, 1.0))


def test_every_step_of_a_range_is_equally_likely():
    choice = Range(min=0.0, max=0.5, step=0.1)
    drawn = [choice.at((i + 0.5) / 6000) for i in range(6000)]
    assert {v: drawn.count(v) for v in set(drawn)} == dict.fromkeys([0.0, 0.1, 0.2, 0.3, 0.4, 0.5], 1000)


def test_a_logarithmic_range_is_even_over_decades():
    choice = Range(min=1e-4, max=1e-2, log=True)
    assert choice.at(0.5) == pytest.approx(1e-3)
    assert choice.unit(1e-3) == pytest.approx(0.5)


@given(seeds)
def test_a_sample_lies_in_the_space_and_comes_back_from_the_unit_cube(rng):
    candidate = choices.sample(CHOICES, rng)
    assert choices.contains(CHOICES, candidate)
    again = choices.from_unit(CHOICES, choices.to_unit(CHOICES, candidate))
    for name, value in candidate.choices.items():
        assert (
            again.choices[name] == pytest.approx(value, rel=1e-9)
            if isinstance(value, float)
            else again.choices[name] == value
        )


@given(seeds)
def test_a_mutated_candidate_is_in_the_space_and_differs_in_one_gene(rng):
    before = choices.sample(CHOICES, rng)
    after = choices.mutate(CHOICES, before, rng)
    assert choices.contains(CHOICES, after)
    changed = [n for n in CHOICES if before.choices.get(n) != after.choices.get(n)]
    conditional = {n for n in changed if CHOICES[n].when and (n in before.choices) != (n in after.choices)}
    assert len(set(changed) - conditional) == 1


@given(seeds)
def test_a_child_takes_every_gene_from_a_parent(rng):
    first, second = choices.sample(CHOICES, rng), choices.sample(CHOICES, rng)
    child = choices.crossover(CHOICES, first, second, rng)
    assert choices.contains(CHOICES, child)
    for name, value in child.choices.items():
        parents = {p.choices.get(name) for p in (first, second)}
        assert value in parents or parents == {None}


@given(seeds)
def test_the_edit_distance_is_a_metric(rng):
    a, b, c = (choices.sample(CHOICES, rng) for _ in range(3))
    d = choices.distance
    assert d(CHOICES, a, a) == 0
    assert d(CHOICES, a, b) == d(CHOICES, b, a)
    assert d(CHOICES, a, c) <= d(CHOICES, a, b) + d(CHOICES, b, c)


def test_features_lie_in_the_unit_interval_and_tell_candidates_apart():
    rng = np.random.default_rng(0)
    found = [choices.sample(CHOICES, rng) for _ in range(50)]
    features = choices.encode(CHOICES, found)
    assert features.shape == (50, 7)  # two ranges, depth, two activations, the conditional one and its flag
    assert ((features >= 0) & (features <= 1)).all()
    assert len({row.tobytes() for row in features}) == len(set(found))


def test_an_inactive_choice_is_no_part_of_a_candidate():
    point = np.array([0.5, 0.5, 0.0, 0.1, 0.9])  # depth 1: `second` does not exist
    assert "second" not in choices.from_unit(CHOICES, point).choices
    other = point.copy()
    other[4] = 0.1
    assert choices.from_unit(CHOICES, point) == choices.from_unit(CHOICES, other)


def test_counting_knows_conditions():
    declared = declare(depth=[1, 2, 3], w={"values": [1, 2], "when": {"depth": {"min": 2}}}, act=["a", "b"])
    assert choices.count(declared) == (1 + 2 * 2) * 2
    assert math.isinf(choices.count(declare(rate={"min": 0.0, "max": 1.0})))


def test_a_condition_on_something_later_is_refused():
    with pytest.raises(ValueError, match="not declared before"):
        choices.check(declare(w={"values": [1], "when": {"depth": 1}}, depth=[1, 2]))


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match="empty"):
        choices.check({})


def test_a_wrong_type_is_not_in_the_space():
    declared = declare(flag=[True, False], n=[1, 2])
    assert choices.contains(declared, choices.Candidate({"flag": True, "n": 1}))
    assert not choices.contains(declared, choices.Candidate({"flag": 1, "n": True}))
