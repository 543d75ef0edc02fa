"""The tables of a comparison as rows of text, and the numbers of a run that they show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ziggurat.report import words
from ziggurat.report.tables import Cell, Table

if TYPE_CHECKING:
    from ziggurat.report.compare import Comparison, Entry, Group, Spread

MOST_ROWS = 40
LONGEST = 80
"""Letters of a value that are shown; the rest is shown when one hovers over it."""


def _bare(comparison: Comparison, cost: float) -> str:
    return words.usd(cost) if comparison.priced else words.duration(cost)


def _head(comparison: Comparison, *first: str) -> tuple[Cell, ...]:
    metric = comparison.metric
    named = words.heading(metric, comparison.units.get(metric, "1"))
    texts = ["Trials", "Cost of the search", f"Best {named[:1].lower()}{named[1:]}", "Front", "Hypervolume"]
    texts += [
        "Cost per point" if words.is_accuracy(metric) else "Cost per unit",
        "Cost per front point",
        "Knee",
    ]
    return (*(Cell(t) for t in first), *(Cell(t, "number") for t in texts))


def groups(comparison: Comparison) -> Table:
    """A row for each group: medians, with the range where there are several seeds."""
    head = (*_head(comparison, "Setting", "Seeds"), Cell("Hypervolume at equal cost", "number"))
    rows = []
    for group in comparison.groups:
        style = "number strong" if group is comparison.leader else "number"
        cells = [Cell(text, "number", tip) for text, tip in _numbers(comparison, group)]
        last = Cell(
            words.number(group.volume.median, 4), style, _range(group.volume, lambda v: words.number(v, 4))
        )
        rows.append((Cell(group.label, "strong"), Cell(str(len(group.entries))), *cells, last))
    several = any(len(g.entries) > 1 for g in comparison.groups)
    note = "Medians over the seeds; hover over a number for its range. " if several else ""
    note += (
        "A point is one per cent of accuracy above chance, or above the reference where chance is unknown. "
    )
    note += "The knee is where a further dollar begins to bring less than the average dollar of the search."
    return Table(head, tuple(rows), note)


def _numbers(comparison: Comparison, group: Group) -> list[tuple[str, str]]:
    metric = comparison.metric
    kinds: list[tuple[Callable[[Entry], float], Callable[[float], str]]] = [
        (lambda e: float(e.trials), lambda v: f"{v:,.0f}"),
        (lambda e: e.curve.total, lambda v: _bare(comparison, v)),
        (lambda e: e.best, lambda v: words.bare(metric, v)),
        (lambda e: float(len(e.front)), lambda v: f"{v:.3g}"),
        (lambda e: e.volume, lambda v: words.number(v, 4)),
        (per_point, lambda v: _bare(comparison, v)),
        (per_front_point, lambda v: _bare(comparison, v)),
        (knee, lambda v: _bare(comparison, v)),
    ]
    found = []
    for value, shown in kinds:
        spread = group.spread(value)
        text = shown(spread.median) if math.isfinite(spread.median) else words.ABSENT
        found.append((text, _range(spread, shown)))
    return found


def _range(spread: Spread, shown: Callable[[float], str]) -> str:
    return "" if not spread.low < spread.high else f"{shown(spread.low)} to {shown(spread.high)}"


def per_point(entry: Entry) -> float:
    """Cost of a point of the metric above chance; NaN without any."""
    points = entry.points
    return math.nan if points is None or not points.points > 0 else entry.curve.total / points.points


def per_front_point(entry: Entry) -> float:
    """Cost of a trial of the front; NaN without any."""
    return entry.curve.total / len(entry.front) if entry.front else math.nan


def knee(entry: Entry) -> float:
    """Cost at the knee of the hypervolume; NaN without one."""
    return math.nan if entry.curve.knee is None else entry.curve.cost[entry.curve.knee]


def runs(comparison: Comparison) -> Table:
    """A row for each run, if there are more of them than groups."""
    if len(comparison.entries) == len(comparison.groups):
        return Table()
    rows = []
    for group in comparison.groups:
        for entry in group.entries:
            alone = replace(group, entries=(entry,))
            cells = [Cell(text, "number") for text, _ in _numbers(comparison, alone)]
            rows.append((Cell(entry.run_id, "setting"), Cell(entry.label), *cells))
    return Table(_head(comparison, "Run", "Setting"), tuple(rows))


def differences(comparison: Comparison) -> Table:
    """A row for each key in which the specs differ."""
    head = (Cell("Key", "setting"), *(Cell(g.label) for g in comparison.groups))
    rows = [
        (
            Cell(key, "setting"),
            *(Cell(_cut(v), "settings", v if len(v) > LONGEST else "") for v in values),
        )
        for key, values in comparison.differences
    ]
    note = f"{len(rows) - MOST_ROWS} further keys differ." if len(rows) > MOST_ROWS else ""
    return Table(head, tuple(rows[:MOST_ROWS]), note)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
