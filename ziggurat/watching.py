"""A watchdog outside the controller: it looks whether those who drive runs are alive, and tells if not.

It needs neither Prefect nor a database: it reads the sign of life that a controller renews
(`ziggurat.lease`), and whether the journal says that the run goes on. Silence is what does not change while
the watcher looks on, so no two clocks are compared. What has been told is kept in `watch.json` beside the
sign of life, by conditional writes, so that of several watchers one tells, and one that starts again does not
repeat. The journal of a run is never written.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from ziggurat import lease
from ziggurat.errors import SpecError
from ziggurat.lease import Lease
from ziggurat.listeners.channels import Message
from ziggurat.stores import ConflictError, StoreError
from ziggurat.watch_places import Home, Incident, Whom, homes
from ziggurat.watch_post import Post

log = logging.getLogger(__name__)

ASIDE_S = 60.0
"""Seconds between two looks at a run that has ended, or whose store did not answer."""
CLAIM_S = 60.0
"""Seconds after which another watcher that wanted to tell has not, and will not."""
OLD_S = 86_400.0
"""What was silent for longer when it is first seen is no news."""


@dataclass
class Known:
    """What a watcher remembers of a run.

    Attributes:
        home: Where it is.
        state: `alive`; `quiet`: no sign of life lately; `silent`: long enough to tell; `ended`; `dead`:
            silent for long when first seen; `unknown`: no sign of life at all, or it cannot be read.
        lease: The last sign of life.
        since: When that was first seen, by the watcher's monotonic clock.
        next: When to look again, by that clock.
        whom: Whom its alerts reach; read when it is first needed.
        claimed: A claim of another watcher, and since when it has been seen.
        told: Whether its silence has been told, and its end has not.
        first: The sign of life at the first look.
    """

    home: Home
    state: str = "unknown"
    lease: Lease | None = None
    since: float = 0.0
    next: float = 0.0
    whom: Whom | None = None
    claimed: tuple[str, float] = ("", 0.0)
    told: bool = False
    first: str = ""


@dataclass(frozen=True)
class Change:
    """What a watcher has noticed: a run has another state, or something about it was told."""

    run: str
    state: str
    text: str


class Watcher:
    """Looks at runs again and again."""

    def __init__(
        self,
        place: str,
        post: Post,
        every_s: float = 10.0,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is looked at yet.

        Args:
            place: A directory of runs, a run, or a store's URL of either.
            post: Delivers what is told.
            every_s: Seconds between two looks at a run.
            now: A clock that only goes on.
            wall: The time of day.
        """
        self._place, self._post, self._every_s = place, post, every_s
        self._now, self._wall = now, wall
        self.runs: dict[str, Known] = {}
        self._listed = float("-inf")
        self._who = socket.gethostname()

    def look(self) -> list[Change]:
        """Look at every run whose turn it is; what has changed.

        Raises:
            SpecError: The place is none, or cannot be read when it is first looked at.
        """
        now = self._now()
        if now - self._listed >= self._every_s:
            self._list()
            self._listed = now
        found: list[Change] = []
        for known in self.runs.values():
            if now >= known.next:
                found += self._look_at(known, now)
        return [*found, *self.confirmed()]

    def _list(self) -> None:
        try:
            present = {home.name: home for home in homes(self._place)}
        except StoreError as error:
            if self._listed == float("-inf"):
                raise SpecError(str(error)) from None
            log.warning("%s; looking again", error)
            return
        for name in set(self.runs) - set(present):
            del self.runs[name]
        for name in sorted(set(present) - set(self.runs)):
            self.runs[name] = Known(present[name], since=self._now())

    def _look_at(self, known: Known, now: float) -> Iterator[Change]:
        before = known.state
        try:
            known.state = self._judge(known, now)
        except StoreError as error:
            known.next = now + self._every_s
            log.warning("%s; looking again", error)
            return
        pauses = {"alive": self._every_s, "quiet": min(1.0, self._every_s), "silent": self._every_s}
        known.next = now + pauses.get(known.state, max(ASIDE_S, self._every_s))
        if known.state != before:
            yield Change(known.home.name, known.state, self._words(known, now))

    def _judge(self, known: Known, now: float) -> str:
        """The state of a run; tells what is to be told."""
        found = known.home.lease()
        if found is None:
            return "unknown"
        first, changed = known.lease is None, known.lease is None or known.lease.mark != found.mark
        if changed:
            known.lease, known.since = found, now
            known.first = found.mark if first else known.first
            if first or known.told:
                self._recover(known, found)
        if found.ended:
            return "ended" if found.status != lease.RUNNING else self._silent(known, found, first=first)
        if first and self._wall() - found.utc > OLD_S:
            return "dead" if known.home.goes_on() else "ended"
        if not changed and known.state in {"dead", "ended"}:
            return known.state
        quiet_s = now - known.since
        if quiet_s < self._patience_s(known, found):
            return "quiet" if quiet_s > 2 * found.every_s + 1 else "alive"
        return self._silent(known, found, first=False)

    def _patience_s(self, known: Known, found: Lease) -> float:
        """How long nothing may change, so that telling comes within the promised time after the last sign.

        That sign may have been there since the look before, and the look that notices comes a second late.
        """
        return max(self.whom(known).rule.silence_s - self._every_s - 1.0, 2 * found.every_s + 1.0)

    def whom(self, known: Known) -> Whom:
        """Whom the alerts of a run reach."""
        if known.whom is None:
            known.whom = self._post.whom(known.home)
            promised_s = known.whom.rule.silence_s
            if self._every_s > promised_s / 2:
                log.warning(
                    "%s: a silence may be told later than silence_s = %g s; look more often than every %g s",
                    known.home.name,
                    promised_s,
                    self._every_s,
                )
        return known.whom

    def _silent(self, known: Known, found: Lease, *, first: bool) -> str:
        """Tell of a silence, unless the run has ended, somebody has told, or it is no news."""
        if not known.home.goes_on():
            return "ended"
        if first and self._wall() - found.utc > OLD_S:
            return "dead"
        if not self.whom(known).rule.enabled:
            return "silent"
        there, version = known.home.incident()
        if there is not None and there.mark == found.mark and there.state != "over":
            known.told = True
            waits = (
                self._claimed(known, there) if there.state == "claimed" else not self._due_again(known, there)
            )
            if waits:
                return "silent"
        self._tell(known, found, there, version)
        return "silent"

    def _due_again(self, known: Known, there: Incident) -> bool:
        hours = self.whom(known).rule.repeat_hours
        return hours is not None and self._wall() - max(there.raised) >= hours * 3600

    def _claimed(self, known: Known, there: Incident) -> bool:
        """Whether this watcher is trying to tell, or another is about to."""
        if self._post.carries(there):
            return True
        if known.claimed[0] != there.claim:
            known.claimed = there.claim, self._now()
        return self._now() - known.claimed[1] < CLAIM_S

    def _tell(self, known: Known, found: Lease, there: Incident | None, version: str) -> None:
        raised = (*(there.raised if there is not None else ()), self._wall())
        claim = Incident("claimed", found.mark, self._post.claim(), raised, self._who)
        try:
            version = known.home.note(claim, version)
        except ConflictError:
            return  # another watcher tells
        known.told = True
        title, text = self._alarm(known, found)
        message = Message(0, title, text, self._post.kind(self.whom(known)), self._wall())
        self._post.send(known.home, self.whom(known), message, claim, version)

    def _alarm(self, known: Known, found: Lease) -> tuple[str, str]:
        resume = f"ziggurat resume {known.home.where}"
        who = f"Process {found.pid} on {found.host}"
        last = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(found.utc))
        if found.ended:
            title = "The controller has ended without finishing the run"
            return f"[{found.run_id}] {title}", f"{who}, at {last} by its clock. Continue with: {resume}"
        quiet_s = self._now() - known.since
        return (
            f"[{found.run_id}] The controller is silent",
            f"{who} has given no sign of life for {quiet_s:.0f} s; the last is of {last} by its clock. "
            f"It is dead, stopped, asleep or cut off. If it is gone, continue with: {resume}",
        )

    def _recover(self, known: Known, found: Lease) -> None:
        """Tell that a run of which a silence was told goes on, or has come to its end."""
        there, version = known.home.incident()
        known.told = there is not None and there.state in {"told", "claimed"} and there.mark == found.mark
        if there is None or there.state == "over" or there.mark == found.mark:
            return
        if self._post.carries(there):  # it will be heard, and then this is told
            known.told = True
            return
        if found.ended and found.status == lease.RUNNING:
            return
        over = Incident("over", there.mark, self._post.claim(), there.raised, self._who)
        try:
            version = known.home.note(over, version)
        except ConflictError:
            return
        if there.state != "told":
            return  # nobody has heard of it
        same = there.mark.partition(":")[0] == found.token
        text = (
            "The controller is back." if same else f"Process {found.pid} on {found.host} has resumed the run."
        )
        if found.ended:
            text = f"The run has ended: {found.status.replace('_', ' ')}."
        title = f"[{found.run_id}] RESOLVED: The controller is silent"
        message = Message(0, title, text, "success", self._wall())
        self._post.send(known.home, self.whom(known), message, over, version)

    def confirmed(self) -> Iterator[Change]:
        """What has been delivered since this was last asked; what was claimed is told now."""
        for delivery in self._post.delivered():
            sent = delivery.sent
            if delivery.first and sent.incident.state == "claimed":
                try:
                    sent.home.note(sent.incident.as_told(), sent.version)
                except StoreError as error:
                    log.warning("%s; another watcher may repeat the alarm", error)
            words = "recovery" if sent.incident.state == "over" else "alarm"
            where = (
                f"delivered to {delivery.label}" if delivery.label else "not sent: the run names no channel"
            )
            yield Change(sent.home.name, "told", f"{words} {where}")

    @property
    def settled(self) -> bool:
        """Whether no silence can turn out any more of what was running at the first look."""
        return all(
            k.state not in {"alive", "quiet"} or (k.lease is not None and k.lease.mark != k.first)
            for k in self.runs.values()
        )

    def _words(self, known: Known, now: float) -> str:
        found = known.lease
        if found is None:
            return "no sign of life is to be found; it is of no controller that gives one"
        who = f"process {found.pid} on {found.host}"
        return {
            "alive": f"driven by {who}",
            "quiet": f"no sign of life of {who} for {now - known.since:.0f} s",
            "silent": f"{who} is silent",
            "ended": found.status.replace("_", " "),
            "dead": f"{who} has been silent since {time.strftime('%Y-%m-%d', time.gmtime(found.utc))}",
        }.get(known.state, "")


def rows(runs: Iterable[Known]) -> list[dict[str, object]]:
    """What is known of runs, as plain data."""
    return [
        {
            "run": known.home.name,
            "state": known.state,
            "host": known.lease.host if known.lease else None,
            "pid": known.lease.pid if known.lease else None,
            "last_utc": known.lease.utc if known.lease else None,
        }
        for known in runs
    ]
