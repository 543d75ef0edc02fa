"""Trials made up for analyses: candidates drawn from choices, with metrics by a formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ziggurat import choices as space
from ziggurat.choices import Choices
from ziggurat.domain import Candidate, Fidelity, Goal, Measurement, Objective, Trial, TrialStatus

LADDER = (Fidelity(1), Fidelity(9))
ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, reference=0.1)
PARAMETERS = Objective("parameters", Goal.MINIMIZE, reference=1e6)
LATENCY = Objective("latency_p50_ms", Goal.MINIMIZE, reference=1000.0)
Outcome = Callable[[Candidate, np.random.Generator], Mapping[str, float]]


def drawn(choices: Choices, count: int, seed: int = 0) -> list[Candidate]:
    """Candidates drawn uniformly."""
    rng = np.random.default_rng(seed)
    return [space.sample(choices, rng) for _ in range(count)]


def trained(candidates: Sequence[Candidate], outcome: Outcome, seed: int = 0) -> list[Trial]:
    """Trials at their top rung; parameters are static, everything else is learned."""
    rng = np.random.default_rng([seed, 1])  # not the draws that made the candidates
    found = []
    for number, candidate in enumerate(candidates):
        values = dict(outcome(candidate, rng))
        static = {n: Measurement(n, values.pop(n)) for n in ("parameters",) if n in values}
        results = {1: {n: Measurement(n, v, step=9) for n, v in values.items()}}
        found.append(
            Trial(
                number,
                number,
                "search",
                candidate,
                seed=number,
                ladder=LADDER,
                status=TrialStatus.COMPLETED,
                rung=1,
                static=static,
                results=results,
            )
        )
    return found


def stopped(candidate: Candidate, number: int, status: TrialStatus = TrialStatus.STOPPED) -> Trial:
    """A trial that ended at its first rung."""
    results = {0: {"val_accuracy": Measurement("val_accuracy", 0.3, step=1)}}
    return Trial(
        number, number, "search", candidate, seed=0, ladder=LADDER, status=status, rung=0, results=results
    )
