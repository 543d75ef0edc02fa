"""The nouns of a report: counts, points of the front, retrained models, and the summary that holds them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ziggurat.domain import Candidate, Objective, RunStatus


@dataclass(frozen=True)
class Counts:
    """How many search trials ended how.

    Attributes:
        total: Proposed, rejected ones not counted.
        completed: Reached the top rung.
        stopped: Stopped below the top rung, or still paused there.
        failed: Ended without a result.
        open: Neither; none is left when the search has ended by itself.
        rejected: Never launched because a limit was known to be broken.
    """

    total: int = 0
    completed: int = 0
    stopped: int = 0
    failed: int = 0
    open: int = 0
    rejected: int = 0


@dataclass(frozen=True)
class FrontRow:
    """One point of the front: values in the metrics' own units, by metric name.

    `predicted` has those that were not measured but predicted for a device, each with its relative error.
    """

    trial: int
    candidate: Candidate
    metrics: Mapping[str, float]
    rung: int
    cost_usd: float
    knee: bool = False
    predicted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Statistic:
    """One metric over the seeds of a retrained model.

    Attributes:
        mean: Arithmetic mean.
        spread: Sample standard deviation over seeds, same unit; None for a single value.
        values: One value for each seed, in the order of the trials.
        unit: Unit of all of them.
        noise: Largest half width of the central 68 % within one measurement; None if it was not measured.
    """

    mean: float
    spread: float | None
    values: tuple[float, ...]
    unit: str = "1"
    noise: float | None = None


@dataclass(frozen=True)
class RetrainedRow:
    """One architecture after full training, over its finished seeds.

    Attributes:
        trial: Search trial it comes from; its first retraining if there is none.
        candidate: Its choices.
        seeds: Seeds of the finished trainings.
        trials: Numbers of the finished trainings.
        metrics: By metric name, or `metric@device` where it was measured on one.
        rung: Highest rung of the full recipe.
        cost_usd: Cost of all its trainings and measurements.
    """

    trial: int
    candidate: Candidate
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    metrics: Mapping[str, Statistic]
    rung: int
    cost_usd: float

    def find(self, metric: str) -> Statistic | None:
        """A metric by its name, on whichever device was named first if it was measured on several."""
        if metric in self.metrics:
            return self.metrics[metric]
        return next((s for name, s in self.metrics.items() if name.split("@")[0] == metric), None)


@dataclass(frozen=True)
class Summary:
    """The numbers of a run.

    Attributes:
        objectives: In the order of the spec.
        units: Unit of each objective's metric.
        segments: Training segments that ended with a result, all stages.
        hypervolume: Of the front, raw, against the objectives' references.
        baseline: The same for trials of the random baseline; None if there are none.
        utilisation: Worker seconds of search training divided by the search stage's worker seconds; None
            if no search has begun.
    """

    run_id: str
    status: RunStatus
    objectives: tuple[Objective, ...]
    units: Mapping[str, str]
    counts: Counts = field(default_factory=Counts)
    segments: int = 0
    hypervolume: float = 0.0
    baseline: float | None = None
    front: tuple[FrontRow, ...] = ()
    retrained: tuple[RetrainedRow, ...] = ()
    cost_usd: float = 0.0
    seconds: float = 0.0
    wall_s: float = 0.0
    utilisation: float | None = None
