"""A few candidates that stand for a whole space: cheap and dear ones alike, and as different as possible.

Probes of which all are small, or all alike, say little about how a setting ranks candidates. Pure functions
of a pool of candidates and of what is known of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ziggurat.choices import Choices, distance
from ziggurat.domain import Candidate


def representatives(
    choices: Choices, pool: Sequence[Candidate], cost: Sequence[float], count: int
) -> list[Candidate]:
    """Candidates from all strata of cost, each the one that is least like those before it.

    The pool is ordered by cost and cut into `count` strata; a stratum gives the candidate whose least edit
    distance to those already chosen is largest (Kennard & Stone 1969, Technometrics 11). Strata take turns so
    that the first few of the answer also span the costs.

    Args:
        choices: Choices of the space.
        pool: Different candidates, best in random order.
        cost: What each costs, such as FLOPs; NaN where that is not known.
        count: How many are wanted; all of the pool if there are not as many.
    """
    known = [i for i in range(len(pool)) if not math.isnan(cost[i])]
    order = sorted(known, key=lambda i: cost[i]) or list(range(len(pool)))
    count = min(count, len(order))
    strata = [order[s * len(order) // count : (s + 1) * len(order) // count] for s in range(count)]
    chosen: list[Candidate] = []
    for stratum in _turns(count):
        members = [pool[i] for i in strata[stratum]]
        chosen.append(max(members, key=lambda c: min((distance(choices, c, o) for o in chosen), default=0)))
    return chosen


def _turns(count: int) -> list[int]:
    """0 to count - 1, so that every beginning is spread out: the ends first, then the middle of each gap."""
    left, found = set(range(count)), [0, count - 1][:count]
    left -= set(found)
    while left:
        found.append(max(sorted(left), key=lambda i: min(abs(i - other) for other in found)))
        left.discard(found[-1])
    return found
