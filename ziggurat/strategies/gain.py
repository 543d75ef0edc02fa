"""Expected hypervolume gain of candidates whose objectives are partly known and partly predicted.

The space above a front, below the reference, is cut into boxes over all objectives but one; above every box
the remaining objective has to get below a constant level to gain volume. Known objectives enter by the width
of a box that lies above them, predicted ones by an expectation; independent predictions make the expectation
a product, so it is exact for any number of known and predicted objectives.

Losses everywhere, smaller is better, columns in one order: the learned objectives, then the static ones.

Source: Emmerich et al. 2006, IEEE Transactions on Evolutionary Computation 10(4); Yang et al. 2019, Journal
of Global Optimization 75; here with deterministic objectives and, on request, log-normal errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
CHUNK = 2_000_000
"""Numbers that are held at once."""
FAR = 6.0
"""Standard deviations beyond which nothing is expected."""


@dataclass(frozen=True)
class Boxes:
    """What can still be gained.

    Attributes:
        low: (b, m - 1) lower corners in all objectives but the first; -inf where open.
        high: (b, m - 1) upper corners.
        level: (b,) what the first objective must fall below.
    """

    low: FloatArray
    high: FloatArray
    level: FloatArray


def boxes(front: npt.ArrayLike, reference: npt.ArrayLike) -> Boxes:
    """Cuts what lies between a front and the reference into boxes.

    Args:
        front: (p, m) losses; rows may be dominated, rows beyond the reference or with NaN are left out.
        reference: (m,) losses at which a row is worth nothing.

    Returns:
        Boxes; about 2 p for one or two objectives, 3 p for three.
    """
    corner = np.asarray(reference, dtype=float)
    rows = np.asarray(front, dtype=float).reshape(-1, len(corner))
    rows = _front(rows[(rows < corner).all(axis=1)])
    cells = _cut([tuple(row) for row in rows], tuple(corner))
    low = np.array([[side[0] for side in cell[:-1]] for cell in cells], dtype=float)
    high = np.array([[side[1] for side in cell[:-1]] for cell in cells], dtype=float)
    width = len(corner) - 1
    level = np.array([cell[-1][1] for cell in cells], dtype=float)
    return Boxes(low.reshape(len(cells), width), high.reshape(len(cells), width), level)


Side = tuple[float, float]
"""Lower and upper end of a box in one objective."""


def _front(rows: FloatArray) -> FloatArray:
    """Rows that no other row dominates, each once, in lexicographic order."""
    left, kept = np.unique(rows, axis=0), []
    while len(left):
        kept.append(left[0])
        left = left[~(left[0] <= left).all(axis=1)]
    return np.array(kept).reshape(-1, rows.shape[1])


def _cut(rows: list[tuple[float, ...]], corner: tuple[float, ...]) -> list[tuple[Side, ...]]:
    """Boxes as a side (low, high) for each objective after the first, then (-inf, level) of the first."""
    if len(corner) == 1:
        return [((-np.inf, min([row[0] for row in rows], default=corner[0])),)]
    cuts = sorted({row[-1] for row in rows})
    edges = [-np.inf, *cuts, corner[-1]]
    open_since: dict[tuple[Side, ...], float] = {}
    done: list[tuple[Side, ...]] = []
    active: list[tuple[float, ...]] = []
    for low, high in pairwise(edges):
        active += [row[:-1] for row in rows if row[-1] == low]
        active = _undominated(active)
        cells = set(_cut(active, corner[:-1]))
        closed = [c for c in open_since if c not in cells]
        done += [(*cell[:-1], (open_since.pop(cell), low), cell[-1]) for cell in closed]
        for cell in cells:
            open_since.setdefault(cell, low)
        if high == corner[-1]:
            done += [(*cell[:-1], (since, high), cell[-1]) for cell, since in open_since.items()]
    return sorted(done)


def _undominated(rows: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Rows that no other row dominates, each once."""
    kept: list[tuple[float, ...]] = []
    for row in sorted(set(rows)):
        if not any(all(a <= b for a, b in zip(other, row, strict=True)) for other in kept):
            kept.append(row)
    return kept


