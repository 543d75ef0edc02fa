"""What running jobs may still come to cost: pure functions of plain numbers.

A machine is paid while it works (`busy`), or from its start to its release whether it works or not (`held`).
A running job is committed with its forecast, and with the seconds that stopping it may take, so that one that
keeps to its forecast is never stopped for want of money.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ziggurat.domain import Job
from ziggurat.history import History
from ziggurat.protocols import Forecast
from ziggurat.segments import Segment


def _nothing(_: Job) -> float:
    return 0.0


def _never(_: Job) -> bool:
    return False


@dataclass(frozen=True)
class Meter:
    """What machines cost, and what they have taken that no event tells of yet.

    Attributes:
        usd_per_hour: Price of an hour of a job.
        stop_s: Seconds that a job may be paid for after it was decided to stop it.
        elapsed_s: Worker seconds of open segments so far, by key.
        held: Whether the machine of a job is paid whether it works or not.
        held_usd_per_hour: Price of an hour of all machines that are held, together.
        unpaid_usd: What has accrued beside the running jobs and no event tells of yet.
    """

    usd_per_hour: Callable[[Job], float] = _nothing
    stop_s: Callable[[Job], float] = _nothing
    elapsed_s: Mapping[str, float] = field(default_factory=dict)
    held: Callable[[Job], bool] = _never
    held_usd_per_hour: float = 0.0
    unpaid_usd: float = 0.0

    def accrued_usd(self, segment: Segment) -> float:
        """What a running job has cost so far."""
        return self._usd(segment.job, self.elapsed_s.get(segment.job.key, 0.0))

    def stop_usd(self, job: Job) -> float:
        """What stopping a job may cost, beyond what its machine costs anyway."""
        return 0.0 if self.held(job) else self._usd(job, self.stop_s(job))

    def _usd(self, job: Job, seconds: float) -> float:
        return seconds * self.usd_per_hour(job) / 3600.0

    def _held_usd(self, seconds: float) -> float:
        return seconds * self.held_usd_per_hour / 3600.0

    def _left_s(self, segment: Segment) -> float:
        elapsed = self.elapsed_s.get(segment.job.key, 0.0)
        return max(0.0, segment.forecast_s - elapsed) + self.stop_s(segment.job)

    def horizon_s(self, running: Iterable[Segment]) -> float:
        """Seconds after which nothing runs any more, if all jobs keep to their forecasts or are stopped."""
        return max((self._left_s(s) for s in running), default=0.0)

    def committed_usd(self, running: Iterable[Segment]) -> float:
        """What open segments may come to cost from nothing to their end, with what no event tells of yet."""
        open_ = list(running)
        jobs = sum(
            self.accrued_usd(s)
            if self.held(s.job)
            else max(s.forecast_usd, self.accrued_usd(s)) + self.stop_usd(s.job)
            for s in open_
        )
        return jobs + self.unpaid_usd + self._held_usd(self.horizon_s(open_))

    def extra_usd(self, running: Iterable[Segment], job: Job, forecast: Forecast) -> float:
        """What one more job adds to that."""
        own = 0.0 if self.held(job) else forecast.usd + self.stop_usd(job)
        longer = forecast.seconds + self.stop_s(job) - self.horizon_s(running)
        return own + self._held_usd(max(0.0, longer))

    def stopping_usd(self, running: Iterable[Segment]) -> float:
        """What open segments will have cost if those that have outrun their forecasts are stopped now."""
        open_ = list(running)
        jobs = sum(
            self.accrued_usd(s)
            if self.held(s.job)
            else max(s.forecast_usd, self.accrued_usd(s) + self.stop_usd(s.job))
            for s in open_
        )
        stop_s = max((self.stop_s(s.job) for s in open_), default=0.0)
        return jobs + self.unpaid_usd + self._held_usd(stop_s)

    def outrun(self, segment: Segment) -> bool:
        """Whether a job will have taken more than its forecast if it is stopped now."""
        return self.accrued_usd(segment) + self.stop_usd(segment.job) > segment.forecast_usd

    def rate_usd_per_s(self, running: Iterable[Segment]) -> float:
        """How fast money accrues now, at most."""
        busy = sum(self.usd_per_hour(s.job) for s in running if not self.held(s.job))
        return (busy + self.held_usd_per_hour) / 3600.0


@dataclass(frozen=True)
class Limit:
    """Something that is never passed.

    Attributes:
        usd: How much.
        spent: Of that.
        reserved: Kept back from whatever is asking.
        name: What it is called in a message; empty for the run's own.
        grows: Whether more may be granted on request.
    """

    usd: float
    spent: float
    reserved: float = 0.0
    name: str = ""
    grows: bool = False

    @property
    def free(self) -> float:
        """What is neither spent nor kept back; may be below 0."""
        return self.usd - self.spent - self.reserved


def limits(history: History, limit_usd: float | None, reserve_usd: float) -> list[Limit]:
    """The limit of the run itself, if it has one."""
    return [] if limit_usd is None else [Limit(limit_usd, history.spent_usd, reserve_usd)]
