"""What probes on the subset show: whether anything learns, whether candidates differ, and how many fail."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ziggurat.domain import Goal, Objective, Trial, TrialStatus
from ziggurat.proxies import words as words_of
from ziggurat.scripted import probe, script_of, shortcomings
from ziggurat.stages import verdicts
from ziggurat.stages.subset_stats import NOTHING, Share, between, binomial, repeats

if TYPE_CHECKING:
    from ziggurat.engine import Engine
    from ziggurat.spec import Spec

STAGE = "validate"
EXAMPLES = 1000
"""Validation examples where nobody has counted them."""
ACCURACY = Objective("val_accuracy", Goal.MAXIMIZE, 0.0)
BEYOND = 2.0
"""Standard deviations of seeds by which chance must be beaten, where no examples are counted."""


@dataclass(frozen=True)
class SubsetFacts:
    """What the probes on the subset have shown; `chance` and `margin` are NaN where chance is not known.

    Attributes:
        best: Best value of any probe.
        chance: What a model without skill reaches.
        margin: By how much it must be beaten to count.
        failed_share: Share of failed probes.
        signal: Standard deviation between the means of candidates.
        noise: Standard deviation between seeds of one candidate.
        failed: The share of failed probes with its interval.
        between: Which share of the variance lies between candidates, with its interval.
        repeats: Candidates with exactly the numbers of another one.
        moves: Whether the metric takes different values at all.
    """

    best: float
    chance: float
    margin: float
    failed_share: float
    signal: float
    noise: float
    failed: Share = NOTHING
    between: Share = NOTHING
    repeats: int = 0
    moves: bool = True

    def learns(self, objective: Objective) -> bool:
        """Whether the best probe has learned something, as far as that can be told."""
        if math.isnan(self.chance):
            return not math.isnan(self.best) and self.moves
        return objective.loss(self.best) < objective.loss(self.chance) - self.margin

    def plain(self) -> dict[str, Any]:
        """The facts as plain values; what is not known is left out."""
        numbers = {n: v for n, v in vars(self).items() if isinstance(v, float)}
        numbers |= {"failed_low": self.failed.low, "failed_high": self.failed.high}
        numbers |= {"between": self.between.value, "between_low": self.between.low}
        numbers |= {"between_high": self.between.high}
        return {n: round(v, 6) for n, v in numbers.items() if not math.isnan(v)} | {"repeats": self.repeats}


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


def facts_of(
    trials: Sequence[Trial], objective: Objective, chance: float, margin: float | None = None
) -> SubsetFacts:
    """The same for any metric; without a margin, what seeds differ by is one."""
    metric = objective.metric
    values: dict[str, list[float]] = {}
    told: dict[str, list[tuple[tuple[str, float], ...]]] = {}
    for t in trials:
        if t.status is TrialStatus.COMPLETED and not math.isnan(t.value(metric)):
            values.setdefault(t.candidate.key, []).append(t.value(metric))
            found = sorted((n, m.value) for n, m in t.results.get(t.rung, {}).items())
            told.setdefault(t.candidate.key, []).append(tuple(found))
    means = [float(np.mean(v)) for v in values.values()]
    within = [float(np.var(v, ddof=1)) for v in values.values() if len(v) > 1]
    noise = math.sqrt(float(np.mean(within))) if within else 0.0
    failed = sum(t.status is TrialStatus.FAILED for t in trials)
    everything = {x for v in values.values() for x in v}
    return SubsetFacts(
        best=min(everything, key=objective.loss, default=math.nan),
        chance=chance,
        margin=BEYOND * noise if margin is None else margin,
        failed_share=failed / max(1, len(trials)),
        signal=float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        noise=noise,
        failed=binomial(failed, len(trials)),
        between=between(list(values.values())),
        repeats=repeats(tuple(rows) for rows in told.values()),
        moves=len(everything) > 1 or sum(map(len, values.values())) == 1,
    )


def judge_subset(engine: Engine) -> dict[str, Any]:
    """Write the verdict on the probes into the journal, and return the facts for the stage's summary."""
    run, spec = engine.run, engine.run.spec
    trials = run.history.of_stage(STAGE)
    scripted = script_of(spec) is not None
    objective = spec.learned() if scripted else ACCURACY
    facts = _facts(engine, trials, objective, scripted=scripted)
    shown = Shown(objective, scripted=scripted)
    told = explained(spec, facts, trials, shown)
    if run.history.decision("subset") is None:
        reason = fault(spec, facts, trials, shown)
        verdict = verdicts.STOP if reason else verdicts.GO
        verdicts.record(engine, "subset", verdict, reason or opinion(facts), facts.plain())
    short = shortcomings(spec)
    return {
        **facts.plain(),
        "explained": told,
        **({"metric": objective.metric} if scripted else {}),
        **({"note": "; ".join(short)} if short else {}),
    }


