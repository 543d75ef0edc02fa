"""The tables of the page as rows of text: key numbers, front and retrained models.

Cells are plain text; the template escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.report import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.domain import Candidate, Objective
    from ziggurat.report.case import Case
    from ziggurat.report.results import RetrainedRow, Statistic, Summary

ROWS = 200
"""Longest table printed; the rest is in front.json."""
LATENCIES = ("latency_p50_ms", "latency_p90_ms", "latency_p99_ms")
DEVICE_METRICS = (*LATENCIES, "peak_memory_mb", "file_size_mb", "energy_mj")
"""Metrics of a model on a device."""
NOTES = frozenset({"learning_rate", "train_loss"})
"""Metrics that say how a training went, not how good a model is."""
WIDE = 2
"""Columns for metrics beside the objectives; the others are in front.json."""
FURTHER = "Further metrics are in front.json."
QUALITY = ("latency_noise", "cpu_share")
"""Metrics that say how good a measurement is, not how good a model."""


@dataclass(frozen=True)
class Cell:
    """One cell: text, and how it is set."""

    text: str
    style: str = ""
    title: str = ""


@dataclass(frozen=True)
class Table:
    """A heading and rows of cells."""

    head: tuple[Cell, ...] = ()
    rows: tuple[tuple[Cell, ...], ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Card:
    """One key number."""

    label: str
    value: str
    detail: str = ""


def cards(case: Case) -> list[Card]:
    """The key numbers."""
    summary, counts = case.summary, case.summary.counts
    ends = [(counts.completed, "completed"), (counts.stopped, "stopped early"), (counts.failed, "failed")]
    ends += [(counts.open, "unfinished"), (counts.rejected, "rejected before launch")]
    trials = " · ".join(f"{n:,} {what}" for n, what in ends if n)
    volume = words.number(summary.hypervolume, 4)
    against = "" if summary.baseline is None else f"random baseline: {words.number(summary.baseline, 4)}"
    return [
        Card("Trials", f"{counts.total:,}", trials or "none started"),
        Card(
            "Front",
            f"{len(summary.front):,}",
            "non-dominated " + ("trial" if len(summary.front) == 1 else "trials"),
        ),
        Card("Hypervolume", volume, against or "against the reference point"),
        Card("Cost", words.usd(summary.cost_usd), _money(case)),
        Card(
            "Wall time", words.duration(summary.wall_s), f"{words.duration(summary.seconds)} of worker time"
        ),
        Card(
            "Utilisation",
            words.percent(summary.utilisation),
            f"search, {words.many(case.spec.search.workers, 'worker')}",
        ),
    ]


def _money(case: Case) -> str:
    plan, limit = case.spec.budget.plan_usd, case.limit_usd
    parts = [f"plan {words.usd(plan)}"] if plan is not None else []
    parts.append(f"limit {words.usd(limit)}" if limit is not None else "no limit")
    if case.facts.usd_per_hour is not None:
        parts.append(f"{words.usd(case.facts.usd_per_hour)} per worker hour")
    return " · ".join(parts)


def shared(candidates: Sequence[Candidate]) -> dict[str, str]:
    """Choices that are the same in all of several candidates; they are named once, not in every row."""
    if len(candidates) < 2:  # noqa: PLR2004 - a single candidate shares nothing
        return {}
    first = candidates[0].choices
    missing = object()
    return {
        name: words.setting(value)
        for name, value in first.items()
        if all(c.choices.get(name, missing) == value for c in candidates)
    }


def column(objective: Objective, unit: str) -> Cell:
    """The heading of an objective's column."""
    bounds = [f"reference {words.shown(objective.metric, objective.reference, unit)}"]
    if objective.limit is not None:
        bounds.append(f"limit {words.shown(objective.metric, objective.limit, unit)}")
    return Cell(
        f"{words.heading(objective.metric, unit)} {words.aim(objective)}", "number", ", ".join(bounds)
    )


def measured(name: str) -> bool:
    """Whether a metric was measured on a device."""
    return "@" in name or name in DEVICE_METRICS or name in QUALITY


