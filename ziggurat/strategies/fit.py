"""Maximum a posteriori fit of the surrogate's parameters: one vector for kernel and chain of rungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat.strategies.chain import Chain, Links
from ziggurat.strategies.kernel import Distances, Features, Shape

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
STEPS = 60
JITTER = 1e-6


@dataclass(frozen=True)
class Parameters:
    """A fitted model: kernel and chain.

    Attributes:
        shape: Parameters of the kernel, see `kernel.Shape`.
        chain: Parameters of the chain, see `chain.Chain`.
    """

    shape: FloatArray
    chain: FloatArray


def prior(known: Features, rungs: int) -> Parameters:
    """The parameters that are likeliest before any result."""
    return Parameters(_shape(known).prior()[0], Chain(rungs).prior()[0])


def _shape(known: Features) -> Shape:
    return Shape(known.codes.shape[1], known.smooth.shape[1])


def fit(
    known: Features, chain: Chain, rows: IntArray, rungs: IntArray, values: FloatArray, start: Parameters
) -> Parameters:
    """Parameters of greatest posterior density for some results.

    Args:
        known: Features of the pool.
        chain: The chain that is fitted.
        rows: (n,) candidates.
        rungs: (n,) rungs of the results.
        values: (n,) standardised results.
        start: Where the search starts.

    Returns:
        The fitted parameters; the start if nothing better is found.
    """
    from scipy.optimize import minimize

    problem = _Problem(known, chain, rows, rungs, values)
    first = np.concatenate([start.shape, start.chain])
    low, high = problem.centre - 4 * problem.spread, problem.centre + 4 * problem.spread
    found = minimize(
        problem.loss,
        np.clip(first, low, high),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": STEPS, "maxfun": 2 * STEPS, "ftol": 1e-6},
    )
    best = found.x if np.isfinite(found.fun) else first
    return Parameters(best[: len(start.shape)], best[len(start.shape) :])


class _Problem:
    """Negative log posterior with its gradient."""

    def __init__(
        self, known: Features, chain: Chain, rows: IntArray, rungs: IntArray, values: FloatArray
    ) -> None:
        self._chain, self._values = chain, values
        self._distances = Distances(known, rows)
        self._same = (rows[:, None] == rows[None, :]).astype(float)
        self._rungs = rungs
        self._member = (rungs[:, None] == np.arange(chain.rungs)[None, :]).astype(float)
        self._known = known.known
        priors = (_shape(known).prior(), chain.prior())
        self.centre = np.concatenate([p[0] for p in priors])
        self.spread = np.concatenate([p[1] for p in priors])

    def loss(self, vector: FloatArray) -> tuple[float, FloatArray]:
        """Negative log posterior and its gradient."""
        split = self._distances.shape.size
        links = self._chain.links(vector[split:])
        kernel, first, second = self._distances.kernel(vector[:split])
        at = np.ix_(self._rungs, self._rungs)
        shared = links.shared[at] * float(self._known)
        cover = shared * kernel + links.own[at] * self._same + links.offset[at]
        cover[np.diag_indices_from(cover)] += links.noise[self._rungs] + JITTER
        away = (vector - self.centre) / self.spread
        try:
            value, outer = _likelihood(cover, self._values)
        except np.linalg.LinAlgError:
            return 1e10, away / self.spread
        grad = np.concatenate(
            [
                self._distances.gradient(vector[:split], outer * shared, first, second),
                self._chain.gradient(vector[split:], self._sums(outer, kernel)),
            ]
        )
        return value + 0.5 * float(away @ away), grad + away / self.spread

    def _sums(self, outer: FloatArray, kernel: FloatArray) -> Links:
        """Gradient of the likelihood with respect to the covariances between rungs."""
        z = self._member
        return Links(
            shared=z.T @ (outer * kernel) @ z * float(self._known),
            own=z.T @ (outer * self._same) @ z,
            offset=z.T @ outer @ z,
            noise=z.T @ np.diag(outer),
        )


def _likelihood(cover: FloatArray, values: FloatArray) -> tuple[float, FloatArray]:
    """Negative log likelihood of centred normal values, and its gradient with respect to the covariance."""
    from scipy.linalg import lapack

    root, bad = lapack.dpotrf(cover, lower=1)
    if bad:
        raise np.linalg.LinAlgError
    inverse, _ = lapack.dpotri(root, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    weighted = inverse @ values
    value = 0.5 * float(values @ weighted) + float(np.log(np.diag(root)).sum())
    return value, 0.5 * (inverse - np.outer(weighted, weighted))


def subset(rows: IntArray, rungs: IntArray, values: FloatArray, size: int) -> IntArray:
    """At most `size` results to fit on: those of candidates with several first, then evenly over the values.

    Args:
        rows: (n,) candidates.
        rungs: (n,) rungs.
        values: (n,) standardised results.
        size: Number of results wanted.

    Returns:
        Indices, ascending.
    """
    if len(rows) <= size:
        return np.arange(len(rows))
    _, inverse, count = np.unique(rows, return_inverse=True, return_counts=True)
    pairs = np.flatnonzero(count[inverse.reshape(-1)] > 1)
    if len(pairs) > size:
        ranked = pairs[np.lexsort((pairs, values[pairs], -rungs[pairs]))]
        chosen = set(rows[ranked[np.linspace(0, len(ranked) - 1, size // 2).astype(int)]].tolist())
        pairs = np.array([i for i in pairs if int(rows[i]) in chosen][:size], dtype=np.int64)
    others = np.setdiff1d(np.arange(len(rows)), pairs)
    ranked = others[np.argsort(values[others], kind="stable")]
    take = np.linspace(0, max(0, len(ranked) - 1), max(0, min(size - len(pairs), len(ranked))))
    found: IntArray = np.unique(np.concatenate([pairs, ranked[take.astype(np.int64)]])).astype(np.int64)
    return found