def _facts(engine: Engine, trials: Sequence[Trial], objective: Objective, *, scripted: bool) -> SubsetFacts:
    preflight = engine.run.history.stages.get("preflight")
    summary: Mapping[str, Any] = preflight.summary if preflight is not None else {}
    chance = summary.get(f"chance.{objective.metric}")
    if not scripted:
        examples = int(str(summary.get("validation", EXAMPLES)))
        return subset_facts(trials, objective.metric, float(str(chance or 0.0)), examples)
    facts = facts_of(trials, objective, math.nan if chance is None else float(str(chance)))
    curves = (engine.run.history.curves.get(t.number, ()) for t in trials)
    seen = {m.value for curve in curves for _, ms in curve for m in ms if m.metric == objective.metric}
    return facts if facts.moves or len(seen) < 2 else _moving(facts)  # noqa: PLR2004 - one value stands still


def _moving(facts: SubsetFacts) -> SubsetFacts:
    return SubsetFacts(**{**vars(facts), "moves": True})


@dataclass(frozen=True)
class Shown:
    """How values of a metric are shown."""

    objective: Objective
    scripted: bool

    def __call__(self, value: float) -> str:
        share = not self.scripted or self.objective.metric.endswith("accuracy")
        if math.isnan(value):
            return "not known" if self.scripted else f"{value:.1%}"
        return f"{value:.1%}" if share else f"{self.objective.metric} {value:.4g}"


def fault(spec: Spec, facts: SubsetFacts, trials: Sequence[Trial], shown: Shown) -> str:
    """Why a search would be hopeless; empty if nothing says so."""
    if facts.failed_share > spec.validation.max_failures:
        last = next((t.failure.text for t in reversed(trials) if t.failure), "")
        return f"{facts.failed_share:.0%} of the probes fail, the last with: {last}"
    if facts.learns(shown.objective) or not any(t.ended for t in trials):
        return ""
    where = "script and parameters" if shown.scripted else "data and space"
    more = f"check {where}, or give validate.epochs or validate.subset more"
    if math.isnan(facts.chance) and not facts.moves:
        same = shown(facts.best)
        return f"nothing learns on the subset: all {len(trials)} probes and epochs tell {same}; {more}"
    return (
        f"nothing learns on the subset: the best of {len(trials)} probes reaches {shown(facts.best)}, "
        f"chance is {shown(facts.chance)}; {more}"
    )


def opinion(facts: SubsetFacts) -> str:
    """What the probes say of the search, where nothing is against it."""
    if facts.repeats:
        return (
            f"{facts.repeats} candidates give exactly the numbers of another one, so a choice has no effect; "
            "leave it out"
        )
    if facts.signal <= facts.noise:
        return "candidates differ less than seeds do; a search can hardly tell them apart"
    if facts.between.low <= 0:
        return "probes learn, and candidates seem to differ, but so few do not prove that they do"
    return "probes learn and differ"


def explained(spec: Spec, facts: SubsetFacts, trials: Sequence[Trial], shown: Shown) -> str:
    """What the probes have shown, in a paragraph."""
    of = len({t.candidate.key for t in trials})
    seeds = "one seed" if spec.validation.seeds == 1 else f"{spec.validation.seeds} seeds"
    done = f"{of} candidates were trained for {words_of(probe(spec))}, with {seeds} each."
    learned = f"The best reaches {shown(facts.best)}"
    if math.isnan(facts.chance):
        learned += "; what chance would reach is not known."
    else:
        learned += f", chance {shown(facts.chance)}."
    lines = [done, learned]
    if not math.isnan(facts.between.value):
        share = facts.between
        lines.append(
            f"{max(0.0, share.value):.0%} of the variance lies between candidates and the rest between seeds "
            f"(95 % interval {max(0.0, share.low):.0%} to {max(0.0, share.high):.0%}): {opinion(facts)}."
        )
    failed = sum(t.status is TrialStatus.FAILED for t in trials)
    lines.append(
        f"{failed} of {len(trials)} probes failed (95 % interval of the failing share: "
        f"{facts.failed.low:.0%} to {facts.failed.high:.0%})."
    )
    return " ".join(lines)
