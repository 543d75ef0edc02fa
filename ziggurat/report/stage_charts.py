"""Charts of how the run went: projected against actual cost by stage, alerts over time."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from ziggurat.report import words
from ziggurat.report.dots import cut
from ziggurat.report.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    SKY,
    VERMILION,
    WHITE,
    Chart,
    clock,
    layout,
    short,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ziggurat.events import Alert
    from ziggurat.report.stage_costs import StageCost

COLOURS = {"critical": VERMILION, "warning": ORANGE, "info": BLUE}
MOST = 40
"""Alerts shown."""
SYMBOLS = {"critical": "triangle-up", "warning": "diamond", "info": "circle"}


def costs(found: Sequence[StageCost], priced: bool) -> Chart:
    """What each stage cost, with what nothing came of, and what had been projected."""
    names = [escape(words.capital(s.stage)) for s in found]
    hatch = {"shape": "/", "fillmode": "overlay", "fgcolor": WHITE, "fgopacity": 0.5, "size": 7}
    work = [s.usd - s.charged_usd if priced else s.seconds for s in found]
    vain = [s.charged_usd if priced else s.charged_s for s in found]
    planned = [s.projected_usd if priced else s.projected_s for s in found]
    kinds: list[tuple[str, list[float], str, dict[str, Any]]] = [
        ("Work", work, BLUE, {}),
        ("Idle, queued or in vain", vain, SKY, {"pattern": hatch}),
    ]
    data: list[Chart] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": names,
            "x": [short(v) for v in values],
            "marker": {"color": colour, **more},
            "hovertemplate": f"%{{y}}, {name.lower()}: %{{x:.4g}}<extra></extra>",
        }
        for name, values, colour, more in kinds
        if any(values)
    ]
    known = [(n, p) for n, p in zip(names, planned, strict=True) if p is not None]
    if known:
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "Projected before",
                "y": [n for n, _ in known],
                "x": [short(p) for _, p in known],
                "marker": {
                    "symbol": "line-ns",
                    "size": 22,
                    "color": BLACK,
                    "line": {"width": 3, "color": BLACK},
                },
                "hovertemplate": "%{y}, projected: %{x:.4g}<extra></extra>",
            }
        )
    x = {"title": title("Cost (US$)" if priced else "Worker time (s)"), "rangemode": "tozero"}
    y = {"autorange": "reversed", "ticks": "", "type": "category", "fixedrange": True}
    shown = layout(110 + 40 * len(found), x, y) | {"barmode": "stack", "bargap": 0.4, "showlegend": True}
    return {"data": data, "layout": shown}


def alerts(log: Sequence[tuple[float, Alert]], began: float, ended: float) -> Chart:
    """A row for each alert: when it was raised, again, and resolved; the last of them if there are many."""
    rows = list(dict.fromkeys(a.key for _, a in log))[-MOST:]
    log = [(utc, a) for utc, a in log if a.key in set(rows)]
    latest = {a.key: a for _, a in log}
    factor, unit = clock((ended - began) / 3600)

    def at(utc: float) -> float:
        return short((utc - began) / 3600 * factor)

    lasting = {a.key for _, a in log if a.severity != "info"}
    data = [_open(log, key, place, at, ended) for place, key in enumerate(rows) if key in lasting]
    kinds: dict[str, list[tuple[float, Alert]]] = {}
    for utc, alert in log:
        kinds.setdefault(alert.severity if alert.state == "raised" else "resolved", []).append((utc, alert))
    for name, mine in kinds.items():
        colour = GREEN if name == "resolved" else COLOURS.get(name, BLUE)
        symbol = "circle-open" if name == "resolved" else SYMBOLS.get(name, "circle")
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": words.capital(name),
                "x": [at(utc) for utc, _ in mine],
                "y": [rows.index(a.key) for _, a in mine],
                "text": [escape(a.title) for _, a in mine],
                "hovertemplate": "%{text}<extra></extra>",
                "marker": {
                    "size": 11,
                    "color": colour,
                    "symbol": symbol,
                    "line": {"width": 2, "color": colour},
                },
            }
        )
    y = {
        "tickvals": list(range(len(rows))),
        "ticktext": [escape(cut(latest[k].title)) for k in rows],
        "range": [len(rows) - 0.5, -0.5],
        "ticks": "",
        "fixedrange": True,
    }
    x_axis = {"title": title(f"Time since the start ({unit})"), "range": [0, 1.02 * max(at(ended), 1e-9)]}
    return {"data": data, "layout": layout(110 + 30 * len(rows), x_axis, y) | {"showlegend": True}}


def _open(
    log: Sequence[tuple[float, Alert]], key: str, place: int, at: Callable[[float], float], ended: float
) -> Chart:
    """From when to when an alert stood."""
    opened: float | None = None
    x: list[float | None] = []
    for utc, alert in log:
        if alert.key != key:
            continue
        if alert.state == "raised":
            opened = utc if opened is None else opened
        elif opened is not None:
            x += [at(opened), at(utc), None]
            opened = None
    if opened is not None:
        x += [at(opened), at(ended)]
    severity = next(a.severity for _, a in reversed(log) if a.key == key)
    line = {"width": 6, "color": COLOURS.get(severity, BLUE)}
    plain = {"type": "scatter", "mode": "lines", "x": x, "y": [place] * len(x), "line": line}
    return plain | {"opacity": 0.45, "hoverinfo": "skip", "showlegend": False}
