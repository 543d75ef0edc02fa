"""Money that several runs share: an account in a store, with what each run has reserved of it.

One object for an account and a period holds all reservations, and is only ever replaced by whoever has read
its latest version, so two runs that reserve at the same moment can never be granted more than there is. A run
reserves in steps ahead of spending, and gives back what it has not spent. One that has given no sign of life
for its lease may spend no more; others may then take what its journal shows that it can no longer need.
"""

from __future__ import annotations

import datetime
import json
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ziggurat.errors import SpecError
from ziggurat.stores import ABSENT, ConflictError, Store, StoreError

TRIES = 60
"""How often a change is tried while others keep changing the account."""
PAUSE_S = 0.02
SKEW_S = 30.0
"""How far the clocks of two machines may be apart."""
DUST = 1e-9
"""US dollars that are nothing but rounding."""


@dataclass(frozen=True)
class Reservation:
    """What one run has of an account in one period.

    Attributes:
        reserved: US dollars that only this run may spend.
        spent: What it has spent of them, as far as it has told.
        until: Until when it counts as alive, in seconds since 1970; 0 once it has ended.
        where: URL of its journal's store, or of its run directory.
    """

    reserved: float
    spent: float = 0.0
    until: float = 0.0
    where: str = ""

    @property
    def taken(self) -> float:
        """What nobody else may have."""
        return max(self.reserved, self.spent)

    @property
    def ended(self) -> bool:
        """Whether its run has given back what it had not spent."""
        return self.until <= 0

    def dead(self, now: float) -> bool:
        """Whether its run has given no sign of life for its lease."""
        return not self.ended and now > self.until + SKEW_S


@dataclass(frozen=True)
class Book:
    """All reservations of an account in one period.

    Attributes:
        name: Of the account.
        period: Such as 2026-11.
        limit_usd: As the run told that wrote last.
        runs: Reservations by run.
    """

    name: str
    period: str
    limit_usd: float
    runs: Mapping[str, Reservation] = field(default_factory=dict)

    @property
    def taken(self) -> float:
        """What is spent or reserved, in US dollars."""
        return sum(r.taken for r in self.runs.values())

    @property
    def spent(self) -> float:
        """What is spent, as far as the runs have told."""
        return sum(r.spent for r in self.runs.values())

    def free(self, run: str, limit_usd: float) -> float:
        """What a run may have in all, beside what the others have."""
        return limit_usd - sum(r.taken for name, r in self.runs.items() if name != run)

    def put(self, run: str, reservation: Reservation) -> Book:
        """The book with another reservation of a run."""
        return replace(self, runs={**self.runs, run: reservation})

    def to_bytes(self) -> bytes:
        """It as JSON."""
        return json.dumps({"v": 1, **asdict(self)}, indent=1).encode()


def book_from(data: bytes, origin: str) -> Book:
    """A book from its bytes.

    Raises:
        StoreError: It is none.
    """
    try:
        plain = json.loads(data)
        if plain["v"] != 1:
            raise ValueError(plain["v"])
        runs = {str(name): Reservation(**told) for name, told in plain["runs"].items()}
        return Book(str(plain["name"]), str(plain["period"]), float(plain["limit_usd"]), runs)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{origin}: holds no account that this version can read; look at it by hand"
        ) from None


def period_of(kind: str, now: float) -> str:
    """The name of the period that a moment is in, by UTC."""
    formats = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
    if kind not in formats:
        return kind
    return datetime.datetime.fromtimestamp(now, tz=datetime.UTC).strftime(formats[kind])


def granted(book: Book, run: str, limit_usd: float, need: float, want: float) -> float | None:
    """What a run has if it needs so much in all, and would have so much; None if that is not there."""
    free = book.free(run, limit_usd)
    return None if need > free + DUST else max(need, min(want, free))


SpentOf = Callable[[str, str], float | None]
"""What the run of a name, whose journal is at a URL, can have spent by now; None if nobody knows."""


def _unknown(_run: str, _where: str) -> float | None:
    return None


