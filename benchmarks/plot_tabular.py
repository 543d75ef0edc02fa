"""Hypervolume against cost for all strategies, one image for each cost column, from results of tabular.py.

Lines are medians, bands the quartiles. The vertical scale is stretched towards 1, where strategies differ.

    python benchmarks/plot_tabular.py OUT_DIR RESULT.json [RESULT.json ...]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ziggurat.report import canvas
from ziggurat.report.style import BLACK, BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, BLACK, GREY)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))
OURS = "frontier"
MARKS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0)
CLOSEST = 0.004
"""How far beyond 1 the stretched scale has its pole."""


@dataclass(frozen=True)
class Curve:
    """Normalised hypervolume of one strategy, by units spent.

    Attributes:
        strategy: Its name.
        units: Units spent, growing, shape (n,).
        median: Over the seeds, shape (n,).
        low: First quartile, shape (n,).
        high: Third quartile, shape (n,).
    """

    strategy: str
    units: FloatArray
    median: FloatArray
    low: FloatArray
    high: FloatArray


def read(path: Path) -> tuple[str, Curve]:
    """The cost column and the curve of one result.

    Raises:
        ValueError: The file holds no result of tabular.py.
    """
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        curve = plain["curve"]
        columns = [np.array(curve[name], dtype=float) for name in ("units", "median", "q1", "q3")]
        found = Curve(str(plain["strategy"]), *columns)
        cost = str(plain["cost"] or "none (error alone)")
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{path}: no result of tabular.py ({what}); name files written by --json") from None
    if len({len(c) for c in columns}) != 1 or not (columns[0] > 0).any():
        raise ValueError(f"{path}: its curve has lists of different lengths or no cost; write it anew")
    return cost, found


def looks(strategies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and width of every strategy, the same in all images that name the same strategies."""
    others = sorted(set(strategies) - {OURS})
    found: dict[str, dict[str, Any]] = {
        name: {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
            "linewidth": 1.5,
        }
        for i, name in enumerate(others)
    }
    return found | {OURS: {"color": VERMILION, "linestyle": "-", "linewidth": 2.4, "zorder": 4}}


def apart(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions in the same order as wanted, close to them, and at least a gap from one another."""
    order = np.argsort(np.asarray(wanted, dtype=float), kind="stable")
    groups: list[list[float]] = []  # for each block of touching labels: its centre and size
    for i in order:
        groups.append([float(wanted[i]), 1])
        while len(groups) > 1:
            (a, n), (b, m) = groups[-2], groups[-1]
            if b - a >= gap * (n + m) / 2:
                break
            groups[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    placed = [centre + gap * (k - (n - 1) / 2) for centre, n in groups for k in range(int(n))]
    found = [0.0] * len(placed)
    for i, position in zip(order, placed, strict=True):
        found[int(i)] = position
    return found


def label_ends(axes: Axes, names: Sequence[str], ends: Sequence[tuple[float, float]], styles: Any) -> None:  # noqa: ANN401
    """Write each name beside the right end of its line; the limits of the axes must be set before.

    Args:
        axes: Where the lines are.
        names: One for each line.
        ends: Last point of each line, in data coordinates.
        styles: Look of each line by name.
    """
    inverse = axes.transAxes.inverted()
    points = [inverse.transform(axes.transData.transform(end)) for end in ends]
    heights = apart([float(np.clip(p[1], 0.0, 1.0)) for p in points], gap=0.042)
    over = max([0.0, *(h - 1.0 for h in heights)])  # the uppermost stays beside the axes
    for name, point, height in zip(names, points, heights, strict=True):
        colour = styles[name]["color"]
        weight = "bold" if name == OURS else "normal"
        axes.annotate(
            canvas.plain(name),
            xy=(float(point[0]), float(np.clip(point[1], 0.0, 1.0))),
            xytext=(1.04, height - over),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=9,
            color=colour,
            fontweight=weight,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.6,
                "relpos": (0, 0.5),
                "shrinkA": 2,
                "shrinkB": 0,
            },
        )


def stretch(axes: Axes, lowest: float, highest: float) -> None:
    """Give the vertical axis more room towards 1, and limits at marks around two values."""
    lowest = max([MARKS[0], *(m for m in MARKS if m <= lowest)])
    highest = min([MARKS[-1], *(m for m in MARKS if m > highest)])
    far = 1.0 + CLOSEST

    def forward(y: FloatArray) -> FloatArray:
        return -np.log(np.maximum(far - np.asarray(y), 1e-9))

    def backward(z: FloatArray) -> FloatArray:
        return far - np.exp(-np.asarray(z))

    axes.set_yscale("function", functions=(forward, backward))
    axes.set_ylim(lowest, highest)
    axes.set_yticks([m for m in MARKS if lowest <= m <= highest])
    axes.set_yticks([], minor=True)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2f}")


def draw(cost: str, curves: Sequence[Curve], styles: dict[str, dict[str, Any]]) -> bytes:
    """The chart of one cost column as PNG."""
    figure = canvas.new_figure(8.6, 5.4)
    axes = figure.subplots()
    first = min(float(c.units[c.units > 0][0]) for c in curves)
    last = max(float(c.units[-1]) for c in curves)
    canvas.dress(axes, "cost spent (full trainings)", "normalised hypervolume, stretched towards 1")
    axes.set_title(canvas.plain(f"cost objective: {cost}"), loc="left", fontsize=11, color=INK)
    axes.set_xscale("log")
    axes.set_xlim(first, last)
    marks = [u for u in (0.1, 0.2, 0.5, 1, 2, 5, 10, 25, 50, 100, 200, 400, 1000) if first <= u <= last]
    axes.set_xticks(marks, [f"{m:g}" for m in marks])
    axes.set_xticks([], minor=True)
    at_five = [float(np.interp(5.0, c.units, c.low)) for c in curves]
    stretch(axes, min(at_five), max(float(c.high.max()) for c in curves))
    for curve in curves:
        style = styles[curve.strategy]
        axes.fill_between(curve.units, curve.low, curve.high, color=style["color"], alpha=0.12, linewidth=0)
        axes.plot(curve.units, curve.median, label=curve.strategy, **style)
    ends = [(float(c.units[-1]), float(c.median[-1])) for c in curves]
    label_ends(axes, [c.strategy for c in curves], ends, styles)
    return canvas.to_png(figure)


def plots(results: Sequence[tuple[str, Curve]]) -> dict[str, bytes]:
    """One PNG for each cost column, by file name."""
    styles = looks([curve.strategy for _, curve in results])
    found: dict[str, bytes] = {}
    for cost in dict.fromkeys(cost for cost, _ in results):
        curves = [curve for other, curve in results if other == cost]
        name = re.sub(r"[^A-Za-z0-9]+", "-", re.sub(r".*[:/]", "", cost)).strip("-").lower()
        found[f"hypervolume-{name}.png"] = draw(cost, curves, styles)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the images; 2 if a file is no result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the images")
    parser.add_argument("results", type=Path, nargs="+", help="files written by tabular.py --json")
    given = parser.parse_args(arguments)
    try:
        images = plots([read(path) for path in given.results])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    for name, image in images.items():
        (given.out / name).write_bytes(image)
        print(given.out / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
