import numpy as np
import pytest

from ziggurat.strategies import value


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_nodes_have_the_moments_of_a_standard_normal(dimensions):
    points, weights = value.nodes(dimensions)
    assert weights.sum() == pytest.approx(1.0)
    assert weights @ points == pytest.approx(np.zeros(dimensions), abs=1e-12)
    assert weights @ points**2 == pytest.approx(np.ones(dimensions))


def test_without_a_rest_the_rate_is_gain_over_cost():
    found = value.rate(np.array([[1.0, 3.0]]), np.array([0.5, 0.5]), np.array([4.0]), np.array([0.0]))
    assert found[0] == pytest.approx(2.0 / 4.0)


def test_a_cheap_look_pays_only_for_the_better_half():
    # always going on: 5 / 11; going on in the better half only: 5 / (1 + 5)
    found = value.rate(np.array([[10.0, 0.0]]), np.array([0.5, 0.5]), np.array([1.0]), np.array([10.0]))
    assert found[0] == pytest.approx(5.0 / 6.0)


def test_a_look_that_tells_nothing_is_worth_less_than_none():
    gains, weights = np.array([[2.0, 2.0]]), np.array([0.5, 0.5])
    looked = value.rate(gains, weights, np.array([1.0]), np.array([10.0]))
    direct = value.rate(gains, weights, np.array([10.0]), np.array([0.0]))
    assert looked[0] == pytest.approx(2.0 / 11.0)
    assert looked[0] < direct[0]