@dataclass
class Account:
    """One period of an account, as one run uses it; every call asks the store.

    Attributes:
        store: Of the account.
        name: Of the account.
        period: The period's name.
        limit_usd: What all runs together never pass.
        lease_s: Seconds after which a silent run counts as dead.
        run: The run's name.
        where: URL of the run's journal.
        spent_of: Looks into the journal of a dead run.
        clock: Seconds since 1970.
    """

    store: Store
    name: str
    period: str
    limit_usd: float
    lease_s: float
    run: str
    where: str = ""
    spent_of: SpentOf = _unknown
    clock: Callable[[], float] = time.time

    @property
    def key(self) -> str:
        """Where the period is kept."""
        return f"{self.period}.json"

    def read(self) -> tuple[Book, str]:
        """All reservations, and their version.

        Raises:
            StoreError: They cannot be read.
        """
        found = self.store.get(self.key)
        if found is None:
            return Book(self.name, self.period, self.limit_usd), ABSENT
        return book_from(found[0], f"{self.store.url} {self.key}"), found[1]

    def reserve(self, spent: float, need: float, want: float) -> float:
        """Reserve, and say how much the run has now in all; less than needed if that is not there.

        Args:
            spent: What the run has spent in this period.
            need: What it must have in all, what is spent included.
            want: What it would have, if there is enough for all.

        Raises:
            StoreError: The store cannot be reached; nothing more is reserved then.
        """
        looked: dict[str, float] = {}

        def change(book: Book) -> Book:
            book = self._buried(book, looked)
            mine = book.runs.get(self.run, Reservation(0.0)).reserved
            if max(need, want) > mine + DUST:
                found = granted(book, self.run, self.limit_usd, need, max(want, need))
                mine = mine if found is None else max(mine, found)
            return book.put(self.run, self._alive(max(mine, spent), spent))

        book = self._change(change)
        if book.runs[self.run].reserved + DUST < need and self._look_at_dead(book, looked):
            book = self._change(change)
        return book.runs[self.run].reserved

    def renew(self, spent: float) -> float:
        """Give a sign of life, and say how much the run has."""
        return self.reserve(spent, 0.0, 0.0)

    def release(self, spent: float) -> None:
        """Give back what is not spent; the run has ended, or the period has."""
        self._change(lambda book: book.put(self.run, Reservation(spent, spent, 0.0, self.where)))

    def _alive(self, reserved: float, spent: float) -> Reservation:
        return Reservation(reserved, spent, self.clock() + self.lease_s, self.where)

    def _look_at_dead(self, book: Book, looked: dict[str, float]) -> bool:
        """Look into the journals of dead runs; whether one of them has something left."""
        now, found = self.clock(), False
        for name, told in book.runs.items():
            if name == self.run or name in looked or not told.dead(now):
                continue
            spent = self.spent_of(name, told.where)
            if spent is not None and spent < told.taken:
                looked[name] = max(spent, told.spent)
                found = True
        return found

    def _buried(self, book: Book, looked: Mapping[str, float]) -> Book:
        """The book with the reservations of dead runs lowered to what they can have spent."""
        now = self.clock()
        for name, spent in looked.items():
            told = book.runs.get(name)
            if told is not None and told.dead(now):
                book = book.put(name, replace(told, reserved=spent, spent=spent))
        return book

    def _change(self, change: Callable[[Book], Book]) -> Book:
        for attempt in range(TRIES):
            book, version = self.read()
            changed = replace(change(book), limit_usd=self.limit_usd)
            try:
                self.store.put(self.key, changed.to_bytes(), only_if=version)
            except ConflictError:
                time.sleep(random.uniform(0, PAUSE_S * (attempt + 1)))  # noqa: S311 - so that others get their turn
                continue
            return changed
        raise StoreError(
            f"{self.store.url} {self.key}: others keep changing it; raise step_usd of the account"
        )


def rows(book: Book, now: float) -> list[dict[str, Any]]:
    """The reservations of a book as rows, the latest run last."""
    words = {(True, False): "ended", (False, True): "silent", (False, False): "running"}
    return [
        {
            "run": name,
            "state": words[told.ended, told.dead(now)],
            "spent_usd": round(told.spent, 6),
            "reserved_usd": round(max(0.0, told.taken - told.spent), 6),
        }
        for name, told in sorted(book.runs.items())
    ]


def shown(store: Store, name: str, period: str | None, now: float) -> dict[str, Any]:
    """An account's latest period, or a named one, as data.

    Raises:
        SpecError: There is no such account or period.
    """
    known = sorted(e.key.removesuffix(".json") for e in store.entries() if e.key.endswith(".json"))
    if not known:
        raise SpecError(
            f"{store.url.partition('?')[0]}: holds no account; nothing has been reserved there yet"
        )
    wanted = period or known[-1]
    found = store.get(f"{wanted}.json")
    if found is None:
        raise SpecError(
            f"--period {wanted}: the account '{name}' has none of that name; it has {', '.join(known)}"
        )
    book = book_from(found[0], store.url)
    return {
        "account": book.name,
        "period": book.period,
        "limit_usd": book.limit_usd,
        "spent_usd": round(book.spent, 6),
        "reserved_usd": round(max(0.0, book.taken - book.spent), 6),
        "left_usd": round(max(0.0, book.limit_usd - book.taken), 6),
        "runs": rows(book, now),
    }
