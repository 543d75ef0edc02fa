"""Colours, fonts and axes that all charts share, as plotly.js and the images use them.

The colours are Okabe and Ito's palette, which people with any colour vision can tell apart.
"""

from __future__ import annotations

from html import escape
from typing import Any

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
STAGES = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, BLACK)
GREY = "#8A94A0"
INK = "#1F2933"
FONT = {
    "family": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif",
    "size": 13,
}
Chart = dict[str, Any]


def short(value: float) -> float:
    """A coordinate to six digits; more cannot be seen and makes the file larger."""
    return float(f"{value:.6g}")


def layout(height: int, x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """What all charts share."""
    axis = {
        "gridcolor": "#E6EAEE",
        "zeroline": False,
        "linecolor": "#B8C1CB",
        "ticks": "outside",
        "tickcolor": "#B8C1CB",
    }
    return {
        "height": height,
        "margin": {"l": 76, "r": 24, "t": 44, "b": 56},
        "font": {**FONT, "color": INK},
        "paper_bgcolor": "#FFFFFF",
        "plot_bgcolor": "#FFFFFF",
        "hoverlabel": {
            "align": "left",
            "bgcolor": "#FFFFFF",
            "bordercolor": GREY,
            "font": {**FONT, "color": INK},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "xaxis": {**axis, "automargin": True, **x},
        "yaxis": {**axis, "automargin": True, **y},
    }


def title(text: str) -> dict[str, Any]:
    """The title of an axis."""
    return {"text": escape(text), "standoff": 12, "font": FONT}


def clock(hours: float) -> tuple[float, str]:
    """Factor and unit in which some hours are shown."""
    if hours < 0.1:
        return 3600.0, "s"
    return (60.0, "min") if hours < 3 else (1.0, "h")  # noqa: PLR2004 - three hours


def faint(colour: str) -> str:
    """A colour as a faint fill."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"
