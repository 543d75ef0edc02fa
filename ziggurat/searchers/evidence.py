"""What a model may learn from a history: results at one rung, and the trials that are still under way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ziggurat import choices as space
from ziggurat.domain import Objective, Trial, TrialStatus

if TYPE_CHECKING:
    from ziggurat.choices import Choices
    from ziggurat.protocols import Context

Point = tuple[float, ...]
"""Coordinates of a candidate in the unit cube, along the free axes; or its losses."""

UNDER_WAY = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNDECIDED, TrialStatus.READY)
"""States of a trial whose next result is on its way; a paused trial may wait for ever."""
FEW = 8
"""Results that a rung needs at least before it is modelled instead of the one below."""


@dataclass(frozen=True)
class Evidence:
    """Results and pending trials, as a model sees them.

    Attributes:
        axes: Indices of the choices that have more than one value.
        dimensions: Number of all choices.
        rung: Rung the results were taken at.
        objectives: Objectives in which the results differ; the others cannot be modelled.
        results: For each trial with a complete result, its point and a loss for each objective.
        pending: Points of trials under way without a result at the rung.
    """

    axes: tuple[int, ...]
    dimensions: int
    rung: int
    objectives: tuple[Objective, ...]
    results: Mapping[int, tuple[Point, Point]]
    pending: Mapping[int, Point]


def free_axes(choices: Choices) -> tuple[int, ...]:
    """Indices of the choices that have more than one value."""
    return tuple(i for i, choice in enumerate(choices.values()) if choice.size > 1)


def gather(context: Context) -> Evidence:
    """The evidence of a stage.

    The rung is the highest with at least max(8, d + 2) complete results for d free axes; without one, the
    rung with the most. Trials that have not come that far are left out, unless they are under way: then
    they are pending.
    """
    axes = free_axes(context.choices)
    trials = context.mine()
    rung, done = compared_at(context, trials, enough=max(FEW, len(axes) + 2))
    objectives = tuple(o for o in context.objectives if len({t.value(o.metric, rung) for t in done}) > 1)
    return Evidence(
        axes=axes,
        dimensions=len(context.choices),
        rung=rung,
        objectives=objectives,
        results={t.number: (_point(context, t, axes), tuple(t.losses(objectives, rung))) for t in done},
        pending={
            t.number: _point(context, t, axes)
            for t in trials
            if t.status in UNDER_WAY and rung not in t.results
        },
    )


def compared_at(
    context: Context, trials: Sequence[Trial], *, enough: int, at_most: int | None = None
) -> tuple[int, list[Trial]]:
    """The highest rung at which enough trials have a complete result, with these trials in their order.

    Without such a rung the one with the most counts, the lower one of two equals. Results of different rungs
    are never compared.

    Args:
        context: Its objectives say what a complete result is.
        trials: Those that may be compared.
        enough: How many must be comparable.
        at_most: How many are taken, those that come first.

    Source of the rule: Falkner et al. 2018, arXiv 1807.01774, section 3.2.
    """
    best: tuple[int, list[Trial]] = (0, [])
    for rung in range(context.top, -1, -1):
        complete = (t for t in trials if rung in t.results and _known(t, context.objectives, rung))
        found = list(islice(complete, at_most))
        best = (rung, found) if len(found) >= len(best[1]) else best
        if len(found) >= enough:
            break
    return best


def gap(evidence: Evidence, initial: int) -> str:
    """What is missing before a model makes sense, in words; empty if nothing is.

    Half of what the first points could have given suffices, since the slowest of them may still be running.
    """
    wanted = max(2, min(initial, max(FEW, len(evidence.axes) + 2)) // 2)
    if not evidence.axes:
        return "nothing to vary"
    if len(evidence.results) < wanted:
        return f"{len(evidence.results)} results, {wanted} needed"
    if not evidence.objectives:
        return "all results are equal"
    return ""


def _known(trial: Trial, objectives: tuple[Objective, ...], rung: int) -> bool:
    return all(math.isfinite(value) for value in trial.losses(objectives, rung))


def _point(context: Context, trial: Trial, axes: tuple[int, ...]) -> Point:
    unit = space.to_unit(context.choices, trial.candidate)
    return tuple(float(u) for u in np.clip(unit[list(axes)], 0.0, 1.0))
