import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ziggurat import pareto
from ziggurat.strategies import gain

NONE = np.zeros((1, 0))


def sure(front, reference, learned, static):
    """Gain of candidates whose every objective is known."""
    room = gain.boxes(front, reference)
    learned = np.array(learned, dtype=float)
    log = np.zeros(learned.shape[1], dtype=bool)
    return gain.expected_gain(room, np.array(static, dtype=float), learned, np.full(learned.shape, 1e-9), log)


def test_gain_of_two_objectives_is_the_area_that_is_added():
    # reference (4, 4), front (2, 2): a point at (1, 3) adds a strip of height 1 over cost 3 to 4
    assert sure([[2, 2]], [4, 4], [[1.0]], [[3.0]])[0] == pytest.approx(1.0)
    # at (1, 1): 3 x 3 less the 2 x 2 that the front has
    assert sure([[2, 2]], [4, 4], [[1.0]], [[1.0]])[0] == pytest.approx(5.0)


def test_dominated_candidate_gains_nothing():
    assert sure([[2, 2]], [4, 4], [[3.0]], [[2.0]])[0] == 0.0


def test_an_empty_front_leaves_everything_to_gain():
    assert sure(np.zeros((0, 2)), [4, 4], [[1.0]], [[2.0]])[0] == pytest.approx(6.0)


def test_one_objective_is_plain_expected_improvement():
    room = gain.boxes([[1.0], [0.5]], [2.0])
    found = gain.expected_gain(room, NONE, np.array([[0.5]]), np.array([[1.0]]), np.array([False]))
    assert found[0] == pytest.approx(1 / np.sqrt(2 * np.pi))


def test_log_normal_shortfall_equals_a_numeric_integral():
    z = np.random.default_rng(0).standard_normal(400_000)
    level, mean, sd = 5.0, 1.4, 0.5
    expected = np.maximum(level - np.exp(mean + sd * z), 0).mean()
    found = gain.shortfall(np.array([level]), np.array([mean]), np.array([sd]), log=True)
    assert found[0] == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize(
    ("learned", "static"), [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1), (2, 2), (3, 1)]
)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(0, 7))
def test_sure_gain_equals_the_difference_of_hypervolumes(learned, static, seed, size):
    rng = np.random.default_rng(seed)
    m = learned + static
    # a coarse grid, so that ties occur
    front = rng.integers(0, 6, size=(size, m)) / 5.0
    row = rng.integers(0, 6, size=(1, m)) / 5.0 + 0.01
    reference = np.full(m, 1.05)
    expected = pareto.hypervolume(np.vstack([front, row]), reference) - pareto.hypervolume(front, reference)
    assert sure(front, reference, row[:, :learned], row[:, learned:])[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("learned", "static"), [(1, 2), (2, 1)])
def test_expected_gain_equals_an_average_over_draws(learned, static):
    rng = np.random.default_rng(3)
    m = learned + static
    front, reference = 0.5 + 0.5 * rng.random((5, m)), np.full(m, 1.1)
    mean, sd, known = rng.random((1, learned)), np.full((1, learned), 0.3), rng.random((1, static))
    room = gain.boxes(front, reference)
    log = np.zeros(learned, dtype=bool)
    found = gain.expected_gain(room, known, mean, sd, log)[0]
    draws = mean + sd * rng.standard_normal((40_000, learned))
    each = gain.expected_gain(
        room, np.repeat(known, len(draws), axis=0), draws, np.full_like(draws, 1e-9), log
    )
    assert found == pytest.approx(each.mean(), rel=0.03)


def test_many_imagined_results_give_the_gain_of_each():
    room = gain.boxes([[2, 2]], [4, 4])
    mean = np.array([[[1.0], [3.0]], [[2.0], [0.0]]])
    static = np.array([[1.0], [3.0]])
    log = np.array([False])
    found = gain.expected_gain(room, static, mean, np.full(mean.shape, 1e-9), log)
    for i in range(2):
        alone = gain.expected_gain(room, static[[i, i]], mean[i], np.full((2, 1), 1e-9), log)
        assert found[i] == pytest.approx(alone)


def test_rows_with_nan_or_beyond_the_reference_are_no_front():
    room = gain.boxes([[np.nan, 1.0], [9.0, 1.0], [1.0, 9.0]], [4, 4])
    assert room.level.tolist() == [4.0]
