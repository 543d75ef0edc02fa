"""What the analyses say about a run, each made once, for the page and for `report.json`.

An analysis that fails costs its part of the report and nothing else: what has been paid for is always told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from ziggurat.report.agreement import Agreement, agreements
from ziggurat.report.summary import BASELINE, SEARCH

if TYPE_CHECKING:
    from ziggurat.analysis.crossval import Fit
    from ziggurat.analysis.curves import CostPerPoint, Curve
    from ziggurat.analysis.factors import Factor
    from ziggurat.analysis.importance import Importance
    from ziggurat.analysis.narrow import Narrowing
    from ziggurat.choices import Choices
    from ziggurat.domain import Objective, Trial
    from ziggurat.report.case import Case
    from ziggurat.spaces import AnySpace
    from ziggurat.spec import Spec

FITTED, WEIGHED = 100, 300
"""Trials for cross-validation and importance, evenly over the search: more take long and say little more."""
DRAWN = 200
"""Random candidates that the proposals are compared with."""
log = logging.getLogger(__name__)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Findings:
    """What the analyses say; what could not be said is empty.

    Attributes:
        curve: What the search had reached by which cost.
        random: The same for the random baseline.
        per_point: What an improvement cost.
        diversity: Index of each candidate of the search, and how different the last ones were.
        unlike: How different random candidates of the space are.
        agreements: How well cheap judgements rank as dear ones.
        fits: Leave-one-out cross-validation of the surrogate, for each objective.
        importances: Which choices matter to which objective.
        factors: What separates the top architectures from the rest.
        narrowing: The suggested narrower space.
        broken: Names of analyses that failed, each with its error.
    """

    curve: Curve | None = None
    random: Curve | None = None
    per_point: CostPerPoint | None = None
    diversity: tuple[tuple[int, float], ...] = ()
    unlike: float | None = None
    agreements: tuple[Agreement, ...] = ()
    fits: tuple[Fit, ...] = ()
    importances: tuple[Importance, ...] = ()
    factors: tuple[Factor, ...] = ()
    narrowing: Narrowing | None = None
    broken: Mapping[str, str] = field(default_factory=dict)


class _Guard:
    """Makes analyses and remembers which of them failed."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}

    def make(self, name: str, analysis: Callable[[], Found], otherwise: Found) -> Found:
        try:
            return analysis()
        except Exception as error:
            log.warning("the report goes without its part on %s: %s", name, error)
            log.debug("its traceback", exc_info=True)
            self.broken[name] = f"{type(error).__name__}: {error}"
            return otherwise


def findings(case: Case) -> Findings:
    """Make all analyses of a run."""
    from ziggurat import rounds
    from ziggurat.analysis import crossval, curves, diversity, factors, importance, narrow

    history, aims, seed = case.history, case.summary.objectives, case.spec.seed
    trials = history.of_stage(SEARCH)
    guard = _Guard()
    space: AnySpace = guard.make(
        "the space searched", lambda: rounds.space_of(case.spec, history, SEARCH), case.spec.space
    )
    choices = space.choices()
    candidates = [t.candidate for t in trials]
    compared: tuple[Agreement, ...] = ()
    agreed = guard.make(
        "agreement", lambda: tuple(agreements(case.spec.learned(), case.summary, history)), compared
    )
    if not trials:
        return Findings(agreements=agreed, broken=guard.broken)
    return Findings(
        curve=guard.make("what was reached", lambda: curves.curve(history, aims), None),
        random=guard.make(
            "random search",
            lambda: curves.curve(history, aims, stage=BASELINE) if history.of_stage(BASELINE) else None,
            None,
        ),
        per_point=guard.make("cost per point", lambda: curves.cost_per_point(history, aims), None),
        diversity=guard.make(
            "diversity", lambda: tuple(diversity.over_time(choices, candidates, window_of(case.spec))), ()
        ),
        unlike=guard.make("random candidates", lambda: _unlike(choices, seed), None),
        agreements=agreed,
        fits=guard.make(
            "the cross-validation", lambda: tuple(crossval.leave_one_out(choices, trials, aims, FITTED)), ()
        ),
        importances=guard.make(
            "importance", lambda: tuple(importance.of(choices, _some(trials, aims), aims, seed)), ()
        ),
        factors=guard.make("factors", lambda: tuple(factors.separating(choices, trials, aims, seed)), ()),
        narrowing=guard.make("the narrower space", lambda: narrow.narrower(space, trials, aims), None),
        broken=guard.broken,
    )


def window_of(spec: Spec) -> int:
    """How many candidates are compared with one another."""
    return spec.alerts.rules.low_diversity.window


def _some(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Sequence[Trial]:
    """At most so many fully trained trials, evenly over the search."""
    from ziggurat.analysis.evidence import complete

    done = complete(trials, objectives)
    if len(done) <= WEIGHED:
        return done
    return [done[round(i * (len(done) - 1) / (WEIGHED - 1))] for i in range(WEIGHED)]


def _unlike(choices: Choices, seed: int) -> float:
    """Mean edit distance of random candidates."""
    import numpy as np

    from ziggurat.choices import sample
    from ziggurat.diversity import mean_distance

    rng = np.random.default_rng(seed)
    return mean_distance(choices, [sample(choices, rng) for _ in range(DRAWN)])
