"""The individuals of an evolutionary search: trials that can be compared, and proposals of their children.

Shared by the evolutionary searchers. A population is nothing but a selection from the history, so it is the
same however often and wherever it is formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ziggurat.domain import Candidate, Objective, Proposal, Trial, TrialStatus
from ziggurat.searchers import evidence, fresh

if TYPE_CHECKING:
    from ziggurat.protocols import Context, FloatArray

GONE = (TrialStatus.FAILED, TrialStatus.REJECTED)
"""States of a trial that gives no result any more, and whose results count for nothing."""


@dataclass(frozen=True)
class Individuals:
    """Trials with a complete result at one rung, in the order of their index.

    Attributes:
        trials: The trials.
        losses: Their losses at the rung, shape (n, m), smaller is better, without NaN.
        excess: How far each lies beyond the objectives' bounds, shape (n,); 0 within them.
    """

    trials: list[Trial]
    losses: FloatArray
    excess: FloatArray


def hopeful(context: Context) -> int:
    """How many trials of the stage have given a result or may still give one."""
    return sum(trial.status not in GONE for trial in context.mine())


def compared(context: Context, last: int | None = None) -> Individuals:
    """The individuals at the highest rung that has enough of them; only the `last` ones by index if given.

    Results of different rungs are never compared. Enough are max(8, d + 2) complete results for d choices
    that can vary; where no rung has as many, the one with the most counts, the lower one of two equals.
    Paused and stopped trials take part, failed ones do not.

    Source of the rule: Falkner et al. 2018, arXiv 1807.01774, section 3.2.
    """
    youngest = [t for t in reversed(context.mine()) if t.rung >= 0 and t.status not in GONE]
    enough = max(evidence.FEW, len(evidence.free_axes(context.choices)) + 2)
    wanted = None if last is None else max(last, enough)
    rung, found = evidence.compared_at(context, youngest, enough=enough, at_most=wanted)
    kept = found[:last][::-1]
    rows = [t.losses(context.objectives, rung) for t in kept]
    losses = np.array(rows, dtype=float).reshape(len(kept), len(context.objectives))
    return Individuals(kept, losses, excess(losses, context.objectives))


def excess(losses: FloatArray, objectives: tuple[Objective, ...]) -> FloatArray:
    """How far rows lie beyond the tighter of reference and limit, summed over the objectives.

    A row beyond a reference adds no hypervolume, so it counts as one that breaks a constraint. Each objective
    is scaled by the largest violation among the rows.

    Args:
        losses: (n, m) array, smaller is better.
        objectives: The m objectives.

    Returns:
        (n,) array within [0, m]; 0 for a row within all bounds.

    Source: Deb et al. 2002, NSGA-II, section VI (constrained domination).
    """
    bounds = [o.loss(o.reference) for o in objectives]
    limits = [math.inf if o.limit is None else o.loss(o.limit) for o in objectives]
    beyond = np.maximum(losses - np.minimum(bounds, limits), 0.0)
    largest = beyond.max(axis=0, initial=0.0)
    total: FloatArray = (beyond / np.where(largest > 0, largest, 1.0)).sum(axis=1)
    return total


def proposal(context: Context, offers: Iterable[Candidate], origin: str) -> Proposal | None:
    """A proposal of the first new candidate among some, else of a random draw; None if there is neither."""
    known = fresh.proposed(context)
    candidate = fresh.first(context, known, offers)
    if candidate is not None:
        return Proposal(candidate, origin=origin)
    candidate = fresh.draw(context, known)
    return None if candidate is None else Proposal(candidate, origin="random")
