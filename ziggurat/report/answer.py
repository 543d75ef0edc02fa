"""What a run means in two plain sentences, and what its proxy gate and its looks at the test say in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ziggurat.budget import limit_usd
from ziggurat.domain import JobKind, RunStatus
from ziggurat.report import words
from ziggurat.report.summary import RETRAIN

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.facts import ReportFacts
    from ziggurat.report.results import RetrainedRow, Statistic, Summary
    from ziggurat.spec import Spec

TITLES = {
    RunStatus.COMPLETED: "Completed",
    RunStatus.STOPPED_BY_BUDGET: "Stopped by the budget",
    RunStatus.INTERRUPTED: "Interrupted",
    RunStatus.FAILED: "Failed",
    RunStatus.RUNNING: "Running",
}


@dataclass(frozen=True)
class Case:
    """One run with everything that is known about it."""

    spec: Spec
    history: History
    summary: Summary
    facts: ReportFacts

    @property
    def limit_usd(self) -> float | None:
        """The limit of the cost in force."""
        given = self.facts.limit_usd
        return limit_usd(self.spec.budget, self.history) if given is None else given


def sentences(case: Case) -> list[str]:
    """What the run means: how it ended if not as planned, the best point, and what retraining confirmed."""
    openings = {
        RunStatus.STOPPED_BY_BUDGET: _by_budget,
        RunStatus.INTERRUPTED: _interrupted,
        RunStatus.FAILED: _failed,
        RunStatus.RUNNING: _running,
    }
    opening = openings.get(case.summary.status)
    found = _retrained(case) if case.summary.retrained else ""
    if opening is None:
        return [_best(case), found or _no_retraining(case)]
    return [opening(case), *(s for s in (_best(case), found) if s)]


def _running(_: Case) -> str:
    return "The run is still going on; this is what it has found so far."


def _best(case: Case) -> str:
    summary = case.summary
    if not summary.front:
        return _nothing(case)
    row, (first, *others) = summary.front[0], summary.objectives
    parts = [words.phrase(o.metric, row.metrics[o.metric], summary.units[o.metric]) for o in others]
    reached = words.phrase(first.metric, row.metrics[first.metric], summary.units[first.metric])
    chance = case.facts.chance.get(first.metric)
    skill = f" (chance: {words.shown(first.metric, chance)})" if chance is not None else ""
    front = (
        f"; the front offers {words.many(len(summary.front), 'trade-off')}" if len(summary.front) > 1 else ""
    )
    what = f" with {words.listing(parts)}" if parts else ""
    total = words.many(summary.counts.total, "trial")
    return f"The best of {total}, trial {row.trial}, reaches {reached}{skill}{what}{front}."


def _nothing(case: Case) -> str:
    counts = case.summary.counts
    if not counts.total:
        rejected = words.many(counts.rejected, "candidate")
        broke = f": {rejected} would have broken a limit" if counts.rejected else ""
        return f"No trial was started{broke}, so there is no front."
    ends = [(counts.completed, "reached the top rung outside a limit or without every objective known")]
    ends += [(counts.stopped, "stopped early"), (counts.failed, "failed"), (counts.open, "not finished")]
    listed = words.listing([f"{n:,} {what}" for n, what in ends if n])
    return f"None of the {words.many(counts.total, 'trial')} is an answer ({listed}), so there is no front."


def _retrained(case: Case) -> str:
    best = case.summary.front[0].trial if case.summary.front else None
    rows = case.summary.retrained
    row = next((r for r in rows if r.trial == best), rows[0])
    if not row.metrics:
        return f"Trial {row.trial} was retrained with the full recipe, but reported no metric."
    metric, stat = _judged(row, case)
    value = words.shown(metric, stat.mean, stat.unit)
    if stat.spread is not None:
        bare = words.spread(metric, stat.mean, stat.spread)
        unit = words.unit_of(metric, stat.unit)
        value = f"{bare} {unit}".strip()
    over = f"over {words.many(len(row.seeds), 'seed')}" if len(row.seeds) > 1 else "with one seed"
    sealed = " on the sealed test set" if metric.startswith("test_") else ""
    name = words.name_of(metric)
    who = "it" if row.trial == best else f"trial {row.trial}"
    return f"Retrained with the full recipe, {who} reaches {value} {name}{sealed} {over}."


def _judged(row: RetrainedRow, case: Case) -> tuple[str, Statistic]:
    """The sealed test's metric if it was looked at, else the first objective's, else any."""
    first = case.summary.objectives[0].metric
    order = {"test_accuracy": 0, f"test_{first.removeprefix('val_')}": 0, first: 2}

    def place(name: str) -> int:
        # a script's test command may tell other metrics than an accuracy
        return order.get(name.partition("@")[0], 1 if name.startswith("test_") else 3)

    return min(row.metrics.items(), key=lambda pair: place(pair[0]))


def _no_retraining(case: Case) -> str:
    if not case.spec.retrain.enabled:
        return "Retraining was switched off, so nothing was checked on the sealed test set."
    return "No model was retrained, so nothing was checked on the sealed test set."


def _by_budget(case: Case) -> str:
    limit, hours = case.limit_usd, case.spec.budget.limit_hours
    what = f"The budget of {words.usd(limit)}" if limit is not None else "The budget"
    if limit is None and hours is not None:
        what = f"The limit of {hours:g} hours"
    needed = case.facts.needed_usd if case.facts.needed_usd is not None else missing_usd(case)
    more = ""
    if needed and limit is not None:
        free = max(0.0, limit - case.summary.cost_usd)
        more = (
            f" Finishing would take about {words.usd(needed)}, and {words.usd(free)} of the budget is left; "
            "raise budget.limit_usd and resume."
        )
    cut = " ".join(f"{done}." for done in _cut(case))
    return f"{what} ended the run. {cut}{more}".strip()


def _cut(case: Case) -> list[str]:
    counts, spec = case.summary.counts, case.spec
    parts = [f"{counts.total:,} of {words.many(spec.search.trials, 'planned trial')} were started"]
    if counts.open:
        parts[0] += f", {counts.open:,} of them not finished"
    if spec.retrain.enabled:
        done = sum(len(r.seeds) for r in case.summary.retrained)
        planned = spec.retrain.k * spec.retrain.seeds
        parts.append(
            f"{done:,} of {words.many(planned, 'retraining')} " + ("was" if done == 1 else "were") + " done"
        )
    return parts


def missing_usd(case: Case) -> float | None:
    """What finishing would cost, going by the mean trial and epoch so far; None if unknown."""
    counts, spec = case.summary.counts, case.spec
    trials = case.history.of_stage("search")
    epochs, usd = trained(case.history)
    if not trials or not epochs:
        return None
    search = (
        max(0, spec.search.trials - counts.total + counts.open)
        * sum(t.cost_usd for t in trials)
        / len(trials)
    )
    full = spec.retrain.k * spec.retrain.seeds - sum(len(r.seeds) for r in case.summary.retrained)
    retrain = max(0, full) * spec.retrain.epochs * usd / epochs if spec.retrain.enabled else 0.0
    return search + retrain


def trained(history: History) -> tuple[float, float]:
    """Full-data epochs trained so far, and what they cost."""
    epochs = usd = 0.0
    for segment in history.successes(JobKind.TRAIN):
        job = segment.job
        assert segment.end is not None
        before = job.ladder[job.from_rung].epochs if job.from_rung >= 0 else 0
        epochs += (job.ladder[job.to_rung].epochs - before) * job.ladder[job.to_rung].data_fraction
        usd += segment.end.cost_usd
    return epochs, usd


def _interrupted(case: Case) -> str:
    how = f"{case.facts.resume}" if case.facts.resume else "resuming it"
    why = f" ({case.facts.reason})" if case.facts.reason else ""
    return f"The run was interrupted{why}; nothing paid for is lost, and {how} continues where it stopped."


def _failed(case: Case) -> str:
    ends = case.history.stages
    stage = next((name for name, end in ends.items() if end is not None and end.verdict == "failed"), None)
    where = f" in the stage {stage}" if stage else ""
    why = case.facts.reason or failure_reason(case.history, stage)
    return f"The run failed{where}{f': {why}' if why else ''}".rstrip(".") + "."


def failure_reason(history: History, stage: str | None) -> str:
    """Why a stage failed, from its summary."""
    end = history.stages.get(stage or "")
    reason = end.summary.get("reason") if end is not None else None
    return str(reason) if reason else ""


def retraining_state(case: Case) -> str:
    """How many full trainings are done, and what became of the others."""
    trials = case.history.of_stage(RETRAIN)
    done = sum(len(r.seeds) for r in case.summary.retrained)
    return f"{done:,} of {words.many(len(trials), 'training')} finished" if trials else ""


def looks(count: int | None) -> str:
    """How often the sealed test part was looked at, in words."""
    if count is None:
        return ""
    if count == 0:
        return "The sealed test set has not been looked at."
    times = {1: "once", 2: "twice"}.get(count, f"{count} times")
    caution = "" if count == 1 else " Each further look makes its numbers a little too good."
    return f"The sealed test set of this dataset has been looked at {times}, over all runs.{caution}"


def unchecked(case: Case) -> str:
    """What nobody has looked at of the retrained models, in words; empty if nothing was left out."""
    listed = "; ".join(case.facts.unchecked) if case.summary.retrained else ""
    return f"Not checked: {listed}." if listed else ""


@dataclass(frozen=True)
class Gate:
    """The proxy gate in words and numbers."""

    text: str
    tau: float
    low: float
    high: float
    verdict: str


def gate(case: Case) -> Gate | None:
    """What the comparison of the cheap setting with the top rung said; None if it was not made."""
    decision = case.history.decision("gate") or case.history.decision("proxy")
    if decision is None:
        return None
    tau, low, high = (_fact(decision.facts.get(k)) for k in ("tau", "low", "high"))
    listed = decision.facts.get("candidates")
    n = len(listed) if isinstance(listed, list) else listed
    bar = case.spec.validation.gate_tau
    if not math.isfinite(tau):
        text = f"{words.capital(decision.reason or 'the rank correlation could not be determined')}."
        return Gate(text, tau, low, high, decision.verdict)
    among = f" over {n:g} candidates" if isinstance(n, (int, float)) else ""
    interval = f"{100 * case.spec.validation.confidence:g} % interval {_signed(low)} to {_signed(high)}"
    text = (
        f"Kendall's tau of the rankings after the lowest and after the top rung is {_signed(tau)}{among} "
        f"({interval}). {_means(tau, low, high, bar)}"
    )
    return Gate(text, tau, low, high, decision.verdict)


def _signed(value: float) -> str:
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else "unknown"


def _means(tau: float, low: float, high: float, bar: float) -> str:
    if high < bar:
        return f"Even its upper end is below the gate of {bar:g}: the cheap setting ranks differently."
    if low >= bar:
        return f"Its lower end is above the gate of {bar:g}: judging candidates cheaply is sound here."
    if tau >= bar:
        return f"The estimate is above the gate of {bar:g}, but the interval is too wide to be sure."
    return f"The estimate is below the gate of {bar:g}, but its interval reaches above, so the run went on."


def _fact(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else math.nan
