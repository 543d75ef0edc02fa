"""The interactive charts of a comparison, as plain dictionaries that plotly.js reads.

Groups of runs differ in colour, dash and mark at once, so that they are told apart in grey as well. Where a
group has several seeds, each is a thin line and their median a thick one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat.analysis.curves import knee_of
from ziggurat.report import panels, words
from ziggurat.report.charts import axis
from ziggurat.report.style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    WHITE,
    Chart,
    across,
    layout,
    short,
    title,
)

if TYPE_CHECKING:
    from ziggurat.analysis.curves import Curve
    from ziggurat.domain import Objective, Trial
    from ziggurat.report.compare import Comparison, Entry, Group

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "x", "star")
GRID = 240
FEWEST_MARKS = 3
"""Marks of an axis of errors below which accuracies are laid out evenly."""
Value = Callable[["Curve"], Sequence[float]]


def volume(comparison: Comparison) -> Chart:
    """Hypervolume against the cost of the search."""
    upright = {"title": title("Hypervolume against the reference"), "rangemode": "tozero"}
    return _curves(comparison, lambda c: c.hypervolume, float, upright)


def best(comparison: Comparison, label: str) -> Chart:
    """The best value of the metric against the cost of the search; high accuracies spread by their error."""
    objective = next(o for o in comparison.objectives if o.metric == comparison.metric)
    # what the first few trials reached would leave the rest a line at the edge
    values = [v for e in comparison.entries for v in e.curve.best[len(e.curve.best) // 20 :]]
    scale = replace(panels.scale_of(objective, comparison.units[objective.metric], values), title=label)
    within = sum(min(values, default=0) <= mark <= max(values, default=0) for mark in panels.MARKS)
    if scale.kind == "error" and within < FEWEST_MARKS:
        scale = replace(scale, kind="linear")
    shown = axis(scale)
    ends = [scale.at(v) for v in values]
    if ends and min(ends) < max(ends):
        low, high = min(ends), max(ends)
        if scale.kind == "linear":
            shown["range"] = [low - 0.06 * (high - low), high + 0.06 * (high - low)]
        else:
            low, high = math.log10(low), math.log10(high)
            margin = 0.06 * (high - low)
            wide = [low - margin, high + margin]
            shown["range"] = wide[::-1] if scale.kind == "error" else wide
            shown.pop("autorange", None)
    return _curves(comparison, lambda c: c.best, scale.at, shown)


def _curves(
    comparison: Comparison, value: Value, place: Callable[[float], float], upright: dict[str, Any]
) -> Chart:
    """Something that was reached, against the cost of the search.

    Args:
        comparison: The runs.
        value: One entry for each cost of a curve.
        place: From a value to its coordinate.
        upright: The upright axis.
    """
    data: list[Chart] = []
    for index, group in enumerate(comparison.groups):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        known = [e for e in group.entries if e.curve.cost]
        if len(known) > 1:
            data += [_thin(e, [place(v) for v in value(e.curve)], colour) for e in known]
        if known:
            at, middle = _median([e.curve for e in known], value)
            data.append(_line(group, at, [place(v) for v in middle], {"color": colour, "dash": dash}))
            data += _knee(comparison, group, (at, middle), place, index)
    x = {"title": title(cost_title(comparison.priced)), "rangemode": "tozero"}
    shown = layout(420, x, upright) | {"showlegend": True}
    if comparison.equal_cost > 0:
        line = across(comparison.equal_cost, "equal cost", INK, "dot", upright=True)
        shown["shapes"] = [line | {"label": line["label"] | {"textposition": "middle"}}]
    return {"data": data, "layout": shown}


def cost_title(priced: bool) -> str:
    """Of the axis of costs."""
    return "Cost of the search (US$)" if priced else "Worker time of the search (s)"


def _median(found: Sequence[Curve], value: Value) -> tuple[list[float], list[float]]:
    """Costs, and the median of what the runs had reached by them, as far as all of them go."""
    if len(found) == 1:
        return [*found[0].cost, found[0].total], [*value(found[0]), value(found[0])[-1]]
    begun = max(c.cost[0] for c in found)
    grid = np.linspace(begun, max(begun, min(c.total for c in found)), GRID)
    rows = []
    for curve in found:
        index = np.searchsorted(np.array(curve.cost), grid * (1 + 1e-12), side="right") - 1
        rows.append(np.array(value(curve), dtype=float)[index])
    return grid.tolist(), np.median(rows, axis=0).tolist()


def _line(group: Group, x: Sequence[float], y: Sequence[float], style: dict[str, str]) -> Chart:
    seeds = f", median of {len(group.entries)} seeds" if len(group.entries) > 1 else ""
    name = escape(f"{group.label}{seeds}")
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [short(v) for v in x],
        "y": [short(v) for v in y],
        "line": {"shape": "hv", "width": 2.6, **style},
        "hovertemplate": f"{name}<br>%{{y:.4g}} for %{{x:.4g}}<extra></extra>",
    }


def _thin(entry: Entry, y: Sequence[float], colour: str) -> Chart:
    curve = entry.curve
    return {
        "type": "scatter",
        "mode": "lines",
        "showlegend": False,
        "x": [short(v) for v in (*curve.cost, curve.total)],
        "y": [short(v) for v in (*y, y[-1])],
        "line": {"shape": "hv", "width": 1, "color": colour},
        "opacity": 0.35,
        "hovertemplate": f"{escape(entry.label)}<br>%{{y:.4g}} for %{{x:.4g}}<extra></extra>",
    }


def _knee(
    comparison: Comparison,
    group: Group,
    line: tuple[Sequence[float], Sequence[float]],
    place: Callable[[float], float],
    index: int,
) -> list[Chart]:
    """The knee of a line, if it has one, whether its metric grows or falls."""
    x, y = line
    at = knee_of(x, y if y[-1] >= y[0] else [-v for v in y])
    if at is None:
        return []
    cost = words.usd(x[at]) if comparison.priced else words.duration(x[at])
    text = f"Knee of {escape(group.label)}: beyond {cost} a further dollar brought less than the average one"
    # the first are larger, so that knees at one place are all seen
    size = 12 + 5 * max(0, len(comparison.groups) - 1 - index)
    outline = {"width": 2.4, "color": COLOURS[index % len(COLOURS)]}
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "showlegend": False,
            "x": [short(x[at])],
            "y": [short(place(y[at]))],
            "marker": {"size": min(size, 27), "symbol": "diamond", "color": WHITE, "line": outline},
            "hovertemplate": f"{text}<extra></extra>",
        }
    ]


def fronts(comparison: Comparison) -> list[tuple[str, Chart]]:
    """The fronts of all runs on top of one another, a chart for each pair of objectives."""
    objectives = comparison.objectives
    if len(objectives) == 1:
        return []
    scales = [_scale(comparison, o) for o in objectives]
    return [(f"{y.title} against {x.title}", _front(comparison, x, y)) for y, x in combinations(scales, 2)]


def _scale(comparison: Comparison, objective: Objective) -> panels.Scale:
    values = [t.value(objective.metric) for e in comparison.entries for t in _worthy(comparison, e)]
    return panels.scale_of(objective, comparison.units[objective.metric], values)


def _worthy(comparison: Comparison, entry: Entry) -> list[Trial]:
    """The trials of a front that beat the reference in every objective."""
    return [
        t
        for t in entry.front
        if all(o.loss(t.value(o.metric)) < o.loss(o.reference) for o in comparison.objectives)
    ]


def _front(comparison: Comparison, x: panels.Scale, y: panels.Scale) -> Chart:
    data: list[Chart] = []
    for index, group in enumerate(comparison.groups):
        colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
        for number, (entry, front) in enumerate(
            (e, f) for e in group.entries if (f := _worthy(comparison, e))
        ):
            corners = panels.edge(front, x, y)
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "showlegend": False,
                    "x": [short(a) for a, _ in corners],
                    "y": [short(b) for _, b in corners],
                    "line": {"width": 1.2 if len(group.entries) > 1 else 2, "color": colour, "dash": dash},
                    "opacity": 0.6 if len(group.entries) > 1 else 1.0,
                    "hoverinfo": "skip",
                }
            )
            data.append(_points(entry, front, (x, y), index, legend=group.label if number == 0 else ""))
    shown = layout(480, axis(x), axis(y)) | {"showlegend": True}
    star = {"size": 16, "symbol": "star", "color": BLACK}
    assert x.objective is not None
    assert y.objective is not None
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "Reference point",
            "x": [short(x.at(x.objective.reference))],
            "y": [short(y.at(y.objective.reference))],
            "marker": star,
            "hovertemplate": "Reference point: a trial here is worth nothing<extra></extra>",
        }
    )
    return {"data": data, "layout": shown}


def _points(
    entry: Entry,
    front: Sequence[Trial],
    scales: tuple[panels.Scale, panels.Scale],
    index: int,
    *,
    legend: str,
) -> Chart:
    x, y = scales
    shown = [t for t in front if math.isfinite(_value(t, x)) and math.isfinite(_value(t, y))]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(legend),
        "legendgroup": str(index),
        "showlegend": bool(legend),
        "x": [short(x.at(_value(t, x))) for t in shown],
        "y": [short(y.at(_value(t, y))) for t in shown],
        "text": [_told(entry, t, scales) for t in shown],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "size": 8,
            "symbol": MARKS[index % len(MARKS)],
            "color": COLOURS[index % len(COLOURS)],
            "line": {"width": 0.6, "color": WHITE},
        },
    }


def _value(trial: Trial, scale: panels.Scale) -> float:
    assert scale.objective is not None
    return trial.value(scale.objective.metric)


def _told(entry: Entry, trial: Trial, scales: Sequence[panels.Scale]) -> str:
    parts = [
        f"{words.capital(words.name_of(s.objective.metric))}: "
        f"<b>{escape(words.shown(s.objective.metric, trial.value(s.objective.metric)))}</b>"
        for s in reversed(scales)
        if s.objective is not None
    ]
    return "<br>".join([f"<b>{escape(entry.label)}</b>, trial {trial.number}", *parts])
