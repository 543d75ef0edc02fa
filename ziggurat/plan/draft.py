"""What all plans are made with: the rules of a stage, the step in the making, and the jobs it may hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from ziggurat.domain import FailureKind, Job, JobKind, Trial, TrialStatus
from ziggurat.events import Body, Event, SegmentPlanned, TrialEnded
from ziggurat.history import History
from ziggurat.plan.meter import Limit, Meter, limits
from ziggurat.protocols import Forecast

NOTHING = Forecast(0.0, 0.0)
DUST = 1e-12
"""Share of a limit that is nothing but rounding."""
RETRIED = frozenset({FailureKind.LOST, FailureKind.OUT_OF_MEMORY, FailureKind.TIMEOUT})


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
        profiling: What profiling one candidate will take.
        others: Further limits: of the stage, of an account that several runs share.
        meter: What machines cost, and what running jobs have taken so far.
        closed: Why nothing may start any more; empty if nothing is in the way.
    """

    limit_usd: float | None = None
    reserve_usd: float = 0.0
    retries: int = 2
    max_failures: float = 0.5
    device: str | None = None
    measured: tuple[str, ...] = ()
    profiling: Forecast = NOTHING
    others: tuple[Limit, ...] = ()
    meter: Meter = field(default_factory=Meter)
    closed: str = ""

    def limits(self, history: History) -> list[Limit]:
        """Everything that is never passed."""
        return [*limits(history, self.limit_usd, self.reserve_usd), *self.others]


@dataclass(frozen=True)
class Step:
    """What to do now.

    Attributes:
        bodies: Events to journal before anything else.
        jobs: Jobs to start, with their forecasts.
        want: Proposals to ask for.
        blocked: Why nothing more may start, though there is more to do; empty if nothing is in the way.
        lacking_usd: How much more must be granted for the next job; 0 if something else is in the way.
        failed: What is in the way is too many failures rather than money or time.
        done: Nothing is left to do once the open segments have ended.
    """

    bodies: tuple[Body, ...] = ()
    jobs: tuple[tuple[Job, Forecast], ...] = ()
    want: int = 0
    blocked: str = ""
    lacking_usd: float = 0.0
    failed: bool = False
    done: bool = False


@dataclass
class Draft:
    """A step in the making, on a history that already contains what it decides."""

    history: History
    rules: Rules
    bodies: list[Body] = field(default_factory=list)
    jobs: list[tuple[Job, Forecast]] = field(default_factory=list)
    blocked: str = ""
    lacking_usd: float = 0.0

    def note(self, body: Body) -> None:
        self.bodies.append(body)
        self._apply(body)

    def _apply(self, body: Body) -> None:
        self.history.apply(Event(self.history.length, self.history.last_utc, self.history.run_id, body))

    def start(self, job: Job, forecast: Forecast) -> bool:
        """Add a job if every limit admits it; remember why not otherwise."""
        rules, running = self.rules, self.history.open_segments.values()
        self.blocked = rules.closed
        if not self.blocked:
            committed = rules.meter.committed_usd(running)
            extra = rules.meter.extra_usd(running, job, forecast)
            short = [m for m in rules.limits(self.history) if committed + extra > m.free + DUST * m.usd]
            if short:
                self._refuse(short, forecast, committed, extra)
        if self.blocked:
            return False
        self.jobs.append((job, forecast))
        self._apply(SegmentPlanned(job, forecast.seconds, forecast.usd))
        return True

    def _refuse(self, short: list[Limit], forecast: Forecast, committed: float, extra: float) -> None:
        limit = next((m for m in short if not m.grows), short[0])
        name = f" for {limit.name}" if limit.name else ""
        self.blocked = (
            f"the next segment is forecast at {forecast.usd:.4g} USD, of the limit of "
            f"{limit.usd:.4g} USD{name} only {max(limit.free - committed, 0):.4g} are free"
        )
        if limit.grows:
            self.lacking_usd = committed + extra - limit.free


def train_job(history: History, trial: Trial, to_rung: int) -> Job:
    """The job that takes a trial to a rung, from its latest checkpoint."""
    base = f"{trial.number:05d}-train-{to_rung}"
    attempt = history.tries.get(base, 0)
    return Job(
        key=f"{base}-{attempt}",
        kind=JobKind.TRAIN,
        stage=trial.stage,
        trial=trial.number,
        candidate=trial.lineage[to_rung] if trial.lineage else trial.candidate,
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


def end_failed(draft: Draft, stage: str) -> None:
    """End trials whose failure is final; the others are tried again."""
    for trial in draft.history.of_stage(stage):
        failure = trial.failure
        if failure is None or trial.ended or trial.job is not None or failure.kind is FailureKind.PREEMPTED:
            continue
        if failure.kind in RETRIED and trial.attempt <= draft.rules.retries:
            continue
        draft.note(TrialEnded(trial.number, TrialStatus.FAILED, failure, failure.text))
