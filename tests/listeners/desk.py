"""A desk at which a made-up run is watched: its events go to a digest, and what is due is asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ziggurat.budget import Budget, Ledger
from ziggurat.events import Alert
from ziggurat.history import History
from ziggurat.listeners.alerts import Alerts, Digest, Watch, due

QUIET: dict[str, Any] = {
    name: {"enabled": False}
    for name in ("stage_finished", "run_finished", "idle_workers", "slow_trial", "unknown_utilisation")
}
"""Rules that would speak in nearly every story; a test switches on what it is about."""


class Desk:
    """Watches a run with some rules; `tell` puts what is due into the journal, as a controller does."""

    def __init__(
        self, run: Any, choices: Any = None, searching: tuple[str, ...] = ("search",), **rules: Any
    ) -> None:
        self.run = run
        self.settings = Alerts.model_validate({"rules": QUIET | rules})
        self.watch = Watch(since_utc=run.clock)
        outline = self.settings.outline(run.objectives, searching, lambda _: choices or {})
        self.digest = Digest(outline)
        self.history = History()
        self._seen = 0

    def see(self, **changes: Any) -> Desk:
        """Change what the rules know besides events."""
        self.watch = replace(self.watch, **changes)
        return self

    def money(self, limit: float | None = None, plan: float | None = None, forecast: float = 0.0) -> Desk:
        """Let the account stand as the run has spent."""
        self._catch_up()
        spent = self.history.spent_usd
        budget = Budget(limit_usd=limit, plan_usd=plan)
        return self.see(ledger=Ledger(spent, 0.0, 0.0, limit, forecast), budget=budget)

    def _catch_up(self) -> None:
        for event in self.run.events[self._seen :]:
            self.history.apply(event)
            self.digest(event, self.history)
        self._seen = len(self.run.events)

    def due(self, later_s: float = 0.0) -> list[Alert]:
        """What is due, now or later."""
        self._catch_up()
        return due(self.history, self.digest, self.run.clock + later_s, self.settings, self.watch)

    def keys(self, later_s: float = 0.0) -> list[str]:
        """Keys of what is due; what is over has a minus before it."""
        return [("-" if a.state == "resolved" else "") + a.key for a in self.due(later_s)]

    def tell(self) -> list[str]:
        """Journal what is due now."""
        found = self.keys()
        self.run.add(*self.due())
        return found
