"""The percentile rule: a trial ends when too many of its peers are better at the same rung."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from ziggurat.domain import Decision, Trial
from ziggurat.protocols import Context
from ziggurat.setting import Setting
from ziggurat.stoppers import rungs
from ziggurat.stoppers.rungs import FloatArray


class Percentile(Setting):
    """Stops a trial whose best result so far lies below a percentile of its peers' at the same rung.

    That is, it ends if more than 100 - percentile per cent of its peers are strictly better. Peers are the
    other trials of the stage that have a result at the rung, each with its best result up to there. With
    several objectives the trial and its peers are compared by their non-dominated rank (the best of each
    objective so far counts), so a trial on the front is never stopped by its peers. Unknown results count as
    the worst of all, and a trial that has learned nothing (see `floor`) ends whatever its peers did.

    Source: the median rule of Golovin et al. 2017, Google Vizier, for any percentile; what is compared is the
    best so far on both sides.
    """

    kind: Literal["percentile"] = "percentile"
    percentile: float = Field(
        default=50.0,
        gt=0,
        lt=100,
        description="A trial below this percentile of its peers ends; 25 ends the worst quarter.",
    )
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
            better = int(np.count_nonzero(others < own))
            return 100.0 * better > (100.0 - self.percentile) * len(others)

        return rungs.against_peers(trial, context, self, rungs.best_so_far, bad)

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's argument
        """No trial is ever paused, so none is promoted."""
        return None

    def reach(self, top: int) -> list[float]:
        """Expected share of the trials that train towards each rung up to the top."""
        kept = 1.0 - self.percentile / 100.0
        return [kept ** max(0, rung - self.grace) for rung in range(top + 1)]
