"""How the latency of a whole model follows from its operations: a fit, and how well it predicts.

A model takes a constant, then for each kind of operation a slope times what its operations take alone, then
`each` for every operation; none of these is negative. The constant is what one call costs, a slope what a
kind gains or loses by standing among others, and `each` what stands between operations. A few models cannot
tell many slopes, so those of all kinds are drawn to a common one. Numbers only; nothing here measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ziggurat.protocols import FloatArray

ROUNDS = 12
HUBER = 1.5
"""Residuals beyond so many standard deviations lose weight."""
TO_SIGMA = 1.4826
"""A median absolute deviation as the standard deviation of a normal distribution."""
PULL = 0.2
"""How strongly slopes are drawn to the common one: the relative error of a measurement, about 4 %, against
how much slopes of different kinds are expected to differ, about 20 %."""
FEWEST = 8
"""Models without which nothing is fitted."""
CENTRAL = 0.68


@dataclass(frozen=True)
class Overhead:
    """What makes a model's latency of its operations.

    Attributes:
        constant_ms: Once for a model.
        each_ms: Once for every operation.
        slopes: Factor of the time of operations, by kind; 1 for other kinds.
    """

    constant_ms: float = 0.0
    each_ms: float = 0.0
    slopes: Mapping[str, float] = field(default_factory=dict)

    def share_ms(self, kind: str, net_ms: float) -> float:
        """What an operation of a kind adds to a model, given what it takes alone."""
        return self.slopes.get(kind, 1.0) * net_ms + self.each_ms


@dataclass(frozen=True)
class Quality:
    """How well models are predicted that the fit has not seen: each left out once.

    Attributes:
        models: How many were measured.
        error: Relative error that 68 % of the predictions keep; what a prediction states as its spread.
        median_error: Median of the relative errors, without sign.
        p90_error: Their 90th percentile.
        span: Largest measured latency relative to the smallest.
    """

    models: int
    error: float
    median_error: float
    p90_error: float
    span: float


@dataclass(frozen=True)
class Models:
    """Measured whole models.

    Attributes:
        kinds: (k,) kinds of operations.
        sums_ms: (n, k) times of the operations of each kind, added up.
        counts: (n,) numbers of operations.
        measured_ms: (n,) latencies of the whole models, above 0.
    """

    kinds: tuple[str, ...]
    sums_ms: FloatArray
    counts: FloatArray
    measured_ms: FloatArray

    def rows(self) -> FloatArray:
        """(n, 3 + k) columns for the constant, each operation, the common slope (0) and the slopes."""
        ones, none = np.ones((len(self.counts), 1)), np.zeros((len(self.counts), 1))
        return np.hstack([ones, self.counts[:, None], none, self.sums_ms])

    def only(self, chosen: FloatArray) -> Models:
        """Those that a boolean array (n,) chooses."""
        return Models(self.kinds, self.sums_ms[chosen], self.counts[chosen], self.measured_ms[chosen])


def _solve(models: Models) -> FloatArray:
    """(3 + k,) constant, each, common slope and slopes that explain the models best, by relative error.

    Source: Lawson and Hanson 1974, non-negative least squares; Huber 1964, reweighted iteratively.
    """
    from scipy.optimize import nnls

    # relative errors count: every row is divided by what was measured
    rows = models.rows() / models.measured_ms[:, None]
    many = len(models.kinds)
    pull = PULL * np.hstack([np.zeros((many, 2)), -np.ones((many, 1)), np.eye(many)])
    weights = np.ones(len(rows))
    for _ in range(ROUNDS):
        target = np.concatenate([weights, np.zeros(many)])
        found, _ = nnls(np.vstack([rows * weights[:, None], pull]), target)
        residuals = np.abs(rows @ found - 1.0)
        bound = HUBER * TO_SIGMA * float(np.median(residuals))
        weights = np.sqrt(np.minimum(1.0, np.maximum(bound, 1e-12) / np.maximum(residuals, 1e-12)))
    solved: FloatArray = found
    return solved


def fit(models: Models) -> Overhead:
    """The overhead that explains measured models best, by relative error; outliers lose weight."""
    constant, each, _, *slopes = (float(x) for x in _solve(models))
    return Overhead(constant, each, dict(zip(models.kinds, slopes, strict=True)))


def left_out(models: Models) -> FloatArray:
    """(n,) predictions of each model by a fit to all others."""
    rows, count = models.rows(), len(models.counts)
    others = [np.arange(count) != i for i in range(count)]
    return np.array([float(rows[i] @ _solve(models.only(other))) for i, other in enumerate(others)])


def quality(predicted_ms: FloatArray, measured_ms: FloatArray) -> Quality:
    """How far predictions are from measurements, (n,) each."""
    errors = np.abs(predicted_ms / measured_ms - 1.0)
    central, middle, high = np.quantile(errors, (CENTRAL, 0.5, 0.9))
    span = float(measured_ms.max() / measured_ms.min())
    return Quality(len(errors), float(central), float(middle), float(high), span)
