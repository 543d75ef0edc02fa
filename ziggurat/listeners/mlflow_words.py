"""A trial in MLflow's words: which points, parameters, tags and states stand for which events.

Pure functions; nothing here imports MLflow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.domain import Measurement, RunStatus, Trial, TrialStatus
from ziggurat.events import Event, Measured, SegmentFinished, TrialProposed
from ziggurat.history import History
from ziggurat.listeners.mlflow_client import CANDIDATE, KIND, PARENT, RUN_ID, STAGE, TRIAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_TAG = 500
FRONT = "ziggurat.front"
SEARCH, RETRAIN = "search", "retrain"

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
_USAGE = {
    "cpu_utilisation": ("cpu_utilization_percentage", 100.0),
    "gpu_utilisation": ("gpu_0_utilization_percentage", 100.0),
    "memory_mb": ("system_memory_usage_megabytes", 1.0),
    "gpu_memory_mb": ("gpu_0_memory_usage_megabytes", 1.0),
}
"""What MLflow's own monitor calls the use of a machine, and in how many of its units ours are."""


@dataclass(frozen=True)
class Point:
    """One value of a metric at a step, with its time in milliseconds since 1970."""

    name: str
    value: float
    utc_ms: int
    step: int


def name(text: str) -> str:
    """A name that MLflow accepts for a metric or a parameter; `latency_ms@phone` is `latency_ms.phone`."""
    plain = re.sub(r"[^A-Za-z0-9_./: -]", "_", text.replace("@", "."))[:250]
    # as a path it must be its own normal form: no empty part, and none that begins as "." and ".." do
    parts = [re.sub(r"^(\.$|\.\.)", "_", part.strip(" ")) for part in plain.split("/")]
    return "/".join(part for part in parts if part) or "_"


def ms(utc: float) -> int:
    """Seconds since 1970 as MLflow's milliseconds."""
    return round(utc * 1000)


def points(event: Event, history: History, begun: float) -> list[Point]:
    """What an event adds to the run of its trial; the same event always adds the same.

    A final result that repeats the last point of a curve adds nothing.

    Args:
        event: Belongs to a trial.
        history: With the event in it and nothing behind it.
        begun: When the trial was proposed, from which the seconds of its machine's use are counted.
    """
    body = event.body
    if isinstance(body, TrialProposed):
        # of a retrained model it is said with its results: MLflow puts what came first first when it compares
        return _points(body.static if body.stage != RETRAIN else (), event.utc)
    if isinstance(body, Measured):
        return _points(body.measurements, event.utc, body.step or 0)
    if not isinstance(body, SegmentFinished):
        return []
    curve = history.curves.get(body.trial, ())
    before = {(m.metric, step, m.value) for step, row in curve for m in row}
    new = (m for m in body.measurements if (m.metric, m.step, m.value) not in before)
    trial = history.trials[body.trial]
    return [*_points(new, event.utc), *_cost(trial, event.utc), *usage(body.usage, event.utc, begun)]


def _points(measurements: Iterable[Measurement], utc: float, step: int = 0) -> list[Point]:
    return [Point(name(m.metric), m.value, ms(utc), step if m.step is None else m.step) for m in measurements]


def _cost(trial: Trial, utc: float) -> list[Point]:
    """What a trial has cost so far, at the step of the epochs it has seen."""
    step = trial.ladder[trial.rung].epochs if trial.rung >= 0 else 0
    return [
        Point("cost_usd", trial.cost_usd, ms(utc), step),
        Point("worker_seconds", trial.seconds, ms(utc), step),
    ]


def usage(found: Mapping[str, float], utc: float, begun: float) -> list[Point]:
    """What a training uses of its machine, as MLflow's page of system metrics shows it; steps are seconds."""
    step = max(0, round(utc - begun))
    return [
        Point(f"system/{_USAGE[key][0]}", value * _USAGE[key][1], ms(utc), step)
        for key, value in found.items()
        if key in _USAGE
    ]


def child_status(trial: Trial, *, over: bool) -> str:
    """State of a trial's run; when the Ziggurat run is over nothing stays running."""
    return _CHILD.get(trial.status, "KILLED" if over else "RUNNING")


def parent_status(history: History) -> str:
    """State of the parent run."""
    return _PARENT[history.status]


def architecture(trial: Trial, history: History) -> int:
    """The search trial whose architecture a trial has; its own number if it comes from nowhere else."""
    if trial.stage != RETRAIN:
        return trial.number
    same = (t.number for t in history.of_stage(SEARCH) if t.candidate == trial.candidate)
    return next(same, trial.number)


def repetition(trial: Trial, history: History) -> int:
    """Which seed of its architecture a retrained model has, from 0."""
    earlier = (t for t in history.of_stage(trial.stage) if t.index < trial.index)
    return sum(t.candidate == trial.candidate for t in earlier)


def title(trial: Trial, history: History) -> str:
    """What a trial's run is called."""
    if trial.stage == RETRAIN:
        return f"trial {architecture(trial, history)}, seed {repetition(trial, history)}"
    return f"{trial.stage} {trial.number:05d}"


def identity(trial: Trial, history: History, parent: str) -> dict[str, str]:
    """Tags by which a child is found again, and by which MLflow nests it."""
    return {
        PARENT: parent,
        RUN_ID: history.run_id,
        KIND: "trial",
        STAGE: trial.stage,
        TRIAL: str(trial.number),
        CANDIDATE: trial.candidate.key,
        "ziggurat.architecture": str(architecture(trial, history)),
        "ziggurat.seed": str(trial.seed),
        **({"ziggurat.origin": trial.note[:LONGEST_TAG]} if trial.note else {}),
    }


def state(trial: Trial, front: frozenset[int]) -> dict[str, str]:
    """Tags that change while a trial lives, or while others do."""
    tags = {"ziggurat.status": trial.status.value, "ziggurat.rung": str(trial.rung)}
    if trial.stage == SEARCH:
        tags[FRONT] = "yes" if trial.number in front else "no"
    known = {**trial.static, **trial.results.get(trial.rung, {})}
    devices = sorted({m.device for m in known.values() if m.device is not None})
    if devices:
        tags["ziggurat.device"] = ", ".join(devices)[:LONGEST_TAG]
    if trial.failure is not None:
        tags["ziggurat.failure_kind"] = trial.failure.kind.value
        tags["ziggurat.failure"] = trial.failure.text[:LONGEST_TAG]
    if trial.note:
        tags["ziggurat.note"] = trial.note[:LONGEST_TAG]
    return tags


def params(trial: Trial) -> dict[str, str]:
    """The choices of a trial's candidate, and how long it may be trained.

    The seed is none of them: MLflow draws three numeric parameters that differ when it compares runs, and a
    seed would be one in place of what matters. It is a tag, and part of a retrained model's name.
    """
    choices = {name(k): str(v) for k, v in trial.candidate.choices.items()}
    return {**choices, "epochs": str(trial.ladder[-1].epochs)}
