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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ziggurat.domain import TRAINING, Failure, FailureKind, Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import measurements_from_plain, to_plain
from ziggurat.launchers.errand import Errand
from ziggurat.launchers.local import Local
from ziggurat.launchers.pool import Pool
from ziggurat.launchers.remote import job_name
from ziggurat.launchers.results import Shelf, beat_key, from_plain, order_key, result_key
from ziggurat.launchers.scheduler import OVER, Condition, State
from ziggurat.protocols import Clock, Progress, Site

if TYPE_CHECKING:
    from ziggurat.launchers.remote import RemoteSetting

log = logging.getLogger(__name__)

LOOKS_AT_ONCE = 8
AFTERMATH_S = 5.0
"""Seconds that a result may take to become visible after the scheduler says that its job is over."""
LONGEST_BEAT_S = 10.0
_SPEAKING = frozenset({State.SUCCEEDED, State.FAILED, State.GONE})
"""Ends whose cause may lie in the job itself, so that its output says more."""


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
        self._looked = 0.0
        self._mute_since: float | None = None
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
        """Write a job's order and submit it."""
        service = self._served(job.kind)
        if service is not None:
            return service.start(job)
        order = {
            "job": to_plain(job),
            "grace_s": self.settings.grace_s,
            "beat_s": min(LONGEST_BEAT_S, self.settings.lease_s / 6),
        }
        self._shelf.put(order_key(job.key), json.dumps(order).encode())
        for key in (result_key(job.key), beat_key(job.key)):  # of another job under a key that is given again
            self._shelf.remove(key)
        try:
            handle = self.scheduler.submit(self.settings.request(self.site, job))
        except ZigguratError as error:
            # the refusal is the job's end, so that the rest of the run goes on within its tolerance
            failure = Failure(FailureKind.LOST, f"not taken by the scheduler: {error}")
            self._errands[job.key] = Errand(job, "", 0.0, end=Progress(True, 0.0, failure=failure))
            return "refused"
        self._errands[job.key] = Errand(job, handle, job.time_limit_s or self.settings.time_limit_s)
        return handle

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """The result of a job, or where it stands if the scheduler still has it; it is ours then."""
        if self._served(job.kind) is not None:
            return None
        order = self._get(order_key(job.key))
        if order is None or order.get("job") != to_plain(job):
            return None
        if (found := self._result(job)) is not None:
            return found
        handle = (
            handle
            if handle not in {"", "found", "refused"}
            else self.scheduler.look_up(self._name(job)) or ""
        )
        if not handle:
            return None
        errand = Errand(job, handle, job.time_limit_s or self.settings.time_limit_s)
        errand.stand(self.scheduler.conditions([handle]).get(handle, Condition(State.GONE)))
        errand.hear(self._get(beat_key(job.key)) or {})
        if errand.condition.state in OVER:
            return self._result(job) or errand.obituary(self._words(errand))
        self._errands[job.key] = errand
        return Progress(done=False, seconds=errand.seconds)

    def _name(self, job: Job) -> str:
        return job_name(self.site.folder.name, job.key)

    def poll(self, key: str) -> Progress:
        """Where a job stands, with the numbers since the last poll."""
        errand = self._errands.get(key)
        if errand is None:
            if self._service is None:
                raise KeyError(key)
            return self._service.poll(key)
        rows = tuple((step, measurements_from_plain(found)) for step, found in errand.rows)
        errand.rows = []
        if errand.end is None:
            return Progress(done=False, seconds=errand.seconds, rows=rows)
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
            self._look(running)

    def _look(self, errands: list[Errand]) -> None:
        """Read what jobs have written, ask the scheduler how they stand, and end what has ended."""
        for errand, beat in zip(
            errands, self._threads.map(lambda e: self._get(beat_key(e.job.key)), errands), strict=True
        ):
            errand.hear(beat or {})
        conditions = self._conditions([e.handle for e in errands])
        for errand in errands:
            errand.stand(conditions.get(errand.handle, errand.condition))
        for errand, end in zip(errands, self._threads.map(self._ended, errands), strict=True):
            errand.end = end
            if end is None:
                self._hurry(errand)

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
            if errand.condition.state not in OVER:
                self._after(errand, found)
            return errand.judged(found)
        if not over:
            errand.over_since = None
            return None
        errand.over_since = errand.over_since or time.monotonic()
        late = time.monotonic() - errand.over_since
        if errand.condition.state in _SPEAKING and late < AFTERMATH_S:
            return None  # the file system or the store may be behind
        return errand.obituary(self._words(errand))

    def _after(self, errand: Errand, found: Progress) -> None:
        """A pre-empted job may be queued again by its scheduler, though it has said all it had to say."""
        if found.failure is not None and found.failure.kind is FailureKind.PREEMPTED:
            self._cancel(errand)

    def _words(self, errand: Errand) -> str:
        """The last line of a job's output, where that says more than its scheduler."""
        if errand.verdict is not None or errand.condition.state not in _SPEAKING:
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
        if errand.seconds > errand.limit_s:
            errand.verdict = Failure(FailureKind.TIMEOUT, f"longer than its limit of {errand.limit_s:g} s")
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
        raw = self._shelf.get(key)
        return None if raw is None else dict(json.loads(raw))

    def close(self, *, leave: bool = False) -> None:
        """End what runs, unless it is left to another controller."""
        for errand in self._errands.values():
            if errand.end is None and not leave:
                self._cancel(errand)
        self._errands.clear()
        self._threads.shutdown(wait=False)
        try:
            self.scheduler.close(leave=leave)
        finally:
            if self._service is not None:
                self._service.close()
