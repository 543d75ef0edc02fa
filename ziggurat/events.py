"""The fourteen things that can happen in a run, and their JSON form.

An event is the only thing written to a run's journal. Times and money are data: whoever makes an
event passes them in.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from ziggurat.domain import (
    Candidate,
    Failure,
    Fidelity,
    Job,
    Measurement,
    Parent,
    Recipe,
    RunStatus,
    TrialStatus,
)

VERSION = 1
"""Version of the journal's format, in every line as `v`."""

Fact = bool | int | float | str | None
Facts = Mapping[str, Fact | list[Fact] | Mapping[str, Fact]]


@dataclass(frozen=True)
class RunStarted:
    """A controller has taken the run, for the first time or again."""

    name: str
    version: str
    spec_sha256: str
    resumed: bool = False
    type: Literal["run_started"] = "run_started"


@dataclass(frozen=True)
class StageStarted:
    """A stage has begun."""

    stage: str
    type: Literal["stage_started"] = "stage_started"


@dataclass(frozen=True)
class TrialProposed:
    """A candidate has become a trial; `seen` is the length of the history its searcher knew."""

    trial: int
    index: int
    stage: str
    candidate: Candidate
    seed: int
    ladder: tuple[Fidelity, ...]
    recipe: Recipe = Recipe.SEARCH
    static: tuple[Measurement, ...] = ()
    parent: Parent | None = None
    lineage: tuple[Candidate, ...] = ()
    origin: str = ""
    seen: int = 0
    type: Literal["trial_proposed"] = "trial_proposed"


@dataclass(frozen=True)
class SegmentPlanned:
    """The intent to run a job, on disk before the job starts; with its forecast."""

    job: Job
    forecast_s: float
    forecast_usd: float
    type: Literal["segment_planned"] = "segment_planned"


@dataclass(frozen=True)
class SegmentStarted:
    """A launcher has taken the job; `handle` finds it again."""

    job: str
    trial: int
    handle: str
    type: Literal["segment_started"] = "segment_started"


@dataclass(frozen=True)
class Measured:
    """Numbers from a running or finished job; unique by trial, attempt and step within a job kind."""

    job: str
    trial: int
    attempt: int
    step: int | None = None
    measurements: tuple[Measurement, ...] = ()
    type: Literal["measured"] = "measured"


@dataclass(frozen=True)
class SegmentFinished:
    """A job has ended, with its results or with its failure, and with what it cost.

    Attributes:
        job: Key of the job.
        trial: Number of its trial.
        seconds: Worker seconds it took.
        cost_usd: What these cost.
        failure: Why there is no result; None if there is one.
        measurements: Final results of the segment.
        checkpoint: Path of the checkpoint at its end, relative to the run directory.
        retry: The same segment may be tried again without counting against the trial.
        usage: Mean use of its machine by name, such as `cpu_utilisation`, each from 0 to 1, and peaks such
            as `memory_mb`; empty where nothing could be read.
    """

    job: str
    trial: int
    seconds: float
    cost_usd: float
    failure: Failure | None = None
    measurements: tuple[Measurement, ...] = ()
    checkpoint: str | None = None
    retry: bool = False
    usage: Mapping[str, float] = field(default_factory=dict)
    type: Literal["segment_finished"] = "segment_finished"


@dataclass(frozen=True)
class TrialEnded:
    """A trial will not be trained further."""

    trial: int
    status: TrialStatus
    failure: Failure | None = None
    reason: str = ""
    type: Literal["trial_ended"] = "trial_ended"


@dataclass(frozen=True)
class Decided:
    """A decision that is replayed, never recomputed.

    Attributes:
        kind: `stopper`, `gate`, `selection`, `unsealed` and so on.
        verdict: What was decided.
        trial: The trial it is about, if it is about one.
        rung: The rung it was taken at.
        seen: Length of the history it was taken on.
        reason: Why, in words.
        facts: Numbers behind it.
    """

    kind: str
    verdict: str
    trial: int | None = None
    rung: int | None = None
    seen: int = 0
    reason: str = ""
    facts: Facts = field(default_factory=dict)
    type: Literal["decision"] = "decision"


@dataclass(frozen=True)
class StageFinished:
    """A stage has ended; `verdict` is `ok`, `failed`, `skipped` or `stopped_by_budget`."""

    stage: str
    verdict: str
    summary: Facts = field(default_factory=dict)
    type: Literal["stage_finished"] = "stage_finished"


