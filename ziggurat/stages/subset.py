"""What probes on the subset show: whether anything learns, whether candidates differ, and how many fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat.domain import Goal, Objective, Trial, TrialStatus
from ziggurat.events import Decided
from ziggurat.scripted import script_of, shortcomings

if TYPE_CHECKING:
    from ziggurat.engine import Engine

STAGE = "validate"
EXAMPLES = 1000
"""Validation examples where nobody has counted them."""
ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, 0.0)


@dataclass(frozen=True)
class SubsetFacts:
    """What the probes on the subset have shown; `chance` and `margin` are NaN where chance is not known."""

    best: float
    chance: float
    margin: float
    failed_share: float
    signal: float
    noise: float

    def learns(self, objective: Objective) -> bool:
        """Whether the best probe has learned something, as far as that can be told."""
        if math.isnan(self.chance):
            return not math.isnan(self.best)
        return objective.loss(self.best) < objective.loss(self.chance) - self.margin


def subset_facts(trials: Sequence[Trial], metric: str, chance: float, examples: int) -> SubsetFacts:
    """Best value, failing share, and the spread between candidates against the spread between seeds.

    Args:
        trials: Probes; those of one candidate are its seeds.
        metric: A metric to maximise, between 0 and 1.
        chance: What a model without skill reaches.
        examples: Validation examples; three standard errors above chance count as learning.
    """
    error = math.sqrt(max(chance * (1 - chance), 1e-9) / max(examples, 1))
    return facts_of(trials, Objective(metric, Goal.MAXIMIZE, 0.0), chance, 3 * error)


def facts_of(trials: Sequence[Trial], objective: Objective, chance: float, margin: float) -> SubsetFacts:
    """The same for any metric, of which it is known by how much chance must be beaten."""
    metric = objective.metric
    values: dict[str, list[float]] = {}
    for t in trials:
        if t.status is TrialStatus.COMPLETED and not math.isnan(t.value(metric)):
            values.setdefault(t.candidate.key, []).append(t.value(metric))
    means = [float(np.mean(v)) for v in values.values()]
    within = [float(np.var(v, ddof=1)) for v in values.values() if len(v) > 1]
    return SubsetFacts(
        best=min((x for v in values.values() for x in v), key=objective.loss, default=math.nan),
        chance=chance,
        margin=margin,
        failed_share=sum(t.status is TrialStatus.FAILED for t in trials) / max(1, len(trials)),
        signal=float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        noise=math.sqrt(float(np.mean(within))) if within else 0.0,
    )


def judge_subset(engine: Engine) -> dict[str, Any]:
    """Write the verdict on the probes into the journal, and return the facts for the stage's summary."""
    run = engine.run
    trials = run.history.of_stage(STAGE)
    scripted = script_of(run.spec) is not None
    objective = run.spec.learned() if scripted else ACCURACY
    facts = _facts(engine, trials, objective, scripted=scripted)
    reason = ""
    if facts.failed_share > run.spec.validation.max_failures:
        last = next((t.failure.text for t in reversed(trials) if t.failure), "")
        reason = f"{facts.failed_share:.0%} of the probes fail, the last with: {last}"
    elif not facts.learns(objective) and any(t.ended for t in trials):
        best, chance = (_shown(v, objective, scripted=scripted) for v in (facts.best, facts.chance))
        where = "script and parameters" if scripted else "data and space"
        reason = (
            f"nothing learns on the subset: the best of {len(trials)} probes reaches {best}, "
            f"chance is {chance}; check {where}, or give validate.epochs or validate.subset more"
        )
    elif facts.signal <= facts.noise:
        reason = "candidates differ less than seeds do; a search can hardly tell them apart"
    stop = bool(reason) and "differ" not in reason
    plain: dict[str, Any] = {name: round(v, 6) for name, v in vars(facts).items() if not math.isnan(v)}
    verdict, words = ("stop" if stop else "go"), reason or "probes learn and differ"
    run.record([Decided("subset", verdict, seen=run.history.length, reason=words, facts=plain)])
    short = shortcomings(run.spec)
    return {
        **plain,
        **({"metric": objective.metric} if scripted else {}),
        **({"note": "; ".join(short)} if short else {}),
    }


def _facts(engine: Engine, trials: Sequence[Trial], objective: Objective, *, scripted: bool) -> SubsetFacts:
    preflight = engine.run.history.stages.get("preflight")
    summary = preflight.summary if preflight is not None else {}
    chance = summary.get(f"chance.{objective.metric}")
    if not scripted:
        examples = int(str(summary.get("validation", EXAMPLES)))
        return subset_facts(trials, objective.metric, float(str(chance or 0.0)), examples)
    return facts_of(trials, objective, math.nan if chance is None else float(str(chance)), 0.0)


def _shown(value: float, objective: Objective, *, scripted: bool) -> str:
    share = not scripted or objective.metric.endswith("accuracy")
    if math.isnan(value):
        return "not known" if scripted else f"{value:.1%}"
    return f"{value:.1%}" if share else f"{objective.metric} {value:.4g}"
