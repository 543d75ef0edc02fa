"""The front of a search as it grows, event by event: what the parent run in MLflow tells of it.

A trial is looked at when something happens to it, so that a search of thousands costs little; the outcome is
the same as if the front were made anew each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ziggurat import pareto
from ziggurat.answers import eligible, is_answer
from ziggurat.domain import TrialStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ziggurat.domain import Objective, Trial
    from ziggurat.history import History


class Front:
    """The non-dominated search trials so far."""

    def __init__(self, objectives: tuple[Objective, ...], stage: str = "search") -> None:
        """Begin without any."""
        self._objectives, self._stage = objectives, stage
        self._corner = [o.loss(o.reference) for o in objectives]
        self._known: dict[int, tuple[float, ...]] = {}
        self._front: dict[int, tuple[float, ...]] = {}
        self._volume: float | None = 0.0

    @property
    def numbers(self) -> frozenset[int]:
        """The trials on the front."""
        return frozenset(self._front)

    def heed(self, trial: Trial, history: History) -> bool:
        """Look at a trial that something has happened to; whether the front is another one now."""
        if trial.stage != self._stage:
            return False
        losses = tuple(trial.losses(self._objectives)) if self._counts(trial) else None
        if self._known.get(trial.number) == losses:
            return False
        if trial.number in self._known:  # measured anew: what it had kept off the front may come back
            return self._anew(history)
        assert losses is not None
        self._known[trial.number] = losses
        return self._enter(trial.number, losses)

    def _counts(self, trial: Trial) -> bool:
        return trial.status is TrialStatus.COMPLETED and is_answer(trial, self._objectives)

    def _enter(self, number: int, losses: tuple[float, ...]) -> bool:
        if any(_dominates(other, losses) for other in self._front.values()):
            return False
        self._front = {n: row for n, row in self._front.items() if not _dominates(losses, row)}
        self._front[number] = losses
        self._volume = None
        return True

    def _anew(self, history: History) -> bool:
        before = dict(self._front)
        answers = eligible(history, self._objectives)
        self._known = {t.number: tuple(t.losses(self._objectives)) for t in answers}
        keep = pareto.is_front(list(self._known.values()))
        self._front = {n: row for (n, row), on in zip(self._known.items(), keep, strict=True) if on}
        self._volume = None
        return before != self._front

    def told(self) -> Mapping[str, float]:
        """The best value of each objective, how many trials are on the front, and what it dominates."""
        if not self._front:
            return {}
        if self._volume is None:
            self._volume = pareto.hypervolume(np.array(list(self._front.values())), self._corner)
        best = np.array(list(self._front.values())).min(axis=0)
        return {
            **{f"best_{o.metric}": o.loss(float(v)) for o, v in zip(self._objectives, best, strict=True)},
            "front_size": float(len(self._front)),
            "hypervolume": self._volume,
        }


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
