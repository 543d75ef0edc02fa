"""Money: what has been spent, what is committed, and whether a job may start.

All functions are pure; prices and times are arguments. A segment costs its worker seconds times the price of
an hour of its worker; what no segment accounts for is charged by events of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from ziggurat.history import History
from ziggurat.setting import Setting
from ziggurat.stores import AnyStore

GROUPS = {"proxy": "validate"}
"""Stages whose money is another's."""
STAGE_LIMIT = "budget.stages."
"""What the key of a stage's limit begins with, in an amendment."""


class AccountSetting(Setting):
    """An account that several runs share, kept in a store that all of their controllers see."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", description="Of the account, as of a team.")
    period: Literal["day", "month", "year", "all"] = Field(
        default="month", description="How long the limit is for, by UTC; `all`: for ever."
    )
    limit_usd: float = Field(gt=0, description="What all runs together never pass in a period.")
    store: AnyStore = Field(description="Where the account is kept, by conditional writes.")
    step_usd: float | None = Field(
        default=None,
        gt=0,
        description="What a run reserves at a time; by default a hundredth of limit_usd, or more if a job "
        "needs it.",
    )
    lease_s: float = Field(
        default=900,
        ge=30,
        le=86_400,
        description="Seconds without a sign of life after which what a run has not spent is given to others.",
    )

    @property
    def step(self) -> float:
        """What a run reserves at a time, in US dollars."""
        return self.step_usd or self.limit_usd / 100

    @model_validator(mode="after")
    def _step_fits(self) -> Self:
        if self.step_usd is not None and self.step_usd > self.limit_usd:
            raise ValueError(
                f"step_usd is {self.step_usd:g}, but limit_usd is {self.limit_usd:g}; lower step_usd, or "
                "leave it out"
            )
        return self


class Budget(Setting):
    """Money and time a run may take."""

    plan_usd: float | None = Field(
        default=None, gt=0, description="Expected cost; an alarm is raised when it is exceeded by 20 %."
    )
    limit_usd: float | None = Field(default=None, gt=0, description="Cost that is never passed.")
    stages: dict[str, float] = Field(
        default_factory=dict, description="Cost that single stages never pass, by name, such as search: 3.0."
    )
    account: AccountSetting | None = Field(
        default=None, description="An account that this run shares with others; it never passes that either."
    )
    warn_at: float = Field(
        default=0.8, gt=0, lt=1, description="Share of the limit at which a warning is raised."
    )
    limit_hours: float | None = Field(
        default=None, gt=0, description="Wall-clock hours after which no further segment is started."
    )
    stop_margin_s: float = Field(
        default=2.0, ge=0, description="Worker seconds kept free for a job to checkpoint when it is stopped."
    )

    @field_validator("stages")
    @classmethod
    def _positive(cls, stages: dict[str, float]) -> dict[str, float]:
        for name, usd in stages.items():
            if re.fullmatch(r"[a-z][a-z0-9_-]*", name) is None:
                raise ValueError(f"{name[:80]!r} is no stage; name one, such as search")
            if not 0 < usd < float("inf"):
                raise ValueError(f"{name} is {usd:g}; give an amount above 0, or leave the stage out")
        return stages

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.plan_usd and self.limit_usd and self.plan_usd > self.limit_usd:
            raise ValueError(
                f"plan_usd {self.plan_usd} is above limit_usd {self.limit_usd}; plan at most the limit"
            )
        for name, usd in self.stages.items():
            if self.limit_usd and usd > self.limit_usd:
                raise ValueError(
                    f"stages.{name} is {usd:g}, above limit_usd {self.limit_usd:g}; lower it, "
                    "or raise limit_usd"
                )
        return self


@dataclass(frozen=True)
class Ledger:
    """The account of a run, or of one of its stages, at one moment, in US dollars.

    Attributes:
        spent: Cost of finished segments, and of what no segment accounts for.
        committed: Cost that segments which are planned or running may still cause.
        reserved: Kept back for later stages, and for what is held by others.
        limit: Never passed; None for no limit.
        forecast: Expected cost of everything still to come; what is committed is part of it.
        next: Expected cost of the next job, if there is one.
    """

    spent: float
    committed: float
    reserved: float
    limit: float | None
    forecast: float = 0.0
    next: float = 0.0

    @property
    def free(self) -> float:
        """What may still be committed; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.limit - self.spent - self.committed - self.reserved

    @property
    def projected(self) -> float:
        """What everything is expected to have cost at the end."""
        return self.spent + self.forecast

    def admits(self, usd: float) -> bool:
        """Whether a job of an expected cost may start."""
        return usd <= self.free


