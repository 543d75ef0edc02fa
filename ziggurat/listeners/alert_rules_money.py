"""Rules of alerts about money: what the budget guard thinks of the account, told to people."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from ziggurat.guard import Level, verdict
from ziggurat.listeners.alert_shapes import MATTERS, Case, Cases, Lasting, Scene, Severity

SLACK = 0.95
"""A warning is over only when it would not come at a limit smaller by this factor."""
NEAR: frozenset[Level] = frozenset({"warning", "stop", "critical"})


class OverBudget(Lasting):
    """More is spent than the limit, or 20 % more than `budget.plan_usd`."""

    severity: Severity = Field(default="critical", description=MATTERS)

    def cases(self, scene: Scene) -> Cases:
        """One, while that is so."""
        ledger, budget = scene.watch.ledger, scene.watch.budget
        if ledger is None:
            return
        found = verdict(ledger, budget)
        if found.level == "critical":
            yield Case("over_budget", "The run costs more than it should", f"{found.text}.")


class BudgetWarning(Lasting):
    """The share `budget.warn_at` of the limit is spent, or more than the limit is expected to be."""

    def cases(self, scene: Scene) -> Cases:
        """One, while that is so."""
        ledger, budget = scene.watch.ledger, scene.watch.budget
        if ledger is None or ledger.limit is None:
            return
        share = f"{ledger.spent / ledger.limit:.0%} of the budget is spent"
        found = verdict(ledger, budget)
        if found.level in NEAR:
            title = share if ledger.spent >= budget.warn_at * ledger.limit else "The budget will not suffice"
            text = f"{found.text}; no job starts that could pass the limit."
            yield Case("budget_warning", title, text)
        elif verdict(replace(ledger, limit=SLACK * ledger.limit), budget).level in NEAR:
            yield Case("budget_warning", sure=False)


class BudgetStop(Lasting):
    """The budget has stopped a stage, until there is more of it."""

    severity: Severity = Field(default="critical", description=MATTERS)
    repeat_hours: float | None = Field(
        default=None, gt=0, description="Hours after which it is raised again while it lasts; null: never."
    )

    def cases(self, scene: Scene) -> Cases:
        """One, until a limit is changed."""
        found = scene.digest.decided("budget")
        if found is not None and found[1].verdict == "stop" and found[0] >= scene.digest.amended_utc:
            yield Case("budget_stop", "The budget has stopped the run", found[1].reason)
