"""How a run ended, where that was not as planned: by its budget, by an interruption, or by a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ziggurat.domain import JobKind, RunStatus
from ziggurat.report import words
from ziggurat.segments import share

if TYPE_CHECKING:
    from ziggurat.history import History
    from ziggurat.report.case import Case


def ending(case: Case) -> str:
    """The sentence about it; empty for a run that ended as planned."""
    said = {
        RunStatus.STOPPED_BY_BUDGET: _by_budget,
        RunStatus.INTERRUPTED: _interrupted,
        RunStatus.FAILED: _failed,
        RunStatus.RUNNING: _running,
    }.get(case.summary.status)
    return "" if said is None else said(case)


def _running(_: Case) -> str:
    return "The run is still going on; this is what it has found so far."


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
        epochs += (job.ladder[job.to_rung].epochs - before) * share(job.ladder[job.to_rung])
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
