"""The interactive charts of how a run went: rungs, cost over time."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ziggurat.report import words
from ziggurat.report.progress import RungBar, Spend, bounds
from ziggurat.report.style import (
    BLACK,
    GREEN,
    INK,
    SKY,
    STAGES,
    VERMILION,
    Chart,
    clock,
    faint,
    layout,
    short,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def _cost_title(priced: bool, of: str) -> str:
    return f"Cumulative cost {of} (US$)" if priced else f"Cumulative worker time {of} (s)"


def rungs(bars: Sequence[RungBar]) -> Chart:
    """How many trials ended at each rung, stacked by how they ended."""
    kinds = (
        ("Completed", [b.completed for b in bars], GREEN, "", "#FFFFFF"),
        ("Stopped early", [b.stopped for b in bars], SKY, "/", BLACK),
        ("Failed", [b.failed for b in bars], VERMILION, "x", BLACK),
    )
    hatch = {"fillmode": "overlay", "fgcolor": "#FFFFFF", "fgopacity": 0.35, "size": 8}
    data = [
        {
            "type": "bar",
            "name": name,
            "x": [escape(b.label) for b in bars],
            "y": values,
            "text": [str(v) if v else "" for v in values],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "textfont": {"color": ink},
            "marker": {"color": colour, "pattern": {"shape": shape, **hatch}},
            "hovertemplate": f"%{{x}}<br>{name.lower()}: %{{y}}<extra></extra>",
        }
        for name, values, colour, shape, ink in kinds
        if any(values)
    ]
    x = {"title": title(""), "showgrid": False, "type": "category"}
    y = {"title": title("Trials that ended here"), "rangemode": "tozero", "tickformat": "d"}
    shown = layout(340, x, y) | {"barmode": "stack", "bargap": 0.45, "showlegend": True}
    shown["legend"] = {**shown["legend"], "traceorder": "normal"}
    return {"data": data, "layout": shown}


def cost(lines: Sequence[Spend], priced: bool, plan: float | None, limit: float | None) -> Chart:
    """Cumulative cost over time, one colour for each stage, with plan and limit."""
    factor, unit = clock(max((line.hours[-1] for line in lines), default=0.0))
    data = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": escape(words.capital(line.stage)),
            "x": [short(h * factor) for h in line.hours],
            "y": [short(v) for v in (line.usd if priced else line.seconds)],
            "line": {"width": 2.5, "color": colour},
            "fill": "tozeroy",
            "fillcolor": faint(colour),
            "hovertemplate": f"%{{y:.4g}} after %{{x:.4g}} {unit}",
        }
        for line, colour in zip(lines, STAGES * (len(lines) // len(STAGES) + 1), strict=False)
    ]
    shapes = []
    lines_across = bounds(lines, plan, limit) if priced else []
    for name, value in lines_across:
        label = {"text": f"{name} {words.usd(value)}", "textposition": "start", "font": {"size": 11}}
        colour, dash = (VERMILION, "dash") if name == "limit" else (INK, "dot")
        at = {"xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value}
        shapes.append(
            {"type": "line", "label": label, "line": {"color": colour, "width": 1.5, "dash": dash}, **at}
        )
    x = {"title": title(f"Time since the start ({unit})"), "rangemode": "tozero"}
    y: dict[str, Any] = {"title": title(_cost_title(priced, "of the run")), "rangemode": "tozero"}
    if lines_across:
        highest = max([value for _, value in lines_across] + [line.usd[-1] for line in lines])
        y["range"] = [0, 1.1 * highest]
    return {"data": data, "layout": layout(340, x, y) | {"shapes": shapes, "showlegend": True}}
