"""Cost and accuracy: what each strategy has found by which cost, and where more money stops paying.

Searches of measured tables by the production engine. After every full training the incumbent is the cell with
the best validation score so far; its test accuracy is followed, and the share of the table's hypervolume that
the front so far reaches (as in tabular.py). Costs are units: the mean cost of one full training. The knee is
that of the median over the seeds (`ziggurat.analysis.curves.knee_of`): beyond it, a further unit brings less
than the average unit of the whole search.

    python benchmarks/study.py --tables FOLDER [--seeds 5] [--budget 100] [--json OUT] [--plot OUT.png]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import numpy as np
import numpy.typing as npt
import tabular
from tabular_study import Study, error, progress

from ziggurat.analysis.curves import knee_of
from ziggurat.history import History
from ziggurat.report import canvas
from ziggurat.report.style import BLUE, GREEN, INK, ORANGE, PURPLE, SKY, VERMILION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]
STRATEGIES = ("random", "evolution", "asha-promotion", "frontier")
SOURCES: Mapping[str, tuple[Mapping[str, str], str]] = {
    "NAS-Bench-201, two schedules": (
        {"architectures": "nb201_space", "accuracy": "nb201_cifar10"},
        "nb201_latency_ms.npz:raspi4",
    ),
    "NAS-Bench-101, four budgets": ({"fidelities": "nb101_multifidelity"}, "nb101_multifidelity.npz:params"),
}
"""Files of each table by the key of the spec, and what is minimised beside the error."""
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.5, 1.5)))
POINTS = 160


@dataclass(frozen=True)
class Line:
    """What a strategy had reached, over its seeds, each of shape (n,).

    Attributes:
        strategy: Its name.
        units: Costs.
        accuracy: Median test accuracy of the incumbent, per cent.
        low: First quartile of it.
        high: Third quartile.
        volume: Median share of the hypervolume.
        knee: Index of the knee of the accuracy.
        volume_knee: Index of the knee of the hypervolume.
    """

    strategy: str
    units: FloatArray
    accuracy: FloatArray
    low: FloatArray
    high: FloatArray
    volume: FloatArray
    knee: int | None
    volume_knee: int | None


def incumbents(study: Study, history: History) -> list[tuple[float, float]]:
    """After each full training, units spent and the test accuracy of the best by validation, per cent."""
    table = study.table()
    ended = [s for s in history.segments.values() if s.end is not None]
    spent, best, found = 0.0, np.inf, list[tuple[float, float]]()
    told = np.nan
    for segment in sorted(ended, key=lambda s: s.finished_utc or 0.0):
        assert segment.end is not None
        spent += segment.end.seconds / table.unit_s
        job = segment.job
        if job.candidate is None or segment.end.failure or job.ladder[job.to_rung].epochs != table.top:
            continue
        row = table.rows[job.candidate]
        loss = float(error(table, table.scores[table.top])[row])
        if loss < best:
            best, told = loss, 100.0 * float(table.test[row])
        found.append((spent, told))
    return found


def line(study: Study, seeds: Sequence[int]) -> Line:
    """All searches of a strategy."""
    steps = []
    for seed in seeds:
        history = tabular.drive(study, seed)
        volume = [(units, share) for units, _, share in progress(study, history)]
        steps.append((incumbents(study, history), volume))
    begun = max([2.0, *(accuracy[0][0] for accuracy, _ in steps)])
    grid = np.geomspace(begun, study.budget, POINTS)
    known = np.array([_on(grid, accuracy) for accuracy, _ in steps])
    low, accuracy, high = np.quantile(known, [0.25, 0.5, 0.75], axis=0)
    volume = np.median([_on(grid, found) for _, found in steps], axis=0)
    return Line(
        study.strategy,
        grid,
        accuracy,
        low,
        high,
        volume,
        knee_of(grid.tolist(), accuracy.tolist()),
        knee_of(grid.tolist(), volume.tolist()),
    )


def _on(grid: FloatArray, steps: Sequence[tuple[float, float]]) -> FloatArray:
    """The value of the last step by each cost, all of which lie behind the first step."""
    units, values = (np.array(column) for column in zip(*steps, strict=True))
    found: FloatArray = values[np.searchsorted(units, grid * (1 + 1e-12), side="right") - 1]
    return found


def study_of(folder: Path, name: str, strategy: str, budget: float) -> Study:
    """A table and a strategy as a study."""
    files, cost = SOURCES[name]
    places = {key: str(folder / f"{file}.npz") for key, file in files.items()}
    return Study(files=places, cost=str(folder / cost), strategy=strategy, workers=4, budget=budget)


def plain(found: Line) -> dict[str, Any]:
    """A line as JSON."""
    knees = {
        f"{name}_units": None if at is None else round(float(found.units[at]), 2)
        for name, at in (("knee", found.knee), ("volume_knee", found.volume_knee))
    }
    at_knee = None if found.knee is None else round(float(found.accuracy[found.knee]), 3)
    return {
        "strategy": found.strategy,
        **knees,
        "accuracy_at_knee": at_knee,
        "accuracy": round(float(found.accuracy[-1]), 3),
        "quartiles": [round(float(found.low[-1]), 3), round(float(found.high[-1]), 3)],
        "volume": round(float(found.volume[-1]), 4),
        "curve": {
            "units": [round(float(u), 2) for u in found.units],
            "accuracy": [round(float(v), 3) for v in found.accuracy],
            "volume": [round(float(v), 4) for v in found.volume],
        },
    }


def picture(results: Mapping[str, Sequence[Line]]) -> bytes:
    """One row for each table: accuracy and hypervolume against cost, with the knees, as PNG."""
    figure = canvas.new_figure(10.4, 3.9 * len(results))
    grid = figure.subplots(len(results), 2, squeeze=False)
    for row, (name, lines) in zip(grid, results.items(), strict=True):
        _panel(row[0], lines, "test accuracy of the incumbent (%)", accuracy=True)
        _panel(row[1], lines, "share of the best hypervolume", accuracy=False)
        row[0].set_title(name, loc="left", fontsize=10, color=INK)
    grid[0][0].legend(frameon=False, fontsize=8.5, loc="lower right")
    return canvas.to_png(figure)


def _panel(axes: Axes, lines: Sequence[Line], label: str, *, accuracy: bool) -> None:
    for index, found in enumerate(lines):
        values, knee = (found.accuracy, found.knee) if accuracy else (found.volume, found.volume_knee)
        colour = COLOURS[index % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "linestyle": DASHES[index % len(DASHES)], "linewidth": 1.8}
        axes.step(found.units, values, where="post", label=found.strategy, **style)
        if accuracy:
            axes.fill_between(found.units, found.low, found.high, step="post", color=colour, alpha=0.1, lw=0)
        if knee is not None:
            axes.plot(found.units[knee], values[knee], "D", ms=8, mfc="white", mec=colour, mew=1.8, zorder=5)
    canvas.dress(axes, "cost in full trainings", label)
    axes.set_xscale("log")
    marks = [m for m in (2, 5, 10, 20, 50, 100, 200, 500) if m <= lines[0].units[-1]]
    axes.set_xticks(marks, [str(m) for m in marks])
    axes.set_xticks([], minor=True)
    ends = np.concatenate([f.accuracy if accuracy else f.volume for f in lines])
    axes.set_ylim(float(np.nanquantile(ends, 0.03)), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the searches of the command line and print their table."""
    options = parser().parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    results: dict[str, list[Line]] = {}
    print("| table | strategy | knee | accuracy there | accuracy at the end (quartiles) | hypervolume |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in SOURCES:
        results[name] = []
        for strategy in options.strategies:
            found = line(study_of(Path(options.tables), name, strategy, options.budget), seeds)
            results[name].append(found)
            p = plain(found)
            print(
                f"| {name} | {strategy} | {p['knee_units']} | {p['accuracy_at_knee']} % | {p['accuracy']} % "
                f"({p['quartiles'][0]} to {p['quartiles'][1]}) | {p['volume']} |",
                flush=True,
            )
    if options.json:
        written = {name: [plain(found) for found in lines] for name, lines in results.items()}
        Path(options.json).write_text(json.dumps(written, indent=1), encoding="utf-8")
    if options.plot:
        Path(options.plot).write_bytes(picture(results))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tables", required=True, help="folder with the archives")
    parser.add_argument(
        "--strategies", nargs="*", default=list(STRATEGIES), choices=sorted(tabular.STRATEGIES)
    )
    parser.add_argument("--budget", type=float, default=100.0, help="units to spend")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--plot", metavar="OUT.png", help="image to write")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
