"""The nouns of a search: frozen dataclasses without behaviour beyond their own consistency.

Nothing here reads a file, a clock or a random number. Everything round-trips through JSON, so that a job can
travel to any machine and a run can be rebuilt from its journal (see `ziggurat.events`).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property

Value = bool | int | float | str
"""What one choice of a candidate can be."""


class Goal(StrEnum):
    """Direction of an objective."""

    MAXIMIZE = "maximize"
    MINIMIZE = "minimize"


@dataclass(frozen=True)
class Objective:
    """One metric to optimise.

    Attributes:
        metric: Name of the metric, such as `val_accuracy` or `parameters`.
        goal: Direction.
        reference: Value at which a trial is worth nothing; one coordinate of the reference point
            of the hypervolume, in the metric's own unit and direction.
        limit: Hard limit in the metric's own unit: a trial beyond it is not an answer.
    """

    metric: str
    goal: Goal
    reference: float
    limit: float | None = None

    def loss(self, value: float) -> float:
        """The value as "smaller is better"; the only place where the direction is applied."""
        return -value if self.goal is Goal.MAXIMIZE else value

    def breaks_limit(self, value: float) -> bool:
        """Whether a value lies beyond the hard limit; NaN does."""
        if self.limit is None:
            return False
        return math.isnan(value) or self.loss(value) > self.loss(self.limit)


@dataclass(frozen=True)
class Candidate:
    """An architecture and its hyperparameters: active choices by name, never weights.

    Two candidates are equal if their active choices are equal.
    """

    choices: Mapping[str, Value]

    def __post_init__(self) -> None:
        """Keep the choices in one order, whatever order they came in."""
        object.__setattr__(self, "choices", dict(sorted(self.choices.items())))

    @cached_property
    def key(self) -> str:
        """Content hash, 12 hexadecimal digits."""
        text = json.dumps(dict(self.choices), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def __hash__(self) -> int:
        """Hash of the content."""
        return hash(self.key)


@dataclass(frozen=True)
class Fidelity:
    """How much is spent on a judgement: cumulative epochs on a fraction of the training part.

    Attributes:
        epochs: Epochs in total when this rung is reached, counted from the start of the trial.
        data_fraction: Stratified fraction of the training part used while training towards this rung.
        resolution: Edge of the images, of which it is also judged, as a share of their own.
    """

    epochs: int
    data_fraction: float = 1.0
    resolution: float = 1.0


@dataclass(frozen=True)
class Measurement:
    """A number with its unit.

    Attributes:
        metric: Name of the metric.
        value: The number.
        unit: Unit, "1" for a pure number.
        step: Epoch after which it was taken; None for what does not depend on training.
        device: Where it was measured; None where that does not matter.
        spread: Half the width of the central 68 % of the samples, in the same unit.
        samples: Number of samples behind the value.
    """

    metric: str
    value: float
    unit: str = "1"
    step: int | None = None
    device: str | None = None
    spread: float | None = None
    samples: int | None = None

    @property
    def predicted(self) -> bool:
        """Whether it was not measured but predicted for its device: there is an error and no samples."""
        return self.device is not None and self.samples is None and self.spread is not None


class FailureKind(StrEnum):
    """Why a segment ended without a result."""

    USER_ERROR = "user_error"
    DIVERGED = "diverged"
    OUT_OF_MEMORY = "out_of_memory"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"
    LOST = "lost"
    NO_METRIC = "no_metric"


@dataclass(frozen=True)
class Failure:
    """A failed segment as data; one that was pre-empted or lost says nothing about its candidate."""

    kind: FailureKind
    text: str


class JobKind(StrEnum):
    """What a worker is asked to do; what is TRAINING needs the data and the trainer, the rest a service."""

    TRAIN = "train"
    EVALUATE = "evaluate"
    PROFILE = "profile"
    EXPORT = "export"
    PROPOSE = "propose"
    INSPECT = "inspect"
    PUBLISH = "publish"


TRAINING = frozenset({JobKind.TRAIN, JobKind.EVALUATE, JobKind.EXPORT})


class Recipe(StrEnum):
    """Which trainer settings of the spec a training uses."""

    SEARCH = "search"
    RETRAIN = "retrain"


@dataclass(frozen=True)
class Job:
    """One unit of work for a launcher; it round-trips through JSON.

    Attributes:
        key: Deterministic name, unique in the run; a launcher can look a job up by it.
        kind: What is to be done.
        stage: Stage of the pipeline it belongs to.
        trial: Number of the trial; -1 for a job about no single trial.
        candidate: What is trained, evaluated or profiled, if anything.
        ladder: Fidelities of the trial; rungs index it.
        from_rung: Rung whose checkpoint is continued; -1 to start from nothing.
        to_rung: Rung to reach.
        seed: Seed of initialisation, batches and augmentation.
        attempt: 0 for the first try of this segment, then 1, 2, ...
        recipe: Which trainer settings apply.
        checkpoint: Path of the checkpoint to continue or evaluate, relative to the run directory.
        device: Name of the device of a profile job.
        count: Number of proposals wanted.
        time_limit_s: Wall-clock limit in seconds.
        exclusive: Nothing else may run on the machine meanwhile.
    """

    key: str
    kind: JobKind
    stage: str
    trial: int = -1
    candidate: Candidate | None = None
    ladder: tuple[Fidelity, ...] = ()
    from_rung: int = -1
    to_rung: int = -1
    seed: int = 0
    attempt: int = 0
    recipe: Recipe = Recipe.SEARCH
    checkpoint: str | None = None
    device: str | None = None
    count: int = 0
    time_limit_s: float | None = None
    exclusive: bool = False


class TrialStatus(StrEnum):
    """Where a trial stands."""

    WAITING = "waiting"
    RUNNING = "running"
    UNDECIDED = "undecided"
    READY = "ready"
    PAUSED = "paused"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    REJECTED = "rejected"


ENDED = frozenset({TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.FAILED, TrialStatus.REJECTED})
"""States from which a trial does not return."""


class Decision(StrEnum):
    """What a stopper says about a trial that has reached a rung."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True)