def expected_gain(
    room: Boxes, static: FloatArray, mean: FloatArray, sd: FloatArray, log: BoolArray
) -> FloatArray:
    """Expected gain in hypervolume of every candidate.

    Args:
        room: What can be gained, from `boxes`.
        static: (n, m - q) losses that are known.
        mean: (n, q) or (n, k, q) means of the q learned losses, of their logarithms where `log`.
        sd: As `mean`, standard deviations; 0 stands for a sure prediction.
        log: (q,) whether the logarithm of the loss is normal, rather than the loss.

    Returns:
        (n,) or (n, k) array, in the product of the metrics' units.
    """
    shape = mean.shape[:-1]
    between = int(np.prod(shape[1:], dtype=int))
    step = max(1, CHUNK // max(1, len(room.level) * between))
    parts = [
        _gain(room, static[i : i + step], mean[i : i + step], sd[i : i + step], log)
        for i in range(0, len(mean), step)
    ]
    return np.concatenate(parts) if parts else np.zeros(shape)


def _gain(room: Boxes, static: FloatArray, mean: FloatArray, sd: FloatArray, log: BoolArray) -> FloatArray:
    """Expected gain of a few candidates; only pairs of candidate and box with a known part are looked at."""
    learned = mean.shape[-1]
    width = np.ones((len(mean), len(room.level)))
    for j, column in enumerate(static.T, start=learned - 1):
        width *= np.maximum(0.0, room.high[:, j] - np.maximum(room.low[:, j], column[:, None]))
    who, box = np.nonzero(width)
    weight = width[who, box].reshape(-1, *[1] * (mean.ndim - 2))
    tail = [1] * (mean.ndim - 2)
    part = weight * shortfall(
        room.level[box].reshape(-1, *tail), mean[who][..., 0], sd[who][..., 0], log=bool(log[0])
    )
    for j in range(1, learned):
        at, spread, is_log = mean[who][..., j], sd[who][..., j], bool(log[j])
        part = part * (
            shortfall(room.high[box, j - 1].reshape(-1, *tail), at, spread, log=is_log)
            - shortfall(room.low[box, j - 1].reshape(-1, *tail), at, spread, log=is_log)
        )
    starts = np.searchsorted(who, np.arange(len(mean)))
    filled = np.zeros((len(mean), *part.shape[1:]))
    present = np.flatnonzero(np.bincount(who, minlength=len(mean)))
    if len(present):
        filled[present] = np.add.reduceat(part, starts[present], axis=0)
    return filled


def shortfall(level: FloatArray, mean: FloatArray, sd: FloatArray, *, log: bool) -> FloatArray:
    """E[(level - Y)+] of a normal or log-normal Y; 0 where the level is -inf, or not positive for a log.

    Args:
        level: Levels in the unit of Y.
        mean: Mean of Y, or of ln Y.
        sd: Standard deviation of Y, or of ln Y.
        log: Whether ln Y is normal.
    """
    from scipy.special import ndtr

    level, mean, sd = np.broadcast_arrays(level, mean, np.maximum(sd, 1e-9))
    with np.errstate(divide="ignore", invalid="ignore"):
        mark = np.log(np.maximum(level, 0.0)) if log else level
        z = (mark - mean) / sd
    found = np.zeros(z.shape)
    near = z > -FAR
    z, h, mu, s = z[near], level[near], mean[near], sd[near]
    if log:
        found[near] = h * ndtr(z) - np.exp(mu + s * s / 2) * ndtr(z - s)
    else:
        found[near] = (h - mu) * ndtr(z) + s * np.exp(-z * z / 2) / np.sqrt(2 * np.pi)
    return np.maximum(found, 0.0)
