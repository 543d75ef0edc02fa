"""A launcher over any scheduler: jobs are processes of their own on machines that this one may never see.

A job's order is written first, then it is submitted under a name that follows from run and job, so that no
crash in between can start it twice. What it says comes back through files: a beat while it works, a result at
the end. The scheduler is asked only how the process stands, and why it has ended without a result.

Searching, profiling and inspecting is done by a service process on this machine, unless the launcher is a
device's own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ziggurat.budget import Vain
from ziggurat.domain import TRAINING, Failure, FailureKind, Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import to_plain
from ziggurat.launchers.errand import SPEAKING, Errand
from ziggurat.launchers.local import Local
from ziggurat.launchers.pool import Pool
from ziggurat.launchers.relay import Kept, Relay, pass_on, passed, withdraw
from ziggurat.launchers.remote import AFTERMATH_S, job_name
from ziggurat.launchers.results import (
    Shelf,
    beat_key,
    from_plain,
    next_key,
    order_key,
    parsed,
    result_key,
)
from ziggurat.launchers.scheduler import OVER, Condition, State
from ziggurat.protocols import Clock, Progress, Site
from ziggurat.stores import StoreError

if TYPE_CHECKING:
    from ziggurat.launchers.remote import RemoteSetting

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 8


class Dispatcher:
    """The launcher of jobs on other machines."""

    def __init__(self, settings: RemoteSetting, site: Site) -> None:
        """Begin without jobs; those of an earlier controller come through `find`."""
        self.settings, self.site = settings, site
        self.clock = Clock()
        self.scheduler = settings.scheduler(site.folder)
        self._shelf = Shelf(site.folder, site.store)
        serves = not site.role
        self._service = Pool(Local(), site.folder, 0) if serves else None
        self._errands: dict[str, Errand] = {}
        self._relay = Relay(settings, self._shelf)
        self._looked = 0.0
        self._mute_since: float | None = None
        self._deaf = False
        self._threads = ThreadPoolExecutor(LOOKS_AT_ONCE, thread_name_prefix="looks")

    def _served(self, kind: JobKind) -> Pool | None:
        return self._service if kind not in TRAINING else None

    def plan(self, job: Job) -> str:
        """The scheduler's own request for a job, as text."""
        service = self._served(job.kind)
        if service is not None:
            return service.plan(job)
        return self.scheduler.plan(self.settings.request(self.site, job))

    def free(self, kind: JobKind) -> int:
        """Places without a job; a launcher that only measures has one."""
        service = self._served(kind)
        if service is not None:
            return service.free(kind)
        return max(0, (self.site.workers or 1) - len(self._errands))

    def start(self, job: Job) -> str:
        """Write a job's order, and submit it or pass it on to a machine that waits for it."""
        service = self._served(job.kind)
        if service is not None:
            return service.start(job)
        kept = self._relay.take(job)
        order = self.settings.order(job) | ({} if kept is None else {"after": kept.told()})
        self._shelf.put(order_key(job.key), json.dumps(order).encode())
        for of in (result_key, beat_key, next_key):  # of another job under a key that is given again
            self._shelf.remove(of(job.key))
        if kept is not None and pass_on(self._shelf, kept.job, job.key):
            errand = kept.errand(job, self.settings.limit_s(job))
        else:
            errand = self._submitted(job)
        self._errands[job.key] = errand
        return errand.handle

    def _submitted(self, job: Job) -> Errand:
        self._relay.make_room((self.site.workers or 1) - len(self._errands) - 1)
        try:
            handle = self.scheduler.submit(self.settings.request(self.site, job))
        except ZigguratError as error:
            known = self._known(job)  # the answer may have been lost, and not the question
            if known is None:
                # the refusal is the job's end, so that the rest of the run goes on within its tolerance
                failure = Failure(FailureKind.LOST, f"not taken by the scheduler: {error}")
                return Errand(job, "refused", 0.0, end=Progress(True, 0.0, failure=failure))
            handle = known
        return Errand(job, handle, self.settings.limit_s(job))

    def _known(self, job: Job) -> str | None:
        """The handle of a job, if the scheduler can say that it has it."""
        try:
            return self.scheduler.look_up(job_name(self.site.folder.name, job.key))
        except ZigguratError:
            return None

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """The result of a job, or where it stands if the scheduler still has it; it is ours then."""
        if self._served(job.kind) is not None:
            return None
        order = self._get(order_key(job.key))
        if order is None or order.get("job") != to_plain(job):
            return None
        if (found := self._result(job)) is not None:
            done = Errand(job, "", 0.0)
            done.hear(self._get(beat_key(job.key)))
            return replace(found, rows=done.news())
        errand = self._found_again(job, handle, order.get("after"))
        if errand is None:
            unknown = Errand(job, "", 0.0, condition=Condition(State.GONE))
            unknown.hear(self._get(beat_key(job.key)))
            # it may have gone on until just before its next beat
            unknown.ran_s = float(unknown.beat.get("seconds", 0.0)) + self.settings.beat_s
            return replace(unknown.obituary(), rows=unknown.news()) if unknown.beat else None
        handle = errand.handle
        errand.stand(self.scheduler.conditions([handle]).get(handle, Condition(State.GONE)))
        errand.hear(self._get(beat_key(job.key)) or {})
        if errand.after is None and errand.since is not None:
            errand.since -= errand.seconds
        self._errands[job.key] = errand  # even if it is over: what it has written may not have come to light
        return Progress(done=False, seconds=errand.seconds)

    def _found_again(self, job: Job, handle: str, after: dict[str, Any] | None) -> Errand | None:
        """The job of an earlier controller: passed on, or else submitted with this handle or none known."""
        if after is not None:
            kept = Kept.read(after)
            if passed(self._shelf, kept.job.key) == job.key:
                return kept.errand(job, self.settings.limit_s(job))
            handle = ""  # it was passed on in vain, and perhaps submitted then
        if handle in {"", "found", "refused"}:
            handle = self.scheduler.look_up(job_name(self.site.folder.name, job.key)) or ""
        return Errand(job, handle, self.settings.limit_s(job)) if handle else None

    def poll(self, key: str) -> Progress:
        """Where a job stands, with the numbers since the last poll."""
        errand = self._errands.get(key)
        if errand is None:
            if self._service is None:
                raise KeyError(key)
            return self._service.poll(key)
        rows = errand.news()
        if errand.end is None:
            return Progress(done=False, seconds=errand.seconds, rows=rows, usage=errand.beat.get("usage", {}))
        del self._errands[key]
        return replace(errand.end, rows=rows)

    def elapsed(self, key: str) -> float:
        """Worker seconds of a job so far; 0 while it waits in a queue."""
        errand = self._errands.get(key)
        if errand is not None:
            return errand.seconds
        return self._service.elapsed(key) if self._service is not None else 0.0

    def cancel(self, key: str, grace_s: float) -> None:
        """Have the scheduler send the signal to stop; the end by force comes with its grace."""
        errand = self._errands.get(key)
        if errand is None:
            if self._service is not None:
                self._service.cancel(key, grace_s)
        elif errand.end is None and errand.stop_by is None:
            errand.stop_by = time.monotonic() + max(grace_s, self.settings.grace_s) + AFTERMATH_S
            self._cancel(errand)

    def _cancel(self, errand: Errand) -> None:
        try:
            self.scheduler.cancel(errand.handle)
        except ZigguratError as error:
            log.warning("job %s could not be cancelled: %s", errand.job.key, error)

    def vain(self) -> Sequence[Vain]:
        """How long machines have waited for a next segment that did not come."""
        return self._relay.told()

    def wait(self, seconds: float) -> None:
        """Look at service and jobs when it is time, and return."""
        if self._service is not None:
            self._service.wait(seconds if not self._errands else min(seconds, self.settings.poll_s))
        elif seconds > 0 and not any(e.end for e in self._errands.values()):
            time.sleep(min(seconds, self.settings.poll_s))
        now = time.monotonic()
        running = [e for e in self._errands.values() if e.end is None]
        if running and now - self._looked >= self.settings.poll_s:
            self._looked = now
            try:
                self._look(running)
                self._deaf = False
            except StoreError as error:
                self._excuse(running, error)

    def _excuse(self, errands: list[Errand], error: StoreError) -> None:
        """Nothing can be read just now: that is no fault of the jobs, and no end of any."""
        if not self._deaf:
            log.warning("what jobs have written cannot be read, they go on: %s", error)
        self._deaf = True
        for errand in errands:
            errand.excused = time.monotonic()

    def _look(self, errands: list[Errand]) -> None:
        """Read what jobs have written, ask the scheduler how they stand, and end what has ended."""
        for errand, beat in zip(
            errands, self._threads.map(lambda e: self._get(beat_key(e.job.key)), errands), strict=True
        ):
            errand.hear(beat or {})
        conditions = self._conditions(list(dict.fromkeys(e.handle for e in errands)))
        for errand in errands:
            errand.stand(conditions.get(errand.handle, errand.condition))
        for errand, end in zip(errands, self._threads.map(self._ended, errands), strict=True):
            errand.end = end
            if end is not None:
                self._relay.keep(errand)
            elif not errand.astray:
                self._hurry(errand)
            elif errand.settled(AFTERMATH_S):
                self._send_after_all(errand)

    def _conditions(self, handles: list[str]) -> dict[str, Condition]:
        """What the scheduler says; nothing if it does not answer just now."""
        try:
            found = dict(self.scheduler.conditions(handles))
        except ZigguratError as error:
            if self._mute_since is None:
                self._mute_since = time.monotonic()
                log.warning("the scheduler does not answer, its jobs go on: %s", error)
            return {}
        self._mute_since = None
        return {h: found.get(h, Condition(State.GONE)) for h in handles}

    def _ended(self, errand: Errand) -> Progress | None:
        """The end of a job, if it has one."""
        over = errand.condition.state in OVER
        if not (over or errand.beat):
            return None
        found = self._result(errand.job)
        if found is not None:
            errand.hear(self._get(beat_key(errand.job.key)))  # with its last numbers, written just before
            if errand.condition.state not in OVER:
                self._after(errand, found)
            return errand.judged(found)
        if not over:
            errand.over_since = None
            return None
        errand.over_since = errand.over_since or time.monotonic()
        if errand.astray or not errand.settled(AFTERMATH_S):
            return None
        return errand.obituary(self._words(errand))

    def _send_after_all(self, errand: Errand) -> None:
        """Submit a job that its machine has ended without; that machine does not come back to it."""
        assert errand.after is not None
        try:
            withdraw(self._shelf, errand.after)
        except ZigguratError as error:
            log.warning("job %s cannot be submitted yet: %s", errand.job.key, error)
            return
        del self._errands[errand.job.key]
        self._errands[errand.job.key] = self._submitted(errand.job)

    def _after(self, errand: Errand, found: Progress) -> None:
        """A pre-empted job may be queued again by its scheduler, though it has said all it had to say."""
        if found.failure is not None and found.failure.kind is FailureKind.PREEMPTED:
            self._cancel(errand)

    def _words(self, errand: Errand) -> str:
        """The last line of a job's output, where that says more than its scheduler."""
        if errand.verdict is not None or errand.condition.state not in SPEAKING:
            return ""
        try:
            return self.scheduler.last_words(errand.handle)
        except ZigguratError:
            return ""

    def _hurry(self, errand: Errand) -> None:
        """End a job that is late or silent."""
        now = time.monotonic()
        if errand.stop_by is not None:
            if now > errand.stop_by:
                errand.verdict = errand.verdict or Failure(
                    FailureKind.PREEMPTED, "stopped without a checkpoint: the grace was over"
                )
                self._cancel(errand)
                errand.end = errand.obituary()
            return
        if errand.outstays(self.settings.lasts_s(errand.job)):
            self.cancel(errand.job.key, self.settings.grace_s)  # it goes on in a job of its own
        elif errand.seconds > errand.limit_s:
            cure = "; raise time_limit_s of its launcher" if errand.job.time_limit_s is None else ""
            text = f"longer than its limit of {errand.limit_s:g} s{cure}"
            errand.verdict = Failure(FailureKind.TIMEOUT, text)
        elif errand.silent(self.settings.lease_s):
            errand.verdict = Failure(
                FailureKind.LOST,
                f"no sign of life for {self.settings.lease_s:g} s, though its scheduler says running",
            )
        if errand.verdict is not None:
            self.cancel(errand.job.key, self.settings.grace_s)

    def _result(self, job: Job) -> Progress | None:
        plain = self._get(result_key(job.key))
        return None if plain is None else from_plain(plain, job)

    def _get(self, key: str) -> dict[str, Any] | None:
        """The JSON that is written under a key, if anything is."""
        return parsed(self._shelf.get(key))

    def close(self, *, leave: bool = False) -> None:
        """End what runs, unless it is left to another controller."""
        for errand in self._errands.values():
            if errand.end is None and not leave:
                self._cancel(errand)
        if not leave:
            self._relay.make_room(0)
        self._errands.clear()
        self._threads.shutdown(wait=False)
        try:
            self.scheduler.close(leave=leave)
        finally:
            if self._service is not None:
                self._service.close()
