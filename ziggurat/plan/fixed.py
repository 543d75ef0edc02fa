"""The plans of stages whose trials are known from the start: probing, retraining and measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ziggurat.domain import Decision, JobKind, Trial, TrialStatus
from ziggurat.events import Decided
from ziggurat.history import History
from ziggurat.plan.draft import Draft, Rules, Step, end_failed, other_job, train_job
from ziggurat.protocols import Forecast


def fixed_jobs(
    history: History,
    stage: str,
    free_slots: int,
    *,
    forecast: Callable[[Trial, int], Forecast],
    rules: Rules,
) -> Step:
    """What a stage does next whose trials are all proposed: train each to its top rung, in their order."""
    draft = Draft(history.copy(), rules)
    end_failed(draft, stage)
    for trial in draft.history.with_status(stage, TrialStatus.UNDECIDED):
        seen = draft.history.length
        draft.note(Decided("stopper", Decision.CONTINUE.value, trial.number, trial.rung, seen))
    ready = draft.history.with_status(stage, TrialStatus.READY, TrialStatus.WAITING)
    for trial in ready:
        if len(draft.jobs) >= free_slots or draft.blocked:
            break
        to_rung = trial.rung + 1
        draft.start(train_job(draft.history, trial, to_rung), forecast(trial, to_rung))
    left = [t for t in draft.history.of_stage(stage) if not t.ended]
    done = not draft.history.open_segments and (not left or bool(draft.blocked))
    return Step(tuple(draft.bodies), tuple(draft.jobs), 0, draft.blocked, done=done)


def measure_jobs(  # noqa: PLR0913 - what a decision may depend on is spelt out
    history: History,
    stage: str,
    free_slots: int,
    *,
    devices: Sequence[str],
    service_free: bool,
    forecast: Callable[[Trial, int], Forecast],
    rules: Rules,
) -> Step:
    """What is left to measure of the completed trials of a stage: the sealed test part, and every device."""
    draft = Draft(history.copy(), rules)
    left = False
    for trial in history.of_stage(stage):
        if trial.rung < trial.top_rung:
            continue
        wanted = [(JobKind.EVALUATE, None), *((JobKind.PROFILE, d) for d in devices)]
        for kind, device in wanted:
            job = other_job(history, trial, kind, device)
            if job.key.rsplit("-", 1)[0] in _measured(history) or job.attempt > rules.retries:
                continue
            left = True
            slot = service_free if kind is JobKind.PROFILE else free_slots > 0
            if slot and draft.history.trials[trial.number].job is None and not draft.blocked:
                draft.start(job, forecast(trial, -1))
                service_free = service_free and kind is not JobKind.PROFILE
                free_slots -= kind is JobKind.EVALUATE
    done = not draft.history.open_segments and (not left or bool(draft.blocked))
    return Step((), tuple(draft.jobs), 0, draft.blocked, done=done)


def _measured(history: History) -> set[str]:
    ends = [s for s in history.segments.values() if s.end is not None and s.end.failure is None]
    return {s.job.key.rsplit("-", 1)[0] for s in ends}
