"""The Pareto charts as one image, for papers, chats and artifact stores. Imports matplotlib when called."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ziggurat.report.canvas import dress, leave_empty, new_figure, to_png
from ziggurat.report.style import BLACK, GREY, INK, ORANGE, VERMILION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from ziggurat.report.panels import Panel, Points, Scale


def _scale(axes: Axes, letter: str, scale: Scale) -> None:
    from matplotlib.ticker import NullLocator

    if scale.kind == "linear":
        return
    getattr(axes, f"set_{letter}scale")("log")
    along = getattr(axes, f"{letter}axis")
    marks = scale.ticks()
    along.set_ticks([at for at, _ in marks], [label for _, label in marks])
    along.set_minor_locator(NullLocator())
    if scale.kind == "error":
        along.set_inverted(True)


def _draw(axes: Axes, panel: Panel, trials: int) -> Any:  # noqa: ANN401 - matplotlib's collection
    """One panel; what is returned carries the colours of the trial order."""
    dress(axes, panel.x.title, panel.y.title)
    _scale(axes, "x", panel.x)
    _scale(axes, "y", panel.y)
    faint = {"s": 14, "color": "#B8C1CB", "alpha": 0.6, "linewidths": 0}
    _scatter(axes, panel.lower, "Below the top rung", faint)
    square = {"s": 26, "marker": "s", "facecolors": "none", "edgecolors": "#5B6672"}
    _scatter(axes, panel.baseline, "Random baseline", square)
    if panel.baseline_stairs:
        axes.plot(*zip(*panel.baseline_stairs, strict=True), color=GREY, linestyle=":", linewidth=1.3)
    if panel.stairs:
        axes.plot(*zip(*panel.stairs, strict=True), color=VERMILION, linewidth=1.6, label="Front")
    shades = {"cmap": "cividis", "vmin": 1, "vmax": max(2, trials), "c": [i + 1 for i in panel.top.order]}
    white = {"s": 34, "edgecolors": "white", "linewidths": 0.4, "zorder": 3}
    drawn = _scatter(axes, panel.top, "Top rung", shades | white)
    ring = {"s": 90, "facecolors": "none", "edgecolors": VERMILION, "linewidths": 1.4, "zorder": 4}
    _scatter(axes, panel.front, "", ring)
    diamond = {"s": 75, "marker": "D", "color": ORANGE, "edgecolors": BLACK, "linewidths": 0.9, "zorder": 5}
    _scatter(axes, panel.retrained, "Retrained", diamond)
    _bounds(axes, panel)
    return drawn


def _scatter(axes: Axes, points: Points, label: str, style: dict[str, Any]) -> Any:  # noqa: ANN401
    """Points of one kind; a kind without points stays out of the legend."""
    return axes.scatter(points.x, points.y, label=label if label and points.x else "_", **style)


def _bounds(axes: Axes, panel: Panel) -> None:
    """Reference point and limits."""
    x, y = panel.reference
    if x is None:
        axes.axhline(y, color=INK, linestyle=":", linewidth=1, label="Reference")
    else:
        axes.scatter([x], [y], s=150, marker="*", color=BLACK, label="Reference", zorder=5, clip_on=False)
    for value, line in ((panel.limits[0], axes.axvline), (panel.limits[1], axes.axhline)):
        if value is not None:
            line(value, color=VERMILION, linestyle="--", linewidth=1.2, label="Limit")


def pareto(panels: Sequence[Panel], trials: int) -> bytes:
    """All pairs of objectives as one PNG."""
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    figure = new_figure(7.6 if columns == 1 else 5.4 * columns, (5.2 if columns == 1 else 4.6) * rows)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    if not any(p.top.x or p.lower.x or p.baseline.x or p.retrained.x for p in panels):
        figure = new_figure(7.6, 4.2)
        leave_empty(figure.subplots(), "No trial has reached a rung.")
        return to_png(figure)
    drawn = [_draw(axes, panel, trials) for axes, panel in zip(grid, panels, strict=False)]
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    if any(p.top.x for p in panels):
        figure.colorbar(drawn[0], ax=list(grid), label="Trial order", pad=0.01, aspect=40)
    handles: dict[str, Any] = {}
    for axes in grid[: len(panels)]:
        found = zip(*axes.get_legend_handles_labels(), strict=True)
        handles |= {label: handle for handle, label in found}
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper left",
        ncols=4 if columns == 1 else 8,
        frameon=False,
        fontsize=8.5,
    )
    return to_png(figure)
