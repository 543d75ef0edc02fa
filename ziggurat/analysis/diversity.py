"""How different the proposals of a search were while it went on."""

from __future__ import annotations

from collections.abc import Sequence

from ziggurat.choices import Choices
from ziggurat.diversity import WINDOW, Recent, mean_distance
from ziggurat.domain import Candidate

__all__ = ["WINDOW", "mean_distance", "over_time"]


def over_time(
    choices: Choices, candidates: Sequence[Candidate], window: int = WINDOW
) -> list[tuple[int, float]]:
    """Mean pairwise edit distance of the last candidates after each proposal.

    Args:
        choices: Of the space.
        candidates: In the order of their proposal.
        window: How many of the last candidates are compared.

    Returns:
        For every candidate from the second on, its index and the distance; fewer than `window` candidates
        are compared while there are not more.
    """
    recent = Recent(choices, window)
    found = [(index, recent.add(candidate)) for index, candidate in enumerate(candidates)]
    return found[1:]
