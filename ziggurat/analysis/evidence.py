"""Which trials an analysis may use, and which of them are the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat import pareto
from ziggurat.answers import blameless, is_answer
from ziggurat.domain import Goal, Measurement, Objective, Trial, TrialStatus

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
TOP_SHARE = 0.25
"""Share of the fully trained trials that counts as the best, beside the front."""
FEWEST = 4
"""Trials that a group has at least before anything is said about it."""


def complete(trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Trial]:
    """Trials at their top rung that know every objective, by number."""
    found = [
        t
        for t in trials
        if t.rung >= 0
        and t.rung == t.top_rung
        and all(math.isfinite(value) for value in t.losses(tuple(objectives)))
    ]
    return sorted(found, key=lambda t: t.number)


def tried(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that had their chance: ended for reasons of their own, or put off before their top rung."""
    return [t for t in trials if (t.ended or t.status is TrialStatus.PAUSED) and not blameless(t)]


def exact(trials: Sequence[Trial], metric: str) -> bool:
    """Whether a metric is known before training without any error, such as the number of parameters."""
    found = [t.static.get(metric) for t in trials]
    return bool(found) and all(m is not None and _counted(m) for m in found)


def _counted(measurement: Measurement) -> bool:
    return measurement.step is None and measurement.spread is None and measurement.samples is None


def values_of(trials: Sequence[Trial], metric: str) -> FloatArray:
    """(n,) values of a metric at the highest rung of each trial."""
    return np.array([t.value(metric) for t in trials], dtype=float)


def is_share(objective: Objective, values: FloatArray) -> bool:
    """Whether a metric is a share to maximise, such as an accuracy, of which errors are spoken in points."""
    named = objective.metric.endswith("accuracy") and objective.goal is Goal.MAXIMIZE
    return named and bool(np.all((values >= 0) & (values <= 1)))


@dataclass(frozen=True)
class Groups:
    """The fully trained trials and which of them are the best.

    Attributes:
        trials: By number.
        best: (n,) whether a trial is among the best.
        front: (n,) whether it is on the front and better than the reference in every objective; on the
            front alone where none is better than the reference.
        outer: (n,) whether it is on the front, but worth nothing.
    """

    trials: tuple[Trial, ...]
    best: BoolArray
    front: BoolArray
    outer: BoolArray

    @property
    def top(self) -> list[Trial]:
        """The best, by number."""
        return [t for t, best in zip(self.trials, self.best, strict=True) if best]


def groups(
    trials: Sequence[Trial], objectives: Sequence[Objective], share: float = TOP_SHARE, least: int = 0
) -> Groups:
    """The front and the next non-dominated ranks, until a share of the fully trained trials is reached.

    Trials beyond a limit, or not better than the reference, come behind all others.

    Args:
        trials: Of one search, in any state.
        objectives: In the order of the spec.
        share: Of the fully trained trials that is to be among the best, at least.
        least: How many are to be among the best, at least.
    """
    aims = tuple(objectives)
    mine = complete(trials, aims)
    losses = np.array([t.losses(aims) for t in mine], dtype=float).reshape(len(mine), len(aims))
    answers = np.array([is_answer(t, aims) for t in mine], dtype=bool)
    corner = np.array([o.loss(o.reference) for o in aims])
    worth = answers & (losses < corner).all(axis=1)
    on_front = np.zeros(len(mine), dtype=bool)
    on_front[answers] = pareto.is_front(losses[answers])
    front = on_front & worth if worth.any() else on_front
    wanted = max(int(front.sum()), math.ceil(share * len(mine)), least)
    # what keeps the limits and is worth something comes first, then what keeps the limits
    ordered = [np.flatnonzero(worth), np.flatnonzero(answers & ~worth), np.flatnonzero(~answers)]
    ranked = [int(i) for part in ordered for i in part[pareto.order(losses[part])]] if len(mine) else []
    best = np.zeros(len(mine), dtype=bool)
    best[ranked[:wanted]] = True
    return Groups(tuple(mine), best, front, on_front & ~front)
