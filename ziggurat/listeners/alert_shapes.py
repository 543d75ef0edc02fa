"""The shapes that rules of alerts share: what they may look at, what they find, and what they can be told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.budget import Budget, Ledger
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.listeners.alert_digest import Digest

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
MATTERS = "How much it matters."
CLEAR = 1.2
"""What was too low is over only above this multiple of its threshold, so that nothing flaps."""


@dataclass(frozen=True)
class Watch:
    """What the rules need to know besides events, settings and the time.

    Attributes:
        where: How the command line is told of the run.
        workers: Segments that can run at the same time.
        since_utc: When this controller took the run; an earlier silence is nobody's fault.
        ledger: The account, with the forecast of what is to come.
        budget: Settings of the budget.
        gpus: Whether trainings are given GPUs, so that the processor's use says nothing.
        imagined: Whether machines are only imagined, so that nothing uses any.
        elapsed: Worker seconds of open segments so far, by job key; 0 while one waits in a queue.
        store_down: Whether the run's store cannot be written.
        tracking_down_s: For how long the tracking server has not taken anything; None if that is not known.
        told_utc: When a watcher outside has told of a silence of this run.
    """

    where: str = "RUN"
    workers: int = 1
    since_utc: float = 0.0
    ledger: Ledger | None = None
    budget: Budget = field(default_factory=Budget)
    gpus: bool = False
    imagined: bool = False
    elapsed: Mapping[str, float] = field(default_factory=dict)
    store_down: bool = False
    tracking_down_s: float | None = 0.0
    told_utc: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scene:
    """All that a rule may look at."""

    history: History
    digest: Digest
    now_utc: float
    watch: Watch

    def raised(self, key: str) -> bool:
        """Whether an alert has been raised and is not over."""
        return key in self.digest.standing


@dataclass(frozen=True)
class Case:
    """What a rule finds to be so now.

    Attributes:
        key: What it is about.
        title: One line.
        text: More about it.
        utc: When it happened, of what happens at a moment; None for what lasts.
        sure: If not, what is raised stays raised, and nothing is.
    """

    key: str
    title: str = ""
    text: str = ""
    utc: float | None = None
    sure: bool = True


Cases = Iterable[Case]


class Rule(Setting):
    """What can be set of every rule."""

    enabled: bool = Field(default=True, description="Whether the rule is asked at all.")
    severity: Severity = Field(default="warning", description=MATTERS)
    channels: list[str] | None = Field(
        default=None, description="Names of the channels it goes to; by default all that take its severity."
    )


class Lasting(Rule):
    """What can be set of a rule about what lasts: it is raised, perhaps again, and it is over some day."""

    repeat_hours: float | None = Field(
        default=24.0, gt=0, description="Hours after which it is raised again while it lasts; null: never."
    )
