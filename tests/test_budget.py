"""The ledger, the limit in force and forecasts."""

import pytest
from pydantic import ValidationError

from tests.support import Story
from ziggurat.budget import Budget, cost_usd, ledger, limit_usd
from ziggurat.domain import Candidate
from ziggurat.events import Amended, SegmentFinished, SegmentPlanned


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
    "plain", [{"limit_usd": 0}, {"limit_usd": -1}, {"plan_usd": 2, "limit_usd": 1}, {"warn_at": 1.5}]
)
def test_a_senseless_budget_is_refused(plain):
    with pytest.raises(ValidationError):
        Budget(**plain)
