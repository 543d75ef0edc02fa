"""What the next segment of a training is worth: expected gain for each unit of cost, on one scale.

A candidate is a box that is opened in two steps: the next rung is paid, its result is seen, and then the rest
up to the top is paid if that still looks worth it. Its index is the largest ratio of expected gain to
expected cost over all rules of the form "go on if the gain then exceeds t". A candidate that is one rung
below the top has only its gain over its cost. Starting new candidates and promoting paused ones compare by
this number, so the share that low fidelities get follows from what their results are worth.

Source: Weitzman 1979, Econometrica 47(3), optimal search for the best alternative; Gittins 1979, Journal of
the Royal Statistical Society B 41(2); here as a rate, since money is the limit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def nodes(dimensions: int) -> tuple[FloatArray, FloatArray]:
    """Standard normal nodes and weights for an expectation: Gauss and Hermite's, as a product.

    Args:
        dimensions: Number of independent normal variables.

    Returns:
        (k, dimensions) nodes and (k,) weights that sum to 1.
    """
    count = {1: 11, 2: 5, 3: 3}.get(dimensions, 2)
    points, weights = np.polynomial.hermite_e.hermegauss(count)
    grid = np.meshgrid(*[points] * dimensions, indexing="ij")
    product = np.meshgrid(*[weights / weights.sum()] * dimensions, indexing="ij")
    return np.stack([g.ravel() for g in grid], axis=1), np.prod([p.ravel() for p in product], axis=0)


def rate(gains: FloatArray, weights: FloatArray, next_cost: FloatArray, rest_cost: FloatArray) -> FloatArray:
    """Expected gain for each unit of cost, when the rest is paid only if the next result is good enough.

    Args:
        gains: (n, k) expected gain at the top after each of k possible results at the next rung.
        weights: (k,) probabilities of the results.
        next_cost: (n,) cost up to the next rung.
        rest_cost: (n,) cost from there to the top; 0 if the next rung is the top.

    Returns:
        (n,) array.
    """
    order = np.argsort(-gains, axis=1)
    sorted_gains = np.take_along_axis(gains, order, axis=1)
    chance = weights[order]
    won = np.cumsum(sorted_gains * chance, axis=1)
    paid = next_cost[:, None] + np.cumsum(chance, axis=1) * rest_cost[:, None]
    best: FloatArray = (won / np.maximum(paid, 1e-300)).max(axis=1)
    return best
