"""The budget guard's judgement: how an account stands against its limit and its plan, in a word and a line.

It judges and stops nothing itself: a job that could pass the limit is not admitted by the plan, and a running
one that outruns its forecast is stopped by the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ziggurat.budget import Budget, Ledger

Level = Literal["ok", "warning", "stop", "critical"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "stop", "critical")
"""From the lightest to the gravest."""
OVER_PLAN = 1.2
"""Cost above this multiple of the plan is critical."""
DUST = 1e-9
"""Share of the limit that is nothing but rounding."""


@dataclass(frozen=True)
class Verdict:
    """What the guard thinks of an account.

    Attributes:
        level: `ok`; `warning`: near the limit, or expected to pass it; `stop`: the next job could pass it;
            `critical`: more is spent than the limit, or far more than was planned.
        text: Why, in one line.
    """

    level: Level
    text: str


def verdict(ledger: Ledger, budget: Budget) -> Verdict:
    """What to think of an account, the gravest first.

    More than the limit can only be spent on what is billed later, or when the limit is lowered.
    """
    return next(_judged(ledger, budget))


def _judged(ledger: Ledger, budget: Budget) -> Iterator[Verdict]:
    """Everything that can be said of an account, the gravest first."""
    spent, limit, plan = ledger.spent, ledger.limit, budget.plan_usd
    if limit is not None and spent > limit * (1 + DUST):
        yield Verdict("critical", f"{spent:.4g} USD are spent, the limit is {limit:.4g} USD")
    if plan is not None and spent > OVER_PLAN * plan:
        text = f"{spent:.4g} USD are spent, {spent / plan - 1:.0%} more than the {plan:.4g} USD planned"
        yield Verdict("critical", text)
    if limit is None:
        yield Verdict("ok", f"{spent:.4g} USD are spent, {ledger.projected:.4g} USD expected; no limit")
        return
    if not ledger.admits(max(ledger.next, limit * DUST)):
        held = ledger.committed + ledger.reserved
        text = f"{spent:.4g} of {limit:.4g} USD are spent and {held:.4g} USD held: no further job fits"
        yield Verdict("stop", text)
    if spent >= budget.warn_at * limit:
        yield Verdict("warning", f"{spent / limit:.0%} of the limit of {limit:.4g} USD is spent")
    if ledger.projected > limit * (1 + DUST):
        text = f"{ledger.projected:.4g} USD are expected in all, the limit is {limit:.4g} USD"
        yield Verdict("warning", text)
    left = f"{max(ledger.free, 0.0):.4g} of {limit:.4g} USD are free"
    yield Verdict("ok", f"{spent:.4g} USD are spent, {ledger.projected:.4g} USD expected, {left}")


def result(ledger: Ledger, budget: Budget) -> dict[str, Any]:
    """An account and what to think of it, as plain data."""
    found = verdict(ledger, budget)
    return {
        "spent": ledger.spent,
        "committed": ledger.committed,
        "reserved": ledger.reserved,
        "forecast": ledger.forecast,
        "projected": ledger.projected,
        "limit": ledger.limit,
        "level": found.level,
        "text": found.text,
    }


class Marks:
    """Tenths of the limit, and ever graver verdicts, that an account passes; each is passed once."""

    def __init__(self) -> None:
        """How the account stands when it is looked at first is no mark."""
        self._told: tuple[int, int] | None = None

    def passed(self, account: Mapping[str, Any]) -> bool:
        """Whether an account, as `result` gives it, has passed a mark since it was looked at last."""
        limit = account["limit"]
        tenth = int(10 * account["spent"] / limit + DUST) if limit else 0
        level = LEVELS.index(account["level"])
        before = self._told or (tenth, level)
        self._told = (max(tenth, before[0]), max(level, before[1]))
        return self._told != before

    @property
    def share(self) -> str:
        """The last tenth in words; empty before the first."""
        return f", {10 * self._told[0]} % spent" if self._told and self._told[0] else ""
