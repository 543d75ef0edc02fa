"""A run's share of an account that others use as well: reserved ahead, never waited for in the loop.

The store is asked in a thread of its own, so that running jobs are looked at all the while.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from ziggurat.accounts import DUST, Account, period_of
from ziggurat.budget import AccountSetting
from ziggurat.errors import SpecError, ZigguratError
from ziggurat.events import Decided, Facts
from ziggurat.history import History
from ziggurat.plan import Limit
from ziggurat.stores import S3Store, Store, StoreError

if TYPE_CHECKING:
    from ziggurat.runs import Run

log = logging.getLogger(__name__)

QUICK_S = 20.0
"""Seconds for which a store is tried; the run goes on meanwhile."""
AGAIN_S = 5.0
"""Seconds between two requests for what was refused or not answered."""
DECISION = "account"


def open_store(setting: AccountSetting) -> Store:
    """The store of an account, which answers soon or not at all."""
    given = setting.store
    if isinstance(given, S3Store):
        quick = {"retry_s": min(given.retry_s, QUICK_S), "timeout_s": min(given.timeout_s, QUICK_S)}
        given = given.model_copy(update=quick)
    return given.open(setting.name)


def spent_of(run: str, where: str) -> float | None:
    """What a dead run can have spent by its journal, with what it had started; None if that is unreadable."""
    from ziggurat import run_places, runs

    try:
        place = where if not where.startswith("file://") else unquote(urlsplit(where).path)
        if not where.startswith("s3://") and not Path(place).is_dir():
            return None
        with run_places.reading(place) as folder:
            _, history = runs.look(folder)
    except (ZigguratError, OSError):
        return None
    if history.run_id != run:
        return None
    return history.spent_usd + sum(s.forecast_usd for s in history.open_segments.values())


class Share:
    """What a run has reserved of an account."""

    def __init__(
        self, setting: AccountSetting, account: Callable[[str], Account], clock: Callable[[], float]
    ) -> None:
        """Nothing is reserved yet.

        Args:
            setting: Of the account.
            account: The account in a period.
            clock: Seconds since 1970.
        """
        self.name = setting.name
        self._setting, self._open, self._clock = setting, account, clock
        self._account: Account | None = None
        self._base = 0.0
        self._has = 0.0
        self._until = 0.0
        self._asked: Future[float] | None = None
        self._asked_at, self._again = 0.0, 0.0
        self._need = self._want = 0.0
        self.fault = ""
        """Why the store could not be asked; empty if it could."""
        self.refused = False
        """Whether the account had not what was asked for."""
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="account")

    @classmethod
    def of(cls, run: Run) -> Share | None:
        """The share of a run, if its spec names an account."""
        setting = run.spec.budget.account
        if setting is None:
            return None
        store = open_store(setting)
        where = run.store.url if run.store is not None else run.folder.as_uri()

        def account(period: str) -> Account:
            return Account(
                store, setting.name, period, setting.limit_usd, setting.lease_s, run.run_id, where, spent_of
            )

        return cls(setting, account, time.time)

    def limit(self, history: History) -> Limit:
        """What this run may have spent in all, as far as that is reserved now."""
        usd = self._base + self._has
        if self._clock() > self._until:  # others may take it as dead, and what it has not spent
            usd = history.spent_usd + sum(s.forecast_usd for s in history.open_segments.values())
        return Limit(usd, history.spent_usd, name=f"the account {self.name}", grows=True)

    def begin(self, run: Run) -> None:
        """Open the period that it is now, if it is another than before; what that had left goes back."""
        period = period_of(self._setting.period, self._clock())
        if self._account is not None and self._account.period == period:
            return
        told = [d for d in run.history.decisions if d.kind == DECISION and d.facts.get("name") == self.name]
        spent = run.history.spent_usd
        if told and told[-1].verdict == period:
            self._base = float(str(told[-1].facts["base_usd"]))
        else:
            if told:
                self._settle(self._open(told[-1].verdict), spent - float(str(told[-1].facts["base_usd"])))
            self._base = spent
            reason = f"what is spent from now on is charged to {self.name} in {period}"
            facts: Facts = {"name": self.name, "base_usd": spent}
            run.record([Decided(DECISION, period, seen=run.history.length, reason=reason, facts=facts)])
        self._account, self._has, self._until = self._open(period), 0.0, 0.0
        self._asked, self._again, self.refused, self.fault = None, 0.0, False, ""

    def _settle(self, account: Account, spent: float) -> None:
        def settle() -> None:
            with contextlib.suppress(StoreError):  # it stays reserved there, which harms nobody's limit
                account.release(spent)

        self._threads.submit(settle)

    def tend(self, run: Run, near_usd: float, ahead_usd: float) -> bool:
        """Take in what the store has answered; give a sign of life, and ask for more before it is needed.

        Args:
            run: The run.
            near_usd: What the run will have spent in all if what runs now goes on as expected.
            ahead_usd: What it may spend beyond that until it is looked at again.

        Returns:
            Whether something has been granted.
        """
        self.begin(run)
        before = self._has
        self._heard()
        if self._asked is None and self._clock() >= self._again:
            due = self._clock() > self._until - self._setting.lease_s * 2 / 3
            need = near_usd - self._base
            low = self._has > 0 and need + ahead_usd > self._has
            if due or low:
                self._send(run, need if low else 0.0, need + ahead_usd + self._setting.step if low else 0.0)
        return self._has > before

    def settle(self) -> None:
        """Wait for the answer of the store, if one is to come; for clocks that stand meanwhile."""
        if self._asked is not None:
            wait([self._asked])

    def ask(self, run: Run, lacking_usd: float) -> bool:
        """Ask for more; whether the answer is still to come, or something was granted just now."""
        self.begin(run)
        before = self._has
        if self._heard() and self._has > before + DUST:
            return True
        if self._asked is None:
            if self._clock() < self._again:
                return False
            need = self._has + lacking_usd
            self._send(run, need, need + self._setting.step)
        return True

    def _send(self, run: Run, need: float, want: float) -> None:
        assert self._account is not None
        spent = max(0.0, run.history.spent_usd - self._base)
        self._need, self._want, self._asked_at = need, want, self._clock()
        self._asked = self._threads.submit(self._account.reserve, spent, need, want)

    def _heard(self) -> bool:
        """Take in an answer, if there is one."""
        if self._asked is None or not self._asked.done():
            return False
        asked, self._asked = self._asked, None
        try:
            self._has = asked.result()
        except StoreError as error:
            if not self.fault:
                log.warning("nothing more can be reserved of the account %s: %s", self.name, error)
            self.fault, self._again = str(error), self._clock() + AGAIN_S
            return True
        self.fault = ""
        self._until = self._asked_at + self._setting.lease_s
        if self._need > 0:
            self.refused = self._has + DUST < self._need
        self._again = self._clock() + AGAIN_S if self._has + DUST < self._want else 0.0
        return True

    def close(self, run: Run, *, leave: bool = False) -> None:
        """Give back what is not spent, unless another controller has the run now."""
        if self._account is not None and not leave:
            self._settle(self._account, max(0.0, run.history.spent_usd - self._base))
        self._threads.shutdown(wait=True)


def check(setting: AccountSetting) -> str:
    """What an account has left, in a line.

    Raises:
        SpecError: It cannot be used.
    """
    store = open_store(setting)
    account = Account(store, setting.name, period_of(setting.period, time.time()), setting.limit_usd, 0.0, "")
    try:
        store.check()
        book, _ = account.read()
    except StoreError as error:
        raise SpecError(f"budget.account: {error}") from None
    left = max(0.0, setting.limit_usd - book.taken)
    return f"{setting.name} has {left:.4g} of {setting.limit_usd:.4g} USD left in {account.period}"
