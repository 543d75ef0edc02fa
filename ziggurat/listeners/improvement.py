"""When the front of a stage last grew, event by event, in time and in money that went by since.

The hypervolume itself is not computed: it grows exactly when a trial arrives inside the reference box that no
earlier one is at least as good as in every objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ziggurat.domain import Objective, Trial


@dataclass(frozen=True)
class Mark:
    """A moment of a run: the time, how long work had gone on by then, and what had been spent."""

    utc: float
    active_s: float
    spent_usd: float


class Growth:
    """The front of one stage, and when it last grew."""

    def __init__(self, objectives: tuple[Objective, ...], begun: Mark) -> None:
        """An empty front at the beginning of the stage."""
        self._objectives = objectives
        self._reference = np.array([o.loss(o.reference) for o in objectives])
        self._front = np.empty((0, len(objectives)))
        self.last = begun

    def arrive(self, trial: Trial, mark: Mark) -> bool:
        """Whether a trial at its top rung makes the front grow; if so, that is the last time it grew."""
        if any(o.breaks_limit(trial.value(o.metric)) for o in self._objectives):
            return False
        losses = np.array(trial.losses(self._objectives))
        # comparisons with NaN are false, so an incomplete trial is not inside
        if not (losses < self._reference).all() or (self._front <= losses).all(axis=1).any():
            return False
        self._front = np.vstack([self._front[~(losses <= self._front).all(axis=1)], losses])
        self.last = mark
        return True
