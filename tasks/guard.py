"""The budget guard: what is spent, expected and left, before each stage, during the long ones, at the end.

It tells; it decides nothing. That a job which could pass the limit does not start, and that one which outruns
its forecast is stopped, is the plan's and the engine's matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from tasks import session
from ziggurat import guard
from ziggurat.events import Body
from ziggurat.session import Session

MOST = 14
"""Task runs during one stage: one for each tenth of the limit, and one for each graver verdict."""
EVERY_S = 1.0
LAST_S = 10.0
"""Seconds for the last of them to end, once the stage is over."""
Account = dict[str, Any]


def _account(here: Session, *, reserve: bool) -> Account:
    return guard.result(here.engine.money.ledger(reserve=reserve), here.run.spec.budget)


@task(name="guard the budget", task_run_name="guard the budget: {moment}", cache_policy=NO_CACHE)
def told(moment: str, account: Account) -> Account:
    """Say how the account stands; what is returned is what was given."""
    log = get_run_logger()
    say = {"ok": log.info, "warning": log.warning}.get(account["level"], log.error)
    say("%s: %s", moment, account["text"])
    return account


def guard_budget(run_dir: str, stage: str) -> Account:
    """Raise the alerts that are due before a stage, and tell the account as it is now."""
    here = session.of(run_dir)
    here.raise_alerts()
    moment = f"before {stage}" if stage != END else END
    return told(moment, _account(here, reserve=stage in {"validate", "search"}))


END = "at the end"


class _Watch:
    """Tells the account whenever it has come a mark further."""

    def __init__(self, here: Session, stage: str) -> None:
        self._here, self._stage = here, stage
        self._marks = guard.Marks()
        self._asked = 0.0
        self.runs: list[PrefectFuture[Account]] = []

    def __call__(self, now_utc: float) -> Sequence[Body]:
        del now_utc
        now = time.monotonic()
        if len(self.runs) < MOST and now - self._asked >= EVERY_S:
            self._asked = now
            account = _account(self._here, reserve=True)
            if self._marks.passed(account):
                moment = f"during {self._stage}{self._marks.share}"
                self.runs.append(told.submit(moment, account))  # a slow server is not waited for
        return ()


@contextmanager
def watching(here: Session, stage: str) -> Iterator[None]:
    """Tell how the account stands while a stage goes on."""
    watch = _Watch(here, stage)
    here.engine.ticks.append(watch)
    try:
        yield
    finally:
        here.engine.ticks.remove(watch)
        deadline = time.monotonic() + LAST_S
        for run in watch.runs:
            run.wait(max(0.0, deadline - time.monotonic()))
