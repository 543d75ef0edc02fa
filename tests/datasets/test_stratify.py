import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ziggurat.datasets import stratify

SIZES = st.lists(st.integers(3, 60), min_size=2, max_size=6)


def labels_of(sizes, seed=0):
    y = np.repeat(np.arange(len(sizes)), sizes).astype(np.int64)
    return np.random.default_rng(seed).permutation(y)


def test_hundred_of_each_class_divide_as_the_fractions_say():
    y = labels_of([100, 200])
    train, validation, test = stratify.split(y, (0.7, 0.15, 0.15), 0)
    assert [np.bincount(y[part]).tolist() for part in (train, validation, test)] == [
        [70, 140],
        [15, 30],
        [15, 30],
    ]


@given(sizes=SIZES, seed=st.integers(0, 5), cut=st.tuples(st.floats(0.01, 0.9), st.floats(0.01, 0.99)))
def test_parts_cover_everything_once_and_each_has_every_class(sizes, seed, cut):
    train = cut[0]
    validation = (1 - train) * cut[1]
    y = labels_of(sizes)
    parts = stratify.split(y, (train, validation, 1 - train - validation), seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(y)))
    for part in parts:
        assert set(y[part]) == set(range(len(sizes)))
        assert list(part) == sorted(part)


def test_test_part_depends_on_its_fraction_and_the_seed_only():
    y = labels_of([40, 50, 60])
    first = stratify.split(y, (0.7, 0.15, 0.15), 3)[2]
    second = stratify.split(y, (0.4, 0.45, 0.15), 3)[2]
    other = stratify.split(y, (0.7, 0.15, 0.15), 4)[2]
    assert first.tolist() == second.tolist()
    assert first.tolist() != other.tolist()


def test_without_a_test_fraction_the_rest_is_renormalised():
    y = labels_of([100, 100])
    train, validation, test = stratify.split(y, (0.6, 0.2, 0.0), 0)
    assert [len(train), len(validation), len(test)] == [150, 50, 0]


@pytest.mark.parametrize(
    ("sizes", "total", "at_least", "expected"),
    [([60, 30, 10], 50, 1, [30, 15, 5]), ([90, 5, 5], 20, 3, [14, 3, 3]), ([5, 5], 50, 3, [5, 5])],
)
def test_limit_keeps_shares_but_gives_each_class_its_minimum(sizes, total, at_least, expected):
    assert stratify.limit_counts(sizes, total, at_least) == expected


@settings(max_examples=50)
@given(sizes=SIZES, total=st.integers(18, 400))
def test_limit_is_met_exactly(sizes, total):
    counts = stratify.limit_counts(sizes, total, 3)
    assert sum(counts) == min(total, sum(sizes))
    assert all(3 <= c <= size for c, size in zip(counts, sizes, strict=True))


@given(size=st.integers(1, 500), low=st.floats(0.001, 1), high=st.floats(0.001, 1))
def test_larger_fraction_never_takes_fewer(size, low, high):
    low, high = sorted((low, high))
    [few], [many] = stratify.fraction_counts([size], low), stratify.fraction_counts([size], high)
    assert 1 <= few <= many <= size


def test_order_within_a_class_does_not_depend_on_other_classes():
    alone = stratify.orders(np.array([0, 0, 0, 0, 1, 1]), 7)[0]
    beside = stratify.orders(np.array([0, 0, 0, 0, 1, 1, 2, 2, 2]), 7)[0]
    assert alone.tolist() == beside.tolist()
