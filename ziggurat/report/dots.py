"""Charts of values with their intervals, a row for each: importances, effects, latencies."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ziggurat.report.panels import Scale
from ziggurat.report.style import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, Chart, layout, short, title

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKS = ((BLUE, "circle"), (ORANGE, "diamond"), (GREEN, "square"), (PURPLE, "triangle-up"))
ROW = 24
"""Pixels for a dot."""
LONG = 42
"""Characters of a label that are shown."""
WIDE = 8.0


@dataclass(frozen=True)
class Dot:
    """A value with its interval, in a row by its label; `group` decides colour and symbol."""

    row: str
    group: str
    value: float
    low: float = math.nan
    high: float = math.nan
    said: str = ""


def dots(
    found: Sequence[Dot], along: str, *, zero: bool = False, log: bool = False, level: bool = False
) -> Chart:
    """One row for each label from the top, its groups one below the other.

    Args:
        found: What is shown.
        along: Title of the axis of values.
        zero: Whether a line marks zero.
        log: Whether the axis is logarithmic, if the values differ enough.
        level: Whether all groups lie on one height.
    """
    rows = list(dict.fromkeys(d.row for d in found))
    groups = list(dict.fromkeys(d.group for d in found))
    apart = 0.0 if level else 0.7 / max(1, len(groups))
    tall = 1.2 if level else max(1.0, 0.62 * len(groups) + 0.4)
    data = []
    for place, group in enumerate(groups):
        mine = [d for d in found if d.group == group]
        offset = (place - (len(groups) - 1) / 2) * apart
        colour, symbol = LOOKS[place % len(LOOKS)]
        data.append(_trace(group, mine, [rows.index(d.row) + offset for d in mine], colour, symbol))
    height = 96 + round(ROW * len(rows) * tall)
    shown = layout(height, {"title": title(along)}, _rows(rows)) | {"showlegend": len(groups) > 1}
    ends = [v for d in found for v in (d.value, d.low, d.high) if math.isfinite(v)]
    if log and min(ends) > 0 and max(ends) > WIDE * min(ends):
        marks = Scale("log", along, min(ends), max(ends)).ticks()
        ticks = {"tickvals": [short(at) for at, _ in marks], "ticktext": [text for _, text in marks]}
        shown["xaxis"] |= {"type": "log", **ticks}
    if zero:
        line = {"type": "line", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "yref": "paper"}
        shown["shapes"] = [{**line, "line": {"color": GREY, "width": 1}, "layer": "below"}]
    return {"data": data, "layout": shown}


def _rows(labels: Sequence[str]) -> dict[str, Any]:
    """An axis with a name for each row, the first at the top."""
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": [escape(cut(label)) for label in labels],
        "range": [len(labels) - 0.5, -0.5],
        "ticks": "",
        "fixedrange": True,
    }


def cut(text: str, size: int = LONG) -> str:
    """The beginning of a long text."""
    return text if len(text) <= size else text[: size - 1] + "…"


def _trace(group: str, mine: Sequence[Dot], at: Sequence[float], colour: str, symbol: str) -> Chart:
    known = [math.isfinite(d.low) and math.isfinite(d.high) for d in mine]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [short(max(0.0, d.high - d.value)) if k else 0 for d, k in zip(mine, known, strict=True)],
        "arrayminus": [
            short(max(0.0, d.value - d.low)) if k else 0 for d, k in zip(mine, known, strict=True)
        ],
        "color": colour,
        "thickness": 2,
        "width": 0,
    }
    return {
        "type": "scatter",
        "mode": "markers",
        "name": escape(group),
        "x": [short(d.value) for d in mine],
        "y": [short(v) for v in at],
        "error_x": bars if any(known) else {"visible": False},
        "text": [escape(d.said or d.row) for d in mine],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"size": 9, "symbol": symbol, "color": colour, "line": {"width": 0.8, "color": INK}},
    }
