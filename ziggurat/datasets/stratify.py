"""Stratified choices of examples: every class keeps its share, and the seed decides which are taken.

All functions work on labels 0..C-1 and give ascending positions. Each class has its own random order, derived
from the seed and the class, so that what is chosen of one class does not depend on the others.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


def orders(labels: IntArray, seed: int) -> list[IntArray]:
    """Positions of every class, shuffled; a list with one array for each class."""
    by_class = np.argsort(labels, kind="stable")
    groups = np.split(by_class, np.cumsum(np.bincount(labels))[:-1])
    return [
        np.random.default_rng([seed, number]).permutation(group).astype(np.int64)
        for number, group in enumerate(groups)
    ]


def first_of_each(shuffled: list[IntArray], counts: list[int]) -> IntArray:
    """The first few positions of every class, ascending."""
    return np.sort(np.concatenate([group[:count] for group, count in zip(shuffled, counts, strict=True)]))


def fraction_counts(sizes: list[int], fraction: float) -> list[int]:
    """Examples of each class in a fraction: rounded, at least one; never shrinks as the fraction grows."""
    return [min(size, max(1, math.floor(size * fraction + 0.5))) for size in sizes]


def limit_counts(sizes: list[int], total: int, at_least: int) -> list[int]:
    """Examples of each class in a subset of exactly `total`, proportional to the sizes.

    Every class gets `at_least` examples first; the rest goes by the largest remainder. The caller makes sure
    that `at_least` of every class exist and fit into `total`.
    """
    if total >= sum(sizes):
        return list(sizes)
    wanted = [size * total / sum(sizes) for size in sizes]
    counts = [max(at_least, math.floor(w)) for w in wanted]
    while sum(counts) != total:
        step = 1 if sum(counts) < total else -1
        movable = [i for i, c in enumerate(counts) if (c < sizes[i] if step > 0 else c > at_least)]
        chosen = max(movable, key=lambda i: step * (wanted[i] - counts[i]))
        counts[chosen] += step
    return counts


def split(
    labels: IntArray, fractions: tuple[float, float, float], seed: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Positions of the training, validation and test part.

    Every class has at least one example in each part whose fraction is above 0. The test part depends on the
    test fraction and the seed only, not on how the rest is divided.

    Args:
        labels: (n,) classes; each class has at least as many examples as there are parts.
        fractions: Of training, validation and test; they sum to 1, and only the last may be 0.
        seed: Decides everything that is random.
    """
    train, validation, test = fractions
    parts: tuple[list[IntArray], list[IntArray], list[IntArray]] = ([], [], [])
    for group in orders(labels, seed):
        size = len(group)
        sealed = min(max(1, math.floor(size * test + 0.5)), size - 2) if test > 0 else 0
        seen = math.floor(size * validation / (train + validation + test) + 0.5)
        seen = min(max(1, seen), size - sealed - 1)
        for part, piece in zip(parts, np.split(group, [size - sealed - seen, size - sealed]), strict=True):
            part.append(piece)
    kept, watched, hidden = (np.sort(np.concatenate(part)) for part in parts)
    return kept, watched, hidden
