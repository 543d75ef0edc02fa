"""How a machine that has done a segment is kept for the next one of the same trial.

A worker that has left a result waits a little for a file beside it that names the next job. That file is
created exclusively, once: by the controller, to pass a job on or to say that there is none, or by the worker,
when it leaves. So there is no moment in which one relies on the other in vain, unless a process dies; then
the scheduler says that it is over, and only then the job is submitted on its own.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ziggurat.budget import Vain
from ziggurat.domain import Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import job_from_plain, to_plain
from ziggurat.launchers.errand import Errand
from ziggurat.launchers.results import Shelf, next_key, parsed
from ziggurat.launchers.scheduler import Condition, State

if TYPE_CHECKING:
    from ziggurat.launchers.remote import RemoteSetting

log = logging.getLogger(__name__)

LOOK_S = 0.3
"""Seconds between two looks for a next job in a run directory."""
LOOK_IN_STORE_S = 1.0
USED_UP = 0.5
"""Share of its time after which a machine is not given another segment: that would hardly come to its end."""


def passed(shelf: Shelf, key: str) -> str | None:
    """The job that was passed on to the machine that did `key`; None if there is none (yet)."""
    told = _told(shelf, key)
    return None if told is None else told.get("next")


def _told(shelf: Shelf, key: str) -> dict[str, Any] | None:
    return parsed(shelf.get(next_key(key)))


def pass_on(shelf: Shelf, job: Job, following: str) -> bool:
    """Have the machine that did a job do the one with key `following`; False if it has left."""
    try:
        if shelf.create(next_key(job.key), _line(job, following)):
            return True
        return passed(shelf, job.key) == following  # a store may refuse what it has taken just before
    except (ZigguratError, OSError) as error:
        # in doubt it counts as passed on, since nothing is submitted before that machine is over
        log.warning("whether job %s was passed on is not known: %s", following, error)
        return True


def close(shelf: Shelf, job: Job) -> bool:
    """Say that nothing follows a job on its machine; False if something does, or that was said before."""
    return shelf.create(next_key(job.key), _line(job, None))


def withdraw(shelf: Shelf, job: Job) -> None:
    """Say that nothing follows a job on its machine, whatever was said before."""
    shelf.put(next_key(job.key), _line(job, None))


def _line(job: Job, following: str | None) -> bytes:
    return json.dumps({"next": following, "after": to_plain(job)}).encode()


def awaited(shelf: Shelf, job: Job, seconds: float, leaves: Callable[[float], bool]) -> str | None:
    """Wait on a machine for the job that follows there; None if there is none.

    Args:
        shelf: Where it would be told.
        job: The one that was done here last.
        seconds: How long.
        leaves: Sleeps for so many seconds, and says whether the machine is asked to end.
    """
    until = time.monotonic() + seconds
    while (told := _told(shelf, job.key)) is None:
        left = until - time.monotonic()
        if left <= 0 and close(shelf, job):
            return None
        if leaves(min(max(left, 0.05), LOOK_S if shelf.store is None else LOOK_IN_STORE_S)):
            return None
    return told.get("next") if told.get("after") == to_plain(job) else None


@dataclass(frozen=True)
class Kept:
    """A machine whose worker waits for the next segment of a trial.

    Attributes:
        job: What it has done last.
        handle: The scheduler's.
        since: When it was first seen to run, in seconds since 1970.
        until: Until when it waits, on the monotonic clock.
        began: Since when it has waited, at the latest.
    """

    job: Job
    handle: str
    since: float
    until: float = 0.0
    began: float = 0.0

    def told(self) -> dict[str, Any]:
        """It as plain JSON, for a controller that comes later."""
        return {"job": to_plain(self.job), "handle": self.handle, "since": self.since}

    def errand(self, job: Job, limit_s: float) -> Errand:
        """A job that was passed on to it."""
        errand = Errand(job, self.handle, limit_s, after=self.job)
        errand.stand(Condition(State.RUNNING))
        errand.since = self.since
        return errand

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Kept:
        """It as another controller has told it."""
        return cls(job_from_plain(plain["job"]), plain["handle"], float(plain["since"]))


@dataclass
class Relay:
    """The machines that wait, as their controller sees it."""

    settings: RemoteSetting
    shelf: Shelf
    kept: dict[int, Kept] = field(default_factory=dict)
    vain: list[Vain] = field(default_factory=list)
    """Waiting that came to nothing, not told yet."""

    def keep(self, errand: Errand) -> None:
        """Remember the machine of a job that has just ended, if it waits for another."""
        waits_s = self.settings.waits_s(errand.job)
        good = errand.end is not None and errand.end.failure is None and errand.stop_by is None
        runs = errand.condition.state is State.RUNNING and errand.since is not None
        if waits_s > 0 and good and runs:
            now = time.monotonic()
            until = now + waits_s - self.settings.poll_s
            self.kept[errand.job.trial] = Kept(errand.job, errand.handle, errand.since or 0.0, until, now)

    def take(self, job: Job) -> Kept | None:
        """The machine that waits for a job, if it may still have the time for it."""
        kept = self.kept.pop(job.trial, None)
        if kept is None:
            return None
        if time.monotonic() > kept.until:
            self._waited(kept)
            return None
        if job.kind is JobKind.TRAIN and time.time() - kept.since < USED_UP * self.settings.lasts_s(job):
            return kept
        self._release(kept)
        return None

    def make_room(self, places: int) -> None:
        """Let machines go until no more than so many wait: their places go to other trials."""
        self._forget()
        for trial in list(self.kept)[: max(0, len(self.kept) - places)]:
            self._release(self.kept.pop(trial))

    def _forget(self) -> None:
        """Those that have waited long enough have left."""
        now = time.monotonic()
        for trial in [t for t, k in self.kept.items() if k.until <= now]:
            self._waited(self.kept.pop(trial))

    def _waited(self, kept: Kept) -> None:
        """Note how long a machine waited for nothing: since it was done, and until it looks the next time."""
        look_s = self.settings.poll_s + (LOOK_S if self.shelf.store is None else LOOK_IN_STORE_S)
        seconds = min(time.monotonic() - kept.began + look_s, self.settings.waits_s(kept.job))
        self.vain.append(Vain("linger", seconds, kept.job.key))

    def told(self) -> list[Vain]:
        """Waiting that came to nothing, since this was asked last."""
        self._forget()
        told, self.vain = self.vain, []
        return told

    def _release(self, kept: Kept) -> None:
        self._waited(kept)
        try:
            close(self.shelf, kept.job)
        except (ZigguratError, OSError) as error:
            log.warning("a machine waits in vain for trial %d: %s", kept.job.trial, error)
