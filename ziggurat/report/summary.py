"""What a run amounts to: its counts, its front, its retrained models and its hypervolume.

Pure functions of a history; nothing here reads a file or a clock, formats a number or draws. The report, the
printed table and the JSON of the command line are all made from a `Summary`.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import numpy as np

from ziggurat.answers import driven_s, eligible
from ziggurat.domain import Candidate, JobKind, Measurement, Objective, RunStatus, Trial, TrialStatus
from ziggurat.history import History
from ziggurat.pareto import hypervolume, is_front, knee
from ziggurat.report.results import Counts, FrontRow, RetrainedRow, Statistic, Summary

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SEARCH, RETRAIN, BASELINE = "search", "retrain", "baseline"


def outcome(history: History) -> RunStatus:
    """How a run ended, or how it is about to end while its report is being written."""
    if history.status is not RunStatus.RUNNING:
        return history.status
    verdicts = {end.verdict for end in history.stages.values() if end is not None}
    if "failed" in verdicts:
        return RunStatus.FAILED
    if "stopped_by_budget" in verdicts:
        return RunStatus.STOPPED_BY_BUDGET
    return RunStatus.COMPLETED if "report" in history.stages else RunStatus.RUNNING


def count(history: History) -> Counts:
    """How many search trials ended how."""
    states = [t.status for t in history.of_stage(SEARCH)]
    rejected = states.count(TrialStatus.REJECTED)
    completed = states.count(TrialStatus.COMPLETED)
    stopped = states.count(TrialStatus.STOPPED) + states.count(TrialStatus.PAUSED)
    failed = states.count(TrialStatus.FAILED)
    total = len(states) - rejected
    return Counts(total, completed, stopped, failed, total - completed - stopped - failed, rejected)


def answers(history: History, objectives: tuple[Objective, ...], stage: str = SEARCH) -> list[Trial]:
    """Trials of a stage that may be on its front: top rung, every objective known, every limit kept."""
    if stage == SEARCH:
        return eligible(history, objectives)
    return [
        t
        for t in history.with_status(stage, TrialStatus.COMPLETED)
        if t.rung == t.top_rung
        and not any(o.breaks_limit(t.value(o.metric)) for o in objectives)
        and not any(math.isnan(v) for v in t.losses(objectives))
    ]


def front_of(trials: Sequence[Trial], objectives: tuple[Objective, ...]) -> list[Trial]:
    """The non-dominated ones, best first on the first objective."""
    if not trials:
        return []
    keep = is_front(np.array([t.losses(objectives) for t in trials], dtype=float))
    found = [t for t, on in zip(trials, keep, strict=True) if on]
    return sorted(found, key=lambda t: (t.losses(objectives), t.number))


def volume_of(trials: Sequence[Trial], objectives: tuple[Objective, ...]) -> float:
    """Hypervolume of some trials against the objectives' references, in the product of their units."""
    if not trials:
        return 0.0
    losses = np.array([t.losses(objectives) for t in trials], dtype=float)
    return float(hypervolume(losses, np.array([o.loss(o.reference) for o in objectives])))


def known(trial: Trial) -> dict[str, Measurement]:
    """Everything measured about a trial: static metrics, and learned ones at its highest rung."""
    return {**trial.static, **trial.results.get(trial.rung, {})}


def front_rows(objectives: tuple[Objective, ...], history: History) -> tuple[FrontRow, ...]:
    """The front of the search by validation, best first on the first objective."""
    front = front_of(answers(history, objectives), objectives)
    middle = _knee(front, objectives)
    return tuple(
        FrontRow(
            trial=t.number,
            candidate=t.candidate,
            metrics={name: m.value for name, m in known(t).items()},
            rung=t.rung,
            cost_usd=t.cost_usd,
            knee=t.number == middle,
            predicted={n: _error(m) for n, m in known(t).items() if m.predicted},
        )
        for t in front
    )


def _error(predicted: Measurement) -> float:
    """Relative error of a prediction."""
    return (predicted.spread or 0.0) / abs(predicted.value) if predicted.value else 0.0


def _knee(front: Sequence[Trial], objectives: tuple[Objective, ...]) -> int | None:
    """Number of the trial at the knee; a front of one or two points has none."""
    if len(front) <= 2 or len(objectives) == 1:  # noqa: PLR2004 - two points are both extremes
        return None
    return front[int(knee(np.array([t.losses(objectives) for t in front], dtype=float)))].number


