"""The chart of what was reached for which money: best value above, hypervolume below, one axis of cost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ziggurat.report import words
from ziggurat.report.style import (
    BLACK,
    BLUE,
    GREY,
    INK,
    ORANGE,
    VERMILION,
    Chart,
    across,
    axis,
    layout,
    short,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.analysis.curves import Curve

CLOSE = 1.6
"""A plan or limit above this many times the cost of the search is not drawn."""
MANY = 100


def reached(curve: Curve, random: Curve | None, bounds: Sequence[tuple[str, float]]) -> Chart:
    """Best value and hypervolume against the cost of the search.

    Args:
        curve: Of the search.
        random: Of the random baseline, if there was one.
        bounds: Plan and limit of the whole run, in US dollars, by name.
    """
    lines = [("This search", curve, BLUE, "solid")]
    if random is not None and random.cost:
        lines.append(("Random search", random, GREY, "dot"))
    data: list[Chart] = []
    for name, line, colour, dash in lines:
        data += _pair(name, line, curve.priced, colour, dash)
    data += _knee(curve)
    shown = layout(520, *_axes(curve)) | {"showlegend": True, "shapes": []}
    shown["yaxis2"] = axis(
        title=title("Hypervolume"),
        rangemode="tozero",
        exponentformat="SI",
        domain=[0, 0.46],
        anchor="x",
    )
    most = max(line.total for _, line, _, _ in lines)
    for name, value in bounds:
        if curve.priced and value <= CLOSE * most:
            colour, dash = (VERMILION, "dash") if name == "limit" else (INK, "dot")
            text = f"{name} of the run {words.usd(value)}"
            shown["shapes"].append(across(value, text, colour, dash, upright=True))
            shown["xaxis"]["range"] = [0, short(1.2 * max(most, value))]
    return {"data": data, "layout": shown}


def _axes(curve: Curve) -> tuple[dict[str, Any], dict[str, Any]]:
    along = "Cost of the search by then (US$)" if curve.priced else "Worker time of the search by then (s)"
    x = {"title": title(along), "rangemode": "tozero", "anchor": "y2"}
    unit = words.unit_of(curve.metric)
    best = f"Best {words.name_of(curve.metric)}" + (f" ({unit})" if unit else "")
    return x, {"title": title(best), "domain": [0.54, 1]}


def _pair(name: str, line: Curve, priced: bool, colour: str, dash: str) -> list[Chart]:
    """Best value and hypervolume of one search; each stays as it is until the money is spent."""
    cost, total = (line.cost_usd, line.total_usd) if priced else (line.seconds, line.total_s)
    factor = 100.0 if words.is_accuracy(line.metric) else 1.0
    style = {"line": {"shape": "hv", "width": 2.5, "color": colour, "dash": dash}, "name": name}
    style["marker"] = {"size": 5 if len(cost) <= MANY else 3, "color": colour}
    style |= {"type": "scatter", "mode": "lines", "legendgroup": name}
    best = [short(factor * v) if math.isfinite(v) else None for v in line.best]
    at = [short(v) for v in cost]
    ends = [short(total)] if total > (cost[-1] if cost else 0.0) else []
    tail = [best[-1]] if ends and best else []
    volumes = [0.0, *map(short, line.hypervolume)]
    unit = words.unit_of(line.metric)
    return [
        style
        | {
            "x": [*at, *ends] if best else [],
            "y": [*best, *tail],
            "hovertemplate": f"%{{y:.4g}} {unit} for %{{x:.4g}}<extra></extra>",
        },
        style
        | {
            "x": [0.0, *at, *ends],
            "y": [*volumes, *([volumes[-1]] if ends else [])],
            "yaxis": "y2",
            "showlegend": False,
            "hovertemplate": "hypervolume %{y:.4g} for %{x:.4g}<extra></extra>",
        },
    ]


def _knee(curve: Curve) -> list[Chart]:
    if curve.knee is None:
        return []
    return [
        {
            "type": "scatter",
            "mode": "markers+text",
            "name": "Knee: from here on less than average for the money",
            "x": [short(curve.cost[curve.knee])],
            "y": [short(curve.hypervolume[curve.knee])],
            "yaxis": "y2",
            "text": ["knee"],
            "textposition": "bottom right",
            "marker": {
                "size": 13,
                "symbol": "hexagon2",
                "color": ORANGE,
                "line": {"width": 1.5, "color": BLACK},
            },
            "hovertemplate": "the knee: hypervolume %{y:.4g} for %{x:.4g}<extra></extra>",
        }
    ]
