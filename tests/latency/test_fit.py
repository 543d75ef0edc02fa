"""How whole models follow from their operations: a fit, and its error on models that it has not seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ziggurat.latency.fit import Models, Overhead, fit, left_out, quality

SUMS = np.array([1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 4.0, 6.0, 7.0, 2.5])
OTHERS = np.array([2.0, 0.5, 1.0, 4.0, 0.1, 3.0, 6.0, 1.0, 0.3, 2.2])
COUNTS = np.array([3.0, 9.0, 4.0, 5.0, 12.0, 6.0, 8.0, 3.0, 10.0, 5.0])


def models(measured, *sums):
    sums = sums or (SUMS,)
    return Models(tuple("abc"[: len(sums)]), np.stack(sums, axis=1), COUNTS, measured)


def test_share_of_an_operation_is_its_time_with_its_overhead():
    found = Overhead(0.5, 0.1, {"a": 2.0})
    assert found.share_ms("a", 3.0) == pytest.approx(6.1)
    assert found.share_ms("unheard of", 3.0) == pytest.approx(3.1)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 2), st.floats(0.2, 3), st.floats(0, 0.5))
def test_exact_models_give_their_overhead_back(constant, slope, each):
    found = fit(models(constant + slope * SUMS + each * COUNTS))
    assert (found.constant_ms, found.slopes["a"], found.each_ms) == pytest.approx(
        (constant, slope, each), abs=1e-5
    )


def test_kinds_have_slopes_of_their_own_near_a_common_one():
    found = fit(models(0.1 + 0.8 * SUMS + 1.2 * OTHERS, SUMS, OTHERS)).slopes
    assert 0.78 < found["a"] < 0.9 < found["b"] < 1.25
    assert fit(models(0.1 + SUMS + OTHERS, SUMS, OTHERS)).slopes == pytest.approx({"a": 1.0, "b": 1.0})


def test_a_kind_that_hardly_occurs_gets_the_common_slope():
    rare = np.zeros(10)
    found = fit(models(0.1 + 0.8 * SUMS, SUMS, rare)).slopes
    assert found == pytest.approx({"a": 0.8, "b": 0.8})


def test_nothing_is_ever_negative():
    # latencies that fall with the number of operations would want a negative share for each
    found = fit(models(SUMS * 1.1 - 0.03 * COUNTS))
    assert min(found.constant_ms, found.slopes["a"], found.each_ms) >= 0
    assert found.each_ms == 0


def test_an_outlier_hardly_moves_the_fit():
    measured = 0.1 + SUMS
    measured[3] *= 3
    assert fit(models(measured)).slopes["a"] == pytest.approx(1.0, rel=0.01)


def test_a_model_that_is_left_out_is_predicted_by_the_others():
    measured = 0.1 + SUMS
    measured[3] *= 2
    predicted = left_out(models(measured))
    assert predicted[3] == pytest.approx(measured[3] / 2, rel=0.01)  # it did not see its own outlier


def test_quality_has_the_quantiles_of_relative_errors():
    measured = np.full(101, 2.0)
    measured[0] = 1.0
    predicted = measured * (1 + np.arange(101) / 1000)
    found = quality(predicted, measured)
    assert (found.median_error, found.error, found.p90_error) == pytest.approx((0.05, 0.068, 0.09))
    assert (found.models, found.span) == (101, 2.0)
