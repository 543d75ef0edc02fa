"""Does what is cheap rank as what is dear: lowest rung as top rung, search as full training?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.report.summary import RETRAIN, SEARCH, over_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.domain import Objective, Trial
    from ziggurat.history import History
    from ziggurat.report.results import Summary

PROBES = "proxy"
AT_MOST = 400
"""Points that are told apart; tau rests on all."""
FEWEST = 6
"""Pairs below which an interval is not told."""
Z95 = 1.959964
FIELLER = 0.437


@dataclass(frozen=True)
class Agreement:
    """One comparison of two rankings by one metric.

    Attributes:
        id: `rungs` or `retrained`.
        metric: What is ranked by.
        trials: Numbers of the trials.
        cheap: Their values by the cheap setting.
        dear: By the dear one.
        low: Lower ends of the dear values over seeds; empty where there are none.
        high: Upper ends.
        probed: Whether each was chosen for being compared, rather than promoted by the search.
        tau: Kendall's tau-b over those that the search promoted or chose; NaN where it is not defined.
        tau_low: Lower end of its 95 % interval; NaN for few.
        tau_high: Upper end.
        count: How many pairs of values tau rests on.
    """

    id: str
    metric: str
    trials: tuple[int, ...]
    cheap: tuple[float, ...]
    dear: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    probed: tuple[bool, ...] = ()
    tau: float = math.nan
    tau_low: float = math.nan
    tau_high: float = math.nan
    count: int = 0


def agreements(learned: Objective, summary: Summary, history: History) -> list[Agreement]:
    """Both comparisons, as far as there is anything to compare.

    Args:
        learned: What trainings are judged by.
        summary: Of the run.
        history: Of the run.
    """
    found = [_rungs(learned.metric, history), _retrained(learned.metric, summary, history)]
    return [a for a in found if a is not None]


def _rungs(metric: str, history: History) -> Agreement | None:
    both = [t for stage in (PROBES, SEARCH) for t in history.of_stage(stage) if _climbed(t)]
    pairs = [(t, t.value(metric, 0), t.value(metric, t.top_rung)) for t in both]
    pairs = [p for p in pairs if math.isfinite(p[1]) and math.isfinite(p[2])]
    if len(pairs) < 2:  # noqa: PLR2004 - one point ranks nothing
        return None
    mine = [p for p in pairs if p[0].stage == SEARCH] or pairs
    tau, low, high = kendall([p[1] for p in mine], [p[2] for p in mine])
    step = max(1, math.ceil(len(pairs) / AT_MOST))
    pairs = [p for i, p in enumerate(pairs) if p[0].stage == PROBES or i % step == 0]
    return Agreement(
        id="rungs",
        metric=metric,
        trials=tuple(t.number for t, _, _ in pairs),
        cheap=tuple(a for _, a, _ in pairs),
        dear=tuple(b for _, _, b in pairs),
        probed=tuple(t.stage == PROBES for t, _, _ in pairs),
        tau=tau,
        tau_low=low,
        tau_high=high,
        count=len(mine),
    )


def _climbed(trial: Trial) -> bool:
    return trial.top_rung > 0 and 0 in trial.results and trial.top_rung in trial.results


def _retrained(metric: str, summary: Summary, history: History) -> Agreement | None:
    rows = []
    for row in summary.retrained:
        origin = history.trials[row.trial]
        # over the seeds of one metric, whatever others are called
        done = [history.trials[n] for n in row.trials]
        known = [t.results[t.rung][metric] for t in done if metric in t.results.get(t.rung, {})]
        searched = origin.value(metric)
        if origin.stage != RETRAIN and known and math.isfinite(searched):
            dear = over_seeds(known)
            if all(map(math.isfinite, dear.values)):
                rows.append((row.trial, searched, dear))
    if len(rows) < 2:  # noqa: PLR2004 - one point ranks nothing
        return None
    tau, low, high = kendall([a for _, a, _ in rows], [s.mean for _, _, s in rows])
    return Agreement(
        id="retrained",
        metric=metric,
        trials=tuple(n for n, _, _ in rows),
        cheap=tuple(a for _, a, _ in rows),
        dear=tuple(s.mean for _, _, s in rows),
        low=tuple(min(s.values) for _, _, s in rows),
        high=tuple(max(s.values) for _, _, s in rows),
        tau=tau,
        tau_low=low,
        tau_high=high,
        count=len(rows),
    )


def kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float, float, float]:
    """Kendall's tau-b with a 95 % interval; NaN where it is not defined, no interval for few pairs.

    Source: Kendall 1945; the interval by Fisher's transformation with the variance .437 / (n - 4) of Fieller,
    Hartley and Pearson 1957, Biometrika 44, 470-481.
    """
    from scipy.stats import kendalltau

    if len(first) < 2:  # noqa: PLR2004 - one point ranks nothing
        return math.nan, math.nan, math.nan
    tau = float(kendalltau(first, second).statistic)
    if not math.isfinite(tau) or len(first) < FEWEST:
        return tau, math.nan, math.nan
    middle = math.atanh(min(max(tau, -0.9999), 0.9999))
    half = Z95 * math.sqrt(FIELLER / (len(first) - 4))
    return tau, math.tanh(middle - half), math.tanh(middle + half)
