"""Images of how a run went: hypervolume against cost, rungs, cost over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ziggurat.report import words
from ziggurat.report.canvas import dress, leave_empty, new_figure, plain, to_png
from ziggurat.report.progress import RungBar, Spend, bounds
from ziggurat.report.style import BLUE, GREEN, GREY, INK, SKY, STAGES, VERMILION, clock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.analysis.curves import Curve

PATCH = {"boxstyle": "round,pad=0.25", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def volume(curve: Curve | None, random: Curve | None) -> bytes:
    """Hypervolume against cost as a PNG."""
    figure = new_figure(7.6, 4.2)
    axes = figure.subplots()
    if curve is None or not curve.cost:
        leave_empty(axes, "No trial has reached the top rung within all limits.")
        return to_png(figure)
    dress(axes, _cost(curve.priced, "of the search"), "Hypervolume against the reference")
    lines = [("Search", curve, BLUE, "-"), ("Random search", random, GREY, ":")]
    for name, line, colour, dash in lines:
        if line is None or not line.hypervolume:
            continue
        at = line.cost_usd if curve.priced else line.seconds
        end = max(line.total_usd if curve.priced else line.total_s, at[-1])
        values = [0.0, *line.hypervolume, line.hypervolume[-1]]
        style: dict[str, Any] = {"color": colour, "linestyle": dash, "linewidth": 2, "label": name}
        axes.step([0.0, *at, end], values, where="post", **style)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    if random is not None and random.hypervolume:
        axes.legend(frameon=False, loc="lower right")
    return to_png(figure)


def _cost(priced: bool, of: str) -> str:
    return f"Cumulative cost {of} (US$)" if priced else f"Cumulative worker time {of} (s)"


def rungs(bars: Sequence[RungBar]) -> bytes:
    """How many trials ended at each rung, as a PNG."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(7.6, 3.8)
    axes = figure.subplots()
    if not bars:
        leave_empty(axes, "No trial has been started.")
        return to_png(figure)
    dress(axes, "", "Trials that ended here")
    axes.grid(visible=False, axis="x")
    base = [0] * len(bars)
    for name, colour, hatch in (
        ("completed", GREEN, ""),
        ("stopped", SKY, "//"),
        ("failed", VERMILION, "xx"),
    ):
        values = [getattr(b, name) for b in bars]
        if any(values):
            shown = axes.bar(
                [plain(b.label) for b in bars],
                values,
                0.5,
                base,
                color=colour,
                hatch=hatch,
                edgecolor="white",
                label=words.capital(name),
            )
            axes.bar_label(
                shown, [str(v) if v else "" for v in values], label_type="center", fontsize=9, bbox=PATCH
            )
        base = [b + v for b, v in zip(base, values, strict=True)]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return to_png(figure)


def cost(lines: Sequence[Spend], priced: bool, plan: float | None, limit: float | None) -> bytes:
    """Cumulative cost over time as a PNG."""
    figure = new_figure(7.6, 3.8)
    axes = figure.subplots()
    if not lines:
        leave_empty(axes, "Nothing has been spent.")
        return to_png(figure)
    factor, unit = clock(max(line.hours[-1] for line in lines))
    dress(axes, f"Time since the start ({unit})", _cost(priced, "of the run"))
    for line, colour in zip(lines, STAGES * (len(lines) // len(STAGES) + 1), strict=False):
        at, values = [h * factor for h in line.hours], line.usd if priced else line.seconds
        axes.plot(at, values, color=colour, linewidth=2, label=plain(words.capital(line.stage)))
        axes.fill_between(at, values, color=colour, alpha=0.12, linewidth=0)
    for name, value in bounds(lines, plan, limit) if priced else []:
        colour, dash = (VERMILION, "--") if name == "limit" else (INK, ":")
        label = plain(f"{words.capital(name)} {words.usd(value)}")
        axes.axhline(value, color=colour, linestyle=dash, linewidth=1.2, label=label)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(frameon=False, ncols=5, loc="lower left", bbox_to_anchor=(0, 1), fontsize=8.5)
    return to_png(figure)
