"""Leave-one-out cross-validation of the surrogate: how well is a trial predicted from all the others?

The surrogate is the Gaussian process that the `frontier` strategy uses, at the top rung alone: its features,
its kernel, its fit. The parameters are fitted once on all trials; leaving a trial out is then exact and costs
nothing further. So the intervals are a little too good by what one trial contributes to some parameters.

Source: Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 5.4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ziggurat.analysis import evidence
from ziggurat.choices import Choices
from ziggurat.domain import Measurement, Objective, Trial
from ziggurat.strategies.chain import Chain
from ziggurat.strategies.fit import JITTER, Parameters, fit, prior
from ziggurat.strategies.kernel import Distances, Features
from ziggurat.strategies.stock import features_of

FloatArray = npt.NDArray[np.float64]
AT_MOST = 200
FIT_ON = 120
"""Trials that the parameters are fitted on: a fit takes time that grows with their cube."""
FEWEST = 12
"""Trials below which a coverage says nothing: even 12 hits of 12 are compatible with 77 %."""
Z95 = 1.959964
TINY = 1e-9


@dataclass(frozen=True)
class Fit:
    """How well one objective is predicted; the arrays have one entry for each trial that was left out.

    Attributes:
        metric: The objective's metric.
        trials: Numbers of the trials.
        observed: What was measured.
        predicted: What the surrogate says without that trial (a median, where it models a logarithm).
        low: Lower end of the 95 % interval for the measured value, noise included.
        high: Upper end.
        coverage: Share of the measured values within their intervals; None without a fit.
        rank_correlation: Spearman's between predicted and measured; None without a fit or without spread.
        note: What was done, or why there is no fit, in a sentence.
        coverage_low: Lower end of the 95 % interval of the coverage (Wilson's).
        coverage_high: Upper end.
    """

    metric: str
    trials: tuple[int, ...] = ()
    observed: tuple[float, ...] = ()
    predicted: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    coverage: float | None = None
    rank_correlation: float | None = None
    note: str = ""
    coverage_low: float | None = None
    coverage_high: float | None = None


def leave_one_out(
    choices: Choices, trials: Sequence[Trial], objectives: Sequence[Objective], at_most: int = AT_MOST
) -> list[Fit]:
    """The cross-validation of every objective, in their order.

    Args:
        choices: Of the space.
        trials: Of one search, in any state; those at the top rung that know all objectives count.
        objectives: In the order of the spec.
        at_most: Trials that are taken, evenly spread over the search if there are more.
    """
    mine = evidence.complete(trials, objectives)
    return [_one(choices, mine, objective, at_most) for objective in objectives]


def _one(choices: Choices, mine: Sequence[Trial], objective: Objective, at_most: int) -> Fit:
    metric = objective.metric
    if evidence.exact(mine, metric):
        return Fit(metric, note=f"{metric} is counted before training, so it is exact and nothing is fitted.")
    if len(mine) < FEWEST:
        few = f"{len(mine)} trial{'' if len(mine) == 1 else 's'}"
        return Fit(metric, note=f"Only {few} at the top rung know every objective; {FEWEST} are needed.")
    taken = [mine[i] for i in np.unique(np.linspace(0, len(mine) - 1, min(len(mine), at_most)).astype(int))]
    observed = evidence.values_of(taken, metric)
    if len(np.unique(observed)) < 3:  # noqa: PLR2004 - two values have no ranks
        return Fit(metric, note=f"{metric} hardly differs between the {len(taken)} trials: nothing to fit.")
    scale = scale_of(objective, observed)
    values = np.array([scale.inwards(v) for v in observed])
    centre, spread = float(values.mean()), float(values.std())
    known, rows = _known(choices, taken)
    some = np.unique(np.linspace(0, len(taken) - 1, min(len(taken), FIT_ON)).astype(int))
    cover = covariance(known, rows, fitted(known, rows[some], ((values - centre) / spread)[some]))
    mean, sd = held_out(cover, (values - centre) / spread)
    mean, sd = centre + spread * mean, spread * sd
    ends = [[scale.outwards(v) for v in mean + sign * Z95 * sd] for sign in (-1.0, 1.0)]
    low, high = np.min(ends, axis=0), np.max(ends, axis=0)
    predicted = np.array([scale.outwards(v) for v in mean])
    inside = int(((low <= observed) & (observed <= high)).sum())
    bounds = wilson(inside, len(taken))
    return Fit(
        metric=metric,
        trials=tuple(t.number for t in taken),
        observed=tuple(observed.tolist()),
        predicted=tuple(predicted.tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        coverage=inside / len(taken),
        rank_correlation=_spearman(observed, predicted),
        note=_note(len(taken), len(mine), scale),
        coverage_low=bounds[0],
        coverage_high=bounds[1],
    )


def _note(taken: int, known: int, scale: Scale) -> str:
    of = f"{taken} trials" if taken == known else f"{taken} trials (of {known}, evenly over the search)"
    on = "all" if taken <= FIT_ON else str(FIT_ON)
    return (
        f"Each of {of} is predicted from the others by the Gaussian process of the frontier strategy, "
        f"which models {scale.words}; its parameters were fitted once, on {on} of them."
    )


@dataclass(frozen=True)
class Scale:
    """What a Gaussian process models in place of a metric: something nearer to a normal distribution.

    Attributes:
        words: What is modelled, in words.
        inwards: From the metric.
        outwards: Back to it.
    """

    words: str
    inwards: Callable[[float], float]
    outwards: Callable[[float], float]


def scale_of(objective: Objective, values: FloatArray) -> Scale:
    """The logarithm of the error for a share to maximise, of the value for one above 0 to minimise; else it.

    As the `frontier` strategy does it; but where an error or a value is 0, it is modelled as it is.
    """
    name = objective.metric
    if evidence.is_share(objective, values) and values.max() < 1.0 - TINY:
        words = f"the logarithm of 1 - {name}"
        return Scale(words, lambda v: math.log(1.0 - v), lambda v: 1.0 - math.exp(min(v, 50.0)))
    if objective.loss(1.0) > 0 and values.min() > TINY:
        return Scale(f"the logarithm of {name}", math.log, lambda v: math.exp(min(v, 700.0)))
    return Scale(name, float, float)


def _known(choices: Choices, trials: Sequence[Trial]) -> tuple[Features, npt.NDArray[np.int64]]:
    """Features of the candidates, and for each trial the row of its candidate."""
    rows = {t.candidate: t for t in trials}
    candidates = list(rows)
    found = [{n: m.value for n, m in rows[c].static.items() if _plain(m)} for c in candidates]
    names = [n for n in found[0] if all(math.isfinite(row.get(n, math.nan)) for row in found)]
    table = np.array([[row[n] for n in names] for row in found], dtype=float).reshape(len(found), len(names))
    place = {c: i for i, c in enumerate(candidates)}
    return features_of(choices, candidates, table), np.array([place[t.candidate] for t in trials])


def _plain(measurement: Measurement) -> bool:
    return measurement.device is None and measurement.step is None


def fitted(known: Features, rows: npt.NDArray[np.int64], values: FloatArray) -> Parameters:
    """Parameters of greatest posterior density for standardised values, shape (n,)."""
    rungs = np.zeros(len(rows), dtype=np.int64)
    return fit(known, Chain(1), rows, rungs, values, prior(known, 1))


def covariance(known: Features, rows: npt.NDArray[np.int64], parameters: Parameters) -> FloatArray:
    """Covariance of the measured values, noise included, shape (n, n)."""
    links = Chain(1).links(parameters.chain)
    kernel, _, _ = Distances(known, rows).kernel(parameters.shape)
    same = (rows[:, None] == rows[None, :]).astype(float)
    cover = links.shared[0, 0] * float(known.known) * kernel + links.own[0, 0] * same + links.offset[0, 0]
    cover[np.diag_indices_from(cover)] += links.noise[0] + JITTER
    found: FloatArray = cover
    return found


def held_out(cover: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each centred normal value given all the others.

    Args:
        cover: (n, n) covariance of the values.
        values: (n,).

    Returns:
        Two (n,) arrays.

    Source: Rasmussen and Williams 2006, equation 5.12.
    """
    inverse = np.linalg.inv(cover)
    precision = np.diag(inverse)
    mean: FloatArray = values - (inverse @ values) / precision
    sd: FloatArray = 1.0 / np.sqrt(precision)
    return mean, sd


def wilson(hits: int, of: int) -> tuple[float, float]:
    """95 % interval of a share.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212.
    """
    share, z2 = hits / of, Z95 * Z95
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 / (1 + z2 / of) * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of))
    return max(0.0, middle - half), min(1.0, middle + half)


def _spearman(first: FloatArray, second: FloatArray) -> float | None:
    from scipy.stats import rankdata

    a, b = rankdata(first), rankdata(second)
    if a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
