"""A run in MLflow's words: which points, parameters, tags and states stand for which events and trials.

Pure functions; nothing here imports MLflow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.answers import eligible
from ziggurat.domain import Measurement, Objective, RunStatus, Trial, TrialStatus
from ziggurat.events import Decided, Event, Measured, SegmentFinished, TrialEnded, TrialProposed
from ziggurat.history import History
from ziggurat.listeners.mlflow_client import CANDIDATE, KIND, PARENT, RUN_ID, STAGE, TRIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_TAG = 500

_CHILD = {
    TrialStatus.COMPLETED: "FINISHED",
    TrialStatus.FAILED: "FAILED",
    TrialStatus.STOPPED: "KILLED",
    TrialStatus.REJECTED: "KILLED",
}
_PARENT = {
    RunStatus.RUNNING: "RUNNING",
    RunStatus.COMPLETED: "FINISHED",
    RunStatus.STOPPED_BY_BUDGET: "FINISHED",
    RunStatus.INTERRUPTED: "KILLED",
    RunStatus.FAILED: "FAILED",
}


@dataclass(frozen=True)
class Point:
    """One value of a metric at a step, with its time in milliseconds since 1970."""

    name: str
    value: float
    utc_ms: int
    step: int


def name(text: str) -> str:
    """A name that MLflow accepts for a metric or a parameter."""
    plain = re.sub(r"[^A-Za-z0-9_./: -]", "_", text)[:250]
    # as a path it must be its own normal form: no empty part, and none that begins as "." and ".." do
    parts = [re.sub(r"^(\.$|\.\.)", "_", part.strip(" ")) for part in plain.split("/")]
    return "/".join(part for part in parts if part) or "_"


def ms(utc: float) -> int:
    """Seconds since 1970 as MLflow's milliseconds."""
    return round(utc * 1000)


def points(events: Iterable[Event], history: History) -> dict[int, list[Point]]:
    """What some events add to the children, by trial; a trial that is only touched has an empty list.

    A final result that repeats the last point of a curve adds nothing. The same events give the same points,
    so that writing them twice changes nothing. The history contains the events.
    """
    found: dict[int, list[Point]] = {}
    for event in events:
        body = event.body
        if not isinstance(body, (TrialProposed, Measured, SegmentFinished, TrialEnded, Decided)):
            continue
        if body.trial is None or body.trial < 0:
            continue
        rows = found.setdefault(body.trial, [])
        if isinstance(body, TrialProposed):
            rows += _points(body.static, event.utc)
        elif isinstance(body, Measured):
            rows += _points(body.measurements, event.utc, body.step or 0)
        elif isinstance(body, SegmentFinished):
            curve = history.curves.get(body.trial, ())
            before = {(m.metric, step, m.value) for step, row in curve for m in row}
            new = (m for m in body.measurements if (m.metric, m.step, m.value) not in before)
            rows += _points(new, event.utc)
    return found


def _points(measurements: Iterable[Measurement], utc: float, step: int = 0) -> list[Point]:
    return [Point(name(m.metric), m.value, ms(utc), step if m.step is None else m.step) for m in measurements]


def cost(trial: Trial, utc: float) -> list[Point]:
    """What a trial has cost so far, at the step of the epochs it has seen."""
    step = trial.ladder[trial.rung].epochs if trial.rung >= 0 else 0
    return [
        Point("cost_usd", trial.cost_usd, ms(utc), step),
        Point("worker_seconds", trial.seconds, ms(utc), step),
    ]


def child_status(trial: Trial, *, over: bool) -> str:
    """State of a trial's run; when the Ziggurat run is over nothing stays running."""
    return _CHILD.get(trial.status, "KILLED" if over else "RUNNING")


def parent_status(history: History) -> str:
    """State of the parent run."""
    return _PARENT[history.status]


def identity(trial: Trial, run_id: str, parent: str) -> dict[str, str]:
    """Tags by which a child is found again, and by which MLflow nests it."""
    return {
        PARENT: parent,
        RUN_ID: run_id,
        KIND: "trial",
        STAGE: trial.stage,
        TRIAL: str(trial.number),
        CANDIDATE: trial.candidate.key,
    }


def state(trial: Trial) -> dict[str, str]:
    """Tags that change while a trial lives."""
    tags = {"ziggurat.status": trial.status.value, "ziggurat.rung": str(trial.rung)}
    if trial.failure is not None:
        tags["ziggurat.failure"] = f"{trial.failure.kind.value}: {trial.failure.text}"[:LONGEST_TAG]
    if trial.note:
        tags["ziggurat.note"] = trial.note[:LONGEST_TAG]
    return tags


def params(trial: Trial) -> dict[str, str]:
    """The choices of a trial's candidate, and its seed."""
    return {**{name(k): str(v) for k, v in trial.candidate.choices.items()}, "seed": str(trial.seed)}


def best(history: History, objectives: tuple[Objective, ...]) -> dict[str, float]:
    """For each objective the best value among trials that can be on the front; empty if there are none."""
    trials = eligible(history, objectives)
    if not trials:
        return {}
    return {o.metric: min((t.value(o.metric) for t in trials), key=o.loss) for o in objectives}


def summary(history: History, objectives: tuple[Objective, ...]) -> list[Point]:
    """Metrics of the parent run after a history; the step is the number of trials that have ended."""
    ended = [t for t in history.trials.values() if t.ended]
    values: Mapping[str, float] = {
        **{f"best_{name(metric)}": value for metric, value in best(history, objectives).items()},
        "spent_usd": history.spent_usd,
        "trials": len(history.trials),
        "trials_failed": sum(t.status is TrialStatus.FAILED for t in ended),
    }
    return [Point(key, float(value), ms(history.last_utc), len(ended)) for key, value in values.items()]
