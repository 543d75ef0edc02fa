"""One run with everything that is known about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.budget import limit_usd
from ziggurat.domain import RunStatus

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.facts import ReportFacts
    from ziggurat.report.results import Summary
    from ziggurat.spec import Spec

TITLES = {
    RunStatus.COMPLETED: "Completed",
    RunStatus.STOPPED_BY_BUDGET: "Stopped by the budget",
    RunStatus.INTERRUPTED: "Interrupted",
    RunStatus.FAILED: "Failed",
    RunStatus.RUNNING: "Running",
}


@dataclass(frozen=True)
class Case:
    """One run with everything that is known about it."""

    spec: Spec
    history: History
    summary: Summary
    facts: ReportFacts

    @property
    def limit_usd(self) -> float | None:
        """The limit of the cost in force."""
        given = self.facts.limit_usd
        return limit_usd(self.spec.budget, self.history) if given is None else given

    @property
    def priced(self) -> bool:
        """Whether anything has cost money."""
        return self.summary.cost_usd > 0
