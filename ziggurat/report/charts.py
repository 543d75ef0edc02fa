"""The interactive Pareto charts of the page, as plain dictionaries that plotly.js reads.

Points carry the numbers of their trials; the page's script puts the hover texts together from one shared
table, so that a thousand trials in six panels do not repeat their settings six times. The order of trials is
coloured by cividis, which people with any colour vision can read; kinds of points differ in shape as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ziggurat.report.panels import Panel, Points, Scale
from ziggurat.report.style import BLACK, FONT, GREY, INK, ORANGE, VERMILION, Chart, layout, short, title

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
    shapes = []
    for value, letter, other in ((panel.limits[0], "x", "y"), (panel.limits[1], "y", "x")):
        if value is None:
            continue
        label = {
            "text": "limit",
            "textposition": "start" if letter == "x" else "end",
            "font": {"size": 11, "color": VERMILION},
        }
        ends = {
            f"{letter}0": value,
            f"{letter}1": value,
            f"{other}0": 0,
            f"{other}1": 1,
            f"{other}ref": "paper",
        }
        line = {"color": VERMILION, "width": 1.5, "dash": "dash"}
        shapes.append({"type": "line", "line": line, "label": label, **ends})
    return shapes


def _order_marker(points: Points, trials: int) -> dict[str, Any]:
    bar = {
        "title": {"text": "Trial order", "font": FONT, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 0.9,
    }
    return {
        "size": 9,
        "color": [i + 1 for i in points.order],
        "cmin": 1,
        "cmax": max(2, trials),
        "colorscale": "Cividis",
        "colorbar": bar,
        "line": {"width": 0.6, "color": "#FFFFFF"},
    }


def pareto(panel: Panel, trials: int) -> Chart:
    """One pair of objectives."""
    ring = {"size": 14, "color": "rgba(0,0,0,0)", "line": {"width": 2, "color": VERMILION}}
    label = "Best so far" if panel.x.objective is None else "Front"
    data: list[Chart] = []
    if panel.lower.x:
        faint = {"size": 6, "color": "#B8C1CB"}
        data.append(_scatter("Ended below the top rung", panel.lower, faint, opacity=0.55))
    if panel.baseline_stairs:
        data.append(_line("Random: front", panel.baseline_stairs, color=GREY, width=1.5, dash="dot"))
    if panel.baseline.x:
        data.append(
            _scatter(
                "Random baseline", panel.baseline, {"size": 8, "symbol": "square-open", "color": "#5B6672"}
            )
        )
    if panel.stairs:
        data.append(_line(label, panel.stairs, color=VERMILION, width=2))
    if panel.top.x:
        data.append(_scatter("Top rung", panel.top, _order_marker(panel.top, trials)))
    if panel.front.x:
        data.append(
            _scatter("On the front", panel.front, ring, hoverinfo="skip", hovertemplate=None, customdata=None)
        )
    if panel.retrained.x:
        diamond = {"size": 13, "symbol": "diamond", "color": ORANGE, "line": {"width": 1.2, "color": BLACK}}
        keys = [f"r{number}" for number in panel.retrained.trials]
        data.append(_scatter("Retrained, mean of seeds", panel.retrained, diamond, customdata=keys))
    shown = layout(480, axis(panel.x), axis(panel.y)) | {"shapes": _limits(panel)}
    _reference(panel, data, shown)
    return {"data": data, "layout": shown}


def _reference(panel: Panel, data: list[Chart], shown: dict[str, Any]) -> None:
    x, y = panel.reference
    if x is None:
        line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y}
        label = {"text": "reference", "textposition": "end", "font": {"size": 11}}
        shown["shapes"].append({**line, "line": {"color": INK, "width": 1, "dash": "dot"}, "label": label})
        return
    star = {"size": 16, "symbol": "star", "color": BLACK}
    text = "Reference point: a trial here is worth nothing<extra></extra>"
    data.append(
        _scatter("Reference point", Points((-1,), (x,), (y,)), star, hovertemplate=text, customdata=None)
    )
