"""The texts that appear over the points of the charts, as one table for all charts.

All text is escaped here, because plotly.js reads a part of HTML in its hover texts.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

from ziggurat.domain import Trial, TrialStatus
from ziggurat.report import words
from ziggurat.report.summary import SEARCH

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.domain import Candidate
    from ziggurat.report.blocks import Figure
    from ziggurat.report.case import Case
    from ziggurat.report.results import RetrainedRow, Summary

STATES = {TrialStatus.PAUSED: "stopped", TrialStatus.READY: "unfinished", TrialStatus.UNDECIDED: "unfinished"}
Row = list[Any]


def hover(case: Case, figures: Sequence[Figure]) -> dict[str, Any]:
    """For each key of a point its title, state, values and choices, and what the columns are called.

    Args:
        case: The run.
        figures: What is drawn; only trials that lie in one of them are told of.
    """
    history, summary = case.history, case.summary
    keys = {k for f in figures for trace in f.chart["data"] for k in trace.get("customdata", ())}
    trials = [t for n, t in history.trials.items() if str(n) in keys]
    models = [r for r in summary.retrained if f"r{r.trial}" in keys]
    candidates = [t.candidate for t in trials] + [r.candidate for r in models]
    names = list(dict.fromkeys(n for c in candidates for n in c.choices))
    rows: dict[str, Row] = {str(t.number): _trial(t, summary, names) for t in trials}
    rows |= {f"r{r.trial}": _retrained(r, summary, names) for r in models}
    metrics = [escape(words.capital(words.name_of(o.metric))) for o in summary.objectives]
    return {"metrics": [*metrics, "Cost"], "choices": [escape(n) for n in names], "trials": rows}


def _trial(trial: Trial, summary: Summary, names: list[str]) -> Row:
    state = STATES.get(trial.status, str(trial.status))
    values = [_shown(o.metric, trial.value(o.metric), summary) for o in summary.objectives]
    where = f"{state} at rung {trial.rung}" + ("" if trial.stage == SEARCH else f" ({escape(trial.stage)})")
    return [
        f"Trial {trial.number}",
        where,
        [*values, words.usd(trial.cost_usd)],
        _choices(trial.candidate, names),
    ]


def _retrained(row: RetrainedRow, summary: Summary, names: list[str]) -> Row:
    found = [row.find(o.metric) for o in summary.objectives]
    pairs = zip(summary.objectives, found, strict=True)
    values = [None if s is None else _shown(o.metric, s.mean, summary) for o, s in pairs]
    state = f"retrained, mean of {words.many(len(row.seeds), 'seed')}"
    return [f"Trial {row.trial}", state, [*values, words.usd(row.cost_usd)], _choices(row.candidate, names)]


def _shown(metric: str, value: float, summary: Summary) -> str | None:
    return words.shown(metric, value, summary.units[metric]) if math.isfinite(value) else None


def _choices(candidate: Candidate, names: list[str]) -> list[str | None]:
    return [escape(words.setting(candidate.choices[n])) if n in candidate.choices else None for n in names]
