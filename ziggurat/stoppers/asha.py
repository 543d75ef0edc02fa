"""Asynchronous successive halving, for one or several objectives, in its stopping and its promotion form."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import Field

from ziggurat import pareto
from ziggurat.domain import Decision, Objective, Trial, TrialStatus
from ziggurat.protocols import Context
from ziggurat.setting import Setting

ACTIVE = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNDECIDED, TrialStatus.READY)
"""States of a trial from which results may still come without a promotion."""


class Asha(Setting):
    """Spends more on the best share of the trials of every rung, without waiting for a rung to be full.

    Trials are compared at a rung by non-dominated sorting over all objectives, within a front by an epsilon
    net; with one objective that is plain order. Unknown objectives rank last.

    `stopping` decides at once: of the n trials that have a result at a rung (this one included), the best
    ceil(n / reduction_factor) go on and the others end, so the first is never stopped by its rank.
    `promotion` pauses every trial, and a free worker takes the best paused one among the best floor(n /
    reduction_factor) of the highest rung that has one.

    Whatever its rank, a trial ends if it is worthless: on every objective that had to be learned it is no
    better than chance or than the reference; or a metric known before training lies beyond its hard limit.
    Worthless trials count in n but rank behind all others, so a small network that learns nothing takes
    nobody's place.

    Source: Li et al. 2018, arXiv 1810.05934, algorithm 2 (promotion) and section 3.3; Schmucker et al. 2021,
    arXiv 2106.12639, for several objectives.
    """

    kind: Literal["asha"] = "asha"
    type: Literal["stopping", "promotion"] = Field(
        default="promotion",
        description="Whether a trial ends at once, or pauses until it earns the next rung.",
    )
    reduction_factor: float = Field(
        default=3.0, ge=2, le=100, description="One of so many trials of a rung reaches the next."
    )
    grace: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Rung (from 0) below which every trial continues, whatever its result.",
    )
    floor: Literal["reference", "chance"] = Field(
        default="reference",
        description="What a trial must beat at a rung: chance and the reference, or chance alone.",
    )

    def decide(self, trial: Trial, context: Context) -> Decision:
        """What happens to a trial that has just reached `trial.rung`, below the top."""
        if trial.rung < self.grace:
            return Decision.CONTINUE
        if self._worthless(trial, trial.rung, context):
            return Decision.STOP
        if self.type == "promotion":
            return Decision.PAUSE
        ranked = self._ranked(trial.rung, context)
        best = ranked[: math.ceil(len(ranked) / self.reduction_factor)]
        return Decision.CONTINUE if any(t.number == trial.number for t in best) else Decision.STOP

    def promote(self, context: Context) -> Trial | None:
        """The paused trial that earns the next rung now.

        When all trials of the stage are proposed and nothing is under way, but the top rung has no result,
        the best paused trial of the highest rung is promoted although its rung is too small: a small
        search, too, ends with a trial that was trained in full.
        """
        for rung in range(context.top - 1, self.grace - 1, -1):
            ranked = self._ranked(rung, context)
            promotable = ranked[: math.floor(len(ranked) / self.reduction_factor)]
            for trial in promotable:
                if self._waits_at(trial, rung, context):
                    return trial
        return self._last_resort(context)

    def _last_resort(self, context: Context) -> Trial | None:
        mine = context.mine()
        settled = len(mine) >= context.trials and not any(t.status in ACTIVE for t in mine)
        if not settled or any(context.top in t.results for t in mine):
            return None
        for rung in range(context.top - 1, -1, -1):
            for trial in self._ranked(rung, context):
                if self._waits_at(trial, rung, context):
                    return trial
        return None

    def _waits_at(self, trial: Trial, rung: int, context: Context) -> bool:
        paused = trial.status is TrialStatus.PAUSED and trial.rung == rung
        return paused and not self._worthless(trial, rung, context)

    def _ranked(self, rung: int, context: Context) -> list[Trial]:
        """Trials with a result at a rung, best first."""
        trials = context.history.at_rung(context.stage, rung)
        losses = [
            [math.nan] * len(context.objectives)
            if self._worthless(trial, rung, context)
            else trial.losses(context.objectives, rung)
            for trial in trials
        ]
        table = np.array(losses, dtype=float).reshape(len(trials), len(context.objectives))
        return [trials[i] for i in pareto.order(table)]

    def _worthless(self, trial: Trial, rung: int, context: Context) -> bool:
        """Whether a trial has learned nothing, or breaks a limit that is known without training."""
        known = (o for o in context.objectives if o.metric in trial.static)
        if any(o.breaks_limit(trial.static[o.metric].value) for o in known):
            return True
        learned = [
            o for o in context.objectives if o.metric in trial.results[rung] and o.metric not in trial.static
        ]
        return bool(learned) and not any(
            self._beats_floor(o, trial.value(o.metric, rung), context) for o in learned
        )

    def _beats_floor(self, objective: Objective, value: float, context: Context) -> bool:
        """Whether a value is better than what counts as nothing; NaN is not."""
        floors = [objective.loss(objective.reference)] if self.floor == "reference" else []
        if objective.metric in context.chance:
            floors.append(objective.loss(context.chance[objective.metric]))
        return not math.isnan(value) and all(objective.loss(value) < floor for floor in floors)
