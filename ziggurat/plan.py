"""What to do next: pure functions of a history, tested without processes, threads or a clock.

`next_jobs` serves the search; `fixed_jobs` serves stages whose trials are known from the start. Both return a
`Step`: what to write into the journal, which jobs to start, and whether the stage is over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from ziggurat.budget import ledger
from ziggurat.domain import (
    Decision,
    Failure,
    FailureKind,
    Job,
    JobKind,
    Trial,
    TrialStatus,
)
from ziggurat.events import Body, Decided, Event, SegmentPlanned, TrialEnded
from ziggurat.history import History
from ziggurat.protocols import Context, Forecast, Searcher, Stopper

RETRIED = frozenset({FailureKind.LOST, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT})
FAILURES_COUNT_FROM = 10
REJECTIONS_PER_TRIAL = 20


@dataclass(frozen=True)
class Rules:
    """Limits of a stage that do not follow from the history.

    Attributes:
        limit_usd: Never passed; None for no limit.
        reserve_usd: Kept back for later stages.
        retries: Further tries of a lost, late or oversized segment.
        max_failures: Share of failed trials above which the stage stops.
        device: Device on which candidates are profiled before training; None if no objective needs it.
        measured: Metrics that profiling gives.
        margin_usd: Cost of the seconds that a job may take to stop; kept free beside each forecast.
        overrun_usd: What running jobs have taken beyond their forecasts.
        closed: Why nothing may start any more; empty if nothing is in the way.
    """

    limit_usd: float | None = None
    reserve_usd: float = 0.0
    retries: int = 2
    max_failures: float = 0.5
    device: str | None = None
    measured: tuple[str, ...] = ()
    margin_usd: float = 0.0
    overrun_usd: float = 0.0
    closed: str = ""


@dataclass(frozen=True)
class Step:
    """What to do now.

    Attributes:
        bodies: Events to journal before anything else.
        jobs: Jobs to start, with their forecasts.
        want: Proposals to ask for.
        blocked: Why nothing more may start, though there is more to do; empty if nothing is in the way.
        failed: What is in the way is too many failures rather than money or time.
        done: Nothing is left to do once the open segments have ended.
    """

    bodies: tuple[Body, ...] = ()
    jobs: tuple[tuple[Job, Forecast], ...] = ()
    want: int = 0
    blocked: str = ""
    failed: bool = False
    done: bool = False


@dataclass
class _Draft:
    """A step in the making, on a history that already contains what it decides."""

    history: History
    rules: Rules
    bodies: list[Body] = field(default_factory=list)
    jobs: list[tuple[Job, Forecast]] = field(default_factory=list)
    blocked: str = ""

    def note(self, body: Body) -> None:
        self.bodies.append(body)
        self._apply(body)

    def _apply(self, body: Body) -> None:
        self.history.apply(Event(self.history.length, self.history.last_utc, self.history.run_id, body))

    def start(self, job: Job, forecast: Forecast) -> bool:
        """Add a job if the account admits it; remember why not otherwise."""
        rules = self.rules
        account = ledger(self.history, rules.limit_usd, rules.reserve_usd + rules.overrun_usd)
        if rules.closed:
            self.blocked = rules.closed
        elif not account.admits(forecast.usd + rules.margin_usd):
            self.blocked = (
                f"the next segment is forecast at {forecast.usd:.4g} USD, of the limit of "
                f"{account.limit:.4g} USD only {max(account.free, 0):.4g} are free"
            )
        else:
            self.jobs.append((job, forecast))
            self._apply(SegmentPlanned(job, forecast.seconds, forecast.usd))
            return True
        return False


def train_job(history: History, trial: Trial, to_rung: int) -> Job:
    """The job that takes a trial to a rung, from its latest checkpoint."""
    base = f"{trial.number:05d}-train-{to_rung}"
    attempt = history.tries.get(base, 0)
    return Job(
        key=f"{base}-{attempt}",
        kind=JobKind.TRAIN,
        stage=trial.stage,
        trial=trial.number,
        candidate=trial.candidate,
        ladder=trial.ladder,
        from_rung=trial.rung,
        to_rung=to_rung,
        seed=trial.seed,
        attempt=attempt,
        recipe=trial.recipe,
        checkpoint=trial.checkpoint,
    )


def other_job(history: History, trial: Trial, kind: JobKind, device: str | None = None) -> Job:
    """The job that evaluates or profiles a trial."""
    base = f"{trial.number:05d}-{kind.value}-{device or 'test'}"
    attempt = history.tries.get(base, 0)
    return Job(
        key=f"{base}-{attempt}",
        kind=kind,
        stage=trial.stage,
        trial=trial.number,
        candidate=trial.candidate,
        seed=trial.seed,
        attempt=attempt,
        recipe=trial.recipe,
        checkpoint=trial.checkpoint,
        device=device,
        exclusive=kind is JobKind.PROFILE,
    )


def end_failed(draft: _Draft, stage: str) -> None:
    """End trials whose failure is final; the others are tried again."""
    for trial in draft.history.of_stage(stage):
        failure = trial.failure
        if failure is None or trial.ended or trial.job is not None or failure.kind is FailureKind.PREEMPTED:
            continue
        if failure.kind in RETRIED and trial.attempt <= draft.rules.retries:
            continue
        draft.note(TrialEnded(trial.number, TrialStatus.FAILED, failure, failure.text))


def _profiled(trial: Trial, rules: Rules) -> bool:
    return rules.device is None or all(m in trial.static for m in rules.measured)


def _reject(draft: _Draft, context: Context) -> None:
    """End waiting trials that are known to break a hard limit before any training."""
    for trial in draft.history.with_status(context.stage, TrialStatus.WAITING):
        for o in context.objectives:
            if o.metric in trial.static and o.breaks_limit(trial.value(o.metric)):
                reason = f"{o.metric} is {trial.value(o.metric):.6g}, the limit is {o.limit:.6g}"
                draft.note(TrialEnded(trial.number, TrialStatus.REJECTED, None, reason))
                break


def _decide(draft: _Draft, context: Context, stopper: Stopper) -> None:
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


def next_jobs(
    context: Context,
    free_slots: int,
    *,
    searcher: Searcher,
    stopper: Stopper,
    rules: Rules,
    service_free: bool = True,
    asking: bool = False,
    exhausted: bool = False,
) -> Step:
    """What the search does next.

    Args:
        context: Choices, objectives, history and so on.
        free_slots: Workers without a job.
        searcher: Its `ahead` and `batch` say how many proposals are asked for, and when.
        stopper: Decides on trials at a rung, and promotes paused ones.
        rules: Limits.
        service_free: A profile job or a request for proposals can be started.
        asking: A request for proposals is under way.
        exhausted: The searcher has no further candidate.
    """
    draft = _Draft(context.history.copy(), rules)
    end_failed(draft, context.stage)
    _decide(draft, context, stopper)
    _reject(draft, context)
    trials = draft.history.of_stage(context.stage)
    counted = [t for t in trials if t.status is not TrialStatus.REJECTED]
    failed = [t for t in counted if t.status is TrialStatus.FAILED]
    over = (
        len(failed) > rules.max_failures * max(len([t for t in counted if t.ended]), FAILURES_COUNT_FROM)
        or len(trials) - len(counted) > REJECTIONS_PER_TRIAL * context.trials
    )
    if over:
        return _failed_step(draft, failed)
    if exhausted:
        context = replace(context, trials=len(trials))
    _fill(draft, context, stopper, free_slots)
    missing = 0 if exhausted else context.trials - len(counted)
    waiting = draft.history.with_status(context.stage, TrialStatus.WAITING)
    profile = next((t for t in waiting if not _profiled(t, rules)), None)
    if profile is not None and service_free and not draft.blocked:
        draft.start(other_job(draft.history, profile, JobKind.PROFILE, rules.device), Forecast(0.0, 0.0))
        service_free = False
    want = 0
    if missing > 0 and service_free and not asking and not draft.blocked:
        ahead = int(getattr(searcher, "ahead", 0))
        batch = int(getattr(searcher, "batch", 1))
        idle = max(0, free_slots - len(draft.jobs))
        if len(waiting) < ahead + idle:
            want = min(missing, max(batch, ahead + idle - len(waiting)))
    alive = [t for t in draft.history.of_stage(context.stage) if not t.ended]
    active = [t for t in alive if t.status is not TrialStatus.PAUSED]
    running = bool(draft.history.open_segments) or asking
    done = not running and not want and (bool(draft.blocked) or (not active and missing <= 0))
    return Step(tuple(draft.bodies), tuple(draft.jobs), want, draft.blocked, done=done)


def _failed_step(draft: _Draft, failed: Sequence[Trial]) -> Step:
    reason = f"{len(failed)} trials failed"
    if failed and failed[-1].failure is not None:
        reason += f", the last with {failed[-1].failure.kind.value}: {failed[-1].failure.text}"
    return Step(tuple(draft.bodies), (), 0, reason, failed=True, done=not draft.history.open_segments)


def _fill(draft: _Draft, context: Context, stopper: Stopper, free_slots: int) -> None:
    """Give free workers to trials: first those that go on, then promotions, then new ones."""
    while len(draft.jobs) < free_slots and not draft.blocked:
        here = replace(context, history=draft.history)
        trial = _next_trial(here, stopper, draft.rules)
        if trial is None:
            return
        to_rung = trial.rung + 1
        forecast = here.forecast(trial.candidate, trial.rung, to_rung)
        draft.start(train_job(draft.history, trial, to_rung), forecast)


def _next_trial(context: Context, stopper: Stopper, rules: Rules) -> Trial | None:
    ready = context.history.with_status(context.stage, TrialStatus.READY)
    if ready:
        return ready[0]
    promoted = stopper.promote(context)
    if promoted is not None:
        return promoted
    waiting = context.history.with_status(context.stage, TrialStatus.WAITING)
    return next((t for t in waiting if _profiled(t, rules)), None)


def fixed_jobs(
    history: History,
    stage: str,
    free_slots: int,
    *,
    forecast: Callable[[Trial, int], Forecast],
    rules: Rules,
) -> Step:
    """What a stage does next whose trials are all proposed: train each to its top rung, in their order."""
    draft = _Draft(history.copy(), rules)
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


def measure_jobs(
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
    draft = _Draft(history.copy(), rules)
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


def lost(reason: str) -> Failure:
    """The failure of a segment whose controller went away."""
    return Failure(FailureKind.PREEMPTED, reason)


def overdue(
    history: History, elapsed_s: dict[str, float], usd_per_hour: float, rules: Rules, margin_s: float
) -> list[str]:
    """Keys of running jobs to stop now, because they outran their forecast and the limit would be passed.

    Args:
        history: What has happened.
        elapsed_s: Worker seconds of each open segment so far, by key.
        usd_per_hour: Price of a worker.
        rules: The limit and the reserve.
        margin_s: Seconds a job may still take after it was asked to stop.
    """
    if rules.limit_usd is None:
        return []
    price = usd_per_hour / 3600.0
    total = history.spent_usd
    overrun: list[str] = []
    for key, segment in history.open_segments.items():
        accrued = (elapsed_s.get(key, 0.0) + margin_s) * price
        total += max(accrued, segment.forecast_usd)
        if accrued > segment.forecast_usd and segment.job.kind in {JobKind.TRAIN, JobKind.EVALUATE}:
            overrun.append(key)
    return overrun if total > rules.limit_usd - rules.reserve_usd else []
