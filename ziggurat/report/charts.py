"""The interactive Pareto charts of the page, as plain dictionaries that plotly.js reads.

Points carry the numbers of their trials; the page's script puts the hover texts together from one shared
table, so that a thousand trials in six panels do not repeat their settings six times. The order of trials is
coloured by cividis, which people with any colour vision can read; kinds of points differ in shape as well.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ziggurat.report.panels import Panel, Points, Scale
from ziggurat.report.style import (
    BLACK,
    CLEAR,
    FONT,
    GREY,
    HALO,
    INK,
    LINE,
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


def axis(scale: Scale) -> dict[str, Any]:
    """An axis for a scale."""
    shown: dict[str, Any] = {"title": title(scale.title)}
    if scale.kind == "linear":
        return shown
    shown["type"] = "log"
    shown["tickvals"] = [short(at) for at, _ in scale.ticks()]
    shown["ticktext"] = [label for _, label in scale.ticks()]
    if scale.kind == "error":
        shown["autorange"] = "reversed"
    return shown


def _scatter(name: str, points: Points, marker: dict[str, Any], **more: Any) -> Chart:  # noqa: ANN401
    plain = {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [short(v) for v in points.x],
        "y": [short(v) for v in points.y],
        "customdata": [str(number) for number in points.trials],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": marker,
    }
    return {key: value for key, value in (plain | more).items() if value is not None}


def _line(name: str, corners: Sequence[tuple[float, float]], **style: Any) -> Chart:  # noqa: ANN401
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [short(x) for x, _ in corners],
        "y": [short(y) for _, y in corners],
        "line": style,
        "hoverinfo": "skip",
    }


def _limits(panel: Panel) -> list[dict[str, Any]]:
    pairs = ((panel.limits[0], True), (panel.limits[1], False))
    return [across(v, "limit", VERMILION, "dash", upright=upright) for v, upright in pairs if v is not None]


def _order_marker(points: Points, trials: int, *, bar: bool) -> dict[str, Any]:
    marker = {
        "size": 9,
        "color": [i + 1 for i in points.order],
        "cmin": 1,
        "cmax": max(2, trials),
        "colorscale": "Cividis",
        "line": {"width": 0.6, "color": HALO},
    }
    if bar:
        name = {"text": "Trial order", "font": FONT, "side": "right"}
        marker["colorbar"] = {"title": name, "thickness": 12, "outlinewidth": 0, "len": 0.9}
    return marker


def pareto(panel: Panel, trials: int, *, small: bool = False) -> Chart:
    """One pair of objectives; a small one leaves legend and colour bar to the first."""
    data = [*_random(panel), *_searched(panel, trials, bar=not small)]
    if panel.retrained.x:
        data += [_ties(panel), _retrained(panel)]
    shown = layout(360 if small else 520, axis(panel.x), axis(panel.y)) | {"shapes": _limits(panel)}
    shown["showlegend"] = not small
    if panel.knee.x:
        shown["annotations"] = [_knee(panel)]
    _reference(panel, data, shown)
    return {"data": data, "layout": shown}


def _random(panel: Panel) -> list[Chart]:
    """What ended early, and the random baseline: all that lies behind."""
    data: list[Chart] = []
    if panel.lower.x:
        faint = {"size": 6, "color": LINE}
        data.append(_scatter("Ended below the top rung", panel.lower, faint, opacity=0.55))
    if panel.baseline_stairs:
        data.append(_line("Random: front", panel.baseline_stairs, color=GREY, width=1.5, dash="dot"))
    if panel.baseline.x:
        square = {"size": 8, "symbol": "square-open", "color": SOFT}
        data.append(_scatter("Random search", panel.baseline, square))
    return data


def _searched(panel: Panel, trials: int, *, bar: bool) -> list[Chart]:
    """The trials of the search at the top rung, their edge, the front and its knee."""
    data: list[Chart] = []
    if panel.stairs:
        label = "Best so far" if panel.x.objective is None else "Front"
        data.append(_line(label, panel.stairs, color=VERMILION, width=2))
    if panel.top.x:
        data.append(_scatter("Top rung", panel.top, _order_marker(panel.top, trials, bar=bar)))
    silent = {"hoverinfo": "skip", "hovertemplate": None, "customdata": None}
    if panel.front.x:
        ring = {"size": 14, "color": CLEAR, "line": {"width": 2, "color": VERMILION}}
        data.append(_scatter("On the front", panel.front, ring, **silent))
    if panel.knee.x:
        hexagon = {"size": 21, "symbol": "hexagon2", "color": CLEAR, "line": {"width": 2, "color": INK}}
        data.append(_scatter("Knee", panel.knee, hexagon, **silent))
    return data


def _knee(panel: Panel) -> dict[str, Any]:
    """The name of the knee, beside it; on a logarithmic axis annotations lie at logarithms."""
    pairs = ((panel.x, panel.knee.x[0]), (panel.y, panel.knee.y[0]))
    x, y = (short(at if scale.kind == "linear" else math.log10(at)) for scale, at in pairs)
    look = {"bgcolor": WHITE, "opacity": 0.9, "font": {"size": 12, "color": INK}, "borderpad": 2}
    arrow = {"ax": -46, "ay": -34, "arrowhead": 0, "arrowwidth": 1.2, "arrowcolor": INK}
    return {"x": x, "y": y, "text": "knee", **look, **arrow}


def _ties(panel: Panel) -> Chart:
    """A line from each trial of the search to its retrained model."""
    before = dict(zip(panel.ties.trials, zip(panel.ties.x, panel.ties.y, strict=True), strict=True))
    after = zip(panel.retrained.trials, panel.retrained.x, panel.retrained.y, strict=True)
    x: list[float | None] = []
    y: list[float | None] = []
    for number, *at in after:
        if number in before:
            x += [short(before[number][0]), short(at[0]), None]
            y += [short(before[number][1]), short(at[1]), None]
    line = {"color": ORANGE, "width": 1.2}
    plain = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line}
    return plain | {"hoverinfo": "skip", "showlegend": False}


def _retrained(panel: Panel) -> Chart:
    points = panel.retrained
    diamond = {"size": 13, "symbol": "diamond", "color": ORANGE, "line": {"width": 1.2, "color": BLACK}}
    keys = [f"r{number}" for number in points.trials]
    bars = {
        f"error_{letter}": _bars(middles, ends)
        for letter, middles, ends in (("x", points.x, points.x_ends), ("y", points.y, points.y_ends))
    }
    return _scatter("Retrained, mean and range of seeds", points, diamond, customdata=keys, **bars)


def _bars(middles: Sequence[float], ends: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Bars from the worst to the best seed; on a reversed axis the ends change places."""
    pairs = list(zip(middles, ends, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [short(max(0.0, *(end - m for end in both))) for m, both in pairs],
        "arrayminus": [short(max(0.0, *(m - end for end in both))) for m, both in pairs],
        "color": INK,
        "thickness": 1.3,
        "width": 4,
    }


def _reference(panel: Panel, data: list[Chart], shown: dict[str, Any]) -> None:
    x, y = panel.reference
    if x is None:
        shown["shapes"].append(across(y, "reference", INK, "dot"))
        return
    star = {"size": 16, "symbol": "star", "color": BLACK}
    text = "Reference point: a trial here is worth nothing<extra></extra>"
    data.append(
        _scatter("Reference point", Points((-1,), (x,), (y,)), star, hovertemplate=text, customdata=None)
    )
