"""Money: what has been spent, what is committed, and whether a job may start.

All functions are pure; prices and times are arguments. A segment costs its worker seconds times the price of
an hour of its worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from pydantic import Field, model_validator

from ziggurat.history import History
from ziggurat.setting import Setting


class Budget(Setting):
    """Money and time a run may take."""

    plan_usd: float | None = Field(
        default=None, gt=0, description="Expected cost; an alarm is raised when it is exceeded by 20 %."
    )
    limit_usd: float | None = Field(default=None, gt=0, description="Cost that is never passed.")
    warn_at: float = Field(
        default=0.8, gt=0, lt=1, description="Share of the limit at which a warning is raised."
    )
    limit_hours: float | None = Field(
        default=None, gt=0, description="Wall-clock hours after which no further segment is started."
    )
    stop_margin_s: float = Field(
        default=2.0, ge=0, description="Worker seconds kept free for a job to checkpoint when it is stopped."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.plan_usd and self.limit_usd and self.plan_usd > self.limit_usd:
            raise ValueError(
                f"plan_usd {self.plan_usd} is above limit_usd {self.limit_usd}; plan at most the limit"
            )
        return self


@dataclass(frozen=True)
class Ledger:
    """The account of a run at one moment, in US dollars.

    Attributes:
        spent: Cost of finished segments.
        committed: Expected cost of segments that are planned or running.
        reserved: Kept back for later stages.
        limit: Never passed; None for no limit.
    """

    spent: float
    committed: float
    reserved: float
    limit: float | None

    @property
    def free(self) -> float:
        """What may still be committed; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.limit - self.spent - self.committed - self.reserved

    def admits(self, usd: float) -> bool:
        """Whether a job of an expected cost may start."""
        return usd <= self.free


def ledger(history: History, limit_usd: float | None, reserved_usd: float = 0.0) -> Ledger:
    """The account after a history; a running segment is committed with its forecast."""
    committed = sum(s.forecast_usd for s in history.open_segments.values())
    return Ledger(history.spent_usd, committed, reserved_usd, limit_usd)


def cost_usd(seconds: float, usd_per_hour: float) -> float:
    """Cost of some worker seconds."""
    return seconds * usd_per_hour / 3600.0


def limit_usd(budget: Budget, history: History) -> float | None:
    """The limit in force: the spec's, or the latest amendment's."""
    for amendment in reversed(history.amendments):
        value = amendment.changes.get("budget.limit_usd")
        if isinstance(value, (int, float)):
            return float(value)
    return budget.limit_usd
