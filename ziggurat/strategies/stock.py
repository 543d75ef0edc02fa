"""The pool of candidates that `frontier` weighs: what is known of each, what it may cost, and what may start.

A space that lists its candidates, or is small, is in stock as a whole. Of any other the stock changes with
every decision: all candidates tried so far, draws, mutations and crossings of the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat import choices as space
from ziggurat import pareto
from ziggurat.choices import Choices, Values
from ziggurat.domain import Candidate, Goal, Objective, Trial
from ziggurat.protocols import Context, FloatArray
from ziggurat.searchers import fresh
from ziggurat.strategies.acquisition import Market
from ziggurat.strategies.kernel import Features, features

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
SYMBOLS = 64
"""Values of an unordered choice above which it says nothing that could be learned."""
ENOUGH = 6
"""Trainings of different candidates from which costs are told apart by features."""
RIDGE = 0.1
_STRANGER = Candidate({})
RENEWED = 4
"""One of so many candidates of a changing pool is drawn anew at every decision: static metrics take time."""
NEAREST = 8
"""Trials of the best fronts whose neighbourhood is looked at when the stock is drawn anew."""


@dataclass(frozen=True)
class Learned:
    """An objective that training tells, as a loss that is modelled.

    Attributes:
        objective: The objective.
        share: Whether it is a share to maximise; then 1 - value is the loss.
        log: Whether the logarithm of the loss is modelled.
    """

    objective: Objective
    share: bool
    log: bool

    def loss(self, value: float) -> float:
        """A value as the loss that is modelled."""
        return 1.0 - value if self.share else self.objective.loss(value)


@dataclass(frozen=True)
class Stock:
    """A pool of candidates.

    Attributes:
        candidates: By row.
        rows: Row of each candidate, by its key.
        market: Features, static losses and references, for the model.
        allowed: (n,) whether a row keeps all limits that are known without training.
        learned: Objectives that training tells, in the order of the market's references.
        metrics: Names of the metrics that are known before training.
        open: Whether the pool is only a part of the space and changes.
        priced: Whether costs are in US dollars; else in seconds.
    """

    candidates: tuple[Candidate, ...]
    rows: dict[str, int]
    market: Market
    allowed: BoolArray
    learned: tuple[Learned, ...]
    metrics: tuple[str, ...]
    open: bool
    priced: bool

    @classmethod
    def of(cls, context: Context, size: int) -> Stock:
        """The pool of a search."""
        whole = _whole(context, size)
        candidates = whole if whole is not None else _drawn(context, size)
        return _stock(context, candidates, open_=whole is None, like=None)

    def restocked(self, context: Context, size: int) -> tuple[Stock, IntArray]:
        """A pool of which a quarter is drawn anew and the oldest gives way; everything tried stays in it.

        Returns:
            The pool, and for each row of this one its new row, or -1.
        """
        tried = {t.candidate.key for t in context.mine()}
        kept = [c for c in self.candidates if c.key not in tried][: size - size // RENEWED]
        candidates = tuple(dict.fromkeys([*_drawn(context, size // RENEWED), *kept]))
        stock = _stock(context, candidates, open_=True, like=self)
        moved = np.array([stock.rows.get(c.key, -1) for c in self.candidates], dtype=np.int64)
        return stock, moved

    def costs(self, context: Context, paces: Mapping[int, float]) -> FloatArray:
        """(n, rungs) forecast cost of the segment that ends at each rung.

        A candidate that was trained costs what it did; others by a regression of the logarithm of the pace on
        the features.

        Args:
            context: Its forecast gives the price, and what to expect while nothing was trained.
            paces: By row, logarithm of the seconds that the lowest rung takes.
        """
        forecasts = [context.forecast(_STRANGER, rung - 1, rung) for rung in range(len(context.ladder))]
        first = max(forecasts[0].seconds, 1e-12)
        price = forecasts[0].usd / first if self.priced else 1.0
        relative = np.array([f.seconds for f in forecasts]) / first
        pace = self._paces(paces) if paces else np.full(len(self.candidates), math.log(first))
        costs: FloatArray = np.maximum(np.exp(pace)[:, None] * (relative * price)[None, :], 1e-12)
        return costs

    def _paces(self, found: Mapping[int, float]) -> FloatArray:
        """(n,) logarithm of the seconds that the lowest rung takes."""
        rows, logs = np.array(list(found), dtype=np.int64), np.array(list(found.values()))
        paces = np.full(len(self.candidates), float(np.median(logs)))
        smooth = self.market.known.smooth
        if len(rows) >= ENOUGH and smooth.shape[1]:
            x = np.hstack([smooth, np.ones((len(smooth), 1))])
            gram = x[rows].T @ x[rows] + RIDGE * np.diag([1.0] * smooth.shape[1] + [1e-6])
            paces = np.clip(x @ np.linalg.solve(gram, x[rows].T @ logs), logs.min() - 1.0, logs.max() + 1.0)
        paces[rows] = logs
        return paces


def losses_of(trial: Trial, learned: Sequence[Learned], rung: int) -> list[float]:
    """Learned losses of a trial at a rung; NaN where unknown."""
    return [one.loss(trial.value(one.objective.metric, rung)) for one in learned]


def _whole(context: Context, size: int) -> tuple[Candidate, ...] | None:
    """All candidates of a space that lists them or is small."""
    if context.listing is not None:
        return tuple(context.listing)
    if space.count(context.choices, at_most=size) <= size:
        return tuple(fresh.every(context.choices))
    return None


def _drawn(context: Context, size: int) -> tuple[Candidate, ...]:
    """Everything tried, then draws and mutations of the best, each candidate once."""
    mine = context.mine()
    tried = dict.fromkeys(t.candidate for t in mine)
    best = _best(context, mine)
    offers: list[Candidate] = []
    for _ in range(size):
        local = best and context.rng.random() < 0.5
        if not local:
            offers.append(space.sample(context.choices, context.rng))
            continue
        candidate = best[int(context.rng.integers(len(best)))]
        for _ in range(1 + int(context.rng.integers(3))):
            candidate = space.mutate(context.choices, candidate, context.rng)
        offers.append(candidate)
    if len(best) > 1:
        for _ in range(size // 8):
            first, second = context.rng.choice(len(best), 2, replace=False)
            offers.append(space.crossover(context.choices, best[first], best[second], context.rng))
    return tuple(dict.fromkeys([*tried, *offers]))


def _best(context: Context, mine: Iterable[Trial]) -> list[Candidate]:
    """Candidates of the best fronts at the highest rung that each trial has reached, higher rungs first."""
    best: list[Candidate] = []
    reached = [t for t in mine if t.results]
    for rung in range(context.top, -1, -1):
        here = [t for t in reached if t.rung == rung]
        losses = [t.losses(context.objectives, rung) for t in here]
        order = pareto.order(np.array(losses).reshape(len(here), len(context.objectives)))
        best += [here[i].candidate for i in order[: NEAREST - len(best)]]
        if len(best) >= NEAREST:
            break
    return best


def _stock(context: Context, candidates: tuple[Candidate, ...], *, open_: bool, like: Stock | None) -> Stock:
    names, table = _known(context, candidates)
    same = like.market.known if like is not None and like.metrics == names else None
    static = [o for o in context.objectives if o.metric in names]
    learned = tuple(_learned(o) for o in context.objectives if o.metric not in names)
    columns = [names.index(o.metric) for o in static]
    losses = table[:, columns] * [1.0 if o.goal is Goal.MINIMIZE else -1.0 for o in static]
    unknown: BoolArray = np.logical_not(np.isfinite(losses).all(axis=1))
    losses = _filled(losses)
    limits = np.array([o.loss(o.limit) if o.limit is not None else np.inf for o in static])
    references = [o.loss(o.reference) for o in static]
    tighter = [one.loss(_tighter(one.objective)) for one in learned]
    market = Market(
        known=_features(context, candidates, _filled(table), same),
        static=losses,
        reference=np.array([*tighter, *np.minimum(references, limits)]),
        log=np.array([one.log for one in learned]),
        rungs=len(context.ladder),
    )
    # what cannot be built is never started, unless nothing can be looked at for now
    tried = {t.candidate.key for t in context.mine()}
    blind = all(unknown[row] for row, c in enumerate(candidates) if c.key not in tried)
    allowed: BoolArray = np.logical_and((losses <= limits).all(axis=1), ~unknown | blind)
    rows = {candidate.key: row for row, candidate in enumerate(candidates)}
    priced = context.forecast(_STRANGER, -1, 0).usd > 0
    return Stock(candidates, rows, market, allowed, learned, names, open_, priced)


def _known(context: Context, candidates: Sequence[Candidate]) -> tuple[tuple[str, ...], FloatArray]:
    """Names of static metrics and their values, (n, metrics); NaN for a candidate that cannot be built."""
    found = [dict(row) for row in context.static(candidates)]
    rows = {c.key: row for c, row in zip(candidates, found, strict=True)}
    for trial in context.mine():
        own = {m.metric: m.value for m in trial.static.values() if m.device is None}
        rows[trial.candidate.key] = own | rows.get(trial.candidate.key, {})
    names = tuple(dict.fromkeys(name for row in rows.values() for name in row))
    table = [[rows[c.key].get(name, math.nan) for name in names] for c in candidates]
    return names, np.array(table, dtype=float).reshape(len(candidates), len(names))


def _filled(table: FloatArray) -> FloatArray:
    """Columns with what is unknown replaced by the column's median, or by 1 where nothing is known."""
    finite = np.where(np.isfinite(table), table, np.nan)
    middle = np.array([np.nanmedian(c) if np.isfinite(c).any() else 1.0 for c in finite.T])
    filled: FloatArray = np.where(np.isnan(finite), middle, finite)
    return filled


