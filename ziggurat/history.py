"""The state of a run: the fold of its events, and the questions one asks of it.

`History.apply` is the only place where a trial changes. Everything else reads.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ziggurat.domain import Job, JobKind, Measurement, Parent, RunStatus, Trial, TrialStatus
from ziggurat.events import (
    Alert,
    Amended,
    Charged,
    Decided,
    Event,
    Measured,
    RunFinished,
    RunStarted,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    StageFinished,
    StageStarted,
    TrialEnded,
    TrialProposed,
)
from ziggurat.segments import Segment, units


@dataclass
class History:
    """Everything that has happened in a run.

    Attributes:
        trials: By number.
        segments: By job key, in the order of planning.
        curves: For each trial, (step, measurements) in the order of arrival.
        decisions: All decisions, oldest first.
        stages: Stages that have begun, with their end if they have one, in order.
        alerts: The latest word on each alert, by key.
        alert_times: When each alert was last raised, by key.
        alert_log: Every word on an alert with its time, oldest first.
        charges: Money that no segment accounts for, oldest first.
        costs: Money spent by stage, charges included.
        amendments: Changes of settings, oldest first.
        status: Status of the run.
        length: Number of events folded.
        open_segments: Segments that are planned or running.
        downtimes: From when to when no controller drove the run.
        tries: How often each segment has been planned, by job key without its last part.
        numbers: Numbers of the trials of each stage, in the order of their index.
        standing: Numbers of the trials of each stage by status.
        ends: How many segments have ended.
        paces: By key of the candidate, what its last training took: seconds, and units of work with and
            without what it had been trained before.
    """

    trials: dict[int, Trial] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    curves: dict[int, list[tuple[int, tuple[Measurement, ...]]]] = field(default_factory=dict)
    decisions: list[Decided] = field(default_factory=list)
    stages: dict[str, StageFinished | None] = field(default_factory=dict)
    stage_times: dict[str, tuple[float, float | None]] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    alert_times: dict[str, float] = field(default_factory=dict)
    alert_log: list[tuple[float, Alert]] = field(default_factory=list)
    charges: list[Charged] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    amendments: list[Amended] = field(default_factory=list)
    status: RunStatus = RunStatus.RUNNING
    run_id: str = ""
    started_utc: float = 0.0
    last_utc: float = 0.0
    length: int = 0
    open_segments: dict[str, Segment] = field(default_factory=dict)
    spent_usd: float = 0.0
    tries: dict[str, int] = field(default_factory=dict)
    downtimes: list[tuple[float, float]] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    standing: dict[tuple[str, TrialStatus], set[int]] = field(default_factory=dict)
    ends: int = 0
    paces: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    _before: float = 0.0

    def apply(self, event: Event) -> None:
        """Take one more event into account."""
        body = event.body
        self.length = event.seq + 1
        self._before = self.last_utc
        self.last_utc = max(self.last_utc, event.utc)
        _HANDLERS[type(body)](self, body, event)

    def _take(self, body: RunStarted, event: Event) -> None:
        if body.resumed:
            self.downtimes.append((self._before, event.utc))
        self.run_id = event.run_id
        self.started_utc = self.started_utc or event.utc
        self.status = RunStatus.RUNNING

    def _begin_stage(self, body: StageStarted, event: Event) -> None:
        self.stages[body.stage] = None
        self.stage_times[body.stage] = (self._begun(body.stage, event), None)

    def _end_stage(self, body: StageFinished, event: Event) -> None:
        self.stages[body.stage] = body
        self.stage_times[body.stage] = (self._begun(body.stage, event), event.utc)

    def _begun(self, stage: str, event: Event) -> float:
        return self.stage_times.get(stage, (event.utc, None))[0]

    def _measure(self, body: Measured, _: Event) -> None:
        if body.step is None:
            return
        row, curve = (body.step, body.measurements), self.curves.setdefault(body.trial, [])
        if row not in curve:  # a later controller is told again what a job has said to the one before
            curve.append(row)

    def _end_trial(self, body: TrialEnded, _: Event) -> None:
        trial = self.trials[body.trial]
        self._change(
            body.trial,
            status=body.status,
            note=body.reason or trial.note,
            failure=body.failure or trial.failure,
        )

    def _alert(self, body: Alert, event: Event) -> None:
        self.alerts[body.key] = body
        self.alert_log.append((event.utc, body))
        if body.state == "raised":
            self.alert_times[body.key] = event.utc

    def _charge(self, body: Charged, _: Event) -> None:
        self.charges.append(body)
        self._spend(body.stage, body.cost_usd)

    def _spend(self, stage: str, usd: float) -> None:
        self.spent_usd += usd
        self.costs[stage] = self.costs.get(stage, 0.0) + usd

    def _amend(self, body: Amended, _: Event) -> None:
        self.amendments.append(body)

    def _end_run(self, body: RunFinished, _: Event) -> None:
        self.status = body.status

    def _change(self, number: int, **changes: object) -> None:
        before = self.trials[number]
        after = self.trials[number] = replace(before, **changes)  # type: ignore[arg-type]
        if after.status is not before.status:
            self.standing[before.stage, before.status].discard(number)
            self.standing.setdefault((after.stage, after.status), set()).add(number)

    def _propose(self, body: TrialProposed, _: Event) -> None:
        self.trials[body.trial] = Trial(
            number=body.trial,
            index=body.index,
            stage=body.stage,
            candidate=body.candidate,
            seed=body.seed,
            ladder=body.ladder,
            recipe=body.recipe,
            parent=body.parent,
            lineage=body.lineage,
            rung=-1 if body.parent is None else body.parent.rung,
            checkpoint=None if body.parent is None else self.checkpoint_at(body.parent),
            static={m.metric: m for m in body.static},
            note=body.origin,
        )
        self.standing.setdefault((body.stage, TrialStatus.WAITING), set()).add(body.trial)
        # in order as a rule; a proposal that a kill has cut off comes later than those behind it
        numbers = self.numbers.setdefault(body.stage, [])
        bisect.insort(numbers, body.trial, key=lambda n: self.trials[n].index)

    def _plan(self, body: SegmentPlanned, event: Event) -> None:
        segment = Segment(body.job, event.utc, body.forecast_s, body.forecast_usd)
        self.segments[body.job.key] = self.open_segments[body.job.key] = segment
        name = body.job.key.rsplit("-", 1)[0]
        self.tries[name] = self.tries.get(name, 0) + 1
        if body.job.trial in self.trials:
            self._change(body.job.trial, status=TrialStatus.RUNNING, job=body.job.key)

    def _start(self, body: SegmentStarted, event: Event) -> None:
        segment = replace(self.segments[body.job], started_utc=event.utc, handle=body.handle)
        self.segments[body.job] = segment
        if body.job in self.open_segments:
            self.open_segments[body.job] = segment

    def _finish(self, body: SegmentFinished, event: Event) -> None:
        segment = replace(self.segments[body.job], end=body, finished_utc=event.utc)
        self.segments[body.job] = segment
        self.open_segments.pop(body.job, None)
        self.ends += 1
        self._spend(segment.job.stage, body.cost_usd)
        trial = self.trials.get(body.trial)
        if trial is None:
            return
        trial = replace(
            trial,
            job=None,
            cost_usd=trial.cost_usd + body.cost_usd,
            seconds=trial.seconds + body.seconds,
        )
        self.trials[body.trial] = trial
        if body.failure is not None:
            self._fail(trial, segment, body)
        else:
            self._succeed(trial, segment.job, body)

    def _fail(self, trial: Trial, segment: Segment, body: SegmentFinished) -> None:
        """A failed segment puts its trial back to where it stood; the plan decides what follows."""
        training = segment.job.kind is JobKind.TRAIN
        back = TrialStatus.READY if trial.rung >= 0 and training else TrialStatus.WAITING
        if trial.rung >= trial.top_rung and not training:
            back = TrialStatus.COMPLETED
        self._change(
            trial.number,
            status=back,
            attempt=trial.attempt + (0 if body.retry else 1),
            failure=body.failure,
            checkpoint=body.checkpoint or trial.checkpoint,
        )

    def _succeed(self, trial: Trial, job: Job, body: SegmentFinished) -> None:
        found = {m.metric: m for m in body.measurements}
        if job.kind is JobKind.TRAIN:
            work = [units(job.ladder, job.from_rung, job.to_rung, resumable=r) for r in (True, False)]
            self.paces[trial.candidate.key] = (body.seconds, work[0], work[1])
            static = {name: m for name, m in found.items() if m.step is None}
            learned = {name: m for name, m in found.items() if m.step is not None}
            at_top = job.to_rung >= trial.top_rung
            self._change(
                trial.number,
                status=TrialStatus.COMPLETED if at_top else TrialStatus.UNDECIDED,
                rung=job.to_rung,
                results={**trial.results, job.to_rung: learned},
                static={**trial.static, **static},
                checkpoint=body.checkpoint,
                attempt=0,
                failure=None,
            )
            return
        # what belongs to a step was made of what had been learned there
        static = {name: m for name, m in found.items() if m.step is None}
        anew = {**trial.results.get(trial.rung, {}), **{n: m for n, m in found.items() if m.step is not None}}
        self._change(
            trial.number,
            status=TrialStatus.COMPLETED if trial.rung >= trial.top_rung else TrialStatus.WAITING,
            static={**trial.static, **static},
            results={**trial.results, trial.rung: anew} if anew else trial.results,
            attempt=0,
            failure=None,
        )

    def _decide(self, body: Decided, _: Event) -> None:
        self.decisions.append(body)
        if body.kind != "stopper" or body.trial is None:
            return
        after = {"continue": TrialStatus.READY, "pause": TrialStatus.PAUSED, "stop": TrialStatus.STOPPED}
        self._change(body.trial, status=after[body.verdict], note=body.reason)

    def copy(self) -> History:
        """A copy that can be folded further without touching this one."""
        return replace(
            self,
            trials=dict(self.trials),
            segments=dict(self.segments),
            decisions=list(self.decisions),
            stages=dict(self.stages),
            alerts=dict(self.alerts),
            alert_times=dict(self.alert_times),
            alert_log=list(self.alert_log),
            charges=list(self.charges),
            costs=dict(self.costs),
            open_segments=dict(self.open_segments),
            tries=dict(self.tries),
            paces=dict(self.paces),
            numbers={stage: list(numbers) for stage, numbers in self.numbers.items()},
            standing={key: set(numbers) for key, numbers in self.standing.items()},
        )

    def of_stage(self, stage: str) -> list[Trial]:
        """Trials of a stage in the order of their index."""
        return [self.trials[n] for n in self.numbers.get(stage, ())]

    def at_rung(self, stage: str, rung: int) -> list[Trial]:
        """Trials of a stage that have a result at a rung, in the order of their index."""
        return [t for t in self.of_stage(stage) if rung in t.results]

    def with_status(self, stage: str, *statuses: TrialStatus) -> list[Trial]:
        """Trials of a stage in one of some states, in the order of their index."""
        found = [self.trials[n] for s in set(statuses) for n in self.standing.get((stage, s), ())]
        return sorted(found, key=lambda t: t.index)

    def finished(self, stage: str) -> bool:
        """Whether a stage has ended."""
        return self.stages.get(stage) is not None

    def successes(self, kind: JobKind, stage: str | None = None) -> list[Segment]:
        """Segments of a kind that ended with a result, in the order of planning."""
        return [
            s
            for s in self.segments.values()
            if (s.end is not None and s.end.failure is None)
            and s.job.kind is kind
            and (stage is None or s.job.stage == stage)
        ]

    def checkpoint_at(self, parent: Parent) -> str | None:
        """The checkpoint that a trial wrote at a rung, if it has come that far."""
        done = (s for s in self.successes(JobKind.TRAIN) if s.job.trial == parent.trial)
        return next((s.end.checkpoint for s in done if s.end and s.job.to_rung == parent.rung), None)

    def decision(self, kind: str) -> Decided | None:
        """The latest decision of a kind."""
        return next((d for d in reversed(self.decisions) if d.kind == kind), None)


_HANDLERS: Mapping[type, Callable[[History, Any, Event], None]] = {
    RunStarted: History._take,
    StageStarted: History._begin_stage,
    TrialProposed: History._propose,
    SegmentPlanned: History._plan,
    SegmentStarted: History._start,
    Measured: History._measure,
    SegmentFinished: History._finish,
    TrialEnded: History._end_trial,
    Decided: History._decide,
    StageFinished: History._end_stage,
    Charged: History._charge,
    Alert: History._alert,
    Amended: History._amend,
    RunFinished: History._end_run,
}
"""What each kind of event changes; a test holds that none is missing."""


def fold(events: Iterable[Event]) -> History:
    """The history of some events."""
    history = History()
    for event in events:
        history.apply(event)
    return history