def ledger(
    history: History,
    limit_usd: float | None,
    reserved_usd: float = 0.0,
    forecast_usd: float = 0.0,
) -> Ledger:
    """The account after a history; a running segment is committed with its forecast.

    Args:
        history: What has happened.
        limit_usd: Never passed; None for no limit.
        reserved_usd: Kept back for later stages.
        forecast_usd: Expected cost of everything still to come; at least what is committed.
    """
    committed = sum(s.forecast_usd for s in history.open_segments.values())
    return Ledger(history.spent_usd, committed, reserved_usd, limit_usd, max(forecast_usd, committed))


@dataclass(frozen=True)
class Vain:
    """Seconds that a machine was paid for beside its jobs: why, how many, and after which job."""

    reason: str
    seconds: float
    job: str = ""


def cost_usd(seconds: float, usd_per_hour: float) -> float:
    """Cost of some worker seconds."""
    return seconds * usd_per_hour / 3600.0


def limit_usd(budget: Budget, history: History) -> float | None:
    """The limit in force: the spec's, or the latest amendment's."""
    return _amended(history, "budget.limit_usd", budget.limit_usd)


def stage_limit_usd(budget: Budget, history: History, stage: str) -> float | None:
    """The limit of a stage in force, if it has one of its own."""
    name = group(stage)
    return _amended(history, STAGE_LIMIT + name, budget.stages.get(name))


def _amended(history: History, key: str, given: float | None) -> float | None:
    for amendment in reversed(history.amendments):
        value = amendment.changes.get(key)
        if isinstance(value, (int, float)):
            return float(value)
    return given


def group(stage: str) -> str:
    """The stage whose money a stage spends: itself, but for parts of another."""
    return GROUPS.get(stage, stage)


def spent_by_stage(history: History) -> dict[str, float]:
    """Cost of each stage, charges included, in US dollars; what belongs to no stage has an empty name."""
    found: dict[str, float] = {}
    for stage, usd in history.costs.items():
        found[group(stage)] = found.get(group(stage), 0.0) + usd
    return found


@dataclass(frozen=True)
class Accuracy:
    """How well the cost of a stage was forecast.

    Attributes:
        stage: Its name.
        forecast_usd: Before it began, as far as that was known.
        actual_usd: What it has cost, charges included.
        ratio: Actual to forecast; None where nothing was forecast.
    """

    stage: str
    forecast_usd: float
    actual_usd: float
    ratio: float | None


def accuracy(history: History) -> list[Accuracy]:
    """Forecast against actual cost of every stage that has begun, in order; from the first forecast made.

    A limit ends a stage before its time, and then its cost says nothing against the forecast.
    """
    made = next((d.facts for d in history.decisions if d.kind == "forecast"), {})
    spent = spent_by_stage(history)
    stages = dict.fromkeys(group(stage) for stage in history.stages)
    return [
        Accuracy(stage, told, actual, actual / told if told > 0 else None)
        for stage in stages
        for told, actual in [(_usd(made, stage), spent.get(stage, 0.0))]
        if told > 0 or actual > 0
    ]


def _usd(facts: Mapping[str, object], stage: str) -> float:
    told = facts.get(stage)
    return float(told) if isinstance(told, (int, float)) else 0.0
