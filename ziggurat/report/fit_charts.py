"""Charts of what was expected against what came: surrogate, rungs, retraining; and diversity over time."""

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
    SOFT,
    VERMILION,
    WHITE,
    Chart,
    across,
    layout,
    short,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.analysis.crossval import Fit
    from ziggurat.report.agreement import Agreement

HEIGHT = 400


def _factor(metric: str) -> float:
    return 100.0 if words.is_accuracy(metric) else 1.0


def _named(metric: str, unit: str, before: str) -> dict[str, Any]:
    shown = words.unit_of(metric, unit)
    return title(f"{before} {words.name_of(metric)}{f' ({shown})' if shown else ''}")


def _diagonal(values: Sequence[float]) -> Chart:
    ends = [short(min(values)), short(max(values))]
    line = {"color": GREY, "width": 1.5, "dash": "dot"}
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "equal",
        "x": ends,
        "y": ends,
        "line": line,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _bars(values: Sequence[float], low: Sequence[float], high: Sequence[float], colour: str) -> Chart:
    return {
        "type": "data",
        "symmetric": False,
        "array": [short(max(0.0, h - v)) for v, h in zip(values, high, strict=True)],
        "arrayminus": [short(max(0.0, v - b)) for v, b in zip(values, low, strict=True)],
        "color": colour,
        "thickness": 1,
        "width": 0,
    }


def held_out(fit: Fit, unit: str) -> Chart:
    """What the surrogate predicted of each trial from the others, with its 95 % intervals."""
    f = _factor(fit.metric)
    rows = list(zip(fit.trials, fit.observed, fit.predicted, fit.low, fit.high, strict=True))
    rows = [r for r in rows if all(map(math.isfinite, r[1:]))]
    data = [_diagonal([f * v for r in rows for v in (r[1], r[2])])] if rows else []
    kinds = (("within its interval", True, BLUE, "circle"), ("outside of it", False, VERMILION, "x"))
    for name, inside, colour, symbol in kinds:
        mine = [r for r in rows if (r[3] <= r[1] <= r[4]) is inside]
        if not mine:
            continue
        predicted = [f * r[2] for r in mine]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [short(f * r[1]) for r in mine],
                "y": [short(v) for v in predicted],
                "error_y": _bars(predicted, [f * r[3] for r in mine], [f * r[4] for r in mine], colour),
                "customdata": [str(r[0]) for r in mine],
                "hovertemplate": "%{text}<br>predicted without it: %{y:.4g}<extra></extra>",
                "opacity": 0.85,
                "marker": {"size": 7, "color": colour, "symbol": symbol},
            }
        )
    x = {"title": _named(fit.metric, unit, "Measured")}
    y: dict[str, Any] = {"title": _named(fit.metric, unit, "Predicted")}
    # a few intervals are huge; the picture is of where the values lie
    y["range"] = _window(
        [f * r[1] for r in rows], [f * r[2] for r in rows], most=101.0 if f > 1 else math.inf
    )
    return {"data": data, "layout": layout(HEIGHT, x, y) | {"showlegend": True}}


def _window(*series: Sequence[float], most: float) -> list[float] | None:
    values = [v for s in series for v in s]
    if not values:
        return None
    low, high = min(values), max(values)
    room = 0.35 * (high - low) or abs(high) or 1.0
    return [short(low - room), short(max(high, min(high + room, most)))]


def ranked(found: Agreement, unit: str) -> Chart:
    """The cheap judgement of each trial against the dear one."""
    f = _factor(found.metric)
    data = [_diagonal([f * v for v in (*found.cheap, *found.dear)])]
    if found.id == "retrained":
        kinds = [("Retrained, from worst to best seed", ORANGE, "diamond", list(range(len(found.trials))))]
    else:
        probes = [i for i, probed in enumerate(found.probed) if probed]
        others = [i for i, probed in enumerate(found.probed) if not probed]
        kinds = [
            ("Promoted by the search", BLUE, "circle", others),
            ("Probes of the validation", SOFT, "square-open", probes),
        ]
    for name, colour, symbol, places in kinds:
        if not places:
            continue
        dear = [f * found.dear[i] for i in places]
        trace: Chart = {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [short(f * found.cheap[i]) for i in places],
            "y": [short(v) for v in dear],
            "customdata": [str(found.trials[i]) for i in places],
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"size": 9, "color": colour, "symbol": symbol, "line": {"width": 0.8, "color": WHITE}},
        }
        if found.low:
            low, high = [f * found.low[i] for i in places], [f * found.high[i] for i in places]
            trace["error_y"] = _bars(dear, low, high, INK)
            trace["marker"]["line"] = {"width": 1, "color": BLACK}
        data.append(trace)
    before = ("After the lowest rung:", "After the top rung:")
    if found.id == "retrained":
        before = ("In the search:", "After full training:")
    x = {"title": _named(found.metric, unit, before[0])}
    y = {"title": _named(found.metric, unit, before[1])}
    return {"data": data, "layout": layout(HEIGHT, x, y) | {"showlegend": True}}


def diversity(found: Sequence[tuple[int, float]], marks: Sequence[tuple[str, float]]) -> Chart:
    """How different the last candidates were, after each proposal, with other distances to compare."""
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [index + 1 for index, _ in found],
            "y": [short(v) for _, v in found],
            "line": {"width": 2.5, "color": BLUE},
            "hovertemplate": "%{y:.2f} choices after %{x} trials<extra></extra>",
        }
    ]
    x = {"title": title("Trial, in the order of proposals")}
    most = max([v for _, v in found] + [v for _, v in marks])
    y = {"title": title("Choices that differ"), "range": [0, short(1.12 * most)]}
    shown = layout(300, x, y) | {"showlegend": False}
    looks = ((SOFT, "dot"), (VERMILION, "dash"))
    shown["shapes"] = [across(v, name, *look) for (name, v), look in zip(marks, looks, strict=False)]
    return {"data": data, "layout": shown}
