"""What people read while a run goes on: one line for each notable event, as pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from ziggurat.domain import Objective
from ziggurat.events import (
    Alert,
    Amended,
    Charged,
    Decided,
    Measured,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialEnded,
    TrialProposed,
)

if TYPE_CHECKING:
    from ziggurat.domain import Trial
    from ziggurat.events import Event
    from ziggurat.history import History


TOLD = frozenset({"stage_finished", "run_finished"})
"""Rules of alerts whose events have lines of their own."""
LARGE = 1e12
"""Whole numbers from here on are shortened."""


@dataclass(frozen=True)
class Outline:
    """What a progress view knows beforehand.

    Attributes:
        objectives: Objectives in the order of the spec.
        trials: Trials that the search may propose.
        workers: Segments that run at the same time.
        limit_usd: Limit of the budget.
        run_dir: Directory of the run, as people are to read it.
        stages: Stages in their order; further ones are added as they start.
    """

    objectives: tuple[Objective, ...]
    trials: int
    workers: int
    limit_usd: float | None = None
    run_dir: str = ""
    stages: tuple[str, ...] = ()


def clock(seconds: float) -> str:
    """Seconds as `m:ss` or `h:mm:ss`."""
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def number(value: float) -> str:
    """A value in few characters: whole numbers with separators, others with four digits."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else str(value)
    if value == round(value) and abs(value) < LARGE:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def usd(value: float) -> str:
    """Money; small amounts with more digits."""
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.4f}"


def metrics(trial: Trial, objectives: tuple[Objective, ...]) -> str:
    """A trial's objectives, as far as they are known."""
    values = ((o.metric, trial.value(o.metric)) for o in objectives)
    return ", ".join(f"{metric} {number(value)}" for metric, value in values if not math.isnan(value))


def line(event: Event, history: History, outline: Outline) -> str | None:
    """What an event means to a person; None if it is not worth a line.

    The history already contains the event.
    """
    body = event.body
    match body:
        case RunStarted():
            verb = "resumed" if body.resumed else "started"
            return f"run {event.run_id} {verb}{f' in {outline.run_dir}' if outline.run_dir else ''}"
        case StageStarted():
            return f"stage {body.stage} started"
        case StageFinished():
            return _stage_end(body, history)
        case SegmentFinished():
            return _segment_end(body, history, outline)
        case RunFinished():
            words = body.status.value.replace("_", " ")
            return f"run {words}, {usd(history.spent_usd)} spent{_because(body.reason)}"
        case _:
            return _rest(body, history)


def _rest(
    body: (
        TrialProposed
        | SegmentPlanned
        | SegmentStarted
        | Measured
        | TrialEnded
        | Decided
        | Charged
        | Alert
        | Amended
    ),
    history: History,
) -> str | None:
    match body:
        case TrialEnded():
            return f"trial {body.trial} {body.status.value}{_because(_why(body))}"
        case Decided():
            return _decision(body)
        case Alert():
            return _alert(body)
        case Amended():
            changes = ", ".join(f"{key} = {value}" for key, value in body.changes.items())
            return f"changed: {changes}{_because(body.reason)}"
        case SegmentPlanned():
            # a trial that goes on from a rung has been promoted
            going_on = body.job.from_rung >= 0 and body.job.attempt == 0 and body.job.kind == "train"
            return f"trial {body.job.trial} goes on to rung {body.job.to_rung}" if going_on else None
        case TrialProposed() | SegmentStarted() | Measured() | Charged():
            return None
        case _:
            assert_never(body)


def _alert(body: Alert) -> str | None:
    if body.rule in TOLD:
        return None
    word = "RESOLVED" if body.state == "resolved" else body.severity.upper()
    return f"{word}: {body.title}{_because(body.text)}"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


def _why(body: TrialEnded) -> str:
    if body.failure is None:
        return body.reason
    return f"{body.failure.kind.value}: {body.failure.text}"


def _stage_end(body: StageFinished, history: History) -> str:
    begun, ended = history.stage_times.get(body.stage, (0.0, None))
    took = f" after {clock(ended - begun)}" if ended is not None else ""
    verdict = "finished" if body.verdict == "ok" else body.verdict.replace("_", " ")
    return f"stage {body.stage} {verdict}{took}, {usd(history.spent_usd)} spent"


def _segment_end(body: SegmentFinished, history: History, outline: Outline) -> str | None:
    trial = history.trials.get(body.trial)
    job = history.segments[body.job].job
    if body.failure is not None:
        what = f"trial {body.trial}" if trial else f"job {body.job}"
        retry = ", tried again" if body.retry else ""
        return f"{what}: {job.kind.value} failed ({body.failure.kind.value}: {body.failure.text}{retry})"
    if trial is None or job.kind != "train":
        return None
    rung = f"rung {job.to_rung} of {trial.top_rung}"
    return f"trial {trial.number} reached {rung}: {metrics(trial, outline.objectives)} [{body.seconds:.1f} s]"


def _decision(body: Decided) -> str | None:
    if body.kind == "delivered":
        return None
    if body.kind == "stopper":
        # going on shows when the next segment is planned
        if body.verdict == "continue":
            return None
        verb = {"stop": "stopped", "pause": "paused"}.get(body.verdict, body.verdict)
        return f"trial {body.trial} {verb} at rung {body.rung}{_because(body.reason)}"
    about = f" trial {body.trial}" if body.trial is not None else ""
    return f"{body.kind}{about}: {body.verdict}{_because(body.reason)}"
