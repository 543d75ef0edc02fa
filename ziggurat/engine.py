"""The loop that turns plans into work: poll, journal, plan, start, wait.

One `Engine` serves all stages of a run and owns its machines. It decides nothing itself: what to do comes
from `ziggurat.plan`, what has happened goes into the journal, and both are functions of the history.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ziggurat import calling, outcomes, plan
from ziggurat.contexts import measuring
from ziggurat.domain import FailureKind, Job, JobKind
from ziggurat.errors import RunTakenError, ZigguratError
from ziggurat.events import (
    Body,
    Decided,
    Measured,
    SegmentFinished,
    SegmentPlanned,
    SegmentStarted,
    TrialProposed,
    body_from_plain,
)
from ziggurat.inprocess import performer
from ziggurat.machines import Machines
from ziggurat.plan import Rules, Step
from ziggurat.protocols import Forecast, Progress
from ziggurat.runs import Interrupted, Run
from ziggurat.segments import Segment
from ziggurat.spending import Spending
from ziggurat.stores import StoreError

WAIT_S = 0.2
TICK_S = 1.0
Planner = Callable[["Engine", int], Step]
Tick = Callable[[float], Sequence[Body]]


@dataclass
class Idle:
    """How long workers had nothing to do, in worker seconds, while a stage was running."""

    since: float
    waited_s: float = 0.0


class Engine:
    """Runs the segments of a run's stages."""

    def __init__(self, run: Run, ticks: Sequence[Tick] = ()) -> None:
        """Start the launcher; workers warm up while the caller goes on."""
        self.run = run
        self.ticks = list(ticks)
        self.pool = Machines(run.spec, run.folder, performer(run.folder, run.history), run.clock())
        run.clock = self.pool.clock.utc
        self.money = Spending(run, self.pool)
        self.idle = Idle(self.pool.clock.monotonic())
        self.usage: dict[str, Mapping[str, float]] = {}
        """What running segments use of their machines, by job key, as last heard."""
        self._search = run.spec.search
        self._dry: int | None = None
        self._services: dict[str, tuple[Job, int]] = {}
        self._asked = self._mute = 0
        self._ticked = 0.0
        try:
            self._settle_leftovers()
        except BaseException:
            self.pool.close(leave=True)
            raise

    def _settle_leftovers(self) -> None:
        """Take in what an earlier controller left; what no machine works on any more is tried again."""
        history = self.run.history
        for segment in list(history.open_segments.values()):
            progress = self.pool.find(segment.job, segment.handle or "")
            if progress is not None and not progress.done:
                continue
            if progress is None:
                begun = segment.started_utc or segment.planned_utc
                seconds = self.run.last_seen_utc - begun
                failure = plan.lost("its controller ended before it did")
                progress = Progress(True, max(0.0, seconds), failure=failure, retry=True)
            self._record_rows(segment.job, progress)
            self._record_end(segment.job, progress)

    def context_rules(self, stage: str, *, reserve: bool) -> Rules:
        """The limits of a stage as they are now."""
        spec, history = self.run.spec, self.run.history
        measured = spec.metrics.measured
        wanted = [metric for metric in spec.inputs() if metric in measured]
        device = spec.devices[0].name if wanted else None
        return replace(
            self.money.rules(stage, reserve=reserve),
            retries=spec.search.retries,
            max_failures=spec.search.max_failures,
            device=device,
            measured=tuple(wanted),
            profiling=measuring(spec, history, JobKind.PROFILE, device) if device else Forecast(0.0, 0.0),
        )

    def elapsed(self, key: str) -> float:
        """Worker seconds of an open segment so far."""
        return self.pool.elapsed(key)

    def drive(self, planner: Planner, stage: str, *, reserve: bool = False) -> Step:
        """Run a stage's segments until its plan is done; returns the last step, which says why it is.

        Raises:
            Interrupted: Somebody asked the run to stop, or its store cannot be used; running jobs were asked
                to checkpoint first.
        """
        self.pool.prepare(stage)
        self._search = self.run.spec.at(stage).search
        self.idle, self._dry = Idle(self.pool.clock.monotonic()), None
        self.money.begin()
        try:
            while True:
                self.run.check_stop()
                self._collect()
                rules = self._tick(stage, reserve=reserve)
                free = self.pool.free(JobKind.TRAIN)
                step = self.money.funded(planner(self, free))
                self._carry_out(step, stage)
                self._count_idle()
                if step.done and not self.run.history.open_segments and not self._services:
                    self.run.record(self.money.charges(stage, all_=True))
                    return step
                self.pool.wait(0.0 if step.bodies else self.money.patience_s(rules))
        except (Interrupted, KeyboardInterrupt):
            self.interrupt()
            raise
        except StoreError as error:
            self.interrupt()
            raise Interrupted(str(error)) from None

    def _count_idle(self) -> None:
        now = self.pool.clock.monotonic()
        self.idle.waited_s += self.pool.free(JobKind.TRAIN) * (now - self.idle.since)
        self.idle.since = now

    def _carry_out(self, step: Step, stage: str) -> None:
        self.run.record(step.bodies)
        self.run.record(SegmentPlanned(job, f.seconds, f.usd) for job, f in step.jobs)
        # a result may be there already if the journal was cut off behind the end of this job
        found = {job.key: self.pool.find(job) for job, _ in step.jobs}
        handles = {job: "found" if found[job.key] else self.pool.start(job) for job, _ in step.jobs}
        try:
            self.run.record(SegmentStarted(job.key, job.trial, handle) for job, handle in handles.items())
        except RunTakenError:
            for job in [j for j in handles if not found[j.key]]:  # who has the run now knows nothing of them
                self.pool.cancel(job.key, 0.0)
            raise
        for job, _ in step.jobs:
            if (progress := found[job.key]) is not None and progress.done:
                self._record_rows(job, progress)
                self._record_end(job, progress)
        if step.want:
            self._ask(stage, step.want)

    def _ask(self, stage: str, count: int) -> None:
        self._asked += 1
        key = f"service-propose-{self.run.history.length}-{self._asked}-{self.run.mark[-8:]}"
        job = Job(key, JobKind.PROPOSE, stage, count=count, attempt=self._mute)
        self._services[key] = (job, self.run.history.ends)
        self.pool.start(job)

    @property
    def exhausted(self) -> bool:
        """Whether the searcher had no candidate left, or a joint strategy no segment and nothing is new."""
        joint = self._search.strategy is not None
        return self._dry is not None and (not joint or self._dry == self.run.history.ends)

    @property
    def asking(self) -> bool:
        """Whether a request for proposals is under way."""
        return any(job.kind is JobKind.PROPOSE for job, _ in self._services.values())

    def _collect(self) -> None:
        for key, segment in self._running().items():
            progress = self.pool.poll(key)
            self._record_rows(segment.job, progress)
            self.usage[key] = progress.usage
            if progress.done:
                self._record_end(segment.job, progress)
        for key, (_, ends) in list(self._services.items()):
            progress = self.pool.poll(key)
            if progress.done:
                del self._services[key]
                self._take_proposals(progress, ends)

    def _running(self) -> dict[str, Segment]:
        """Open segments that have come as far as a machine."""
        return {k: s for k, s in self.run.history.open_segments.items() if self.pool.has(k)}

    def _record_rows(self, job: Job, progress: Progress) -> None:
        self.run.record(Measured(job.key, job.trial, job.attempt, step, ms) for step, ms in progress.rows)

    def _record_end(self, job: Job, progress: Progress) -> None:
        bodies: list[Body] = []
        self.usage.pop(job.key, None)
        if job.kind is not JobKind.TRAIN and progress.measurements:
            bodies.append(Measured(job.key, job.trial, job.attempt, None, progress.measurements))
        if job.kind is JobKind.EXPORT and progress.payload is not None:
            told = {**progress.payload, "seen": self.run.history.length}
            bodies += [body for body in [body_from_plain(told)] if isinstance(body, Decided)]
        failure, found = progress.failure, progress.measurements
        if failure is None:
            found += outcomes.derive(self.run.spec, self.run.history, job, found)
            if job.kind is JobKind.TRAIN:
                failure = outcomes.lacking(self.run.spec, found, progress.payload)
        bodies.append(
            SegmentFinished(
                job=job.key,
                trial=job.trial,
                seconds=round(progress.seconds, 6),
                cost_usd=self.money.price(job, progress.seconds),
                failure=failure,
                measurements=() if failure else found,
                checkpoint=progress.checkpoint,
                retry=progress.retry,
                usage=progress.usage,
            )
        )
        self.money.worked(job, progress.seconds)
        self.run.record(bodies)

    def _take_proposals(self, progress: Progress, ends: int) -> None:
        """Journal proposals that were asked for when so many segments had ended."""
        if progress.failure is not None:
            if progress.failure.kind is FailureKind.USER_ERROR:
                raise ZigguratError(f"search.searcher: proposing failed ({progress.failure.text})")
            # the service died; the plan asks again, and then no candidate is built to look at it
            self._mute += 1
            if self._mute > self.run.spec.search.retries:
                raise ZigguratError(
                    f"search.searcher: proposing failed {self._mute} times ({progress.failure.text})"
                )
            return
        self._mute = 0
        bodies = [body_from_plain(p) for p in progress.payload]
        self._dry = None if bodies else ends
        if not bodies and self._search.strategy is None:
            text = "the searcher has no further candidate within the limits"
            bodies = [Decided("exhausted", "stop", seen=self.run.history.length, reason=text)]
        self.run.record(b for b in bodies if isinstance(b, (TrialProposed, Decided)))

    def _tick(self, stage: str, *, reserve: bool) -> Rules:
        self.money.looked()
        rules = self.context_rules(stage, reserve=reserve)
        if self.money.tend(rules):
            rules = self.context_rules(stage, reserve=reserve)
        late = plan.overdue(self.run.history, rules)
        self.run.record(self.money.stop(stage, rules, late))
        for key in late:
            self.pool.cancel(key, self.run.spec.budget.stop_margin_s)
        if self._time_for_ticks():
            self.run.record(self.money.charges(stage))
            self._run_ticks()
        return rules

    def _time_for_ticks(self) -> bool:
        now = self.pool.clock.monotonic()
        due = now - self._ticked >= TICK_S
        self._ticked = now if due else self._ticked
        return due

    def _run_ticks(self) -> None:
        for tick in self.ticks:
            self.run.record(tick(self.run.clock()))

    def attend(self, seconds: float) -> None:
        """Let time pass in which nothing runs: heed a request to stop, keep the run's store, run the ticks.

        Raises:
            Interrupted: Somebody asked the run to stop, or its store cannot be used.
        """
        self.run.check_stop()
        if self._time_for_ticks():
            self.money.tend()
            self._run_ticks()
        self.run.stop.wait(seconds)

    def call(self, job: Job, timeout_s: float = 600.0) -> Any:  # noqa: ANN401 - plain JSON
        """Have the service do a job that is no segment, and return its payload; see `calling.call`."""
        return calling.call(self.run, self.pool, self.money, job, timeout_s)

    def interrupt(self) -> None:
        """Ask all running jobs to checkpoint, wait for them within the grace, and journal their ends."""
        longest = 0.0
        for key, segment in self._running().items():
            # what runs alone has no checkpoint to write, and holds up those that have
            grace = 0.0 if segment.job.exclusive else self.money.grace_s(segment.job)
            longest = max(longest, grace)
            self.pool.cancel(key, grace)
        deadline = time.monotonic() + longest + 2.0
        while self._running() and time.monotonic() < deadline:
            self.pool.wait(WAIT_S)
            self._collect()

    def release(self, stage: str) -> None:
        """Close the launchers that only this stage has needed, and charge what they had not worked for."""
        self.run.record(self.money.charges(stage, all_=True))
        self.pool.release()
        self.run.record(self.money.vain(stage))

    def rest(self) -> None:
        """Close all launchers for a while, and charge what they had not worked for."""
        self.run.record(self.money.charges("", all_=True))
        self.pool.rest()
        self.run.record(self.money.vain(""))

    def close(self, *, leave: bool = False) -> None:
        """End the workers; with `leave`, what runs on other machines goes on for another controller."""
        bodies = [] if leave else self.money.charges("", all_=True)
        try:
            self.pool.close(leave=leave)
        finally:
            bodies += [] if leave else self.money.vain("")
            with contextlib.suppress(ZigguratError, Interrupted):  # whoever has the run now charges for it
                self.run.record(bodies)
            self.money.close(leave=leave)
