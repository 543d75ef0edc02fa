"""What happens to jobs that took longer than was forecast, or whose controller went away."""

from __future__ import annotations

from ziggurat.domain import Failure, FailureKind
from ziggurat.history import History
from ziggurat.plan.draft import Rules
from ziggurat.plan.meter import Limit


def lost(reason: str) -> Failure:
    """The failure of a segment whose controller went away."""
    return Failure(FailureKind.PREEMPTED, reason)


def passing(history: History, rules: Rules) -> Limit | None:
    """The limit that will be passed unless running jobs are stopped now; None if none will."""
    open_ = history.open_segments.values()
    total = rules.meter.stopping_usd(open_)
    near = [limit for limit in rules.limits(history) if total > limit.free]
    return min(near, key=lambda limit: limit.free, default=None)


def overdue(history: History, rules: Rules) -> list[str]:
    """Keys of running jobs to stop now, because a limit would be passed: those that outran their forecasts.

    All of them, since each goes on to cost; and where machines are paid whether they work or not, simply all.
    """
    if passing(history, rules) is None:
        return []
    every = rules.meter.held_usd_per_hour > 0
    return [key for key, s in history.open_segments.items() if every or rules.meter.outrun(s)]


def quiet_s(history: History, rules: Rules) -> float:
    """Seconds in which no limit can come near, whatever jobs do; infinite without a limit or a price."""
    running = list(history.open_segments.values())
    rate = rules.meter.rate_usd_per_s(running)
    found = rules.limits(history)
    if rate <= 0 or not found:
        return float("inf")
    return max(0.0, min(m.free for m in found) - rules.meter.stopping_usd(running)) / rate
