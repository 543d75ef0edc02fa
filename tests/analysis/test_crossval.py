"""Leave-one-out: exact by the closed form, honest intervals on data of its own model, else plain words."""

import numpy as np
import pytest

from tests.analysis.made import ACCURACY, LATENCY, PARAMETERS, drawn, trained
from ziggurat.analysis import crossval
from ziggurat.analysis.crossval import covariance, held_out, leave_one_out, wilson
from ziggurat.choices import Range, Values
from ziggurat.strategies.chain import Chain
from ziggurat.strategies.fit import Parameters, prior
from ziggurat.strategies.kernel import features

CHOICES = {
    "depth": Values(values=[1, 2, 3, 4]),
    "rate": Range(min=1e-4, max=1e-1, log=True),
    "act": Values(values=["relu", "tanh", "gelu"]),
}


def outcome(candidate, rng):
    x = candidate.choices
    bend = (np.log10(x["rate"]) + 2.5) ** 2
    accuracy = 0.7 + 0.05 * x["depth"] - 0.03 * bend - 0.04 * (x["act"] == "tanh") + rng.normal(0, 0.01)
    return {"val_accuracy": accuracy, "latency_p50_ms": 2.0 * x["depth"], "parameters": 1000.0 * x["depth"]}


def test_closed_form_equals_conditioning_on_the_others_one_by_one():
    rng = np.random.default_rng(0)
    points, values = rng.random((14, 2)), rng.normal(size=14)
    known = features(14, ordered=points)
    parameters = prior(known, 1)
    rows = np.arange(14)
    mean, sd = held_out(covariance(known, rows, parameters), values)
    for i in range(14):
        rest = np.delete(rows, i)
        cover = covariance(known, rows, parameters)
        gain = np.linalg.solve(cover[np.ix_(rest, rest)], cover[rest, i])
        assert mean[i] == pytest.approx(gain @ values[rest], abs=1e-9)
        assert sd[i] ** 2 == pytest.approx(cover[i, i] - gain @ cover[rest, i], abs=1e-9)


def test_intervals_hold_what_they_promise_on_data_of_the_same_model():
    hits = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        known = features(80, ordered=rng.random((80, 3)))
        rows = np.arange(80)
        base = prior(known, 1)
        cover = covariance(known, rows, Parameters(base.shape, base.chain))
        values = np.linalg.cholesky(cover) @ rng.normal(size=80)
        scaled = (values - values.mean()) / values.std()
        mean, sd = held_out(covariance(known, rows, crossval.fitted(known, rows, scaled)), scaled)
        hits += (np.abs(scaled - mean) <= 1.959964 * sd).tolist()
    low, high = wilson(sum(hits), len(hits))
    assert low < 0.96
    assert high > 0.93
    assert 0.925 < np.mean(hits) < 0.975


def test_accuracy_of_a_search_is_predicted_with_honest_intervals():
    fit = leave_one_out(CHOICES, trained(drawn(CHOICES, 90), outcome), (ACCURACY, PARAMETERS))[0]
    assert fit.metric == "val_accuracy"
    assert len(fit.trials) == len(fit.observed) == len(fit.predicted) == len(fit.low) == len(fit.high) == 90
    assert fit.coverage >= 0.88
    assert fit.coverage_low < fit.coverage < fit.coverage_high
    assert fit.rank_correlation > 0.85
    inside = [a <= v <= b for a, v, b in zip(fit.low, fit.observed, fit.high, strict=True)]
    assert fit.coverage == pytest.approx(np.mean(inside))
    assert all(a <= p <= b for a, p, b in zip(fit.low, fit.predicted, fit.high, strict=True))
    assert "logarithm of 1 - val_accuracy" in fit.note


def test_what_is_counted_before_training_is_exact_and_not_fitted():
    fit = leave_one_out(CHOICES, trained(drawn(CHOICES, 40), outcome), (ACCURACY, PARAMETERS))[1]
    assert fit.coverage is None
    assert fit.predicted == ()
    assert "exact" in fit.note


def test_measured_latency_is_fitted_on_its_logarithm():
    fit = leave_one_out(CHOICES, trained(drawn(CHOICES, 40), outcome), (ACCURACY, LATENCY))[1]
    assert "logarithm of latency_p50_ms" in fit.note
    assert fit.rank_correlation > 0.9


@pytest.mark.parametrize("count", [0, 1, 11])
def test_few_trials_are_said_instead_of_numbers(count):
    fit = leave_one_out(CHOICES, trained(drawn(CHOICES, count), outcome), (ACCURACY,))[0]
    assert fit.coverage is None
    assert f"Only {count} trial" in fit.note or count == 0


def test_metric_that_does_not_differ_is_said():
    same = trained(drawn(CHOICES, 20), lambda c, r: {"val_accuracy": 0.9})
    assert "nothing to fit" in leave_one_out(CHOICES, same, (ACCURACY,))[0].note


def test_accuracy_of_one_needs_no_logarithm_of_nothing():
    fit = leave_one_out(
        CHOICES,
        trained(drawn(CHOICES, 40), lambda c, r: {"val_accuracy": min(1.0, 0.7 + 0.1 * c.choices["depth"])}),
        (ACCURACY,),
    )[0]
    assert fit.coverage is not None
    assert "logarithm" not in fit.note


def test_more_trials_than_wanted_are_thinned_evenly():
    fit = leave_one_out(CHOICES, trained(drawn(CHOICES, 120), outcome), (ACCURACY,), at_most=30)[0]
    assert len(fit.trials) == 30
    assert (fit.trials[0], fit.trials[-1]) == (0, 119)
    assert "of 120" in fit.note


def test_candidate_that_was_trained_twice_is_told_by_its_twin():
    once = drawn(CHOICES, 25)
    fit = leave_one_out(CHOICES, trained([*once, *once], outcome), (ACCURACY,))[0]
    assert fit.rank_correlation > 0.8


def test_interval_of_a_share_is_wilsons():
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=1e-3)
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_noise_of_one_rung_alone_is_modelled():
    assert Chain(1).size == 3
