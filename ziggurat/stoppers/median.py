"""The median rule: a trial ends when its best is worse than what half of its peers showed on average."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ziggurat.domain import Decision, Trial
from ziggurat.protocols import Context
from ziggurat.setting import Setting
from ziggurat.stoppers import rungs
from ziggurat.stoppers.rungs import FloatArray


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

        def bad(own: float, others: FloatArray) -> bool:
            return own > float(np.median(others))

        return rungs.against_peers(trial, context, self, rungs.average_so_far, bad)

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's argument
        """No trial is ever paused, so none is promoted."""
        return None
