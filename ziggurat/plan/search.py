"""The plan of the search: who trains next, what is asked of the searcher, and when nothing is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ziggurat.domain import JobKind, Objective, Trial, TrialStatus
from ziggurat.events import Decided, TrialEnded
from ziggurat.history import History
from ziggurat.plan.draft import Draft, Rules, Step, end_failed, other_job, train_job
from ziggurat.protocols import Context, Searcher, Stopper, Strategy

FAILURES_COUNT_FROM = 10
REJECTIONS_PER_TRIAL = 20
DOUBT = 2.0
"""So many times its stated error on either side of a limit a prediction does not tell whether it is kept."""


def next_jobs(  # noqa: PLR0913 - what a decision may depend on is spelt out
    context: Context,
    free_slots: int,
    *,
    searcher: Searcher | Strategy,
    stopper: Stopper | Strategy,
    rules: Rules,
    service_free: bool = True,
    device_free: bool | None = None,
    asking: bool = False,
    exhausted: bool = False,
    joint: bool = False,
) -> Step:
    """What the search does next.

    Args:
        context: Choices, objectives, history and so on.
        free_slots: Workers without a job.
        searcher: Its `ahead` and `batch` say how many proposals are asked for, and when.
        stopper: Decides on trials at a rung, and promotes paused ones.
        rules: Limits.
        service_free: A request for proposals can be started, or a profile job where the service measures.
        device_free: A profile job can be started beside that; None where the service measures.
        asking: A request for proposals is under way.
        exhausted: The searcher has no further candidate; a joint strategy has nothing to start or promote.
        joint: The searcher is a strategy that promotes trials as well, so it is asked until it is exhausted.
    """
    draft = Draft(context.history.copy(), rules)
    end_failed(draft, context.stage)
    _decide(draft, context, stopper)
    _reject(draft, context)
    trials = draft.history.of_stage(context.stage)
    counted = [t for t in trials if t.status is not TrialStatus.REJECTED]
    failed = [t for t in counted if t.status is TrialStatus.FAILED]
    ended = sum(t.ended for t in counted)
    too_many_failed = len(failed) > rules.max_failures * max(ended, FAILURES_COUNT_FROM)
    if too_many_failed or len(trials) - len(counted) > REJECTIONS_PER_TRIAL * context.trials:
        return _failed_step(draft, failed)
    if exhausted:
        context = replace(context, trials=len(trials))
    _fill(draft, context, stopper, free_slots)
    missing = 0 if exhausted else max(free_slots, 1) if joint else context.trials - len(counted)
    profiling = (service_free if device_free is None else device_free) and _profile_next(draft, context)
    want = 0
    if service_free and not (profiling and device_free is None) and not asking and not draft.blocked:
        want = _wanted(draft, context.stage, searcher, missing, max(0, free_slots - len(draft.jobs)))
    active = any(
        not t.ended and t.status is not TrialStatus.PAUSED for t in draft.history.of_stage(context.stage)
    )
    running = bool(draft.history.open_segments) or asking
    done = not running and not want and (bool(draft.blocked) or (not active and missing <= 0))
    return Step(tuple(draft.bodies), tuple(draft.jobs), want, draft.blocked, draft.lacking_usd, done=done)


def _profile_next(draft: Draft, context: Context) -> bool:
    """Have the first waiting trial measured that is not yet; whether the service is used for it."""
    here = replace(context, history=draft.history)
    waiting = draft.history.with_status(context.stage, TrialStatus.WAITING)
    trial = next((t for t in waiting if not _profiled(t, here, draft.rules)), None)
    if trial is None or draft.blocked:
        return False
    job = other_job(draft.history, trial, JobKind.PROFILE, draft.rules.device)
    draft.start(job, draft.rules.profiling)
    return True


def _wanted(draft: Draft, stage: str, searcher: Searcher | Strategy, missing: int, idle: int) -> int:
    """How many proposals to ask for: none while enough trials wait for the idle workers and those ahead."""
    # after the free workers have been given their trials, those still ready go before any new one
    waiting = len(draft.history.with_status(stage, TrialStatus.WAITING, TrialStatus.READY))
    lacking = int(getattr(searcher, "ahead", 0)) + idle - waiting
    return max(0, min(missing, max(int(getattr(searcher, "batch", 1)), lacking))) if lacking > 0 else 0


def _profiled(trial: Trial, context: Context, rules: Rules) -> bool:
    """Whether enough is known of a trial's candidate on the device to train it."""
    if rules.device is None:
        return True
    known = all(m in trial.static for m in rules.measured)
    return known and not any(_unsure(trial, o, context.history) for o in context.objectives)


def _unsure(trial: Trial, objective: Objective, history: History) -> bool:
    """Whether a metric is only predicted, so near the limit that it must be measured to know."""
    found = trial.static.get(objective.metric)
    if objective.limit is None or found is None or not found.predicted or found.spread is None:
        return False
    near = abs(found.value - objective.limit) <= DOUBT * found.spread
    return near and all(s.job.trial != trial.number for s in history.successes(JobKind.PROFILE))


def _reject(draft: Draft, context: Context) -> None:
    """End waiting trials that are known to break a hard limit before any training."""
    for trial in draft.history.with_status(context.stage, TrialStatus.WAITING):
        for o in context.objectives:
            known = o.metric in trial.static and not _unsure(trial, o, draft.history)
            if known and o.breaks_limit(trial.value(o.metric)):
                word = "predicted as" if trial.static[o.metric].predicted else "is"
                reason = f"{o.metric} {word} {trial.value(o.metric):.6g}, the limit is {o.limit:.6g}"
                draft.note(TrialEnded(trial.number, TrialStatus.REJECTED, None, reason))
                break


def _decide(draft: Draft, context: Context, stopper: Stopper | Strategy) -> None:
    for trial in draft.history.with_status(context.stage, TrialStatus.UNDECIDED):
        verdict = stopper.decide(trial, replace(context, history=draft.history))
        draft.note(
            Decided(
                "stopper",
                verdict.value,
                trial.number,
                trial.rung,
                draft.history.length,
                f"{verdict.value} at rung {trial.rung}",
            )
        )


def _failed_step(draft: Draft, failed: Sequence[Trial]) -> Step:
    reason = f"{len(failed)} trials failed"
    if failed and failed[-1].failure is not None:
        reason += f", the last with {failed[-1].failure.kind.value}: {failed[-1].failure.text}"
    return Step(tuple(draft.bodies), (), 0, reason, failed=True, done=not draft.history.open_segments)


def _fill(draft: Draft, context: Context, stopper: Stopper | Strategy, free_slots: int) -> None:
    """Give free workers to trials: first those that go on, then promotions, then new ones."""
    while len(draft.jobs) < free_slots and not draft.blocked:
        here = replace(context, history=draft.history)
        trial = _next_trial(here, stopper, draft.rules)
        if trial is None:
            return
        to_rung = trial.rung + 1
        forecast = here.forecast(trial.candidate, trial.rung, to_rung)
        draft.start(train_job(draft.history, trial, to_rung), forecast)


def _next_trial(context: Context, stopper: Stopper | Strategy, rules: Rules) -> Trial | None:
    ready = context.history.with_status(context.stage, TrialStatus.READY)
    if ready:
        return ready[0]
    promoted = stopper.promote(context)
    if promoted is not None:
        return promoted
    waiting = context.history.with_status(context.stage, TrialStatus.WAITING)
    return next((t for t in waiting if _profiled(t, context, rules)), None)
