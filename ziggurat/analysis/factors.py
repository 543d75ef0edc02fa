"""What made the top architectures good: which choices they share, and what these choices go along with.

The best are the front and the next non-dominated ranks up to a quarter of the fully trained trials. For every
value of a choice (of a choice with many numbers: for its larger half) it is asked whether the best have it
more often than the rest, and by how much each objective differs between the trials with it and those without.

Nobody assigned the choices by lot: a searcher draws good values together, so a difference may be another
choice's doing. Among some hundred questions a few look like answers by chance; so p-values are adjusted
(Benjamini and Hochberg 1995: of what is said, 5 % are wrong on average), and intervals are widened to match
(Benjamini and Yekutieli 2005, J. Am. Stat. Assoc. 100, section 3). Where an interval includes 0 nothing is
said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat.analysis import evidence
from ziggurat.analysis.evidence import Groups
from ziggurat.choices import Choices, Range, Values
from ziggurat.domain import Objective, Trial, Value

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
FEWEST = 16
"""Fully trained trials below which nothing is said."""
SIDE = 4
"""Trials with a value, and without it, below which a value is not looked at."""
LEVELS = 6
"""Values of an ordered choice beyond which only its larger half is looked at."""
RATE = 0.05
RESAMPLES = 1000
POINTS = 100.0
LARGE = 100.0
"""Effects from which digits behind the point are left out."""
NOTE = (
    "Differences between trials that happened to have a value and those that did not: a searcher tries good "
    "values together, so a difference may be another choice's doing. Intervals allow for the number of "
    "questions asked (Benjamini and Yekutieli); where one includes 0, nothing is said."
)
"""What a reader of factors must know."""


@dataclass(frozen=True)
class Factor:
    """One thing that separates the best from the rest.

    Attributes:
        choice: The choice.
        words: What it is, in a sentence for people.
        effect: Mean of the metric with it less the mean without it, in the metric's unit and direction; of
            a share, the difference of shares.
        low: Lower end of the interval, widened for the number of questions.
        high: Upper end.
        metric: The objective's metric; empty where it is only how often the best have it that differs.
        count: How many of the best have it.
        best: How many are the best.
        value: The value, or `larger` or `smaller`.
        better: Whether the effect is for the better.
    """

    choice: str
    words: str
    effect: float
    low: float
    high: float
    metric: str
    count: int
    best: int = 0
    value: str = ""
    better: bool = True


@dataclass(frozen=True)
class _Contrast:
    """Trials with something and trials without it, among those that have the choice at all."""

    choice: str
    value: str
    phrase: str
    has: BoolArray
    lacks: BoolArray


def separating(
    choices: Choices, trials: Sequence[Trial], objectives: Sequence[Objective], seed: int = 0
) -> list[Factor]:
    """What separates the top architectures from the rest, what is clearest first; see `NOTE`.

    Args:
        choices: Of the space.
        trials: Of one search, in any state; those at the top rung that know all objectives count.
        objectives: In the order of the spec.
        seed: Of the bootstrap.
    """
    groups = evidence.groups(trials, objectives)
    count = int(groups.best.sum())
    if len(groups.trials) < FEWEST or not evidence.FEWEST <= count <= len(groups.trials) - evidence.FEWEST:
        return []
    contrasts = [c for name in choices for c in _contrasts(name, choices[name], groups)]
    if not contrasts:
        return []
    values = np.array([evidence.values_of(groups.trials, o.metric) for o in objectives])
    # the last row asks how often the best have it
    rows = np.vstack([values, groups.best.astype(float)])
    effects, errors = _bootstrap(contrasts, rows, np.random.default_rng(seed))
    return _told(contrasts, groups, objectives, effects, errors)


def _contrasts(name: str, choice: Values | Range, groups: Groups) -> list[_Contrast]:
    """What there is to ask about a choice, each question put so that the best have it more often."""
    held = [t.candidate.choices.get(name) for t in groups.trials]
    there = np.array([v is not None for v in held])
    counts = Counter(v for v in held if v is not None)
    if len(counts) < 2:  # noqa: PLR2004 - nothing to compare
        return []
    found = _halves(name, held, there) if choice.ordered and len(counts) > LEVELS else []
    if not found:
        often = sorted((v for v, n in counts.items() if n >= SIDE), key=str)
        found = [_level(name, level, held, there) for level in often]
    fit = [c for c in found if min(c.has.sum(), c.lacks.sum()) >= SIDE]
    return [c for c in fit if groups.best[c.has].mean() > groups.best[c.lacks].mean()]


def _level(name: str, level: Value, held: Sequence[Value | None], there: BoolArray) -> _Contrast:
    has = there & np.array([v == level and v is not None for v in held])
    lacks = there & ~has
    others = {_word(v) for v in np.array(held, dtype=object)[lacks]}
    phrase = f"{name} {_word(level)} rather than {others.pop() if len(others) == 1 else 'another'}"
    return _Contrast(name, _word(level), phrase, has, lacks)


def _halves(name: str, held: Sequence[Value | None], there: BoolArray) -> list[_Contrast]:
    """The larger half against the smaller one, and the other way round."""
    numbers = np.array([float(v) if v is not None else np.nan for v in held])
    middle = float(np.nanmedian(numbers))
    large = there & (numbers > middle)
    small = there & (numbers <= middle)
    if not large.any():  # more than half are of the largest value
        large, small = there & (numbers >= middle), there & (numbers < middle)
    edge = _word(float(f"{middle:.3g}"))
    sign = ("above", "up to") if (numbers[large] > middle).all() else ("from", "below")
    return [
        _Contrast(name, "larger", f"{name} {sign[0]} {edge}", large, small),
        _Contrast(name, "smaller", f"{name} {sign[1]} {edge}", small, large),
    ]


def _word(value: Value | None) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _bootstrap(
    contrasts: Sequence[_Contrast], rows: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Differences of means and their bootstrap standard errors, each (contrasts, rows)."""
    n = rows.shape[1]
    has = np.array([c.has for c in contrasts], dtype=float)
    lacks = np.array([c.lacks for c in contrasts], dtype=float)
    total, squares = np.zeros((len(contrasts), len(rows))), np.zeros((len(contrasts), len(rows)))
    plain = _means(has, rows) - _means(lacks, rows)
    for _ in range(RESAMPLES):
        weights = np.bincount(rng.integers(n, size=n), minlength=n).astype(float)
        away = _means(has * weights, rows) - _means(lacks * weights, rows) - plain
        away = np.nan_to_num(away)
        total += away
        squares += away**2
    variance = squares / RESAMPLES - (total / RESAMPLES) ** 2
    return plain, np.sqrt(np.maximum(variance, 0.0))


