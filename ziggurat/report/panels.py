"""The Pareto plot as plain numbers: one panel for each pair of objectives.

The interactive page and the images draw the same series. Nothing here knows a drawing library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from ziggurat.domain import Goal, Objective, Trial
from ziggurat.report import words
from ziggurat.report.summary import BASELINE, SEARCH, answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ziggurat.history import History
    from ziggurat.report.results import RetrainedRow, Summary

WIDE = 8.0
"""Ratio of largest to smallest value above which an axis is logarithmic."""
SKILLED = 0.9
"""Accuracy above which differences are seen better on a logarithmic scale of the error."""
MARKS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995)
"""Accuracies that an axis names."""
Kind = Literal["linear", "log", "error"]


@dataclass(frozen=True)
class Scale:
    """How values of one objective are laid out along an axis.

    Attributes:
        kind: `error` lays an accuracy out by the logarithm of 1 - accuracy, so that 98 % and 99 % are as far
            apart as 80 % and 90 %.
        title: Name and unit of the axis.
        low: Smallest value shown.
        high: Largest value shown.
        objective: What is shown; None for the order of trials.
    """

    kind: Kind
    title: str
    low: float
    high: float
    objective: Objective | None = None

    def at(self, value: float) -> float:
        """The coordinate of a value: the error for an error scale, in percent for a linear accuracy."""
        if self.kind == "error":
            return max(1.0 - value, 1e-4)
        return 100 * value if self.objective and words.is_accuracy(self.objective.metric) else value

    def ticks(self) -> list[tuple[float, str]]:
        """Coordinates with labels for a logarithmic scale; a linear one needs none."""
        if self.kind == "error":
            return _thin([(1 - m, f"{100 * m:.4g} %") for m in MARKS], self.at(self.high), self.at(self.low))
        if self.kind == "log":
            powers = range(math.floor(math.log10(self.low)) - 1, math.ceil(math.log10(self.high)) + 1)
            marks = [float(f"{d}e{p}") for p in powers for d in (1, 2, 5)]
            return _thin([(m, words.prefixed(m)) for m in marks], self.low, self.high)
        return []


def _thin(marks: list[tuple[float, str]], low: float, high: float) -> list[tuple[float, str]]:
    """Marks within bounds, without those so close that they would print over each other."""
    low, high = low * 0.7, high * 1.4
    kept: list[tuple[float, str]] = []
    for at, label in sorted(marks):
        # a twelfth of the axis is the width of a label
        if low <= at <= high and (not kept or math.log(at / kept[-1][0]) > math.log(high / low) / 12):
            kept.append((at, label))
    return kept


@dataclass(frozen=True)
class Points:
    """Points of one kind.

    Attributes:
        trials: Numbers of their trials.
        x: Coordinates.
        y: Coordinates.
        order: Places in the order of trials.
        x_ends: Coordinates of the lowest and the highest seed; empty where there are no seeds.
        y_ends: The same along y.
    """

    trials: tuple[int, ...] = ()
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    order: tuple[int, ...] = ()
    x_ends: tuple[tuple[float, float], ...] = ()
    y_ends: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of objectives, all in coordinates of its scales.

    Attributes:
        top: Search trials at the top rung.
        lower: Search trials that ended below it, at the rung they reached.
        front: Points of the front over all objectives.
        knee: The one of them at its knee, if there is one.
        ties: For each retrained model, where its trial lay in the search; empty points for unknown ones.
        baseline: Trials of the random baseline.
        retrained: Retrained models, mean over seeds.
        stairs: Corners of the line that separates what was reached in this pair from what was not.
        baseline_stairs: The same for the baseline.
        reference: Reference point; its x is None if x is the order of trials.
        limits: Hard limits along x and y.
    """

    x: Scale
    y: Scale
    top: Points
    lower: Points
    front: Points
    baseline: Points
    retrained: Points
    stairs: tuple[tuple[float, float], ...]
    baseline_stairs: tuple[tuple[float, float], ...]
    reference: tuple[float | None, float]
    limits: tuple[float | None, float | None]
    knee: Points = Points()
    ties: Points = Points()


def scale_of(objective: Objective, unit: str, values: Sequence[float]) -> Scale:
    """The scale that suits some values of an objective, its reference among them."""
    found = [v for v in (*values, objective.reference) if math.isfinite(v)]
    low, high = min(found), max(found)
    better = "higher is better" if objective.goal is Goal.MAXIMIZE else "lower is better"
    title = f"{words.heading(objective.metric, unit)}, {better}"
    kind: Kind = "linear"
    if words.is_accuracy(objective.metric) and low >= 0 and SKILLED <= high <= 1:
        kind, title = "error", f"{words.capital(words.name_of(objective.metric))}, {better}"
    elif low > 0 and high / low > WIDE and not words.is_accuracy(objective.metric):
        kind = "log"
    return Scale(kind, title, low, high, objective)


def _points(trials: Sequence[Trial], x: Scale, y: Scale) -> Points:
    rows = [(t.number, _coordinate(t, x), _coordinate(t, y), t.index) for t in trials]
    rows = [r for r in rows if math.isfinite(r[1]) and math.isfinite(r[2])]
    return Points(*(tuple(column) for column in zip(*rows, strict=True))) if rows else Points()


