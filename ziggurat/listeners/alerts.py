"""What is worth an alert: settings, and rules as pure functions of history, time and a few plain numbers.

The rules raise each alert once, by its key; the engine puts them into the journal, and `notifier` delivers
them. Rules about silence need no event: they are asked on a tick that is given the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING

from pydantic import Field

from ziggurat.answers import blameless
from ziggurat.choices import Choices, distance
from ziggurat.domain import JobKind, Objective, RunStatus, TrialStatus
from ziggurat.errors import SpecError
from ziggurat.events import Alert, Event, RunFinished, RunStarted
from ziggurat.listeners import channels, improvement
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ziggurat.history import History
    from ziggurat.segments import Segment

SEARCH = "search"
PLAN_TOLERANCE = 1.2
"""Cost above this multiple of the plan is an alert."""
SLOW_FLOOR_S = 5.0
"""A segment younger than this is never slow."""
RECENT = 20
"""Candidates whose diversity is looked at."""
FEW = 5
"""Ended trials from which on a share of failures means something."""


class Alerts(Setting):
    """What is worth an alert, and whom it reaches."""

    urls: list[str] = Field(
        default_factory=list,
        repr=False,
        description="Addresses of channels as Apprise takes them, such as ${SLACK_URL}.",
    )
    no_improvement_hours: float = Field(
        default=24.0, gt=0, description="Hours of search without growth of the front's hypervolume."
    )
    slow_factor: float = Field(
        default=2.0, gt=1, description="A segment is slow beyond this multiple of its forecast."
    )
    utilisation_floor: float = Field(
        default=0.5, ge=0, le=1, description="Busy share of the workers below which an alert is raised."
    )
    utilisation_window_s: float = Field(
        default=600.0, gt=0, description="Seconds over which the busy share is taken."
    )
    diversity_floor: float | None = Field(
        default=None,
        gt=0,
        description="Mean edit distance of the last 20 candidates below which an alert is raised.",
    )
    failure_share: float = Field(
        default=0.5, gt=0, le=1, description="Share of failed trials above which an alert is raised."
    )

    def check(self) -> None:
        """Hold the addresses against Apprise; they may be secrets, so no message repeats one.

        Raises:
            SpecError: An address is not one that Apprise can use.
        """
        for position, url in enumerate(self.urls):
            if not channels.usable(url):
                raise SpecError(
                    f"alerts.urls[{position}]: Apprise cannot use this address of {channels.scheme(url)}; "
                    "write it as its service demands, such as mailto://USER:PASSWORD@HOST"
                )


@dataclass(frozen=True)
class Watch:
    """What the rules need to know besides history and settings.

    Attributes:
        objectives: Objectives in the order of the spec.
        choices: Choices of the space.
        workers: Segments that can run at the same time.
        since_utc: When this controller took the run; an earlier silence is nobody's fault.
        plan_usd: Expected cost.
        limit_usd: Limit in force.
        warn_at: Share of the limit that is worth a warning.
        crashes: How often the run was resumed after its controller died; see `crashes`.
    """

    objectives: tuple[Objective, ...]
    choices: Choices = field(default_factory=dict)
    workers: int = 1
    since_utc: float = 0.0
    plan_usd: float | None = None
    limit_usd: float | None = None
    warn_at: float = 0.8
    crashes: int = 0


def rules(history: History, now_utc: float, settings: Alerts, watch: Watch) -> list[Alert]:
    """Alerts that are due now and not in the history yet."""
    due = (
        *_money(history, watch),
        *_outcomes(history, watch),
        *_failures(history, settings),
        *_silence(history, now_utc, settings, watch),
        *_slow(history, now_utc, settings),
        *_idle(history, now_utc, settings, watch),
        *_sameness(history, settings, watch),
    )
    return [alert for alert in due if alert.key not in history.alerts]


def crashes(events: Sequence[Event]) -> int:
    """How often a run was taken again although its controller had not finished it."""
    count, open_ = 0, False
    for event in events:
        if isinstance(event.body, RunStarted):
            count += open_ and event.body.resumed
            open_ = True
        elif isinstance(event.body, RunFinished):
            open_ = False
    return count


def _money(history: History, watch: Watch) -> Iterator[Alert]:
    spent, limit, plan = history.spent_usd, watch.limit_usd, watch.plan_usd
    if limit is not None and spent >= watch.warn_at * limit:
        # an added budget deserves a warning of its own
        added = any("budget.limit_usd" in a.changes for a in history.amendments)
        yield Alert(
            f"budget_warning/{limit:g}" if added else "budget_warning",
            "warning",
            f"{spent / limit:.0%} of the budget is spent",
            f"{spent:.2f} USD of {limit:.2f} USD; no segment starts that would pass the limit.",
        )
    if plan is not None and spent > PLAN_TOLERANCE * plan:
        yield Alert(
            "plan_exceeded",
            "critical",
            f"The run costs {spent / plan - 1:.0%} more than planned",
            f"{spent:.2f} USD are spent, {plan:.2f} USD were planned.",
        )


def _outcomes(history: History, watch: Watch) -> Iterator[Alert]:
    for number in range(1, watch.crashes + 1):
        yield Alert(
            f"controller_crashed/{number}",
            "critical",
            "The controller died and was resumed",
            "The run goes on from its journal; no finished segment is lost.",
        )
    for decision in history.decisions:
        if decision.kind == "budget":
            yield Alert("budget_stop", "critical", "The budget has stopped the run", decision.reason)
        if decision.kind == "gate" and decision.verdict == "stop":
            yield Alert("gate_failed", "critical", "A gate has stopped the run", decision.reason)
    for stage, end in history.stages.items():
        if end is not None and end.verdict == "failed":
            reason = str(end.summary.get("reason", ""))
            yield Alert(f"stage_failed/{stage}", "critical", f"Stage {stage} has failed", reason)
    if history.status is not RunStatus.RUNNING:
        trials = sum(t.stage == SEARCH for t in history.trials.values())
        yield Alert(
            f"run_finished/{history.status.value}",
            "info",
            f"The run has ended: {history.status.value.replace('_', ' ')}",
            f"{trials} trials of the search, {history.spent_usd:.2f} USD.",
        )


def _failures(history: History, settings: Alerts) -> Iterator[Alert]:
    if "failure_share" in history.alerts:
        return
    ended = [t for t in history.trials.values() if t.ended and not blameless(t)]
    failed = [t for t in ended if t.status is TrialStatus.FAILED]
    if len(ended) >= FEW and len(failed) > settings.failure_share * len(ended):
        last = failed[-1].failure
        yield Alert(
            "failure_share",
            "warning",
            f"{len(failed)} of {len(ended)} ended trials have failed",
            f"Trial {failed[-1].number}: {last.kind.value}: {last.text}" if last else "",
        )


def _silence(history: History, now_utc: float, settings: Alerts, watch: Watch) -> Iterator[Alert]:
    begun = _running_since(history)
    wanted_s = settings.no_improvement_hours * 3600
    if begun is None or "no_improvement" in history.alerts or now_utc - begun < wanted_s:
        return
    last = improvement.last_utc(history, watch.objectives)
    quiet_s = improvement.active_s(history, begun if last is None else last, now_utc)
    if quiet_s >= wanted_s:
        yield Alert(
            "no_improvement",
            "critical",
            f"The front has not grown for {quiet_s / 3600:.3g} h",
            "Consider ending the search, or widening the space.",
        )


def _running_since(history: History) -> float | None:
    """When the search stage began, if it is running."""
    if SEARCH not in history.stages or history.finished(SEARCH) or history.status is not RunStatus.RUNNING:
        return None
    return history.stage_times[SEARCH][0]


def _slow(history: History, now_utc: float, settings: Alerts) -> Iterator[Alert]:
    for segment in history.open_segments.values():
        age_s = now_utc - (segment.started_utc or now_utc)
        slow_s = max(settings.slow_factor * segment.forecast_s, SLOW_FLOOR_S)
        if segment.job.trial >= 0 and age_s > slow_s:
            yield Alert(
                f"slow_trial/{segment.job.trial}",
                "warning",
                f"Trial {segment.job.trial} is slow",
                f"It has run for {age_s:.0f} s; {segment.forecast_s:.1f} s were expected.",
            )


def _idle(history: History, now_utc: float, settings: Alerts, watch: Watch) -> Iterator[Alert]:
    begun = _running_since(history)
    window_s = settings.utilisation_window_s
    if begun is None or "low_utilisation" in history.alerts:
        return
    if now_utc - max(begun, watch.since_utc) < window_s:
        return
    busy = _busy(history, now_utc, window_s, watch.workers)
    if busy < settings.utilisation_floor:
        yield Alert(
            "low_utilisation",
            "warning",
            f"Workers were busy for {busy:.0%} of the last {window_s:.0f} s",
            "Use fewer workers, or a searcher that proposes faster.",
        )


def _busy(history: History, now_utc: float, window_s: float, workers: int) -> float:
    """Busy share of the workers in the window that ends now; time taken by exclusive jobs does not count."""
    exclusive_s, working_s = 0.0, 0.0
    for segment in history.segments.values():
        seconds = _overlap_s(segment, now_utc, window_s)
        if segment.job.exclusive:
            exclusive_s += seconds
        elif segment.job.kind is not JobKind.PROPOSE:
            working_s += seconds
    capacity_s = workers * (window_s - exclusive_s)
    return working_s / capacity_s if capacity_s > 0 else 1.0


def _overlap_s(segment: Segment, now_utc: float, window_s: float) -> float:
    """Seconds of a segment within the window that ends now."""
    if segment.started_utc is None:
        return 0.0
    end = now_utc if segment.finished_utc is None else segment.finished_utc
    return max(0.0, end - max(segment.started_utc, now_utc - window_s))


def _sameness(history: History, settings: Alerts, watch: Watch) -> Iterator[Alert]:
    if settings.diversity_floor is None or "low_diversity" in history.alerts:
        return
    recent = [t.candidate for t in history.of_stage(SEARCH)[-RECENT:]]
    if len(recent) < RECENT:
        return
    distances = [distance(watch.choices, a, b) for a, b in combinations(recent, 2)]
    mean = sum(distances) / len(distances)
    if mean < settings.diversity_floor:
        yield Alert(
            "low_diversity",
            "warning",
            f"The last {RECENT} candidates differ in {mean:.2f} choices on average",
            "The search has converged; consider ending it, or another searcher.",
        )
