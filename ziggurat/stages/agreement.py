"""How well two rankings agree, and what few candidates can say about that.

Kendall's tau needs an interval that holds for 4 to 12 candidates, where no usual one does: the bootstrap
collapses when all candidates happen to be in order, and formulas for normal data are too sure where
candidates form groups. The interval here is the hull of two: a bootstrap that follows the data at hand (BCa),
and the set of all values that the tau at hand does not contradict, by simulation of that many normal pairs.
Which share of the time it holds the truth is measured by `benchmarks/proxy_interval.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from ziggurat.protocols import FloatArray

Numbers = Sequence[float] | FloatArray
RESAMPLES = 2000
DRAWS = 4000
STEPS = 81
"""Values of tau, from -1 to 1, that are held against the one at hand."""
FEW = 20
"""Candidates up to which the bootstrap alone is not trusted."""
CELLS = 4_000_000
"""Numbers that are held in memory at a time."""
_NORMAL = NormalDist()


def kendall(cheap: Numbers, dear: Numbers) -> float:
    """Kendall's tau-b of two rankings; NaN if one of them is constant. Source: Kendall 1945."""
    return float(_taus(np.asarray(cheap, dtype=float)[None], np.asarray(dear, dtype=float)[None])[0])


def _taus(a: FloatArray, b: FloatArray) -> FloatArray:
    """Tau-b of every row of two (rows, n) arrays."""
    upper = np.triu_indices(a.shape[1], 1)
    rows = max(1, CELLS // max(1, len(upper[0])))
    found = []
    for first in range(0, len(a), rows):
        x = np.sign(a[first : first + rows, upper[0]] - a[first : first + rows, upper[1]])
        y = np.sign(b[first : first + rows, upper[0]] - b[first : first + rows, upper[1]])
        scale = np.sqrt((x != 0).sum(1) * (y != 0).sum(1).astype(float))
        with np.errstate(invalid="ignore", divide="ignore"):
            found.append(np.where(scale > 0, (x * y).sum(1) / scale, math.nan))
    return np.concatenate(found)


def tau_interval(
    cheap: Numbers, dear: Numbers, confidence: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Kendall's tau with its interval: tau, low, high; the whole range where tau is not defined."""
    a, b = np.asarray(cheap, dtype=float), np.asarray(dear, dtype=float)
    tau = kendall(a, b)
    if math.isnan(tau):
        return tau, -1.0, 1.0
    low, high = bootstrap(a, b, confidence, rng)
    if len(a) <= FEW:
        least, most = inverted(tau, len(a), confidence)
        low, high = min(low, least), max(high, most)
    return tau, min(low, tau), max(high, tau)


def bootstrap(
    a: FloatArray, b: FloatArray, confidence: float, rng: np.random.Generator
) -> tuple[float, float]:
    """The bias-corrected and accelerated bootstrap interval. Source: Efron 1987, sections 3 and 6."""
    n, tau = len(a), kendall(a, b)
    pick = rng.integers(n, size=(RESAMPLES, n))
    draws = _taus(a[pick], b[pick])
    draws = draws[~np.isnan(draws)]
    without = np.array([[j for j in range(n) if j != i] for i in range(n)])
    left = _taus(a[without], b[without])
    if not len(draws) or np.isnan(left).any():
        return -1.0, 1.0
    below = float(np.mean(draws < tau) + np.mean(draws == tau) / 2)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / RESAMPLES), 1 - 1 / RESAMPLES))
    gaps = left.mean() - left
    scale = float((gaps**2).sum()) ** 1.5
    skew = float((gaps**3).sum()) / (6 * scale) if scale > 0 else 0.0

    def corrected(share: float) -> float:
        z = bias + _NORMAL.inv_cdf(share)
        return _NORMAL.cdf(bias + z / (1 - skew * z))

    shares = corrected((1 - confidence) / 2), corrected((1 + confidence) / 2)
    low, high = np.quantile(draws, shares)
    return float(low), float(high)


def inverted(tau: float, n: int, confidence: float) -> tuple[float, float]:
    """All values that a tau of so many normal pairs does not contradict, to the grid's step.

    Ends are where such a tau, or a more extreme one, becomes as rare as half of what the confidence leaves.
    Source: the construction of Clopper & Pearson 1934, with simulated distributions as in Carpenter 1999,
    Journal of the Royal Statistical Society B 61.
    """
    values, drawn = _drawn(n)
    rare, close = (1 - confidence) / 2, 1e-9
    at_least = np.array([len(row) - np.searchsorted(row, tau - close) for row in drawn]) / DRAWS
    at_most = np.array([np.searchsorted(row, tau + close, side="right") for row in drawn]) / DRAWS
    kept = values[(at_least > rare) & (at_most > rare)]
    if not len(kept):
        return -1.0, 1.0
    return float(kept[0]), float(kept[-1])


@lru_cache(maxsize=8)
def _drawn(n: int) -> tuple[FloatArray, FloatArray]:
    """Sorted taus of `n` normal pairs, a row for each true value of a grid.

    Between normal variables of correlation r, tau is 2 arcsin(r) / pi (Kruskal 1958).
    """
    rng = np.random.default_rng([n, STEPS, DRAWS])
    values = np.round(np.linspace(-1, 1, STEPS), 6)
    first, other = rng.normal(size=(2, n, DRAWS))
    i, j = np.triu_indices(n, 1)
    order = first[i] > first[j]
    rows = []
    for r in np.sin(values * math.pi / 2):
        second = r * first + math.sqrt(max(0.0, 1 - r * r)) * other
        rows.append(np.sort(2 * np.mean(order == (second[i] > second[j]), axis=0) - 1))
    return values, np.array(rows)
