"""The `frontier` strategy: every segment of training goes to where a dollar buys most of the front.

This module reads a history into arrays and turns offers into proposals and promotions. What is on offer is
`stock`, what it is worth is `acquisition`.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from ziggurat.domain import Decision, FailureKind, JobKind, Promotion, Proposal, Trial, TrialStatus
from ziggurat.protocols import Context
from ziggurat.segments import Segment
from ziggurat.setting import Setting
from ziggurat.strategies.acquisition import Acquisition, Offer, State
from ziggurat.strategies.stock import BoolArray, Stock, losses_of

BLAMED = frozenset({FailureKind.DIVERGED, FailureKind.NO_METRIC, FailureKind.OUT_OF_MEMORY})
"""Failures that say something about the candidate."""
UNDER_WAY = (TrialStatus.WAITING, TrialStatus.RUNNING, TrialStatus.UNDECIDED, TrialStatus.READY)
"""States of a trial whose next result is on its way."""
KEPT = 4
"""Searches whose model is kept in this process."""


class Frontier(Setting):
    """Pays the segment with the largest expected gain of hypervolume for each dollar.

    A trial pauses at every rung. Whenever a worker is free, starting any candidate of the pool at the lowest
    rung and taking any paused trial to its next rung are compared on one scale: the expected growth of the
    front at the top rung over the expected cost of getting there, stops on the way included. What is known
    without training (parameters, FLOPs, a table's latency) is exact; a Gaussian process over candidates and
    rungs models what must be learned. Segments under way are believed to end as expected. Candidates beyond
    a limit that is known without training are never touched.

    The pool is the whole space if it is small, else samples, mutations of the front and their neighbours.

    Source: the closed form of expected hypervolume improvement, Emmerich et al. 2011 (IEEE CEC), Daulton et
    al. 2020, arXiv 2006.05078; the index, Weitzman 1979 (Econometrica 47); the chain of fidelities, Kennedy
    and O'Hagan 2000 (Biometrika 87).
    """

    kind: Literal["frontier"] = "frontier"
    initial: int = Field(
        default=8, ge=2, le=1000, description="Candidates at the lowest rung before the model is asked."
    )
    pool: int = Field(
        default=512,
        ge=16,
        le=100_000,
        description="Candidates that are weighed at each decision; a smaller space is weighed as a whole.",
    )
    min_gain: float = Field(
        default=0.002,
        ge=0,
        lt=1,
        description="When all trials are proposed, one goes on only if it is expected to add this share of "
        "the hypervolume.",
    )
    ahead: int = Field(default=1, ge=0, le=64, description="Segments that may be decided ahead of need.")

    reduction_factor: ClassVar[float] = 3.0
    """Share of a rung that goes on, as a forecast of costs assumes it."""

    def decide(self, trial: Trial, context: Context) -> Decision:  # noqa: ARG002 - the protocol's arguments
        """The trial pauses; whether it goes on is weighed against everything else."""
        return Decision.PAUSE

    def promote(self, context: Context) -> Trial | None:  # noqa: ARG002 - the protocol's arguments
        """Promotions are proposed, by `propose_batch`."""
        return None

    def warm(self) -> None:
        """Import what the first decision needs."""
        from scipy import linalg, optimize

        del linalg, optimize

    def propose_batch(self, context: Context, count: int) -> list[Proposal | Promotion]:
        """Up to `count` segments, best first; none if nothing is worth its money any more."""
        if count <= 0:
            return []
        mine = context.mine()
        room = context.trials - len(mine)
        mind = _mind(context, self)
        mind.learn(context, self)
        if len(mine) < self.initial and room > 0:
            return list(mind.first(context, self.initial, min(count, room, self.initial - len(mine))))
        return list(mind.choose(context, self, count))


@dataclass
class Mind:
    """What is derived from a history, kept between decisions; it can be dropped at any time.

    Attributes:
        stock: The pool.
        model: What is learned about it.
        told: When each segment that was taken in had ended, by job key.
        paces: By row, logarithm of the seconds that the lowest rung takes.
        free: Rows that may start.
        counted: Trials that are taken out of these.
    """

    stock: Stock
    model: Acquisition
    told: dict[str, float] = field(default_factory=dict)
    paces: dict[int, float] = field(default_factory=dict)
    free: BoolArray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    counted: int = 0

    def learn(self, context: Context, settings: Frontier) -> None:
        """Take in what has happened since, in the order in which segments have ended."""
        if self.stock.open and self.told:
            before, (self.stock, moved) = self.stock, self.stock.restocked(context, settings.pool)
            if before.metrics == self.stock.metrics:
                self.model = self.model.moved(self.stock.market, moved)
                self.paces = {int(moved[row]): pace for row, pace in self.paces.items() if moved[row] >= 0}
            else:
                # what has to be learned is not the same any more
                self.model, self.told, self.paces = Acquisition(self.stock.market), {}, {}
            self.counted = 0
        self._count(context)
        ends = [
            s for s in context.history.segments.values() if s.job.key not in self.told and s.end is not None
        ]
        ends = [s for s in ends if s.job.stage == context.stage and s.job.kind is JobKind.TRAIN]
        ends.sort(key=lambda s: s.finished_utc or 0.0)
        for segment in ends:
            self.told[segment.job.key] = segment.finished_utc or 0.0
        self.model.update([found for s in ends for found in self._results(context, s)])

    def _count(self, context: Context) -> None:
        """Take candidates that have become trials out of those that may start."""
        if not self.counted:
            self.free = self.stock.allowed.copy()
        numbers = context.history.numbers.get(context.stage, [])
        keys = [context.history.trials[n].candidate.key for n in numbers[self.counted :]]
        self.free[[self.stock.rows[key] for key in keys if key in self.stock.rows]] = False
        self.counted = len(numbers)

    def _results(self, context: Context, segment: Segment) -> Iterator[tuple[int, int, tuple[float, ...]]]:
        """Row, rung and learned losses of an ended segment; NaN if the candidate is to blame."""
        trial, end, job = context.history.trials[segment.job.trial], segment.end, segment.job
        row = self.stock.rows.get(trial.candidate.key)
        if row is None or end is None:
            return
        if end.failure is None:
            longer = context.forecast(trial.candidate, job.from_rung, job.to_rung).seconds
            first = context.forecast(trial.candidate, -1, 0).seconds
            self.paces[row] = math.log(max(end.seconds, 1e-9) * first / max(longer, 1e-12))
            yield row, job.to_rung, tuple(losses_of(trial, self.stock.learned, job.to_rung))
        elif not end.retry and end.failure.kind in BLAMED:
            yield row, job.to_rung, (math.nan,) * len(self.stock.learned)

    def first(self, context: Context, initial: int, count: int) -> Iterator[Proposal]:
        """Random candidates, one from each of some strata of the pool by its first static objective."""
        free, static = self.free.copy(), self.stock.market.static
        order = np.argsort(static[:, 0], kind="stable") if static.shape[1] else np.arange(len(free))
        order = order[self.stock.allowed[order]]
        strata = np.array_split(order, initial)
        for i in range(count):
            stratum = strata[_spread(initial)[self.counted + i]]
            rows = stratum[free[stratum]] if free[stratum].any() else np.flatnonzero(free)
            if not len(rows):
                return
            row = int(context.rng.choice(rows))
            free[row] = False
            yield Proposal(self.stock.candidates[row], origin="stratified")

    def choose(self, context: Context, settings: Frontier, count: int) -> Iterator[Proposal | Promotion]:
        """The best segments now."""
        rows, history = self.stock.rows, context.history
        waiting = history.with_status(context.stage, TrialStatus.PAUSED)
        paused = {rows[t.candidate.key]: t for t in waiting if t.candidate.key in rows}
        under_way = history.with_status(context.stage, *UNDER_WAY)
        room = context.trials - self.counted
        state = State(
            fresh=self.free if room > 0 else np.zeros_like(self.free),
            paused=[(row, t.rung) for row, t in paused.items()],
            running=[(rows[t.candidate.key], t.rung + 1) for t in under_way if t.candidate.key in rows],
            costs=self.stock.costs(context, self.paces),
        )
        unit = "USD" if self.stock.priced else "second"
        for offer in self.model.offers(state, count):
            words = f"frontier: {offer.rate:.3g} of hypervolume for each {unit}"
            if offer.row in paused:
                if room > 0 or self._pays(offer, state, settings):
                    yield Promotion(paused[offer.row].number, words)
            elif room > 0:
                room -= 1
                yield Proposal(self.stock.candidates[offer.row], origin=words)

    def _pays(self, offer: Offer, state: State, settings: Frontier) -> bool:
        """Whether a trial may still add to the front what it must to be trained on."""
        cost = float(state.costs[offer.row, offer.rung :].sum())
        return offer.rate * cost >= settings.min_gain * self.model.volume()


def _spread(count: int) -> list[int]:
    """The numbers below a count in an order whose beginnings are spread evenly (van der Corput's)."""
    bits = max(1, (count - 1).bit_length())
    reversed_ = (int(format(i, f"0{bits}b")[::-1], 2) for i in range(1 << bits))
    return [i for i in reversed_ if i < count]


_MINDS: OrderedDict[tuple[str, str, str], Mind] = OrderedDict()


def _mind(context: Context, settings: Frontier) -> Mind:
    """The model of a search: the kept one if all it was told still holds, else a new one."""
    key = (context.history.run_id, context.stage, repr((settings, context.objectives, context.ladder)))
    mind = _MINDS.pop(key, None)
    segments = context.history.segments
    if mind is None or any(
        k not in segments or segments[k].finished_utc != utc for k, utc in mind.told.items()
    ):
        stock = Stock.of(context, settings.pool)
        mind = Mind(stock, Acquisition(stock.market))
    _MINDS[key] = mind
    while len(_MINDS) > KEPT:
        _MINDS.popitem(last=False)
    return mind
