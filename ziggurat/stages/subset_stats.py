"""What little numbers from few probes say: shares with their intervals, and what lies between candidates.

Pure functions; all intervals are exact for their model, as there are never enough probes for approximations.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Share:
    """A share with its interval."""

    value: float
    low: float
    high: float


NOTHING = Share(math.nan, math.nan, math.nan)


def binomial(hits: int, of: int, confidence: float = CONFIDENCE) -> Share:
    """A share of independent tries with its exact interval. Source: Clopper & Pearson 1934, Biometrika 26."""
    if not of:
        return NOTHING
    from scipy.special import betaincinv

    rare = (1 - confidence) / 2
    low = float(betaincinv(hits, of - hits + 1, rare)) if hits else 0.0
    high = float(betaincinv(hits + 1, of - hits, 1 - rare)) if hits < of else 1.0
    return Share(hits / of, low, high)


def between(groups: Sequence[Sequence[float]], confidence: float = CONFIDENCE) -> Share:
    """Which share of the variance lies between groups: the intraclass correlation of one value.

    Of one-way analysis of variance with groups drawn at random; its interval follows from the F distribution
    and is exact for normal values and groups of one size. The share can come out negative where groups differ
    even less than values within them would make them.

    Args:
        groups: Values of each candidate, one for each seed.
        confidence: Of the interval.

    Source: Shrout & Fleiss 1979, Psychological Bulletin 86, ICC(1, 1); McGraw & Wong 1996.
    """
    sizes = [len(g) for g in groups]
    total, n = sum(sizes), len(groups)
    if n < 2 or total <= n:  # noqa: PLR2004 - one group has nothing to differ from
        return NOTHING
    means = [float(np.mean(g)) for g in groups]
    whole = sum(s * m for s, m in zip(sizes, means, strict=True)) / total
    apart = sum(s * (m - whole) ** 2 for s, m in zip(sizes, means, strict=True)) / (n - 1)
    within = sum(float(((np.array(g) - m) ** 2).sum()) for g, m in zip(groups, means, strict=True)) / (
        total - n
    )
    each = (total - sum(s * s for s in sizes) / total) / (n - 1)  # the size of a group, if all were equal
    if within <= 0:
        return Share(1.0, 1.0, 1.0) if apart > 0 else NOTHING
    ratio, rare = apart / within, (1 - confidence) / 2
    least = ratio / _f_quantile(n - 1, total - n, 1 - rare)
    most = ratio * _f_quantile(total - n, n - 1, 1 - rare)
    return Share(*((f - 1) / (f + each - 1) for f in (ratio, least, most)))


def _f_quantile(above: int, below: int, share: float) -> float:
    """A quantile of the F distribution, by that of the beta distribution."""
    from scipy.special import betaincinv

    x = float(betaincinv(above / 2, below / 2, share))
    return below * x / (above * (1 - x))


def repeats(outcomes: Iterable[Hashable]) -> int:
    """How many outcomes are exactly one that came before them."""
    seen: set[Hashable] = set()
    count = 0
    for outcome in outcomes:
        count += outcome in seen
        seen.add(outcome)
    return count
