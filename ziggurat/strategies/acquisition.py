"""Which segment of training a free worker should pay next: the numerical heart of `frontier`.

Works on arrays: a pool of candidates by row, their static losses, forecast costs of every segment, and the
results so far. It knows no trial, no context and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat import pareto
from ziggurat.strategies import gain, value
from ziggurat.strategies.kernel import Features
from ziggurat.strategies.surrogate import Observation, Surrogate

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
SHORTLIST = 200
"""Fresh candidates whose index is computed in full."""
BANKED = 1.5
"""How much more a promised gain counts per unit of cost once its trial has been begun: the index alone would
wait for ever better results at the lowest rung, while money may end at any moment."""


@dataclass(frozen=True)
class Market:
    """What is on offer: nothing here depends on a result.

    Attributes:
        known: Features of the pool of n candidates.
        static: (n, m - q) losses that are known before training.
        reference: (m,) losses at which a candidate is worth nothing (the tighter of reference and limit),
            learned objectives first.
        log: (q,) whether the logarithm of a learned loss is modelled; such losses are positive.
        rungs: Number of rungs.
    """

    known: Features
    static: FloatArray
    reference: FloatArray
    log: BoolArray
    rungs: int


@dataclass(frozen=True)
class State:
    """Where the trials stand.

    Attributes:
        fresh: (n,) whether a candidate may be started.
        paused: Row and rung reached of trials that wait below the top.
        running: Row and rung being trained to of trials under way.
        costs: (n, rungs) forecast cost of the segment that ends at each rung.
    """

    fresh: BoolArray
    paused: Sequence[tuple[int, int]]
    running: Sequence[tuple[int, int]]
    costs: FloatArray


@dataclass(frozen=True)
class Offer:
    """A segment worth paying: candidate, rung it leads to, expected gain for each unit of cost."""

    row: int
    rung: int
    rate: float


class Acquisition:
    """Learns from results and says what to pay next."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.learned = [
            Surrogate(market.known, market.rungs, log=bool(log), reference=float(reference))
            for log, reference in zip(market.log, market.reference, strict=False)
        ]
        self._full: dict[int, FloatArray] = {}
        self._seen = 0

    def update(self, results: Sequence[tuple[int, int, Sequence[float]]]) -> None:
        """Takes in results: row, rung and the learned losses."""
        for j, surrogate in enumerate(self.learned):
            surrogate.update([Observation(row, rung, losses[j]) for row, rung, losses in results])
        self._seen += len(results)
        top = self.market.rungs - 1
        for row, rung, losses in results:
            if rung == top and np.isfinite(losses).all():
                self._full[row] = np.array([*losses, *self.market.static[row]])

    def offers(self, state: State, count: int, rng: np.random.Generator | None = None) -> list[Offer]:
        """The best segments for some free workers, best first; each believes that the ones before come true.

        Args:
            state: Where the trials stand.
            count: Number of free workers.
            rng: Draws the blind share of the fresh candidates; by default a function of the number of
                results and of fresh candidates.

        Returns:
            At most `count` offers; fewer only if nothing is left to train.
        """
        rng = rng or np.random.default_rng([self._seen, int(state.fresh.sum())])
        believed = [row for row, _ in state.running]
        taken: list[Offer] = []
        moves = None
        for _ in range(count):
            room = gain.boxes(self._front(believed), self.market.reference)
            if moves is None:
                moves = self._moves(state, room)
            rows, rungs = moves
            if not len(rows):
                break
            rates = self._bids(room, believed, rows, rungs, state.costs)
            best = int(np.argmax(rates))
            if not rates[best] > 0:
                best = self._fallback(rows)
            row = int(rows[best])
            if rungs[best] == 0 and rng.random() < self.doubt:
                row = self._any(state.fresh, taken, rng)
            rate = rates[best] / (BANKED if rungs[best] > 0 else 1.0)
            taken.append(Offer(row, int(rungs[best]), float(rate)))
            believed.append(row)
            left = rows != row
            moves = rows[left], rungs[left]
        return taken

    def moved(self, market: Market, rows: IntArray) -> Acquisition:
        """The same knowledge for another pool; `rows` gives for each present row its row there, or -1."""
        other = Acquisition(market)
        other.learned = [s.moved(market.known, rows) for s in self.learned]
        other._seen = self._seen
        other._full = {int(rows[row]): losses for row, losses in self._full.items() if rows[row] >= 0}
        return other

    def volume(self) -> float:
        """Hypervolume of what is trained in full."""
        return pareto.hypervolume(self._front([]), self.market.reference)

    def _bids(
        self, room: gain.Boxes, believed: Sequence[int], rows: IntArray, rungs: IntArray, costs: FloatArray
    ) -> FloatArray:
        """Rates on one scale; a fresh candidate gains what the best paused trial at hand would not."""
        begun = rungs > 0
        rates = np.zeros(len(rows))
        if begun.any():
            rates[begun] = BANKED * self._rates(room, rows[begun], rungs[begun], costs)
            if rates[begun].max() > 0:
                at_hand = int(rows[np.argmax(np.where(begun, rates, -1.0))])
                room = gain.boxes(self._front([*believed, at_hand]), self.market.reference)
        if not begun.all():
            rates[~begun] = self._rates(room, rows[~begun], rungs[~begun], costs)
        return rates

    @property
    def doubt(self) -> float:
        """Share of the fresh candidates that are drawn blindly: what their features leave open."""
        return float(np.mean([s.doubt for s in self.learned]))

    def _any(self, fresh: BoolArray, taken: Sequence[Offer], rng: np.random.Generator) -> int:
        """A fresh candidate drawn uniformly."""
        open_rows = np.setdiff1d(np.flatnonzero(fresh), [offer.row for offer in taken])
        return int(rng.choice(open_rows))

    def _fallback(self, rows: IntArray) -> int:
        """Position of what is best by plain rank of what is predicted, when nothing promises a gain."""
        means = np.stack([self._mean_loss(s, rows) for s in self.learned], axis=1)
        return int(pareto.order(np.concatenate([means, self.market.static[rows]], axis=1))[0])

    def _front(self, believed: Sequence[int]) -> FloatArray:
        rows = list(self._full.values())
        if believed:
            at = np.array(believed, dtype=np.int64)
            means = np.stack([self._mean_loss(s, at) for s in self.learned], axis=1)
            rows += list(np.concatenate([means, self.market.static[at]], axis=1))
        return np.array(rows).reshape(-1, len(self.market.reference))

    def _mean_loss(self, surrogate: Surrogate, rows: IntArray) -> FloatArray:
        mean, sd = surrogate.predict(rows)
        found: FloatArray = np.exp(mean + sd * sd / 2) if surrogate.log else mean
        return found

    def _top(self, rows: IntArray | None) -> tuple[FloatArray, FloatArray]:
        pairs = [s.predict(rows) for s in self.learned]
        return np.stack([p[0] for p in pairs], axis=1), np.stack([p[1] for p in pairs], axis=1)

    def _moves(self, state: State, room: gain.Boxes) -> tuple[IntArray, IntArray]:
        """Every promotion, and the fresh candidates that promise most by two bounds of their index."""
        fresh = np.flatnonzero(state.fresh)
        if len(fresh) > SHORTLIST:
            mean, sd = self._top(fresh)
            full = gain.expected_gain(room, self.market.static[fresh], mean, sd, self.market.log)
            cost = state.costs[fresh]
            sides = [full / cost[:, 0], full / (cost[:, 0] + 0.3 * cost[:, 1:].sum(axis=1))]
            half = SHORTLIST // 2
            chosen = np.unique(np.concatenate([np.argpartition(-side, half)[:half] for side in sides]))
            fresh = fresh[chosen]
        paused = np.array([row for row, _ in state.paused], dtype=np.int64)
        rungs = np.array([rung + 1 for _, rung in state.paused], dtype=np.int64)
        return np.append(paused, fresh), np.append(rungs, np.zeros(len(fresh), dtype=np.int64))

    def _rates(self, room: gain.Boxes, rows: IntArray, rungs: IntArray, costs: FloatArray) -> FloatArray:
        mean, sd = self._top(rows)
        points, weights = value.nodes(len(self.learned))
        moved = np.zeros_like(mean)
        last = self.market.rungs - 1
        for rung in np.unique(rungs[rungs < last]):
            at = rungs == rung
            moved[at] = np.stack([s.after(rows[at], int(rung)) for s in self.learned], axis=1)
        final = rungs == last
        gains = np.empty((len(rows), len(points)))
        rest = np.sqrt(np.maximum(sd * sd - moved * moved, 1e-12))
        spread = np.repeat(rest[:, None, :], len(points), axis=1)
        centre = mean[:, None, :] + moved[:, None, :] * points[None, :, :]
        static = self.market.static[rows]
        low = ~final
        if low.any():
            gains[low] = gain.expected_gain(room, static[low], centre[low], spread[low], self.market.log)
        if final.any():
            sure = gain.expected_gain(room, static[final], mean[final], sd[final], self.market.log)
            gains[final] = sure[:, None]
        ahead = np.cumsum(costs[rows][:, ::-1], axis=1)[:, ::-1][np.arange(len(rows)), rungs]
        dear = costs[rows, rungs]
        return value.rate(gains, weights, dear, ahead - dear)
