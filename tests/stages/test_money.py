"""Limits, the forecast, and what these buy of a search."""

import pytest

from tests.real import plain
from tests.support import Story
from ziggurat import spec
from ziggurat.stages import money

EPOCH_S = {"epoch_s": 1.0}


def parsed(price=3600.0, trials=48, **changes):
    settings = {
        "fidelities": [{"epochs": 1}, {"epochs": 3}, {"epochs": 9}],
        "search": {"trials": trials, "workers": 2, "stopper": {"kind": "asha", "reduction_factor": 2}},
        "retrain": {"enabled": False},
        "launcher": {"kind": "local", "usd_per_hour": price},
        **changes,
    }
    return spec.parse(plain(**settings), "test")


def judged(settings):
    return money.fits(settings, Story().history, EPOCH_S)


@pytest.mark.parametrize(
    ("price", "budget", "ok", "words", "cure"),
    [
        (2.0, {}, None, "an hour costs up to 2 USD", "set budget.limit_usd"),
        (0.0, {"limit_usd": 5}, None, "launcher.usd_per_hour is 0", "set launcher.usd_per_hour"),
        (0.0, {}, True, "machines cost nothing; no limit of time", ""),
        (
            2.0,
            {"limit_usd": 5, "plan_usd": 4, "limit_hours": 3},
            True,
            "5 USD, 4 USD planned; at most 3 h",
            "",
        ),
    ],
)
def test_money_without_a_limit_and_limits_without_a_price_are_told(price, budget, ok, words, cure):
    settings = parsed(price, budget=budget)
    (check,) = money.limits(settings, settings.budget.limit_usd)
    assert (check.name, check.ok) == ("budget", ok)
    assert words in check.text
    assert check.cure.startswith(cure)
    assert bool(check.cure) is bool(cure)


def test_the_criteria_are_told_in_words():
    told = money.criteria(parsed(objectives=[{"metric": "val_accuracy", "reference": 0.5, "limit": 0.8}]))
    assert told.text == "val_accuracy maximized from 0.5 within 0.8"


def test_a_forecast_that_exceeds_a_limit_is_told_before_it_ends_the_run():
    # a dollar a second: 48 trials to 1 epoch, 24 to 3 and 12 to 9 are 48 + 48 + 72 epochs
    for budget, words, cure in (
        ({"limit_usd": 100}, "more than the limit of 100 USD", "raise budget.limit_usd to 1.7e+02"),
        ({"limit_usd": 500, "limit_hours": 0.01}, "the limit of 0.01 hours", "raise budget.limit_hours"),
        ({"limit_usd": 500, "plan_usd": 20}, "more than the plan of 20 USD", "set budget.plan_usd"),
    ):
        check = judged(parsed(budget=budget))[0]
        assert (check.name, check.ok) == ("forecast", None)
        assert words in check.text
        assert check.cure.startswith(cure)
    assert judged(parsed(budget={"limit_usd": 500}))[0].text.startswith("168 USD and 1 minute ")


def test_too_few_trials_at_the_top_rung_are_told():
    assert judged(parsed())[1].text == "about 12 of 48 trials reach the top rung"
    check = judged(parsed(budget={"limit_usd": 84}))[1]  # half of 168
    assert (check.name, check.ok) == ("strategy", None)
    assert check.text == "about 6 of 48 trials reach the top rung, where the limits buy 50% of the search"
    assert check.cure.startswith("raise the limits")
    few = judged(parsed(trials=4))[1]
    assert few.ok is True  # whoever asks for few gets few


@pytest.mark.parametrize(
    ("costs", "limit", "share"),
    [
        ({"search": 10.0}, None, 1.0),
        ({"search": 10.0}, 5.0, 0.5),
        ({"search": 10.0, "retrain": 3.0}, 8.0, 0.5),
        ({"search": 10.0, "retrain": 30.0}, 10.0, 0.5),  # at most half is kept for what comes later
        ({"search": 10.0, "validate": 1.0}, 100.0, 1.0),
        ({"search": 0.0, "validate": 1.0}, 1.0, 1.0),
    ],
)
def test_what_a_limit_leaves_of_a_search(costs, limit, share):
    assert money.affordable(costs, limit, ("search",)) == pytest.approx(share)
