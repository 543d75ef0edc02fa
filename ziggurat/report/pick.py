"""Which model to take, and what is known of it: a retrained one, or the best of the search if there is none.

The choice is made by validation among the models that keep all limits; the sealed test part has no say in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.report.results import FrontRow, RetrainedRow, Statistic

if TYPE_CHECKING:
    from ziggurat.domain import Candidate, Objective
    from ziggurat.report.results import Summary

LEVEL = 0.975
"""Quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Pick:
    """The model to take.

    Attributes:
        trial: Search trial of its architecture.
        candidate: The architecture.
        searched: What the search knew of it; None if it is not on the front.
        retrained: What retraining found; None if it was not retrained.
    """

    trial: int
    candidate: Candidate
    searched: FrontRow | None
    retrained: RetrainedRow | None

    def find(self, metric: str) -> Statistic | None:
        """A metric as retrained models were measured, else as the search knew it."""
        found = None if self.retrained is None else self.retrained.find(metric)
        if found is None and self.searched is not None and metric in self.searched.metrics:
            value = self.searched.metrics[metric]
            return Statistic(value, None, (value,))
        return found


def pick(summary: Summary) -> Pick | None:
    """The model to take; None where nothing is an answer."""
    front = {row.trial: row for row in summary.front}
    kept = [row for row in summary.retrained if keeps_limits(row, summary.objectives)]
    if kept or summary.retrained:
        row = (kept or list(summary.retrained))[0]
        return Pick(row.trial, row.candidate, front.get(row.trial), row)
    if not summary.front:
        return None
    best = summary.front[0]
    return Pick(best.trial, best.candidate, best, None)


def keeps_limits(row: RetrainedRow, objectives: tuple[Objective, ...]) -> bool:
    """Whether the means of a retrained model keep every limit, as far as they are known."""
    pairs = [(o, row.find(o.metric)) for o in objectives]
    return not any(s is not None and o.breaks_limit(s.mean) for o, s in pairs)


def interval(statistic: Statistic) -> tuple[float, float] | None:
    """The 95 % interval of the mean over seeds (Student 1908); None for fewer than three seeds.

    With two seeds it would be thirteen standard errors wide, and say less than the two values.
    """
    n = len(statistic.values)
    if n < 3 or statistic.spread is None or not math.isfinite(statistic.mean):  # noqa: PLR2004
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, LEVEL)) * statistic.spread / math.sqrt(n)
    return statistic.mean - half, statistic.mean + half
