"""What was reached for which money: best values and hypervolume against cost, and where more stops paying.

Costs are those of the stage's own trainings; what was retrained or measured later is listed by stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ziggurat import pareto
from ziggurat.answers import is_answer
from ziggurat.domain import JobKind, Objective, Trial
from ziggurat.history import History
from ziggurat.segments import Segment

SEARCH = "search"
CHANCE = "chance."
LEAST_BEND = 0.1
"""Share of its whole rise by which a curve must lie above its chord for its bend to be called a knee."""
PERCENT = 100.0


@dataclass(frozen=True)
class Curve:
    """What a search had reached by which cost; one entry for each trial that came to its top rung.

    Attributes:
        name: Of the run.
        cost_usd: US dollars that all segments of the stage had cost by then.
        best: Best value so far of the first objective that training tells, among trials within all limits.
        hypervolume: Of the front so far, against the objectives' references.
        knee: Index of the knee of the hypervolume; None if there is no clear one.
        stages: US dollars by stage, all stages of the run.
        seconds: Worker seconds that the segments had taken by then.
        metric: Whose best value it is.
        total_usd: What the stage cost in all.
        total_s: Worker seconds of the stage in all.
    """

    name: str
    cost_usd: tuple[float, ...]
    best: tuple[float, ...]
    hypervolume: tuple[float, ...]
    knee: int | None
    stages: Mapping[str, float] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    metric: str = ""
    total_usd: float = 0.0
    total_s: float = 0.0

    @property
    def priced(self) -> bool:
        """Whether the stage cost any money; if not, worker seconds are its cost."""
        return self.total_usd > 0

    @property
    def cost(self) -> tuple[float, ...]:
        """US dollars, or worker seconds where nothing has a price."""
        return self.cost_usd if self.priced else self.seconds

    @property
    def total(self) -> float:
        """What the stage cost in all, in the unit of `cost`."""
        return self.total_usd if self.priced else self.total_s

    def at(self, cost: float) -> tuple[float, float]:
        """Best value and hypervolume that had been reached by some cost; NaN and 0 before the first."""
        index = int(np.searchsorted(np.array(self.cost), cost * (1 + 1e-12), side="right")) - 1
        return (self.best[index], self.hypervolume[index]) if index >= 0 else (math.nan, 0.0)


@dataclass(frozen=True)
class CostPerPoint:
    """What an improvement cost, in US dollars, or in worker seconds where nothing has a price.

    Attributes:
        total: Cost of the search.
        priced: Whether costs are US dollars.
        metric: Whose points are counted.
        above: What they are counted from: `chance` or `reference`.
        base: Its value.
        best: Best value of the metric on the front.
        points: How far the best value lies beyond the base: percentage points of a share, else units.
        per_point: Cost for each of these; None if the best is not better than the base.
        front: Trials on the front.
        per_front_point: Cost for each of them; None without any.
    """

    total: float
    priced: bool
    metric: str
    above: str
    base: float
    best: float
    points: float
    per_point: float | None
    front: int
    per_front_point: float | None


def curve(history: History, objectives: Sequence[Objective], name: str = "", stage: str = SEARCH) -> Curve:
    """What a stage had reached by which cost.

    Args:
        history: What has happened.
        objectives: In the order of the spec.
        name: Of the curve; by default the run's.
        stage: Whose trials count.
    """
    aims = tuple(objectives)
    followed = _Followed(aims, _learned(history, aims, stage))
    spent = seconds = 0.0
    for segment in _ended(history, stage):
        assert segment.end is not None
        spent, seconds = spent + segment.end.cost_usd, seconds + segment.end.seconds
        trial = history.trials.get(segment.job.trial)
        if trial is not None and _crowns(segment, trial):
            followed.take(trial, spent, seconds)
    spent += sum(c.cost_usd for c in history.charges if c.stage == stage)
    along = followed.usd if spent > 0 else followed.seconds
    return Curve(
        name=name or history.run_id,
        cost_usd=tuple(followed.usd),
        best=tuple(followed.best),
        hypervolume=tuple(followed.volume),
        knee=knee_of(along, followed.volume),
        stages=stage_costs(history),
        seconds=tuple(followed.seconds),
        metric=followed.objective.metric,
        total_usd=spent,
        total_s=seconds,
    )


class _Followed:
    """The curves while trials come in."""

    def __init__(self, objectives: tuple[Objective, ...], objective: Objective) -> None:
        self.usd: list[float] = []
        self.seconds: list[float] = []
        self.best: list[float] = []
        self.volume: list[float] = []
        self.objective = objective
        self._aims = objectives
        self._corner = np.array([o.loss(o.reference) for o in objectives])
        self._front = np.zeros((0, len(objectives)))

    def take(self, trial: Trial, usd: float, seconds: float) -> None:
        """One more trial at its top rung."""
        if not is_answer(trial, self._aims):
            return
        row = np.array(trial.losses(self._aims))
        volume = self.volume[-1] if self.volume else 0.0
        if not len(self._front) or not (self._front <= row).all(axis=1).any():
            rows = np.vstack([self._front, row])
            self._front = rows[pareto.is_front(rows)]
            volume = pareto.hypervolume(self._front, self._corner)
        value = trial.value(self.objective.metric)
        if self.best and self.objective.loss(value) > self.objective.loss(self.best[-1]):
            value = self.best[-1]
        self.usd.append(usd)
        self.seconds.append(seconds)
        self.best.append(value)
        self.volume.append(volume)


def knee_of(cost: Sequence[float], value: Sequence[float]) -> int | None:
    """Index of the point of a growing curve that lies farthest above the chord from its first to its last.

    Up to there a further dollar brings more than the average dollar of the whole curve, from there on less.
    A curve with fewer than three different values, or that never rises by a tenth of its height above the
    chord, has none.

    Args:
        cost: (n,) ascending.
        value: (n,) ascending, such as the hypervolume.

    Source: Satopaa et al. 2011, Finding a "Kneedle" in a Haystack, section II, without smoothing: what has
    been reached can only grow.
    """
    x, y = np.array(cost, dtype=float), np.array(value, dtype=float)
    known = np.isfinite(y)
    if len(np.unique(y[known])) < 3 or x[known][-1] <= x[known][0]:  # noqa: PLR2004 - ends and a bend
        return None
    index = np.flatnonzero(known)
    x, y = x[known], y[known]
    above = (y - y[0]) / (y[-1] - y[0]) - (x - x[0]) / (x[-1] - x[0])
    at = int(np.argmax(above))
    return int(index[at]) if above[at] >= LEAST_BEND else None


def cost_per_point(
    history: History, objectives: Sequence[Objective], stage: str = SEARCH
) -> CostPerPoint | None:
    """What a point of accuracy above chance, and a point of the front, cost; None without an answer.

    Args:
        history: What has happened; the preflight's chance counts if there is one, else the reference.
        objectives: In the order of the spec.
        stage: Whose trials count.
    """
    aims = tuple(objectives)
    answers = [t for t in history.of_stage(stage) if is_answer(t, aims)]
    if not answers:
        return None
    found = curve(history, aims, stage=stage)
    objective = _learned(history, aims, stage)
    losses = np.array([t.losses(aims) for t in answers], dtype=float)
    front = int(pareto.is_front(losses).sum())
    chance = _chance(history, objective.metric)
    base = objective.reference if chance is None else chance
    best = min((t.value(objective.metric) for t in answers), key=objective.loss)
    points = objective.loss(base) - objective.loss(best)
    points *= PERCENT if objective.metric.endswith("accuracy") else 1.0
    return CostPerPoint(
        total=found.total,
        priced=found.priced,
        metric=objective.metric,
        above="reference" if chance is None else "chance",
        base=base,
        best=best,
        points=points,
        per_point=found.total / points if points > 0 else None,
        front=front,
        per_front_point=found.total / front if front else None,
    )


def stage_costs(history: History) -> dict[str, float]:
    """US dollars by stage, in the order of their first cost; charges outside of any stage under `idle`."""
    found: dict[str, float] = {}
    for segment in _ended(history, None):
        assert segment.end is not None
        found[segment.job.stage] = found.get(segment.job.stage, 0.0) + segment.end.cost_usd
    for charge in history.charges:
        name = charge.stage or "idle"
        found[name] = found.get(name, 0.0) + charge.cost_usd
    return found


def _chance(history: History, metric: str) -> float | None:
    """What a model without skill reaches, as the preflight found."""
    done = history.stages.get("preflight")
    value = done.summary.get(CHANCE + metric) if done is not None else None
    return float(value) if isinstance(value, (int, float)) else None


def _learned(history: History, objectives: tuple[Objective, ...], stage: str) -> Objective:
    """The first objective that training tells; the first of all if none does."""
    told = {name for t in history.of_stage(stage) for found in t.results.values() for name in found}
    return next((o for o in objectives if o.metric in told), objectives[0])


def _ended(history: History, stage: str | None) -> list[Segment]:
    """Segments that have ended, in the order of their ends."""
    done = [s for s in history.segments.values() if s.end is not None and s.finished_utc is not None]
    mine = [s for s in done if stage is None or s.job.stage == stage]
    return sorted(mine, key=lambda s: s.finished_utc or 0.0)


def _crowns(segment: Segment, trial: Trial) -> bool:
    """Whether a segment brought its trial to the top rung."""
    ended_well = segment.end is not None and segment.end.failure is None
    return ended_well and segment.job.kind is JobKind.TRAIN and segment.job.to_rung >= trial.top_rung
