"""The section on what the money brought: best value and hypervolume against cost, and the cost of a point."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ziggurat.report import gain_charts, words
from ziggurat.report.blocks import Block, Figure, Pairs, Section, plain_table
from ziggurat.report.blocks import Words as Text

if TYPE_CHECKING:
    from ziggurat.analysis.curves import Curve
    from ziggurat.report.case import Case
    from ziggurat.report.findings import Findings
    from ziggurat.report.tables import Table


def section(case: Case, found: Findings) -> Section:
    """What was reached for which money."""
    curve = found.curve
    title = "What the money brought" if case.priced else "What the time brought"
    if curve is None or not curve.cost:
        empty = Text("No trial has reached the top rung within all limits.", "empty")
        return Section("gains", title, "", (empty,))
    bounds = [("plan", case.spec.budget.plan_usd), ("limit", case.limit_usd)]
    known = [(name, value) for name, value in bounds if value is not None]
    chart = gain_charts.reached(curve, found.random, known)
    label = "Best value and hypervolume against the cost of the search"
    blocks: list[Block] = [Figure("volume", label, chart, _seen(curve), _table(curve))]
    pairs = _points(found)
    blocks += [Pairs(pairs)] if pairs else []
    blocks.append(Text(_how(curve), "note"))
    return Section("gains", title, _lead(curve), tuple(blocks))


def _money(curve: Curve, cost: float) -> str:
    return words.usd(cost) if curve.priced else words.duration(cost)


def _lead(curve: Curve) -> str:
    """How late the last improvement came, which is what further money would be judged by."""
    last = max(
        (i for i in range(1, len(curve.hypervolume)) if curve.hypervolume[i] > curve.hypervolume[i - 1]),
        default=0,
    )
    total = curve.total or math.inf
    share = curve.cost[last] / total
    when = (
        f"The front last grew after {words.percent(share)} of the {_money(curve, curve.total)} of the search"
    )
    half = next((i for i, v in enumerate(curve.hypervolume) if v >= 0.9 * curve.hypervolume[-1]), None)
    if half is None or curve.hypervolume[-1] <= 0:
        return f"{when}."
    return (
        f"{when}; nine tenths of its hypervolume were there after {words.percent(curve.cost[half] / total)}."
    )


def _seen(curve: Curve) -> str:
    best = words.shown(curve.metric, curve.best[-1])
    text = f"At the end the best {words.name_of(curve.metric)} is {best} and the hypervolume "
    text += f"{words.number(curve.hypervolume[-1], 4)}."
    if curve.knee is not None:
        text += (
            f" Up to the knee at {_money(curve, curve.cost[curve.knee])} a further dollar brought more than "
            "the average one, from there on less."
            if curve.priced
            else f" Up to the knee at {_money(curve, curve.cost[curve.knee])} a further second brought more "
            "than the average one, from there on less."
        )
    return text


def _how(curve: Curve) -> str:
    along = (
        "all money the search had spent by then" if curve.priced else "all worker time the search had taken"
    )
    return (
        "The hypervolume is what the front dominates, measured from the reference point; it only grows. A "
        f"step is a trial that finished the top rung within all limits, drawn at {along}."
    )


def _table(curve: Curve) -> Table:
    rows = [
        (_money(curve, cost), words.shown(curve.metric, best), words.number(volume, 5))
        for cost, best, volume in zip(curve.cost, curve.best, curve.hypervolume, strict=True)
    ]
    rows = [row for i, row in enumerate(rows) if i == 0 or row[1:] != rows[i - 1][1:]]
    return plain_table(
        ("Cost" if curve.priced else "Time", f"Best {words.name_of(curve.metric)}", "Hypervolume"),
        rows,
        "number",
    )


def _points(found: Findings) -> tuple[tuple[str, str], ...]:
    """What a point of accuracy and a point of the front cost."""
    each = found.per_point
    if each is None:
        return ()

    def cost(value: float | None) -> str:
        if value is None:
            return words.ABSENT
        return words.usd(value) if each is not None and each.priced else words.duration(value)

    unit = "percentage point" if words.is_accuracy(each.metric) else "unit"
    name = words.name_of(each.metric)
    base = f"{each.above} ({words.shown(each.metric, each.base)})"
    first = (
        f"{cost(each.per_point)}: {cost(each.total)} for {words.number(each.points)} "
        f"{'points' if words.is_accuracy(each.metric) else 'units'} above {base}"
        if each.per_point is not None
        else f"{words.ABSENT}: nothing is better than {base}"
    )
    second = f"{cost(each.per_front_point)}: {cost(each.total)} for {words.many(each.front, 'point')}"
    return ((f"Cost for each {unit} of {name}", first), ("Cost for each point of the front", second))
