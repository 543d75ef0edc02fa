"""What is better when several things count: ranks, orders, hypervolume and picks of rows of losses.

Every function takes losses, shape (n, m), smaller is better, one row for each trial. A row with NaN is
worse than all others. Nothing depends on the order of the rows, except that of two equal rows the first
comes first.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Method = Literal["hypervolume", "spread", "knee"]


def ranks(losses: npt.ArrayLike) -> IntArray:
    """Non-domination rank of every row; 0 is the Pareto front.

    Args:
        losses: (n, m) array, smaller is better. Rows with NaN share the rank behind all others.

    Returns:
        (n,) array of ranks. Equal rows share a rank.

    Source: Deb et al. 2002, NSGA-II, section III-A; computed by moocore.
    """
    rows = _table(losses)
    found = np.zeros(len(rows), dtype=np.int64)
    known = ~np.isnan(rows).any(axis=1)
    if known.any():
        found[known] = _fronts(rows[known])
        found[~known] = found[known].max() + 1
    return found


def is_front(losses: npt.ArrayLike) -> BoolArray:
    """Which rows no other row dominates, as a mask of shape (n,); never a row with NaN."""
    rows = _table(losses)
    mask: BoolArray = (ranks(rows) == 0) & ~np.isnan(rows).any(axis=1)
    return mask


def epsilon_net(losses: npt.ArrayLike, at_most: int | None = None) -> IntArray:
    """Indices of the rows of one front, ordered so that every beginning covers the front evenly.

    The objectives are scaled to [0, 1]. The row with the smallest sum comes first, then always the row that
    is farthest (Euclidean) from its nearest predecessor. Ties go to the lexicographically smaller row, then
    to the smaller index.

    Args:
        losses: (n, m) array of rows that do not dominate one another, without NaN.
        at_most: How many indices are wanted; all by default. Fewer take less time: O(n) each.

    Returns:
        (min(n, at_most),) array of indices.

    Source: Salinas et al. 2021, arXiv 2106.05680, section 4; Schmucker et al. 2021, arXiv 2106.12639.
    """
    rows = _table(losses)
    if not len(rows):
        return np.zeros(0, dtype=np.int64)
    canonical = np.lexsort(rows.T[::-1])
    scaled = _scale(rows)[canonical]
    count = len(rows) if at_most is None else min(at_most, len(rows))
    chosen = np.zeros(count, dtype=np.int64)
    nearest = np.full(len(rows), np.inf)
    latest = int(np.argmin(scaled.sum(axis=1)))
    for i in range(count):
        chosen[i] = latest
        away = scaled - scaled[latest]
        np.minimum(nearest, np.einsum("ij,ij->i", away, away), out=nearest)
        nearest[latest] = -1.0  # below every distance, so it stays so and is not taken again
        latest = int(np.argmax(nearest))
    found: IntArray = canonical[chosen]
    return found


def order(losses: npt.ArrayLike, at_most: int | None = None) -> IntArray:
    """Indices of the rows, best first: by rank, within a rank by epsilon net, rows with NaN last by index.

    Args:
        losses: (n, m) array, smaller is better.
        at_most: How many of the best are wanted; all by default.

    Returns:
        (min(n, at_most),) array of indices.
    """
    rows = _table(losses)
    if rows.shape[1] == 1:
        return np.argsort(rows[:, 0], kind="stable")[:at_most]  # NaN goes last
    rank, unknown = ranks(rows), np.asarray(np.isnan(rows).any(axis=1))
    by_rank = np.argsort(rank, kind="stable")
    fronts = np.split(by_rank, np.flatnonzero(np.diff(rank[by_rank])) + 1) if len(rows) else []
    left = len(rows) if at_most is None else min(at_most, len(rows))
    parts = [np.zeros(0, dtype=np.int64)]
    for front in fronts:
        parts.append(front[:left] if unknown[front[0]] else front[epsilon_net(rows[front], left)])
        left -= len(parts[-1])
        if left <= 0:
            break
    return np.concatenate(parts)


def hypervolume(losses: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that is dominated by the rows and dominates the reference, in the product of the metrics' units.

    Args:
        losses: (n, m) array. Rows that are not better than the reference in every objective add nothing.
        reference: (m,) array of losses at which a row is worth nothing.

    Returns:
        The volume; 0 without rows.

    Source: Zitzler and Thiele 1998; computed by moocore (Fonseca et al. 2006).
    """
    corner = np.asarray(reference, dtype=float)
    rows = _within(_table(losses, len(corner)), corner)
    if not len(rows):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - rows.min())
    import moocore

    return float(moocore.hypervolume(rows, ref=corner))


def contributions(losses: npt.ArrayLike, reference: npt.ArrayLike) -> FloatArray:
    """What the hypervolume would lose without each row, shape (n,); 0 for a dominated or repeated row."""
    corner = np.asarray(reference, dtype=float)
    rows = _table(losses, len(corner))
    lost = np.zeros(len(rows))
    total = hypervolume(rows, corner)
    for i in np.flatnonzero(is_front(rows)):
        lost[i] = max(0.0, total - hypervolume(np.delete(rows, i, axis=0), corner))
    return lost