class Parent:
    """The trial and rung whose checkpoint another trial starts from."""

    trial: int
    rung: int


@dataclass(frozen=True)
class Proposal:
    """A candidate that a searcher wants trained.

    Attributes:
        candidate: The candidate.
        static: What was found out about it before training, by metric.
        parent: Trial and rung to inherit a checkpoint from.
        origin: How it came about, such as `sobol` or `qlognehvi`.
    """

    candidate: Candidate
    static: tuple[Measurement, ...] = ()
    parent: Parent | None = None
    origin: str = ""


@dataclass(frozen=True)
class Promotion:
    """A paused trial, by its number, that a joint strategy wants trained to its next rung, and why."""

    trial: int
    reason: str = ""


@dataclass(frozen=True)
class Retirement:
    """A paused trial, by its number, that a joint strategy ends, and why."""

    trial: int
    reason: str = ""


@dataclass(frozen=True)
class Trial:
    """One training of one candidate, as far as the history knows it.

    Attributes:
        number: Unique in the run.
        index: Position within its stage, from 0.
        stage: Stage that proposed it.
        candidate: What is trained.
        seed: Seed of its training.
        ladder: Its fidelities.
        recipe: Which trainer settings apply.
        status: Where it stands.
        parent: Whose checkpoint it started from.
        lineage: What is trained towards each rung, where that differs from rung to rung; else empty.
        rung: Highest rung reached, the parent's if it has not reached one itself; -1 before the first.
        static: Measurements that need no training, by metric.
        results: For each rung it has reached itself, measurements by metric; nothing of a parent's.
        checkpoint: Path of its latest checkpoint, relative to the run directory.
        attempt: Attempts of the present segment that have failed.
        job: Key of the job that is planned or running for it.
        cost_usd: Cost so far.
        seconds: Worker seconds so far.
        failure: Why it failed.
        note: Free words, such as the reason of a stop.
    """

    number: int
    index: int
    stage: str
    candidate: Candidate
    seed: int
    ladder: tuple[Fidelity, ...]
    recipe: Recipe = Recipe.SEARCH
    status: TrialStatus = TrialStatus.WAITING
    parent: Parent | None = None
    lineage: tuple[Candidate, ...] = ()
    rung: int = -1
    static: Mapping[str, Measurement] = field(default_factory=dict)
    results: Mapping[int, Mapping[str, Measurement]] = field(default_factory=dict)
    checkpoint: str | None = None
    attempt: int = 0
    job: str | None = None
    cost_usd: float = 0.0
    seconds: float = 0.0
    failure: Failure | None = None
    note: str = ""

    @property
    def top_rung(self) -> int:
        """Index of the highest rung of its ladder."""
        return len(self.ladder) - 1

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDED

    def value(self, metric: str, rung: int | None = None) -> float:
        """A metric's value at a rung (the highest reached by default); NaN if it has none."""
        at = self.results.get(self.rung if rung is None else rung, {})
        found = at.get(metric) or self.static.get(metric)
        return found.value if found is not None else math.nan

    def losses(self, objectives: tuple[Objective, ...], rung: int | None = None) -> list[float]:
        """Its objectives as losses at a rung; NaN where unknown."""
        return [o.loss(self.value(o.metric, rung)) for o in objectives]


class RunStatus(StrEnum):
    """How a run ended."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED_BY_BUDGET = "stopped_by_budget"
    INTERRUPTED = "interrupted"
    FAILED = "failed"
