"""The ledger, the limit in force and forecasts."""

import pytest
from pydantic import ValidationError

from tests.support import Story
from ziggurat import guard
from ziggurat.budget import (
    Budget,
    Ledger,
    accuracy,
    cost_usd,
    ledger,
    limit_usd,
    spent_by_stage,
    stage_limit_usd,
)
from ziggurat.domain import Candidate
from ziggurat.events import Amended, Charged, Decided, SegmentFinished, SegmentPlanned, StageStarted


def test_a_segment_costs_its_seconds_at_the_price_of_an_hour():
    assert cost_usd(1800, 0.5) == 0.25


def test_the_ledger_counts_finished_and_open_segments():
    told = Story()
    told.propose(Candidate({"a": 1}))
    told.propose(Candidate({"a": 2}))
    told.add(SegmentPlanned(told.start(0), 1.0, 0.0))
    job = told.start(1)
    told.add(SegmentPlanned(job, 1.0, 0.4))
    account = ledger(told.history, 1.0, 0.1)
    assert (account.spent, account.committed, account.free) == (0.0, 0.4, 0.5)
    told.add(SegmentFinished(job.key, 1, 3.0, 0.7))
    account = ledger(told.history, 1.0, 0.1)
    assert (account.spent, account.committed) == (0.7, 0.0)
    assert account.admits(0.2)
    assert not account.admits(0.21)


def test_without_a_limit_everything_is_admitted():
    assert ledger(Story().history, None).admits(1e12)


def test_an_amendment_replaces_the_limit():
    told = Story()
    assert limit_usd(Budget(limit_usd=1.0), told.history) == 1.0
    told.add(Amended({"budget.limit_usd": 3.0}))
    assert limit_usd(Budget(limit_usd=1.0), told.history) == 3.0


@pytest.mark.parametrize(
    "plain",
    [
        {"limit_usd": 0},
        {"limit_usd": -1},
        {"plan_usd": 2, "limit_usd": 1},
        {"warn_at": 1.5},
        {"stages": {"search": 0}},
        {"stages": {"search": float("inf")}},
        {"stages": {"search": 2.0}, "limit_usd": 1.0},
        {"stages": {"Search ": 2.0}},
    ],
)
def test_a_senseless_budget_is_refused(plain):
    with pytest.raises(ValidationError):
        Budget(**plain)


def account(spent=0.0, committed=0.0, reserved=0.0, limit=10.0, forecast=0.0, next_=0.0):
    return Ledger(spent, committed, reserved, limit, forecast, next_)


@pytest.mark.parametrize(
    ("given", "budget", "level", "words"),
    [
        (account(1.0), {}, "ok", "9 of 10 USD are free"),
        (account(1.0, limit=None, forecast=4.0), {}, "ok", "5 USD expected; no limit"),
        (account(8.0), {}, "warning", "80% of the limit of 10 USD"),
        (account(7.9), {}, "ok", "2.1 of 10"),
        (account(5.0), {"warn_at": 0.5}, "warning", "50%"),
        (account(2.0, forecast=8.1), {}, "warning", "10.1 USD are expected in all"),
        (account(2.0, forecast=8.0), {}, "ok", "10 USD expected"),
        (account(8.0, 1.0, 1.0), {}, "stop", "no further job fits"),
        (account(8.0, next_=2.5), {}, "stop", "no further job fits"),
        (account(10.0), {}, "stop", "no further job fits"),
        (account(10.1), {}, "critical", "10.1 USD are spent, the limit is 10 USD"),
        (account(2.5), {"plan_usd": 2.0}, "critical", "25% more than the 2 USD planned"),
        (account(2.4), {"plan_usd": 2.0}, "ok", "free"),
        (account(2.5, limit=None), {"plan_usd": 2.0}, "critical", "planned"),
    ],
)
def test_the_guard_says_the_gravest(given, budget, level, words):
    found = guard.verdict(given, Budget(**budget))
    assert found.level == level
    assert words in found.text
    assert guard.result(given, Budget(**budget))["level"] == level


def test_what_is_forecast_is_at_least_what_is_committed():
    told = Story()
    told.propose(Candidate({"a": 1}))
    job = told.start(0)
    told.add(SegmentPlanned(job, 1.0, 0.4))
    found = ledger(told.history, 1.0, forecast_usd=0.1)
    assert (found.forecast, found.projected) == (0.4, 0.4)
    assert ledger(told.history, 1.0, forecast_usd=0.7).projected == 0.7


def test_a_charge_counts_as_spent_and_belongs_to_its_stage():
    told = Story()
    told.propose(Candidate({"a": 1}))
    job = told.start(0)
    told.add(SegmentFinished(job.key, 0, 3.0, 0.7))
    told.add(Charged("idle", 10.0, 0.2, "search"))
    told.add(Charged("idle", 10.0, 0.1, "proxy"))
    told.add(Charged("idle", 10.0, 0.05))
    assert told.history.spent_usd == pytest.approx(1.05)
    assert spent_by_stage(told.history) == pytest.approx({"search": 0.9, "validate": 0.1, "": 0.05})
    assert sum(told.history.copy().costs.values()) == pytest.approx(1.05)


def test_an_amendment_replaces_the_limit_of_a_stage():
    told = Story()
    given = Budget(stages={"search": 1.0, "validate": 0.5})
    assert stage_limit_usd(given, told.history, "search") == 1.0
    assert stage_limit_usd(given, told.history, "proxy") == 0.5
    assert stage_limit_usd(given, told.history, "retrain") is None
    told.add(Amended({"budget.stages.search": 3.0}))
    told.add(Amended({"budget.limit_usd": 9.0}))
    assert stage_limit_usd(given, told.history, "search") == 3.0


def test_the_first_forecast_is_held_against_what_each_stage_has_cost():
    told = Story()
    told.add(
        Decided("forecast", "fits", facts={"search": 2.0, "retrain": 1.0, "search_s": 7.0, "total_usd": 3.0})
    )
    told.add(Decided("forecast", "fits", facts={"search": 9.0}))
    told.add(StageStarted("proxy"))
    told.add(Charged("idle", 1.0, 0.5, "proxy"))
    told.add(Charged("idle", 1.0, 3.0, "search"))
    rows = {row.stage: (row.forecast_usd, row.actual_usd, row.ratio) for row in accuracy(told.history)}
    assert rows == {"search": (2.0, 3.0, 1.5), "validate": (0.0, 0.5, None)}


def test_without_a_forecast_there_is_nothing_to_hold_against():
    assert accuracy(Story().history) == []


def test_each_tenth_and_each_graver_verdict_is_a_mark_once():
    marks = guard.Marks()

    def passed(spent, forecast=0.0):
        return marks.passed(guard.result(account(spent, forecast=forecast), Budget()))

    assert [passed(s) for s in (0.5, 0.9, 1.0, 1.5, 3.1, 3.2)] == [False, False, True, False, True, False]
    assert marks.share == ", 30 % spent"
    assert passed(3.3, forecast=9.0)  # expected to pass the limit
    assert [passed(3.4), passed(3.5, forecast=9.0)] == [False, False]
    assert sum(passed(s / 20) for s in range(70, 240)) <= 9


def test_without_a_limit_only_a_graver_verdict_is_a_mark():
    marks, budget = guard.Marks(), Budget(plan_usd=2.0)
    found = [marks.passed(guard.result(account(s, limit=None), budget)) for s in (0.0, 1.0, 2.3, 2.5, 9.0)]
    assert found == [False, False, False, True, False]
