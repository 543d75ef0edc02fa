"""Population-based training: hyperparameters that change while the weights are being trained.

The strategy pauses every trial at every rung. When a worker is free it looks for the lowest rung with work to
do, so that a population climbs the ladder together without anybody waiting for the slowest.
"""

from __future__ import annotations

import math
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from ziggurat import pareto
from ziggurat.choices import Range, Values
from ziggurat.domain import (
    Candidate,
    Decision,
    Parent,
    Promotion,
    Proposal,
    Retirement,
    Trial,
    TrialStatus,
    Value,
)
from ziggurat.protocols import Context
from ziggurat.searchers import fresh
from ziggurat.setting import Setting

LOST = (TrialStatus.STOPPED, TrialStatus.FAILED)
"""States of a trial whose place another takes."""


class Pbt(Setting):
    """Trains a population together; at every rung the worst become changed copies of the best.

    A place in the population begins with a random candidate and is trained to the top rung. At each rung
    below, a trial among the worst share of those that have reached it ends, and its place is taken by a new
    trial that goes on from the checkpoint one of the best share wrote at that rung. The new trial has the
    same architecture and its parent's hyperparameters, each either multiplied by one of two factors or drawn
    anew; of listed values it takes a neighbour. So the population costs what as many full trainings cost. A
    trial that failed loses its place in the same way, one that failed before the first rung to a random
    candidate. Trials are ranked by non-dominated sorting, within a front by an epsilon net.

    When `search.trials` are proposed, nobody is replaced any more and the rest is trained as it is.

    Source: Jaderberg et al. 2017, arXiv 1711.09846, algorithm 1; truncation selection and the two ways to
    explore, section 4.1.1.
    """

    kind: Literal["pbt"] = "pbt"
    population: int = Field(default=12, ge=4, le=10_000, description="Trials that are trained together.")
    quantile: float = Field(
        default=0.25, gt=0, le=0.5, description="Share of a rung that is replaced, and share that is copied."
    )
    factors: tuple[float, float] = Field(
        default=(0.8, 1.2), description="A number is multiplied by one of these: one below 1, one above."
    )
    resample: float = Field(
        default=0.25, ge=0, le=1, description="Probability that a hyperparameter is drawn anew instead."
    )
    ahead: int = Field(default=0, ge=0, le=64, description="Segments that may be decided ahead of need.")

    @model_validator(mode="after")
    def _both_ways(self) -> Self:
        low, high = self.factors
        if not 0 < low < 1 < high:
            raise ValueError(
                f"factors are {low:g} and {high:g}; give one below 1 and one above 1, as in [0.8, 1.2]"
            )
        return self

    def unfit(self, *, rungs: int, trials: int, hyperparameters: int, inherits: bool) -> str:
        """Why it cannot serve a search, and what to do; empty if it can.

        Args:
            rungs: Number of fidelities.
            trials: Candidates that may become trials.
            hyperparameters: Number of choices that leave the model as it is, with more than one value.
            inherits: The trainer can go on from a checkpoint of other hyperparameters.
        """
        if not inherits:
            return (
                "hands checkpoints on from trial to trial, which this trainer cannot; use trainer lightning, "
                "or give the script's resume"
            )
        if not hyperparameters:
            return "changes hyperparameters only, and the space has none to change; add space.hyperparameters"
        if rungs == 1:
            return "decides between rungs, but fidelities has only one; add rungs below it"
        if trials < self.population:
            return (
                f"needs search.trials of at least its population of {self.population}, not {trials}, and "
                "more to replace any; raise search.trials or lower population"
            )
        return ""

    def decide(self, trial: Trial, context: Context) -> Decision:  # noqa: ARG002 - the protocol's arguments
        """The trial pauses; it is judged when its rung has come as far as it can."""
        return Decision.PAUSE

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's arguments
        """Promotions are proposed, by `propose_batch`."""
        return None

    def propose_batch(self, context: Context, count: int) -> list[Proposal | Promotion | Retirement]:
        """The next segment, with the end of the trial whose place it takes; none if nothing is to be done."""
        if count <= 0:
            return []
        mine = context.mine()
        room = context.trials - sum(t.status is not TrialStatus.REJECTED for t in mine)
        if room > 0 and _beginnings(mine) < self.population:
            candidate = fresh.draw(context, fresh.proposed(context))
            if candidate is not None:
                return [Proposal(candidate, origin="random")]
        for rung in range(context.top):
            found = self._at(context, rung, room)
            if found:
                return found
        return []

    def _at(self, context: Context, rung: int, room: int) -> list[Proposal | Promotion | Retirement]:
        """What is to be done at a rung: an empty place is filled, or the best trial that waits is judged."""
        ranked = _ranked(context, rung)
        mine = context.mine()
        if room > 0 and _empty_places(mine, rung) > 0:
            child = self._child(context, ranked, rung)
            if child is not None:
                return [child]
        waiting = (t for t in ranked if t.status is TrialStatus.PAUSED and t.rung == rung)
        trial = next(waiting, None)
        if trial is None:
            return []
        worst = ranked[len(ranked) - math.floor(len(ranked) * self.quantile) :]
        child = self._child(context, ranked, rung) if room > 0 and _among(trial, worst) else None
        if child is None:
            return [Promotion(trial.number, f"goes on from rung {rung}")]
        place = 1 + ranked.index(trial)
        return [Retirement(trial.number, f"place {place} of {len(ranked)} at rung {rung}"), child]

    def _child(self, context: Context, ranked: list[Trial], rung: int) -> Proposal | None:
        """A changed copy of one of the best at a rung."""
        known = [t for t in ranked if np.isfinite(t.losses(context.objectives, rung)).all()]
        best = known[: math.ceil(len(ranked) * self.quantile)]
        best = [t for t in best if t.status is not TrialStatus.FAILED]
        if not best:
            return None
        parent = best[int(context.rng.integers(len(best)))]
        return Proposal(
            explored(context, parent.candidate, self.factors, self.resample),
            static=tuple(parent.static.values()),
            parent=Parent(parent.number, rung),
            origin=f"copy of trial {parent.number} at rung {rung}",
        )


