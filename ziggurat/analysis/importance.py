"""Which choices matter: how much worse a model predicts a metric once one choice is shuffled.

A forest of extremely randomised trees is trained on four fifths of the trials and predicts the rest; a
choice's importance is the growth of its squared error when the choice's values are exchanged between the
trials that have it. As a share of twice the metric's variance this is the choice's total Sobol index: its own
effect and its part in all interactions, so the shares of one metric may add up to more than 1.

It speaks of the candidates that were tried, not of the whole space. Choices that were tried together are told
apart badly and share what they explain. A conditional choice counts where it exists only.

Sources: Breiman 2001, Random Forests, Machine Learning 45, section 10; Gregorutti, Michel and Saint-Pierre
2017, arXiv 1310.5726, proposition 1, for the share; Geurts, Ernst and Wehenkel 2006, Extremely randomized
trees.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ziggurat.analysis import evidence
from ziggurat.choices import Choices, Values, encode
from ziggurat.domain import Objective, Trial

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

FloatArray = npt.NDArray[np.float64]
FEWEST = 20
"""Trials below which nothing is said."""
AT_MOST = 600
FOLDS = 5
REPEATS = 3
TREES = 48
SHUFFLES = 4
RESAMPLES = 1000
SYMBOLS = 64
"""Values of an unordered choice above which it is left out."""
WIDE = 10.0
"""A metric above 0 whose values span this factor is explained on a logarithmic scale."""


@dataclass(frozen=True)
class Importance:
    """How much one choice matters to one metric.

    Attributes:
        metric: The metric.
        choice: The choice.
        share: Share of the metric's variance that the choice takes part in; about 0 for one without effect,
            and by chance a little below.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        explained: Share of the variance that the model predicts of trials it was not trained on; the shares
            mean little where this is near 0.
        trials: How many trials this rests on.
    """

    metric: str
    choice: str
    share: float
    low: float
    high: float
    explained: float = 0.0
    trials: int = 0


def of(
    choices: Choices, trials: Sequence[Trial], objectives: Sequence[Objective], seed: int = 0
) -> list[Importance]:
    """Importances of every objective, the largest first within each; none with too few trials or no spread.

    Args:
        choices: Of the space; those of one value, and of very many unordered ones, are left out.
        trials: Of one search, in any state; those at the top rung that know all objectives count.
        objectives: In the order of the spec.
        seed: Of folds, trees, shuffles and resamples.
    """
    mine = evidence.complete(trials, objectives)
    if len(mine) < FEWEST:
        return []
    if len(mine) > AT_MOST:
        mine = [mine[i] for i in np.linspace(0, len(mine) - 1, AT_MOST).astype(int)]
    told = {n: c for n, c in choices.items() if not (isinstance(c, Values) and _names(c))}
    parts = _columns(told)
    if not parts:
        return []
    table = encode(told, [t.candidate for t in mine])
    if not parts:
        return []
    found: list[Importance] = []
    for objective in objectives:
        values = evidence.values_of(mine, objective.metric)
        if values.std() > 1e-12 * (1 + abs(values.mean())):
            active = {n: np.array([n in t.candidate.choices for t in mine]) for n in parts}
            rng = np.random.default_rng([seed, len(found)])
            found += _ranked(objective.metric, table, parts, active, _scaled(values), rng)
    return found


def _scaled(values: FloatArray) -> FloatArray:
    wide = values.min() > 0 and values.max() > WIDE * values.min()
    found: FloatArray = np.log(values) if wide else values
    return found


def _names(choice: Values) -> bool:
    """Whether values are mere names, too many of them for any to be learned about."""
    return not choice.ordered and choice.size > SYMBOLS


def _columns(choices: Choices) -> dict[str, slice]:
    """For each choice with something to choose, the columns of `choices.encode` that hold its value."""
    found, at = {}, 0
    for name, choice in choices.items():
        width = len(choice.values) if isinstance(choice, Values) and not choice.ordered else 1
        if choice.size > 1:
            found[name] = slice(at, at + width)
        at += width + bool(choice.when)
    return found


def _ranked(
    metric: str,
    table: FloatArray,
    parts: dict[str, slice],
    active: dict[str, npt.NDArray[np.bool_]],
    values: FloatArray,
    rng: np.random.Generator,
) -> list[Importance]:
    growth = np.zeros((len(parts), len(values)))
    error = np.zeros(len(values))
    for _ in range(REPEATS):
        fold = rng.permutation(len(values)) % FOLDS
        for held in range(FOLDS):
            out = np.flatnonzero(fold == held)
            model = _forest(rng).fit(table[fold != held], values[fold != held])
            plain = (model.predict(table[out]) - values[out]) ** 2
            error[out] += plain / REPEATS
            # all at once: a call of the forest takes longer than a hundred rows of it
            moved = [_shuffled(table[out], part, active[name][out], rng) for name, part in parts.items()]
            told = model.predict(np.concatenate(moved)).reshape(len(parts), SHUFFLES, len(out))
            growth[:, out] += (((told - values[out]) ** 2).mean(axis=1) - plain) / REPEATS
    variance = float(values.var())
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    spread = np.maximum(values[draws].var(axis=1), 1e-3 * variance)
    explained = 1.0 - float(error.mean()) / variance
    found = []
    for row, name in enumerate(parts):
        resampled = growth[row][draws].mean(axis=1) / (2 * spread)
        low, high = np.quantile(resampled, [0.025, 0.975])
        share = float(growth[row].mean()) / (2 * variance)
        found.append(Importance(metric, name, share, float(low), float(high), explained, len(values)))
    return sorted(found, key=lambda i: -i.share)


def _forest(rng: np.random.Generator) -> ExtraTreesRegressor:
    from sklearn.ensemble import ExtraTreesRegressor

    return ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=int(rng.integers(2**31 - 1)))


def _shuffled(
    table: FloatArray, columns: slice, active: npt.NDArray[np.bool_], rng: np.random.Generator
) -> FloatArray:
    """The rows several times over, one choice exchanged between those rows that have it."""
    rows = np.flatnonzero(active)
    copies = np.tile(table, (SHUFFLES, 1, 1))
    for copy in copies:
        copy[rows, columns] = table[rng.permutation(rows), columns]
    return copies.reshape(-1, table.shape[1])