def _tighter(objective: Objective) -> float:
    """The tighter of reference and limit, as a value."""
    if objective.limit is None or objective.loss(objective.reference) <= objective.loss(objective.limit):
        return objective.reference
    return objective.limit


def _learned(objective: Objective) -> Learned:
    # a derived reward has a reference like that of a share, but may exceed 1
    share = objective.goal is Goal.MAXIMIZE and objective.metric.endswith("accuracy")
    positive = objective.goal is Goal.MINIMIZE and objective.reference > 0
    return Learned(objective, share=share, log=share or positive)


def _features(
    context: Context, tried: Sequence[Candidate], table: FloatArray, like: Features | None
) -> Features:
    """Features of candidates, each taken for the one that stands for all of its kind."""
    return features_of(context.choices, [context.twins.get(c, c) for c in tried], table, like)


def features_of(
    choices: Choices, candidates: Sequence[Candidate], table: FloatArray, like: Features | None = None
) -> Features:
    """Features of candidates: unordered choices as codes, ordered ones as coordinates, static metrics.

    Args:
        choices: Of the space.
        candidates: By row.
        table: (n, metrics) static metrics, without NaN.
        like: Features whose scaling is kept.
    """
    words = _words(choices)
    codes: list[list[int]] = []
    ordered: list[list[float]] = []
    for name, choice in choices.items():
        if isinstance(choice, Values) and not choice.ordered:
            if choice.size <= SYMBOLS:
                codes.append([words[str(c.choices.get(name))] for c in candidates])
            continue
        ordered.append([choice.unit(c.choices[name]) if name in c.choices else 0.5 for c in candidates])
        if choice.when:
            ordered.append([float(name in c.choices) for c in candidates])
    return features(
        len(candidates),
        np.array(codes, dtype=np.int64).T if codes else None,
        np.array(ordered).T if ordered else None,
        table if table.shape[1] else None,
        like,
    )


def _words(choices: Choices) -> dict[str, int]:
    """A number for every value of an unordered choice, and for a choice that is not active."""
    unordered = [c for c in choices.values() if isinstance(c, Values) and not c.ordered]
    values = [str(v) for c in unordered for v in c.values]
    return {word: i for i, word in enumerate(dict.fromkeys([*values, str(None)]))}