def _means(weights: FloatArray, rows: FloatArray) -> FloatArray:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = (weights @ rows.T) / weights.sum(axis=1, keepdims=True)
    return found


def _told(
    contrasts: Sequence[_Contrast],
    groups: Groups,
    objectives: Sequence[Objective],
    effects: FloatArray,
    errors: FloatArray,
) -> list[Factor]:
    """Effects that stand the adjustment, with intervals of the matching level."""
    from scipy.stats import t as student

    smaller = np.array([min(c.has.sum(), c.lacks.sum()) for c in contrasts])[:, None]
    freedom = np.maximum(smaller - 1, 1) * np.ones_like(effects)
    safe = np.where(errors > 0, errors, np.inf)
    p = 2 * student.sf(np.abs(effects) / safe, freedom)
    kept = _adjusted(p)
    level = RATE * kept.sum() / p.size
    half = student.ppf(1 - level / 2, freedom) * errors if kept.any() else errors
    found: list[tuple[float, Factor]] = []
    for row, contrast in enumerate(contrasts):
        told = [j for j in range(len(objectives)) if kept[row, j]]
        # how often the best have it is told only where no objective says more
        told = told or ([len(objectives)] if kept[row, -1] else [])
        for j in told:
            ends = (effects[row, j] - half[row, j], effects[row, j] + half[row, j])
            objective = objectives[j] if j < len(objectives) else None
            factor = _factor(
                contrast, groups, objective, (float(effects[row, j]), float(ends[0]), float(ends[1]))
            )
            found.append((-abs(effects[row, j]) / errors[row, j], factor))
    return [factor for _, factor in sorted(found, key=lambda pair: pair[0])]


def _adjusted(p: FloatArray) -> BoolArray:
    """Which p-values stand Benjamini and Hochberg's adjustment at `RATE`."""
    ordered = np.sort(p, axis=None)
    passing = np.flatnonzero(ordered <= RATE * np.arange(1, p.size + 1) / p.size)
    limit = ordered[passing[-1]] if len(passing) else -1.0
    kept: BoolArray = p <= limit
    return kept


def _factor(
    contrast: _Contrast, groups: Groups, objective: Objective | None, span: tuple[float, float, float]
) -> Factor:
    count, best = int((contrast.has & groups.best).sum()), int(groups.best.sum())
    shown: Callable[[float], str] = _in_points
    if objective is None:
        better, told = True, "{} points in how often it is among the best"
    else:
        better = objective.loss(span[0]) < 0
        share = evidence.is_share(objective, evidence.values_of(groups.trials, objective.metric))
        shown = _in_points if share else _plain
        told = f"{{}} points of {objective.metric}" if share else f"{objective.metric} {{}}"
    effect, low, high = (shown(v) for v in span)
    price = "" if better else ", which is its price"
    words = (
        f"{contrast.phrase}: {told.format(effect)}{price} (95 %: {low.lstrip('+')} to {high.lstrip('+')}), "
        f"{count} of the {best} best have it"
    )
    name = objective.metric if objective is not None else ""
    return Factor(contrast.choice, words, *span, name, count, best, contrast.value, better)


def _in_points(value: float) -> str:
    return f"{POINTS * value:+.2g}"


def _plain(value: float) -> str:
    return f"{value:+.3g}" if abs(value) < LARGE else f"{value:+,.0f}"
