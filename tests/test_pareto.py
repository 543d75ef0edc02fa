"""Pareto arithmetic against values by hand, brute force, pymoo and moocore."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ziggurat import pareto


def tables(low: int = 1, high: int = 12, columns: tuple[int, int] = (1, 4)) -> st.SearchStrategy[np.ndarray]:
    """Small tables on a coarse grid, so that ties and equal rows are common."""
    shapes = st.tuples(st.integers(low, high), st.integers(*columns))
    return shapes.flatmap(lambda s: hnp.arrays(float, s, elements=st.integers(0, 5).map(float)))


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def brute_ranks(rows: np.ndarray) -> list[int]:
    left, found, rank = set(range(len(rows))), [0] * len(rows), 0
    while left:
        front = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for i in front:
            found[i] = rank
        left -= front
        rank += 1
    return found


def brute_volume(rows: np.ndarray, reference: np.ndarray) -> float:
    """Volume on the integer grid, counted cell by cell."""
    cells = itertools.product(*(range(int(r)) for r in reference))
    return float(sum(any((row <= cell).all() for row in rows) for cell in map(np.array, cells)))


def test_ranks_by_hand():
    losses = [[1, 4], [2, 2], [4, 1], [3, 3], [5, 5], [2, 2]]
    assert pareto.ranks(losses).tolist() == [0, 0, 0, 1, 2, 0]


def test_a_row_with_nan_ranks_behind_all_others():
    losses = [[np.nan, 0.0], [1, 1], [2, 2], [3, np.nan]]
    assert pareto.ranks(losses).tolist() == [2, 0, 1, 2]
    assert pareto.order(losses).tolist() == [1, 2, 0, 3]
    assert pareto.is_front(losses).tolist() == [False, True, False, False]


def test_a_table_of_nan_has_no_front():
    assert not pareto.is_front([[np.nan, 1.0]]).any()
    with pytest.raises(ValueError, match="no knee"):
        pareto.knee([[np.nan, 1.0]])


def test_infinite_losses_are_ordered_like_numbers():
    losses = [[np.inf, 0.0], [1.0, 1.0], [np.inf, 2.0], [-np.inf, 5.0]]
    assert pareto.ranks(losses).tolist() == [0, 0, 1, 0]
    assert sorted(pareto.order(losses).tolist()) == [0, 1, 2, 3]


@given(tables())
def test_ranks_equal_brute_force(rows):
    assert pareto.ranks(rows).tolist() == brute_ranks(rows)


@given(tables())
@settings(max_examples=30)
def test_ranks_equal_those_of_pymoo(rows):
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    _, theirs = NonDominatedSorting().do(rows, return_rank=True)
    assert pareto.ranks(rows).tolist() == theirs.tolist()


@given(tables(columns=(2, 4), high=30))
@settings(max_examples=30)
def test_ranks_equal_those_of_moocore(rows):
    import moocore

    assert pareto.ranks(rows).tolist() == moocore.pareto_rank(rows).tolist()


@given(tables(columns=(2, 4)), st.data())
def test_infinite_and_unknown_losses_are_ranked_like_places(rows, data):
    """Any growing change of a column leaves the ranks as they are, also up to infinity; NaN comes last."""
    stretched = np.where(rows == 5, np.inf, np.where(rows == 0, -np.inf, rows**3))
    assert pareto.ranks(stretched).tolist() == pareto.ranks(rows).tolist()
    i = data.draw(st.integers(0, len(rows) - 1))
    stretched[i, 0] = np.nan
    others = np.delete(stretched, i, axis=0)
    expected = pareto.ranks(others)
    assert np.delete(pareto.ranks(stretched), i).tolist() == expected.tolist()
    assert pareto.ranks(stretched)[i] == (expected.max() + 1 if len(others) else 0)


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_five_thousand_rows_are_ranked_and_ordered_within_a_second(columns):
    rows = np.random.default_rng(columns).random((5000, columns))
    began = time.perf_counter()
    ordered = pareto.order(rows, at_most=1667)
    assert time.perf_counter() - began < 1.0
    assert (np.diff(pareto.ranks(rows)[ordered]) >= 0).all()


@given(tables(), st.integers(0, 14))
def test_the_best_few_are_the_beginning_of_the_order(rows, count):
    rows[rows == 4] = np.nan
    assert pareto.order(rows, count).tolist() == pareto.order(rows)[:count].tolist()
    front = rows[pareto.is_front(rows)]
    assert pareto.epsilon_net(front, count).tolist() == pareto.epsilon_net(front)[:count].tolist()


@given(tables(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, shuffler):
    permutation = list(range(len(rows)))
    shuffler.shuffle(permutation)
    shuffled = rows[permutation]
    assert (pareto.ranks(shuffled) == pareto.ranks(rows)[permutation]).all()
    assert (shuffled[pareto.order(shuffled)] == rows[pareto.order(rows)]).all()
    assert (shuffled[pareto.knee(shuffled)] == rows[pareto.knee(rows)]).all()
    reference = np.full(rows.shape[1], 6.0)
    for method in ("hypervolume", "spread", "knee"):
        ours = rows[pareto.pick(rows, reference, 4, method)]
        assert (shuffled[pareto.pick(shuffled, reference, 4, method)] == ours).all()


def test_epsilon_net_goes_to_the_farthest_point_each_time():
    front = [[0, 10], [1, 8.9], [4, 4], [9, 0.9], [10, 0]]
    # scaled sums: 1, .99, .8, .99, 1: the middle leads, then the ends, then what lies between
    assert pareto.epsilon_net(front).tolist() == [2, 0, 4, 1, 3]


def test_epsilon_net_breaks_ties_by_index():
    assert pareto.epsilon_net([[1, 1], [1, 1], [1, 1]]).tolist() == [0, 1, 2]


@given(tables())
def test_order_is_a_permutation_with_growing_ranks(rows):
    found = pareto.order(rows)
    assert sorted(found.tolist()) == list(range(len(rows)))
    assert (np.diff(pareto.ranks(rows)[found]) >= 0).all()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12))
def test_order_of_one_objective_is_plain_order(values):
    assert pareto.order([[v] for v in values]).tolist() == np.argsort(values, kind="stable").tolist()


def test_hypervolume_by_hand():
    assert pareto.hypervolume([[1, 3], [2, 1]], [4, 4]) == pytest.approx(7.0)
    assert pareto.hypervolume([[2.5]], [4]) == 1.5


def test_hypervolume_without_rows_is_zero():
    assert pareto.hypervolume([], [1.0, 1.0]) == 0.0
    assert pareto.hypervolume(np.zeros((0, 3)), [1.0, 1.0, 1.0]) == 0.0


@pytest.mark.parametrize("row", [[5.0, 0.0], [4.0, 0.0], [np.nan, 0.0], [-np.inf, 0.0]])
def test_a_row_that_is_not_better_than_the_reference_adds_nothing(row):
    assert pareto.hypervolume([[1.0, 1.0], row], [4.0, 4.0]) == pytest.approx(9.0)


@given(tables(columns=(2, 4), high=20), st.data())
@settings(max_examples=100)
def test_hypervolume_equals_those_of_moocore_and_pymoo(rows, data):
    import moocore
    from pymoo.indicators.hv import HV

    # ties and equal rows are common, and the reference lies among the rows, beyond some of them
    reference = data.draw(hnp.arrays(float, rows.shape[1], elements=st.integers(0, 7).map(float)))
    ours = pareto.hypervolume(rows, reference)
    assert ours == pytest.approx(moocore.hypervolume(rows, ref=reference))
    assert ours == pytest.approx(HV(ref_point=reference)(rows))


@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_hypervolume_of_random_rows_equals_those_of_moocore_and_pymoo(columns, seed):
    import moocore
    from pymoo.indicators.hv import HV

    rng = np.random.default_rng(seed)
    rows, reference = rng.normal(size=(40, columns)), rng.normal(0.5, 0.3, size=columns)
    ours = pareto.hypervolume(rows, reference)
    assert ours == pytest.approx(moocore.hypervolume(rows, ref=reference), rel=1e-9)
    assert ours == pytest.approx(HV(ref_point=reference)(rows), rel=1e-9)


@given(tables(columns=(1, 3)))
@settings(max_examples=40)
def test_hypervolume_equals_counted_cells(rows):
    reference = np.full(rows.shape[1], 4.0)
    assert pareto.hypervolume(rows, reference) == pytest.approx(brute_volume(rows, reference))


@given(tables(columns=(1, 3)), st.integers(0, 11))
@settings(max_examples=40)
def test_a_contribution_is_what_is_lost_without_the_row(rows, which):
    i, reference = which % len(rows), np.full(rows.shape[1], 4.0)
    lost = pareto.hypervolume(rows, reference) - pareto.hypervolume(np.delete(rows, i, axis=0), reference)
    assert pareto.contributions(rows, reference)[i] == pytest.approx(lost)


@given(tables(columns=(2, 3)))
@settings(max_examples=30)
def test_contributions_equal_those_of_moocore(rows):
    import moocore

    unique = np.unique(rows, axis=0)
    reference = np.full(rows.shape[1], 6.0)
    theirs = moocore.hv_contributions(unique, ref=reference, ignore_dominated=False)
    assert pareto.contributions(unique, reference) == pytest.approx(theirs)


def test_knee_is_the_row_farthest_below_the_line_through_the_ends():
    assert pareto.knee([[9, 9], [0, 10], [2, 3], [10, 0], [5, 2]]) == 2


@pytest.mark.parametrize("method", ["hypervolume", "spread", "knee"])
def test_pick_takes_the_front_before_the_next_front(method):
    losses = [[3, 3], [1, 4], [4, 1], [2, 2], [5, 5], [np.nan, 0]]
    assert sorted(pareto.pick(losses, [6, 6], 3, method)) == [1, 2, 3]
    assert pareto.pick(losses, [6, 6], 4, method)[3] == 0
    assert sorted(pareto.pick(losses, [6, 6], 9, method)) == [0, 1, 2, 3, 4]
    assert pareto.pick(losses, [6, 6], 0, method) == []
    assert pareto.pick([], [6, 6], 3, method) == []


def test_pick_by_hypervolume_starts_with_the_largest_box():
    # boxes up to (6, 6): 5 * 2, 4 * 4, 2 * 5; then the gain of (1, 4) is 1 * 2, that of (4, 1) is 2 * 1
    assert pareto.pick([[1, 4], [2, 2], [4, 1]], [6, 6], 3, "hypervolume") == [1, 0, 2]


def test_pick_by_hypervolume_still_fills_up_when_nothing_is_gained():
    assert pareto.pick([[1, 9], [9, 1], [2, 2]], [3, 3], 3, "hypervolume")[0] == 2
    assert len(pareto.pick([[1, 9], [9, 1], [2, 2]], [3, 3], 3, "hypervolume")) == 3


def test_pick_by_knee_goes_on_with_its_neighbours():
    losses = [[0, 10], [2, 3], [3, 2.5], [10, 0]]
    assert pareto.pick(losses, [11, 11], 3, "knee") == [1, 2, 0]


@given(tables(columns=(2, 3)))
@settings(max_examples=30)
def test_the_first_greedy_pick_has_the_largest_volume_of_all(rows):
    reference = np.full(rows.shape[1], 6.0)
    alone = [pareto.hypervolume(rows[[i]], reference) for i in range(len(rows))]
    picked = pareto.pick(rows, reference, 1, "hypervolume")[0]
    assert alone[picked] == pytest.approx(max(alone))
