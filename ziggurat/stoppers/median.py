"""The median rule: a trial ends when its best is worse than what half of its peers showed on average."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ziggurat.domain import Decision, Trial
from ziggurat.protocols import Context
from ziggurat.setting import Setting
from ziggurat.stoppers import rungs


class Median(Setting):
    """Stops a trial whose best result so far is worse than the median of its peers' running averages.

    Peers are the other trials of the stage that have a result at the rung; the running average of a peer is
    the mean of its results at all rungs up to there. As results improve while training goes on, an average
    lies behind the best, so the rule is kinder than `percentile` at 50. With several objectives the trial's
    best and the peers' averages are compared by their non-dominated ranks. Unknown results count as the worst
    of all, and a trial that has learned nothing (see `floor`) ends whatever its peers did.

    Source: Golovin et al. 2017, Google Vizier, the median stopping rule. There peers are completed trials;
    here all that have come as far, since a parallel search has none completed for long.
    """

    kind: Literal["median"] = "median"
    grace: int = Field(default=0, ge=0, le=100, description="Rung (from 0) below which no trial is stopped.")
    min_peers: int = Field(
        default=5, ge=1, le=10_000, description="Other trials at a rung without which none is stopped."
    )
    floor: rungs.Floor = Field(
        default="chance",
        description="What a trial must beat at a rung: chance alone, or chance and the reference as well.",
    )

    def decide(self, trial: Trial, context: Context) -> Decision:
        """What happens to a trial that has just reached `trial.rung`, below the top."""
        rung = trial.rung
        if rung < self.grace:
            return Decision.CONTINUE
        if rungs.worthless(trial, rung, context, self.floor):
            return Decision.STOP
        peers = rungs.peers(trial, context)
        if len(peers) < self.min_peers:
            return Decision.CONTINUE
        own, others = rungs.scores(
            rungs.best_so_far(trial, rung, context),
            [rungs.average_so_far(t, rung, context) for t in peers],
        )
        return Decision.STOP if own > float(np.median(others)) else Decision.CONTINUE

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's argument
        """No trial is ever paused, so none is promoted."""
        return None