def knee(losses: npt.ArrayLike) -> int:
    """Index of the front's knee: the row farthest below the plane through the front's extremes.

    With the objectives of the front scaled to [0, 1] that is the row with the smallest sum; ties go to the
    lexicographically smaller row, then to the smaller index.

    Raises:
        ValueError: No row is free of NaN.

    Source: Das 1999, On characterizing the "knee" of the Pareto curve.
    """
    rows = _table(losses)
    front = np.flatnonzero(is_front(rows))
    if not len(front):
        raise ValueError(f"none of {len(rows)} rows is free of NaN, so there is no knee")
    return int(front[epsilon_net(rows[front])[0]])


def pick(losses: npt.ArrayLike, reference: npt.ArrayLike, k: int, method: Method) -> list[int]:
    """Indices of k rows, most wanted first: from the front, and from the next fronts once that is used up.

    Args:
        losses: (n, m) array. Rows with NaN are never picked, so fewer than k may come back.
        reference: (m,) array, for the hypervolume.
        k: How many rows are wanted.
        method: Within a front, `hypervolume` takes the row that adds most to the rows taken from it so far
            (rows that add nothing follow by epsilon net), `spread` follows the epsilon net, and `knee` takes
            the knee and then the rows closest to it in scaled objectives.

    Source of the greedy selection: Guerreiro et al. 2016, Greedy hypervolume subset selection.
    """
    rows = _table(losses)
    rank = ranks(rows)
    usable = ~np.isnan(rows).any(axis=1)
    chosen: list[int] = []
    for r in range(int(rank.max()) + 1 if len(rows) else 0):
        front = np.flatnonzero((rank == r) & usable)
        wanted = k - len(chosen)
        if wanted <= 0 or not len(front):
            break
        best = _favourites(rows[front], np.asarray(reference, dtype=float), wanted, method)
        chosen += [int(front[i]) for i in best]
    return chosen


def _favourites(rows: FloatArray, reference: FloatArray, k: int, method: Method) -> list[int]:
    """Up to k indices of one front by a method."""
    spread = [int(i) for i in epsilon_net(rows)]
    if method == "hypervolume":
        greedy = _greedy(rows[spread], reference, k)
        taken = [spread[i] for i in greedy]
        return (taken + [i for i in spread if i not in set(taken)])[:k]
    if method == "knee":
        scaled = _scale(rows)
        away = np.linalg.norm(scaled - scaled[spread[0]], axis=1)
        return [int(i) for i in np.lexsort([*rows.T[::-1], away])][:k]
    return spread[:k]


def _greedy(rows: FloatArray, reference: FloatArray, k: int) -> list[int]:
    """Up to k rows, each with the largest gain of hypervolume; ends when nothing is gained."""
    taken: list[int] = []
    total = 0.0
    while len(taken) < min(k, len(rows)):
        volumes = [0.0 if i in taken else hypervolume(rows[[*taken, i]], reference) for i in range(len(rows))]
        best = int(np.argmax(volumes))
        if volumes[best] <= total:
            break
        taken.append(best)
        total = volumes[best]
    return taken


def _table(losses: npt.ArrayLike, columns: int | None = None) -> FloatArray:
    """The losses as an array of shape (n, m), also without rows."""
    rows = np.asarray(losses, dtype=float)
    if rows.size == 0:
        return np.zeros((0, columns or (rows.shape[1] if rows.ndim == 2 else 1)))  # noqa: PLR2004 - two axes
    return rows


def _fronts(rows: FloatArray) -> IntArray:
    """Ranks of rows without NaN: a few milliseconds for 5,000 rows of four objectives."""
    # dominance asks only for the order within a column; moocore errs on infinite numbers, places are finite
    places = np.column_stack([np.unique(column, return_inverse=True)[1] for column in rows.T])
    if places.shape[1] == 1:
        return places[:, 0].astype(np.int64)
    import moocore

    return np.asarray(moocore.pareto_rank(places.astype(float)), dtype=np.int64)


def _scale(rows: FloatArray) -> FloatArray:
    """Rows with every column scaled to [0, 1] by its finite values; a column without spread becomes 0."""
    finite = np.where(np.isfinite(rows), rows, np.nan)
    scaled = np.zeros_like(rows)
    for j, column in enumerate(finite.T):
        if np.isnan(column).all():
            continue
        low, high = np.nanmin(column), np.nanmax(column)
        span = high - low
        scaled[:, j] = (
            (rows[:, j] - low) / span if span > 0 else np.where(np.isfinite(rows[:, j]), 0.0, rows[:, j])
        )
    clipped: FloatArray = np.clip(scaled, 0.0, 1.0)
    return clipped


def _within(rows: FloatArray, reference: FloatArray) -> FloatArray:
    """Rows that are finite and better than the reference in every objective."""
    kept: FloatArray = rows[np.isfinite(rows).all(axis=1) & (rows < reference).all(axis=1)]
    return kept
