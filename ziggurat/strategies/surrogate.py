"""Surrogate of one learned objective over a pool of candidates and all rungs of a fidelity ladder.

A Gaussian process of the (log) loss with the covariance of `kernel` and `chain`. Results are appended as rows
of a Cholesky factor; parameters are fitted anew at geometrically spaced numbers of results. The same results
in the same order always give the same surrogate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ziggurat.strategies.chain import Chain
from ziggurat.strategies.fit import JITTER, Parameters, fit, prior, subset
from ziggurat.strategies.kernel import Embedding, Features

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
FIRST_FIT = 8
GROWTH = 1.35
FIRST_FIT_OF_RUNG = 3
GROWTH_OF_RUNG = 1.6
FIT_ON = 260
LEAST_SPREAD = 0.1
CAP_FROM = 10
"""Results of a rung from which the worst tenth counts as equal."""
KEEP = 1200
"""Results that are conditioned on; beyond it the best and an even selection of the others stay."""


@dataclass(frozen=True)
class Observation:
    """One result.

    Attributes:
        row: Candidate, index into the pool.
        rung: Rung it was reached at.
        loss: Learned objective, smaller is better; NaN if the training diverged.
    """

    row: int
    rung: int
    loss: float


class Surrogate:
    """Predicts one learned objective at every rung for every candidate of a pool.

    Args:
        known: Features of the pool.
        rungs: Number of rungs.
        log: Model the logarithm; all losses must then be positive.
        reference: Loss at which a candidate is worth nothing: top results are capped at 1.3 times it.
    """

    def __init__(
        self, known: Features, rungs: int, *, log: bool = True, reference: float | None = None
    ) -> None:
        self.log, self._reference = log, reference
        self._known, self._chain = known, Chain(rungs)
        self._observed: list[Observation] = []
        self._counts = np.zeros(rungs, dtype=np.int64)
        self._fitted_at = np.zeros(rungs, dtype=np.int64)
        self.parameters = prior(known, rungs)
        self._active: list[Observation] = []
        self._factor: _Factor | None = None
        self._standardise()

    @property
    def top(self) -> int:
        """The highest rung."""
        return self._chain.rungs - 1

    @property
    def doubt(self) -> float:
        """Share of the differences at the top that features do not explain; 1 without features."""
        links = self._chain.links(self.parameters.chain)
        own, shared = links.own[-1, -1], links.shared[-1, -1] * float(self._known.known)
        return float(own / (own + shared))

    def update(self, observations: Sequence[Observation]) -> None:
        """Takes in results, in the order in which they came."""
        for observation in observations:
            self._observed.append(observation)
            self._active.append(observation)
            self._counts[observation.rung] += 1
            if self._due():
                self._refit()
            elif not self._fitted_at.any() or len(self._active) > 1.25 * KEEP:
                # what is conditioned on depends on the results alone, not on when somebody asked
                self._restart()
        if self._factor is not None:
            self._factor.append(*self._arrays(self._active[self._factor.seen :]))
            self._factor.seen = len(self._active)

    def moved(self, known: Features, rows: IntArray) -> Surrogate:
        """The same knowledge for another pool; `rows` gives for each present row its row there, or -1."""
        other = Surrogate(known, self._chain.rungs, log=self.log, reference=self._reference)
        seen = [replace(o, row=int(rows[o.row])) for o in self._observed if rows[o.row] >= 0]
        other._observed, other._fitted_at, other.parameters = seen, self._fitted_at, self.parameters
        other._caps, other._centre, other._scale = self._caps, self._centre, self._scale
        other._active = [replace(o, row=int(rows[o.row])) for o in self._active if rows[o.row] >= 0]
        other._counts = np.bincount([o.rung for o in seen], minlength=self._chain.rungs)
        return other

    def predict(self, rows: IntArray | None = None, rung: int | None = None) -> tuple[FloatArray, FloatArray]:
        """Mean and standard deviation of the (log) loss of candidates at a rung, without noise.

        Args:
            rows: Candidates; all by default.
            rung: Rung; the top by default.

        Returns:
            Two (n,) arrays.
        """
        factor = self._ready()
        at = self.top if rung is None else rung
        if at == self.top:
            mean, variance = factor.at_top()
            mean, variance = (mean, variance) if rows is None else (mean[rows], variance[rows])
        else:
            every = np.arange(len(self._known)) if rows is None else rows
            mean, variance, _ = factor.at(every, at)
        return self._centre[at] + self._scale * mean, self._scale * np.sqrt(variance)

    def after(self, rows: IntArray, rung: int) -> FloatArray:
        """Standard deviation of the change of the top rung's mean that a result at a rung would bring.

        Args:
            rows: (n,) candidates.
            rung: Rung of the result that is imagined.

        Returns:
            (n,) array; at most the standard deviation that `predict` gives at the top.
        """
        _, variance, covariance = self._ready().at(rows, rung)
        noise = self._chain.links(self.parameters.chain).noise[rung]
        moved = np.abs(covariance) / np.sqrt(variance + noise + JITTER)
        limit = np.sqrt(self._ready().at_top()[1][rows])
        found: FloatArray = self._scale * np.minimum(moved, limit)
        return found

    def _due(self) -> bool:
        """Whether the results have grown enough, in all or at one rung, for a new fit."""
        total, before = int(self._counts.sum()), int(self._fitted_at.sum())
        if total < FIRST_FIT:
            return False
        new = self._counts >= np.maximum(FIRST_FIT_OF_RUNG, self._fitted_at * GROWTH_OF_RUNG)
        return total >= before * GROWTH or bool((new & (self._counts > self._fitted_at)).any())

    def _ready(self) -> _Factor:
        if self._factor is None:
            self._factor = _Factor(self._known, self._chain, self.parameters)
            self._factor.append(*self._arrays(self._active))
            self._factor.seen = len(self._active)
        return self._factor

    def _refit(self) -> None:
        self._fitted_at = self._counts.copy()
        self._standardise()
        rows, rungs, values = self._arrays(self._observed)
        if len(np.unique(values)) > 1:
            chosen = subset(rows, rungs, values, FIT_ON)
            self.parameters = fit(
                self._known, self._chain, rows[chosen], rungs[chosen], values[chosen], self.parameters
            )
        self._active, self._factor = self._kept(), None

    def _restart(self) -> None:
        """Conditions on a new choice of results, with the parameters as they are."""
        self._standardise()
        self._active, self._factor = self._kept(), None

    def _standardise(self) -> None:
        """Fixes caps, centre and scale for the results until the next fit."""
        rungs = np.array([o.rung for o in self._observed], dtype=np.int64)
        values = np.array([self._raw(o.loss) for o in self._observed])
        self._caps = np.array([self._cap(values[rungs == r], r) for r in range(self._chain.rungs)])
        finite = np.isfinite(values)
        values, rungs = np.minimum(values, self._caps[rungs])[finite], rungs[finite]
        low = values[rungs == rungs.min()] if len(rungs) else values
        self._centre = self._expected(float(np.median(low)) if len(low) else 0.0)
        self._scale = self._spread(values, rungs)

    def _spread(self, values: FloatArray, rungs: IntArray) -> float:
        """The largest standard deviation of the results of one rung.

        While the top has next to none, candidates are believed to differ by a tenth there, however alike
        they are at the first rungs: nothing is learned yet when every loss is that of a guess.
        """
        counts = np.bincount(rungs, minlength=self._chain.rungs)
        told = np.flatnonzero(counts >= FIRST_FIT_OF_RUNG)
        spread = max((float(values[rungs == r].std()) for r in told), default=0.0)
        if self.log and self._chain.rungs > 1 and counts[self.top] < FIRST_FIT_OF_RUNG:
            spread = max(spread, LEAST_SPREAD)
        return spread if spread > 1e-9 else 1.0

    def _expected(self, low: float) -> FloatArray:
        """(rungs,) what a middling candidate may reach, before the offsets are learned.

        At the top it is the reference, unless the lowest rung is better than that already: a search whose
        candidates were all worthless would not have been asked for.
        """
        top = low if self._reference is None else min(low, self._raw(self._reference))
        return np.linspace(low, top, self._chain.rungs)

    def _raw(self, loss: float) -> float:
        if not np.isfinite(loss):
            return np.inf
        return float(np.log(max(loss, 1e-12))) if self.log else loss

    def _cap(self, values: FloatArray, rung: int) -> float:
        """Largest value that is told apart at a rung: broken candidates must not bend the model."""
        finite = values[np.isfinite(values)]
        if not len(finite):
            return np.inf
        cap = float(np.quantile(finite, 0.9)) if len(finite) >= CAP_FROM else float(finite.max())
        if rung == self.top and self._reference is not None and self.log:
            cap = max(float(np.log(1.3 * self._reference)), float(finite.min()))
        return cap

    def _arrays(self, observed: Sequence[Observation]) -> tuple[IntArray, IntArray, FloatArray]:
        """Candidates, rungs and standardised capped values; a diverged result counts as the cap."""
        rungs = np.array([o.rung for o in observed], dtype=np.int64)
        values = np.minimum([self._raw(o.loss) for o in observed], self._caps[rungs])
        values = (values - self._centre[rungs]) / self._scale
        told = np.isfinite(values)
        rows = np.array([o.row for o in observed], dtype=np.int64)
        return rows[told], rungs[told], values[told]

    def _kept(self) -> list[Observation]:
        if len(self._observed) <= KEEP:
            return list(self._observed)
        values = np.array([self._raw(o.loss) for o in self._observed])
        rungs = np.array([o.rung for o in self._observed])
        ranked = np.lexsort((values, -rungs))
        best, rest = ranked[: KEEP // 2], ranked[KEEP // 2 :]
        chosen = np.concatenate([best, rest[np.linspace(0, len(rest) - 1, KEEP - len(best)).astype(int)]])
        return [self._observed[i] for i in np.sort(chosen)]


class _Factor:
    """Cholesky factor of the results, and what it says about every candidate at the top."""

    def __init__(self, known: Features, chain: Chain, parameters: Parameters) -> None:
        self._embedding = Embedding(known, parameters.shape)
        self._links = chain.links(parameters.chain)
        self._shared = self._links.shared * float(known.known)
        self._top, self._pool = chain.rungs - 1, len(known)
        self._rows, self._rungs = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        self._root = np.zeros((64, 64))
        self._solved = np.zeros(64)
        self._cover = np.zeros((64, self._pool), dtype=np.float32)
        self._mean = np.zeros(self._pool)
        self._variance = np.full(self._pool, self._prior(self._top))
        self.seen = 0

    def __len__(self) -> int:
        """Number of results taken in."""
        return len(self._rows)

    def _prior(self, rung: int) -> float:
        at = self._links
        return float(self._shared[rung, rung] + at.own[rung, rung] + at.offset[rung, rung])

    def append(self, rows: IntArray, rungs: IntArray, values: FloatArray) -> None:
        """Takes in results: rows of the factor and of what it explains at the top."""
        from scipy.linalg import cholesky, solve_triangular

        n, m = len(self._rows), len(rows)
        if not m:
            return
        self._reserve(n + m)
        cross = self._between(self._rows, self._rungs, rows, rungs)
        own = self._between(rows, rungs, rows, rungs)
        own[np.diag_indices(m)] += self._links.noise[rungs] + JITTER
        left = solve_triangular(self._root[:n, :n], cross, lower=True, check_finite=False).T if n else cross.T
        corner = cholesky(own - left @ left.T, lower=True, check_finite=False)
        self._root[n : n + m, :n], self._root[n : n + m, n : n + m] = left, corner
        self._solved[n : n + m] = solve_triangular(corner, values - left @ self._solved[:n], lower=True)
        explained = self._towards(rows, rungs, self._top)
        if n:
            explained -= left.astype(np.float32) @ self._cover[:n]
        explained = solve_triangular(corner.astype(np.float32), explained, lower=True, check_finite=False)
        self._cover[n : n + m] = explained
        self._mean += self._solved[n : n + m].astype(np.float32) @ explained
        self._variance -= np.einsum("ij,ij->j", explained, explained)
        self._rows, self._rungs = np.append(self._rows, rows), np.append(self._rungs, rungs)

    def at_top(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of every candidate at the top."""
        return self._mean, np.maximum(self._variance, 1e-8)

    def at(self, rows: IntArray, rung: int) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Mean and variance of candidates at a rung, and covariance with their own value at the top."""
        from scipy.linalg import solve_triangular

        n, at = len(self._rows), self._links
        apart = self._shared[rung, self._top] + at.own[rung, self._top] + at.offset[rung, self._top]
        start = np.full(len(rows), float(apart))
        if not n:
            return np.zeros(len(rows)), np.full(len(rows), self._prior(rung)), start
        cross = self._between(self._rows, self._rungs, rows, np.full(len(rows), rung))
        explained = solve_triangular(self._root[:n, :n], cross, lower=True, check_finite=False)
        variance = self._prior(rung) - np.einsum("ij,ij->j", explained, explained)
        covariance = start - np.einsum("ij,ij->j", explained, self._cover[:n, rows])
        return explained.T @ self._solved[:n], np.maximum(variance, 1e-8), covariance

    def _between(
        self, rows: IntArray, rungs: IntArray, others: IntArray, other_rungs: IntArray
    ) -> FloatArray:
        at, where = self._links, np.ix_(rungs, other_rungs)
        found = at.offset[where] + at.own[where] * (rows[:, None] == others[None, :])
        if self._shared.any():
            found = found + self._shared[where] * self._embedding.between(rows, others)
        return np.asarray(found, dtype=float)

    def _towards(self, rows: IntArray, rungs: IntArray, rung: int) -> npt.NDArray[np.float32]:
        """(m, pool) covariances of results with every candidate's value at a rung."""
        at = self._links
        if self._shared.any():
            found = self._embedding.between(rows, slice(None))
            found *= self._shared[rungs, rung].astype(np.float32)[:, None]
        else:
            found = np.zeros((len(rows), self._pool), dtype=np.float32)
        found += at.offset[rungs, rung].astype(np.float32)[:, None]
        found[np.arange(len(rows)), rows] += at.own[rungs, rung].astype(np.float32)
        return found

    def _reserve(self, size: int) -> None:
        have = len(self._solved)
        if size <= have:
            return
        room = max(size, 2 * have)
        root, solved = np.zeros((room, room)), np.zeros(room)
        cover = np.zeros((room, self._pool), dtype=np.float32)
        root[:have, :have], solved[:have], cover[:have] = self._root, self._solved, self._cover
        self._root, self._solved, self._cover = root, solved, cover