def front(summary: Summary) -> Table:
    """The front with exact settings."""
    rows = summary.front[:ROWS]
    known = {o.metric for o in summary.objectives}
    beside = known | NOTES | set(QUALITY)
    others = list(dict.fromkeys(n for r in rows for n in r.metrics if n.partition("@")[0] not in beside))
    others, more = others[:WIDE], len(others) > WIDE
    names = dict.fromkeys(n for r in rows for n in r.candidate.choices)
    same = shared([r.candidate for r in rows])
    differing = [n for n in names if n not in same]
    head = (
        Cell("Trial", "number"),
        *(column(o, summary.units[o.metric]) for o in summary.objectives),
        *(Cell(words.heading(n), "number") for n in others),
        Cell("Cost", "number"),
        *(Cell(n, "setting") for n in differing),
    )
    body = tuple(
        (
            Cell(f"{r.trial}{' ◆' if r.knee else ''}", "number", "the knee of the front" if r.knee else ""),
            *(Cell(words.bare(o.metric, r.metrics[o.metric]), "number strong") for o in summary.objectives),
            *(
                Cell(words.bare(n, r.metrics[n]) if n in r.metrics else words.ABSENT, "number")
                for n in others
            ),
            Cell(words.usd(r.cost_usd), "number"),
            *(
                Cell(
                    words.setting(r.candidate.choices[n]) if n in r.candidate.choices else words.ABSENT,
                    "setting",
                )
                for n in differing
            ),
        )
        for r in rows
    )
    notes = ["◆ marks the knee, the balanced choice." if any(r.knee for r in rows) else ""]
    notes.append(f"The same for all: {', '.join(f'{n} = {v}' for n, v in same.items())}." if same else "")
    notes.append(predictions(summary))
    notes.append(FURTHER if more else "")
    hidden = len(summary.front) - len(rows)
    notes.append(f"{hidden:,} further points are in front.json." if hidden > 0 else "")
    return Table(head, body, " ".join(n for n in notes if n))


def predictions(summary: Summary) -> str:
    """Which metrics of the front were predicted rather than measured, and how well; empty if none."""
    parts = []
    for name in dict.fromkeys(n for r in summary.front for n in r.predicted):
        errors = [r.predicted[name] for r in summary.front if name in r.predicted]
        points = f"{len(errors)} of {words.many(len(summary.front), 'point')}"
        what = words.capital(words.name_of(name))
        parts.append(f"{what} is predicted by a table for {points} (± {100 * max(errors):.1f} %).")
    if parts and summary.retrained:
        parts.append("Retrained models are measured.")
    return " ".join(parts)


def retrained(case: Case) -> Table:
    """Retrained models: mean and spread over seeds, without what was measured on devices."""
    rows = case.summary.retrained
    known = {o.metric for o in case.summary.objectives}
    names = [
        n for n in dict.fromkeys(n for r in rows for n in r.metrics) if not measured(n) and n not in NOTES
    ]
    names.sort(key=lambda n: (not n.startswith("test_"), n not in known, not words.is_accuracy(n)))
    names, more = names[: len(known) + WIDE], len(names) > len(known) + WIDE
    same = shared([r.candidate for r in rows])
    head = (
        Cell("Trial", "number"),
        *(Cell(words.heading(n, _unit(rows, n)), "number") for n in names),
        Cell("Seeds", "number"),
        Cell("Cost", "number"),
        Cell("Settings", "setting"),
    )
    body = tuple(
        (
            Cell(str(r.trial), "number"),
            *(_stat(n, r.metrics.get(n), strong=n.startswith("test_")) for n in names),
            Cell(str(len(r.seeds)), "number", ", ".join(map(str, r.seeds))),
            Cell(words.usd(r.cost_usd), "number"),
            Cell(words.settings(r.candidate.choices, frozenset(same)), "settings"),
        )
        for r in rows
    )
    notes = ["Mean ± sample standard deviation over seeds; rows in the order of validation, never of test."]
    notes.append(FURTHER if more else "")
    notes.append(f"The same for all: {', '.join(f'{n} = {v}' for n, v in same.items())}." if same else "")
    return Table(head, body, " ".join(n for n in notes if n))


def _unit(rows: Sequence[RetrainedRow], name: str) -> str:
    return next((r.metrics[name].unit for r in rows if name in r.metrics), "1")


def _stat(name: str, stat: Statistic | None, *, strong: bool) -> Cell:
    if stat is None:
        return Cell(words.ABSENT, "number")
    each = ", ".join(words.shown(name, v, stat.unit) for v in stat.values)
    return Cell(words.spread(name, stat.mean, stat.spread), "number strong" if strong else "number", each)
