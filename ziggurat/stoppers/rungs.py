"""What stoppers share: the trials of a rung as a table of losses, and which of them are worth nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from ziggurat import pareto
from ziggurat.domain import Decision, Objective, Trial
from ziggurat.protocols import Context

FloatArray = npt.NDArray[np.float64]
Floor = Literal["reference", "chance"]


def losses(trials: Sequence[Trial], rung: int, context: Context, floor: Floor) -> FloatArray:
    """Losses of trials at a rung they have reached, shape (n, m); a row of NaN for a worthless trial."""
    rows = [
        [math.nan] * len(context.objectives)
        if worthless(trial, rung, context, floor)
        else trial.losses(context.objectives, rung)
        for trial in trials
    ]
    return np.array(rows, dtype=float).reshape(len(trials), len(context.objectives))


def worthless(trial: Trial, rung: int, context: Context, floor: Floor) -> bool:
    """Whether a trial has learned nothing, or breaks a limit that is known without training.

    It has learned nothing if no objective that had to be learned is better than chance, nor, with the floor
    `reference`, than its reference. NaN is not better than anything.
    """
    for objective in context.objectives:
        known = trial.static.get(objective.metric)
        if known is not None and objective.breaks_limit(known.value):
            return True
    found = trial.results[rung]
    learned = [o for o in context.objectives if o.metric in found and o.metric not in trial.static]
    return bool(learned) and not any(_learned(o, found[o.metric].value, context, floor) for o in learned)


def _learned(objective: Objective, value: float, context: Context, floor: Floor) -> bool:
    least = [objective.reference] if floor == "reference" else []
    if objective.metric in context.chance:
        least.append(context.chance[objective.metric])
    return not math.isnan(value) and all(objective.loss(value) < objective.loss(v) for v in least)


def peers(trial: Trial, context: Context) -> list[Trial]:
    """The other trials of the stage with a result at the trial's rung."""
    found = context.history.at_rung(context.stage, trial.rung)
    return [t for t in found if t.number != trial.number]


def best_so_far(trial: Trial, rung: int, context: Context) -> FloatArray:
    """The smallest loss of each objective at the rungs up to one, shape (m,); NaN where all are unknown."""
    found: FloatArray = np.fmin.reduce(_path(trial, rung, context), axis=0)
    return found


def average_so_far(trial: Trial, rung: int, context: Context) -> FloatArray:
    """The mean loss of each objective at the rungs up to one, shape (m,); NaN where one is unknown."""
    found: FloatArray = _path(trial, rung, context).mean(axis=0)
    return found


class Patience(Protocol):
    """When a rule begins to compare."""

    @property
    def grace(self) -> int:
        """Rung below which no trial is stopped."""

    @property
    def min_peers(self) -> int:
        """Other trials at a rung without which none is stopped."""

    @property
    def floor(self) -> Floor:
        """What a trial must beat at a rung."""


def against_peers(
    trial: Trial,
    context: Context,
    rule: Patience,
    shown: Callable[[Trial, int, Context], FloatArray],
    bad: Callable[[float, FloatArray], bool],
) -> Decision:
    """Stops a trial that has learned nothing, or whose best so far is bad beside what its peers showed.

    Args:
        trial: A trial that has just reached its rung.
        context: What is known.
        rule: Below its grace, or with fewer peers than it wants, nobody is compared.
        shown: What a peer showed up to a rung, as `best_so_far` or `average_so_far`.
        bad: Whether a score is bad beside those of the peers, as of `scores`.
    """
    rung = trial.rung
    if rung < rule.grace:
        return Decision.CONTINUE
    if worthless(trial, rung, context, rule.floor):
        return Decision.STOP
    others = peers(trial, context)
    if len(others) < rule.min_peers:
        return Decision.CONTINUE
    own, theirs = scores(best_so_far(trial, rung, context), [shown(t, rung, context) for t in others])
    return Decision.STOP if bad(own, theirs) else Decision.CONTINUE


def scores(own: FloatArray, others: Sequence[FloatArray]) -> tuple[float, FloatArray]:
    """One number for a trial and for each of its peers, smaller is better; infinite where a loss is NaN.

    With one objective that is the loss, with several the non-dominated rank among them all.
    """
    table = np.vstack([own, *others])
    known = ~np.isnan(table).any(axis=1)
    values = table[:, 0] if table.shape[1] == 1 else pareto.ranks(table)
    found = np.where(known, values, np.inf)
    return float(found[0]), found[1:]


def _path(trial: Trial, rung: int, context: Context) -> FloatArray:
    """Losses at all rungs up to one that a trial has a result at, shape (rungs, m)."""
    at = [r for r in sorted(trial.results) if r <= rung]
    return np.array([trial.losses(context.objectives, r) for r in at], dtype=float)