@dataclass(frozen=True)
class Charged:
    """Money that no segment accounts for: a machine was held and did nothing, or worked in vain.

    Attributes:
        reason: `idle`, `queue`, `linger`, `lost` and so on.
        seconds: Machine seconds.
        cost_usd: What these cost.
        stage: The stage that caused it; empty between stages.
        job: Key of the job that caused it, if one did.
    """

    reason: str
    seconds: float
    cost_usd: float
    stage: str = ""
    job: str = ""
    type: Literal["charged"] = "charged"


@dataclass(frozen=True)
class Alert:
    """Something a person should know.

    Attributes:
        key: What it is about; raised once for each key, again after the rule's period, and resolved once.
        severity: How much it matters.
        title: One line.
        text: More about it.
        rule: Name of the rule that raised it.
        state: Whether it is raised (for the first time or again) or over.
    """

    key: str
    severity: Literal["info", "warning", "critical"]
    title: str
    text: str = ""
    rule: str = ""
    state: Literal["raised", "resolved"] = "raised"
    type: Literal["alert"] = "alert"


@dataclass(frozen=True)
class Amended:
    """A later change of the spec's settings, such as budget added."""

    changes: Facts
    reason: str = ""
    type: Literal["amended"] = "amended"


@dataclass(frozen=True)
class RunFinished:
    """The run has ended; an interrupted run can be resumed."""

    status: RunStatus
    reason: str = ""
    type: Literal["run_finished"] = "run_finished"


Body = Annotated[
    RunStarted
    | StageStarted
    | TrialProposed
    | SegmentPlanned
    | SegmentStarted
    | Measured
    | SegmentFinished
    | TrialEnded
    | Decided
    | StageFinished
    | Charged
    | Alert
    | Amended
    | RunFinished,
    Field(discriminator="type"),
]


@dataclass(frozen=True)
class Event:
    """One line of a journal: what happened, when, in which run, as which line."""

    seq: int
    utc: float
    run_id: str
    body: Body


_BODY: TypeAdapter[Any] = TypeAdapter(Body)
_JOB: TypeAdapter[Job] = TypeAdapter(Job)
_CANDIDATE: TypeAdapter[Candidate] = TypeAdapter(Candidate)
_MEASUREMENTS: TypeAdapter[tuple[Measurement, ...]] = TypeAdapter(tuple[Measurement, ...])


def to_plain(thing: Any) -> Any:  # noqa: ANN401 - any of our dataclasses
    """A dataclass as plain JSON values; fields that are None or empty tuples are left out."""
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        pairs = ((f.name, getattr(thing, f.name)) for f in dataclasses.fields(thing))
        return {name: to_plain(value) for name, value in pairs if value is not None and value != ()}
    if isinstance(thing, Mapping):
        return {str(key): to_plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [to_plain(item) for item in thing]
    return thing


def to_line(event: Event) -> str:
    """An event as one line of JSON, without the newline."""
    head = {"v": VERSION, "seq": event.seq, "utc": event.utc, "run_id": event.run_id}
    return json.dumps(head | to_plain(event.body), separators=(",", ":"))


def from_line(line: str) -> Event:
    """The event of one line.

    Raises:
        ValueError: The line is no JSON object of a known event (pydantic's error is a ValueError).
    """
    plain = json.loads(line)
    if not isinstance(plain, dict) or plain.pop("v", None) != VERSION:
        raise ValueError(f"not an event of format version {VERSION}")
    seq, utc, run_id = plain.pop("seq"), plain.pop("utc"), plain.pop("run_id")
    return Event(int(seq), float(utc), str(run_id), _BODY.validate_python(plain))


def body_from_plain(plain: object) -> Body:
    """An event's body from parsed JSON."""
    body: Body = _BODY.validate_python(plain)
    return body


def job_to_json(job: Job) -> str:
    """A job as JSON."""
    return json.dumps(to_plain(job), separators=(",", ":"))


def job_from_plain(plain: object) -> Job:
    """A job from parsed JSON."""
    return _JOB.validate_python(plain)


def candidate_from_plain(plain: object) -> Candidate:
    """A candidate from parsed JSON."""
    return _CANDIDATE.validate_python(plain)


def measurements_from_plain(plain: object) -> tuple[Measurement, ...]:
    """Measurements from parsed JSON."""
    return _MEASUREMENTS.validate_python(plain)