def _coordinate(trial: Trial, scale: Scale) -> float:
    if scale.objective is None:
        return float(trial.index + 1)
    value = trial.value(scale.objective.metric)
    return scale.at(value) if math.isfinite(value) else math.nan


def _retrained(summary: Summary, history: History, x: Scale, y: Scale) -> Points:
    rows = []
    for row in summary.retrained:
        order = history.trials[row.trial].index
        across, up = (_of_seeds(row, scale, order) for scale in (x, y))
        if all(map(math.isfinite, (*across, *up))):
            rows.append((row.trial, across[0], up[0], order, across[1:], up[1:]))
    return Points(*(tuple(column) for column in zip(*rows, strict=True))) if rows else Points()


def _of_seeds(row: RetrainedRow, scale: Scale, order: int) -> tuple[float, float, float]:
    """Coordinates of the mean, the lowest and the highest value over seeds; NaN where it is not known."""
    if scale.objective is None:
        return float(order + 1), float(order + 1), float(order + 1)
    found = row.find(scale.objective.metric)
    if found is None or not all(map(math.isfinite, found.values)):
        return math.nan, math.nan, math.nan
    return scale.at(found.mean), scale.at(min(found.values)), scale.at(max(found.values))


def stairs(
    points: Sequence[tuple[float, float]], reference: tuple[float, float]
) -> list[tuple[float, float]]:
    """Corners of the edge of what some points dominate, out to the reference; all as losses.

    Args:
        points: (x, y) losses, smaller is better.
        reference: Losses of the reference point.
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if not best or y < best[-1][1]:
            best.append((x, y))
    if not best:
        return []
    corners = [(best[0][0], max(reference[1], best[0][1]))]
    for (x, y), following in zip(best, [*best[1:], None], strict=True):
        corners.append((x, y))
        corners.append((following[0] if following else max(reference[0], x), y))
    return corners


def edge(trials: Sequence[Trial], x: Scale, y: Scale) -> tuple[tuple[float, float], ...]:
    """The stairs of some trials in coordinates; along the order of trials, the best so far."""
    first, second = x.objective, y.objective
    assert second is not None
    if first is None:
        return _best_so_far(trials, second, y)
    losses = [(first.loss(t.value(first.metric)), second.loss(t.value(second.metric))) for t in trials]
    corners = stairs(losses, (first.loss(first.reference), second.loss(second.reference)))
    # a loss is its own inverse: it changes the sign or nothing
    return tuple((x.at(first.loss(a)), y.at(second.loss(b))) for a, b in corners)


def _best_so_far(trials: Sequence[Trial], objective: Objective, y: Scale) -> tuple[tuple[float, float], ...]:
    best = math.inf
    line: list[tuple[float, float]] = []
    for trial in trials:
        at = float(trial.index + 1)
        if line:
            line.append((at, line[-1][1]))
        best = min(best, objective.loss(trial.value(objective.metric)))
        line.append((at, y.at(objective.loss(best))))
    return tuple(line)


def panels(summary: Summary, history: History) -> list[Panel]:
    """A panel for each pair of objectives; for a single objective, its values in the order of trials."""
    trials = [t for t in history.of_stage(SEARCH) if t.rung >= 0]
    baseline = answers(history, summary.objectives, BASELINE)
    everything = [*trials, *baseline]
    scales = []
    for o in summary.objectives:
        retrained = [s.mean for s in (r.find(o.metric) for r in summary.retrained) if s is not None]
        values = [t.value(o.metric) for t in everything] + retrained
        scales.append(scale_of(o, summary.units[o.metric], values))
    if len(scales) == 1:
        order = Scale("linear", "Trial, in the order of starts", 1, max(2, len(trials)))
        return [_panel(summary, history, order, scales[0])]
    return [_panel(summary, history, x, y) for y, x in combinations(scales, 2)]


def _panel(summary: Summary, history: History, x: Scale, y: Scale) -> Panel:
    objectives = summary.objectives
    trials = [t for t in history.of_stage(SEARCH) if t.rung >= 0]
    fit = answers(history, objectives)
    baseline = answers(history, objectives, BASELINE)
    front = [history.trials[row.trial] for row in summary.front]
    assert y.objective is not None
    across = x.objective
    limits = [
        None if o is None or o.limit is None else s.at(o.limit) for s, o in ((x, across), (y, y.objective))
    ]
    return Panel(
        x=x,
        y=y,
        top=_points([t for t in trials if t.rung == t.top_rung], x, y),
        lower=_points([t for t in trials if t.rung < t.top_rung], x, y),
        front=_points(front, x, y),
        baseline=_points(baseline, x, y),
        retrained=_retrained(summary, history, x, y),
        stairs=edge(fit, x, y),
        baseline_stairs=edge(baseline, x, y),
        reference=(None if across is None else x.at(across.reference), y.at(y.objective.reference)),
        limits=(limits[0], limits[1]),
        knee=_points([history.trials[row.trial] for row in summary.front if row.knee], x, y),
        ties=_points([history.trials[row.trial] for row in summary.retrained], x, y),
    )
