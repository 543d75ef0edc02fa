"""Parallel coordinates, lying down: a row for each choice and objective, a line for each trial from the top.

Rows rather than columns, because names are read along rows, and two dozen choices find place below each
other. Each line is coloured by the first objective; the front lies on top. What a trial does not have (a
choice that exists only together with others) is at the left of the row's values. Lines through one listed
value are spread a little, so that their number can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from ziggurat.choices import Values
from ziggurat.domain import Goal
from ziggurat.report import words
from ziggurat.report.dots import cut
from ziggurat.report.style import CLEAR, FONT, GREY, SOFT, VERMILION, WHITE, Chart, layout, short

if TYPE_CHECKING:
    from ziggurat.choices import Choices
    from ziggurat.domain import Objective, Trial

AT_MOST = 240
"""Lines beside the front; more hide each other."""
BOLD = 12
"""Lines of the front."""
BANDS = 8
"""Shades of the lines: so many traces are drawn, however many trials there are."""
SHADES = ("#00204C", "#213D6B", "#555B6C", "#7B7A77", "#A59C74", "#CDB95F")
"""Cividis (Nunez, Anderton and Renslow 2018) without its brightest end, which is lost on white."""
ROW = 46
LABELS = 9
"""Values that a row names at most."""
ABSENT = -0.07
GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class Row:
    """A choice or an objective.

    Attributes:
        name: What the row is called.
        at: Where a trial lies along it, 0 to 1; None if it has none.
        marks: Places that are named.
        slot: Width that lines through one place are spread over.
    """

    name: str
    at: Callable[[Trial], float | None]
    marks: tuple[tuple[float, str], ...]
    slot: float = 0.0


def rows(choices: Choices, trials: Sequence[Trial], objectives: Sequence[Objective]) -> list[Row]:
    """Choices that differ among the trials, in their order, then objectives, the better end on the right."""
    held = {n: {t.candidate.choices.get(n) for t in trials} for n in choices}
    found = [_choice(n, choices[n]) for n in choices if len(held[n]) > 1]
    return found + [_objective(o, trials) for o in objectives]


def _choice(name: str, choice: Any) -> Row:  # noqa: ANN401 - Values or Range
    def at(trial: Trial) -> float | None:
        value = trial.candidate.choices.get(name)
        if value is None or (isinstance(choice, Values) and value not in choice.values):
            return None
        return float(choice.unit(value))

    if isinstance(choice, Values) or choice.size <= LABELS:
        size = int(choice.size)
        values = [choice.at((i + 0.5) / size) for i in range(size)]
        step = math.ceil(len(values) / LABELS)
        marks = [(choice.unit(v), cut(words.setting(v), 12)) for v in values[::step]]
        return Row(name, at, tuple(marks), 0.55 / size)
    middle = choice.at(0.5)
    marks = [(choice.unit(v), f"{v:.3g}") for v in dict.fromkeys((choice.min, middle, choice.max))]
    return Row(name, at, tuple(marks))


def _objective(objective: Objective, trials: Sequence[Trial]) -> Row:
    values = sorted(v for v in (t.value(objective.metric) for t in trials) if math.isfinite(v))
    low, high = values[0], values[-1]
    wide = low > 0 and high > 8 * low
    scale = math.log if wide else float
    first, last = (low, high) if objective.goal is Goal.MAXIMIZE else (high, low)

    def place(value: float) -> float | None:
        if not math.isfinite(value):
            return None
        span = scale(last) - scale(first)
        return (scale(value) - scale(first)) / span if span else 0.5

    middle = values[len(values) // 2]
    named = [(place(v), words.shown(objective.metric, v)) for v in dict.fromkeys((first, middle, last))]
    marks = [(at, text) for at, text in named if at is not None]
    # a median that prints over an end says nothing
    marks = [m for m in marks if m[0] in {0.0, 1.0} or 0.12 < m[0] < 0.88]
    name = words.capital(words.name_of(objective.metric))
    return Row(name, lambda t: place(t.value(objective.metric)), tuple(marks))


def thinned(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """So many trials as can be told apart, evenly over the ranking by an objective."""
    ordered = sorted(trials, key=lambda t: (objective.loss(t.value(objective.metric)), t.number))
    if len(ordered) <= AT_MOST:
        return ordered
    return [ordered[round(i * (len(ordered) - 1) / (AT_MOST - 1))] for i in range(AT_MOST)]


def spread(front: Sequence[Trial]) -> list[Trial]:
    """So many trials of a front as can be followed with the eye, evenly along it, its ends included."""
    if len(front) <= BOLD:
        return list(front)
    return [front[round(i * (len(front) - 1) / (BOLD - 1))] for i in range(BOLD)]


def parallel(
    found: Sequence[Row], trials: Sequence[Trial], front: Sequence[Trial], first: Objective
) -> Chart:
    """The chart.

    Args:
        found: Rows, from the top.
        trials: To be shown, the best by the first objective first; those of the front come on top.
        front: Of the search.
        first: Objective that the lines are coloured by.
    """
    on_front = {t.number for t in front}
    others = [t for t in trials if t.number not in on_front]
    data = [_axes(found)]
    bands = min(BANDS, max(1, len(others)))
    for band in reversed(range(bands)):  # the best on top
        mine = others[band * len(others) // bands : (band + 1) * len(others) // bands]
        shade = SHADES[round((1 - (band + 0.5) / bands) * (len(SHADES) - 1))]
        data.append(_lines(found, mine, {"color": shade, "width": 1}, opacity=0.4, hoverinfo="skip"))
    top = _lines(found, front, {"color": VERMILION, "width": 1.6}, opacity=0.8)
    top |= {"name": "The front", "showlegend": True, "mode": "lines+markers"}
    top |= {"marker": {"size": 4, "color": VERMILION}, "hovertemplate": "%{text}<extra></extra>"}
    top["customdata"] = [str(t.number) for t in front for _ in range(len(found) + 1)]
    data += [top, _bar(trials, first)]
    ticks = {"tickvals": list(range(len(found))), "ticktext": [escape(cut(r.name, 28)) for r in found]}
    y = {**ticks, "range": [len(found) - 0.35, -0.45], "ticks": "", "showgrid": False, "fixedrange": True}
    y["linecolor"] = CLEAR
    x = {"visible": False, "range": [-0.1, 1.06], "fixedrange": True}
    shown = layout(100 + ROW * len(found), x, y) | {"showlegend": True}
    shown["annotations"] = _names(found)
    shown["margin"] = {"l": 60, "r": 20, "t": 40, "b": 12}
    return {"data": data, "layout": shown}


def _axes(found: Sequence[Row]) -> Chart:
    x = [v for _ in found for v in (0, 1, None)]
    y = [v for place in range(len(found)) for v in (place, place, None)]
    line = {"color": GREY, "width": 1}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line} | {
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _names(found: Sequence[Row]) -> list[dict[str, Any]]:
    """The named values below the rows."""
    marks = [(at, place + 0.27, text) for place, row in enumerate(found) for at, text in row.marks]
    look = {"showarrow": False, "bgcolor": WHITE, "opacity": 0.85, "borderpad": 0}
    look["font"] = {"size": 10.5, "color": SOFT}
    return [{"x": short(at), "y": short(y), "text": escape(text), **look} for at, y, text in marks]


def _lines(found: Sequence[Row], trials: Sequence[Trial], line: dict[str, Any], **more: Any) -> Chart:  # noqa: ANN401
    x: list[float | None] = []
    y: list[float | None] = []
    for trial in trials:
        for place, row in enumerate(found):
            at = row.at(trial)
            spread = ((trial.number * GOLDEN) % 1 - 0.5) * (row.slot or 0.012)
            x.append(round((ABSENT if at is None else at) + spread, 4))
            y.append(place)
        x.append(None)
        y.append(None)
    plain = {"type": "scatter", "mode": "lines", "x": x, "y": y, "line": line, "showlegend": False}
    return plain | more


def _bar(trials: Sequence[Trial], first: Objective) -> Chart:
    """Nothing but the scale of the colours."""
    values = [v for v in (t.value(first.metric) for t in trials) if math.isfinite(v)] or [0.0]
    factor = 100.0 if words.is_accuracy(first.metric) else 1.0
    ends = sorted((min(values), max(values)), key=first.loss, reverse=True)
    unit = words.unit_of(first.metric)
    scale = [[i / (len(SHADES) - 1), shade] for i, shade in enumerate(SHADES)]
    name = words.capital(words.name_of(first.metric)) + (f" ({unit})" if unit else "") + ", by rank"
    bar = {
        "title": {"text": escape(name), "font": FONT, "side": "right"},
        "thickness": 12,
        "outlinewidth": 0,
        "len": 0.9,
        "tickvals": [0, 1],
        "ticktext": [f"{factor * ends[0]:.4g}", f"{factor * ends[1]:.4g}"],
    }
    marker = {"color": [0], "cmin": 0, "cmax": 1, "colorscale": scale, "colorbar": bar, "size": 0.1}
    plain = {"type": "scatter", "mode": "markers", "x": [0], "y": [0], "marker": marker}
    return plain | {"hoverinfo": "skip", "showlegend": False}