def retrained_rows(objectives: tuple[Objective, ...], history: History) -> tuple[RetrainedRow, ...]:
    """Retrained architectures with at least one finished training, best first by validation."""
    groups: dict[Candidate, list[Trial]] = {}
    for trial in history.of_stage(RETRAIN):
        groups.setdefault(trial.candidate, []).append(trial)
    origin = {t.candidate: t.number for t in reversed(history.of_stage(SEARCH))}
    rows = [_retrained(c, trials, origin.get(c)) for c, trials in groups.items()]
    return tuple(sorted((r for r in rows if r is not None), key=lambda r: _order(r, objectives)))


def _retrained(candidate: Candidate, trials: Sequence[Trial], origin: int | None) -> RetrainedRow | None:
    done = [t for t in trials if t.rung == t.top_rung and t.results]
    if not done:
        return None
    names = dict.fromkeys(name for t in done for name in known(t))
    return RetrainedRow(
        trial=done[0].number if origin is None else origin,
        candidate=candidate,
        seeds=tuple(t.seed for t in done),
        trials=tuple(t.number for t in done),
        metrics={name: over_seeds([known(t)[name] for t in done if name in known(t)]) for name in names},
        rung=done[0].rung,
        cost_usd=sum(t.cost_usd for t in trials),
    )


def over_seeds(found: Sequence[Measurement]) -> Statistic:
    """Mean and sample standard deviation of one metric over seeds."""
    values = tuple(m.value for m in found)
    noise = [m.spread for m in found if m.spread is not None]
    return Statistic(
        mean=statistics.fmean(values),
        spread=statistics.stdev(values) if len(values) > 1 else None,
        values=values,
        unit=found[0].unit,
        noise=max(noise) if noise else None,
    )


def _order(row: RetrainedRow, objectives: tuple[Objective, ...]) -> tuple[float, int]:
    found = row.find(objectives[0].metric)
    return (math.inf if found is None else objectives[0].loss(found.mean), row.trial)


def units(objectives: Iterable[Objective], history: History) -> dict[str, str]:
    """Unit of each objective, as measured; from the name's ending if nothing was measured yet."""
    endings = {"_ms": "ms", "_mb": "MB", "_s": "s"}
    found = {o.metric: next((u for e, u in endings.items() if o.metric.endswith(e)), "1") for o in objectives}
    for trial in history.trials.values():
        found.update({name: m.unit for name, m in known(trial).items() if name in found})
    return found


def utilisation(history: History, workers: int, utc: float) -> float | None:
    """Worker seconds spent training in the search, divided by the worker seconds the stage had.

    Seconds in which no controller drove the run, or in which all workers were paused for an exclusive
    measurement, are not seconds that workers had.

    Args:
        history: What has happened.
        workers: Segments that may run at the same time.
        utc: Now; the end of a stage that is still going on.
    """
    if SEARCH not in history.stage_times:
        return None
    begun, ended = history.stage_times[SEARCH]
    mine = [s for s in history.segments.values() if s.end is not None and s.job.stage == SEARCH]
    wall = driven_s(history, begun, utc if ended is None else ended)
    wall -= sum(s.end.seconds for s in mine if s.end is not None and s.job.exclusive)
    busy = sum(s.end.seconds for s in mine if s.end is not None and s.job.kind is JobKind.TRAIN)
    return busy / (workers * wall) if wall > 0 else None


def summarize(
    objectives: tuple[Objective, ...],
    history: History,
    *,
    workers: int = 1,
    status: RunStatus | None = None,
    utc: float | None = None,
) -> Summary:
    """The numbers of a run.

    Args:
        objectives: In the order of the spec.
        history: What has happened.
        workers: Search workers, for the utilisation.
        status: How the run ends, where the caller knows more than the history.
        utc: Now, for a run that is still going on; by default the time of the last event.
    """
    now = history.last_utc if utc is None or history.status is not RunStatus.RUNNING else utc
    baseline = answers(history, objectives, BASELINE)
    return Summary(
        run_id=history.run_id,
        status=outcome(history) if status is None else status,
        objectives=objectives,
        units=units(objectives, history),
        counts=count(history),
        segments=len(history.successes(JobKind.TRAIN)),
        hypervolume=volume_of(answers(history, objectives), objectives),
        baseline=volume_of(baseline, objectives) if history.of_stage(BASELINE) else None,
        front=front_rows(objectives, history),
        retrained=retrained_rows(objectives, history),
        cost_usd=history.spent_usd,
        seconds=sum(s.end.seconds for s in history.segments.values() if s.end is not None),
        wall_s=driven_s(history, history.started_utc, now) if history.started_utc else 0.0,
        utilisation=utilisation(history, workers, now),
    )