def explored(
    context: Context, candidate: Candidate, factors: tuple[float, float], resample: float
) -> Candidate:
    """A candidate with every hyperparameter changed a little or drawn anew, and all else as it is.

    A choice that switches others on or off stays as it is: the state of a training must fit.
    """
    choices, rng = context.choices, context.rng
    switches = {other for choice in choices.values() for other in choice.when}
    chosen = dict(candidate.choices)
    for name in candidate.choices:
        if name not in context.hyperparameters or name in switches or choices[name].size <= 1:
            continue
        again = rng.random() < resample
        factor = factors[int(rng.integers(2))]
        fresh_value = choices[name].at(float(rng.random()))
        chosen[name] = fresh_value if again else nudged(choices[name], candidate.choices[name], factor)
    return Candidate(chosen)


def nudged(choice: Values | Range, value: Value, factor: float) -> Value:
    """A value multiplied by a factor, within the bounds; of listed values the next one in that direction.

    Values without an order stay. A value that the factor leaves where it is, as in a range of few steps,
    moves to the next one in that direction, if there is one.
    """
    if not choice.ordered:
        return value
    if isinstance(choice, Values):
        place = choice.values.index(value) + (1 if factor > 1 else -1)
        return choice.values[min(max(place, 0), len(choice.values) - 1)]
    number = float(value)
    moved = choice.at(choice.unit(min(max(number * factor, choice.min), choice.max)))
    if moved != value or math.isinf(choice.size):
        return moved
    pace = choice.step or 1
    nearest = min(max(number + (pace if factor > 1 else -pace), choice.min), choice.max)
    return choice.at(choice.unit(nearest))


def _beginnings(mine: list[Trial]) -> int:
    """Places that have been taken by a random candidate which got somewhere, or still may."""
    begun = (t for t in mine if t.parent is None and t.status is not TrialStatus.REJECTED)
    return sum(not (t.status is TrialStatus.FAILED and t.rung < 0) for t in begun)


def _empty_places(mine: list[Trial], rung: int) -> int:
    """Trials that ended at a rung, less those that have taken their places."""
    lost = sum(t.status in LOST and t.rung == rung for t in mine)
    taken = sum(t.parent is not None and t.parent.rung == rung for t in mine)
    return lost - taken


def _ranked(context: Context, rung: int) -> list[Trial]:
    """Trials with a result of their own at a rung, best first."""
    trials = context.history.at_rung(context.stage, rung)
    table = np.array([t.losses(context.objectives, rung) for t in trials], dtype=float)
    return [trials[i] for i in pareto.order(table.reshape(len(trials), len(context.objectives)))]


def _among(trial: Trial, others: list[Trial]) -> bool:
    return any(trial.number == other.number for other in others)
