"""Drawing into a PNG with matplotlib, which is imported when called.

Figures are made without pyplot, so nothing is kept in memory and no display is looked for.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from ziggurat.report.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 150


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": "ziggurat"})
    return buffer.getvalue()


def plain(text: str) -> str:
    """Text that matplotlib prints as it stands: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def dress(axes: Axes, x: str, y: str) -> None:
    """Titles, grid and spines, as all charts have them."""
    axes.set_xlabel(plain(x))
    axes.set_ylabel(plain(y))
    axes.grid(visible=True, color="#E6EAEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#B8C1CB")
    axes.tick_params(colors=INK)


def logarithmic(axes: Axes) -> None:
    """Logarithmic axes with ticks at 1, 2 and 5 of every power of ten, written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def leave_empty(axes: Axes, text: str) -> None:
    """Say in words why there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, plain(text), ha="center", va="center", color="#5B6672", transform=axes.transAxes)
