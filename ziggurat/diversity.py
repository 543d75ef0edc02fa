"""How different candidates are: mean pairwise edit distance of those that were proposed last.

A search whose proposals grow alike has stopped exploring. The distance counts the choices in which two
candidates differ, existence included (`choices.distance`), so it lies between 0 and the number of choices.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from ziggurat.choices import Choices
from ziggurat.domain import Candidate, Value

WINDOW = 20
"""Candidates that are compared with one another."""
Level = Value | None


class Recent:
    """The last candidates of a search, and how different they are; each further one costs O(choices).

    Of n candidates, those that agree in a choice are counted by its values: n^2 less the squares of these
    counts is twice the number of pairs that differ in it.
    """

    def __init__(self, choices: Choices, window: int = WINDOW) -> None:
        """Begin with no candidates.

        Args:
            choices: Of the space.
            window: How many of the last candidates are compared.
        """
        self._names = tuple(choices)
        self._window = max(1, window)
        self._levels: deque[tuple[Level, ...]] = deque()
        self._counts: list[Counter[Level]] = [Counter() for _ in self._names]
        self._alike = 0
        """Sum over all choices and values of the squared counts."""

    def add(self, candidate: Candidate) -> float:
        """Take one more candidate; the mean distance of the last ones, this one included."""
        if len(self._levels) == self._window:
            self._take_out(self._levels.popleft())
        levels = tuple(candidate.choices.get(name) for name in self._names)
        self._levels.append(levels)
        for counts, level in zip(self._counts, levels, strict=True):
            self._alike += 2 * counts[level] + 1
            counts[level] += 1
        return self.mean

    def _take_out(self, levels: tuple[Level, ...]) -> None:
        for counts, level in zip(self._counts, levels, strict=True):
            self._alike -= 2 * counts[level] - 1
            counts[level] -= 1
            if not counts[level]:
                del counts[level]

    @property
    def mean(self) -> float:
        """Mean edit distance over all pairs; 0 for fewer than two candidates."""
        n = len(self._levels)
        if n < 2:  # noqa: PLR2004 - a pair
            return 0.0
        return (n * n * len(self._names) - self._alike) / (n * (n - 1))


def mean_distance(choices: Choices, candidates: Sequence[Candidate]) -> float:
    """Mean pairwise edit distance of some candidates; 0 for fewer than two."""
    recent = Recent(choices, max(1, len(candidates)))
    for candidate in candidates:
        recent.add(candidate)
    return recent.mean
