"""What happens to jobs that took longer than was forecast, or whose controller went away."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ziggurat.domain import Failure, FailureKind, Job, JobKind
from ziggurat.history import History
from ziggurat.plan.draft import Rules


def lost(reason: str) -> Failure:
    """The failure of a segment whose controller went away."""
    return Failure(FailureKind.PREEMPTED, reason)


def overdue(
    history: History,
    elapsed_s: Mapping[str, float],
    usd_per_hour: Callable[[Job], float],
    rules: Rules,
    margin_s: float,
) -> list[str]:
    """Keys of running jobs to stop now, because they outran their forecast and the limit would be passed.

    Args:
        history: What has happened.
        elapsed_s: Worker seconds of each open segment so far, by key.
        usd_per_hour: Price of the machine of a job.
        rules: The limit and the reserve.
        margin_s: Seconds a job may still take after it was asked to stop.
    """
    if rules.limit_usd is None:
        return []
    total = history.spent_usd
    overrun: list[str] = []
    for key, segment in history.open_segments.items():
        price = usd_per_hour(segment.job) / 3600.0
        accrued = (elapsed_s.get(key, 0.0) + margin_s) * price
        total += max(accrued, segment.forecast_usd)
        if accrued > segment.forecast_usd and segment.job.kind in {JobKind.TRAIN, JobKind.EVALUATE}:
            overrun.append(key)
    return overrun if total > rules.limit_usd - rules.reserve_usd else []
