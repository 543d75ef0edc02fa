"""Colours, fonts and axes that all charts share, as plotly.js and the images use them.

The colours are Okabe and Ito's palette, which people with any colour vision can tell apart; what matters
differs in shape, dash or hatching as well. The page turns ink, black, white and greys around in a dark room.
"""

from __future__ import annotations

from html import escape
from typing import Any

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
STAGES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
GREY = "#8A94A0"
INK = "#1F2933"
SOFT, LINE, GRID, WHITE = "#5B6672", "#B8C1CB", "#E6EAEE", "#FFFFFF"
HALO = "#F7F9FA"
"""Light in any room."""
CLEAR = "rgba(0,0,0,0)"
FONT = {
    "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "size": 13,
}
Chart = dict[str, Any]


def short(value: float) -> float:
    """A coordinate to six digits; more cannot be seen and makes the file larger."""
    return float(f"{value:.6g}")


def axis(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - keys of plotly.js
    """What all axes share."""
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": LINE,
        "ticks": "outside",
        "tickcolor": LINE,
        "automargin": True,
        **more,
    }


def layout(height: int, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """What all charts share."""
    return {
        "height": height,
        "margin": {"l": 76, "r": 24, "t": 44, "b": 56},
        "font": {**FONT, "color": INK},
        "paper_bgcolor": CLEAR,
        "modebar": {"bgcolor": CLEAR, "color": LINE, "activecolor": SOFT},
        "plot_bgcolor": CLEAR,
        "hoverlabel": {
            "align": "left",
            "bgcolor": WHITE,
            "bordercolor": GREY,
            "font": {**FONT, "color": INK},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": axis(**x),
        "yaxis": axis(**y),
    }


def title(text: str) -> dict[str, Any]:
    """The title of an axis."""
    return {"text": escape(text), "standoff": 12, "font": FONT}


def across(value: float, label: str, colour: str, dash: str, *, upright: bool = False) -> dict[str, Any]:
    """A line through the whole chart at a value, with its name."""
    along, other = ("x", "y") if upright else ("y", "x")
    ends = {f"{along}0": value, f"{along}1": value, f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
    named: dict[str, Any] = {"text": escape(label), "textposition": "end"}
    if upright:
        named |= {"textangle": 0, "xanchor": "left", "yanchor": "top", "padding": 5}
    named["font"] = {"size": 11, "color": colour}
    return {"type": "line", "line": {"color": colour, "width": 1.5, "dash": dash}, "label": named, **ends}


def clock(hours: float) -> tuple[float, str]:
    """Factor and unit in which some hours are shown."""
    if hours < 0.1:
        return 3600.0, "s"
    return (60.0, "min") if hours < 3 else (1.0, "h")  # noqa: PLR2004 - three hours


def faint(colour: str) -> str:
    """A colour as a faint fill."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"
