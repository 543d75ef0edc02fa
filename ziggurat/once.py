"""One job on another machine: `python -m ziggurat.once RUN KEY`.

RUN is the run directory, where the machine sees it, or the URL of the run in its store. What is to be done
is in the job's order; signs of life and numbers go into its beat, which is written whole again and again; its
result is written last. A second start under the same key, after a requeue, ends at once if there is a result,
and goes on from the last checkpoint if there is only a beat. After a result the process may wait a little for
the next segment of the trial, and does that too; a second start does whatever was passed on last.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from ziggurat import usage
from ziggurat.domain import Job, Measurement
from ziggurat.errors import ZigguratError
from ziggurat.events import job_from_plain, to_plain
from ziggurat.jobs import Desk
from ziggurat.launchers.relay import awaited, passed
from ziggurat.launchers.results import Shelf, beat_key, heard, home, order_key, parsed, result_key
from ziggurat.notices import Notices, sources
from ziggurat.performing import Earlier, Keeper, Stop, attempt, leave
from ziggurat.stores import Store, is_url, open_url

SHORTEST_S = 1.0
"""Least seconds between two beats that new numbers give rise to."""
LOOK_S = 0.2
"""Seconds between two looks whether the job is over."""
SPEC = "spec.yaml"


@dataclass
class Order:
    """What a launcher writes down about a job before it submits it.

    Attributes:
        job: The job.
        grace_s: Seconds between the request to stop and the end by force.
        beat_s: Seconds between two signs of life.
        linger_s: Seconds to wait for the next segment of the trial, after a result.
    """

    job: Job
    grace_s: float
    beat_s: float
    linger_s: float = 0.0


@dataclass
class Beat:
    """The sign of life of a job: who works on it, since when, and what it has come to so far."""

    shelf: Shelf
    job: Job
    keeper: Keeper
    earlier: Earlier
    rows: list[tuple[int, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The work begins now."""
        self._began = time.monotonic()
        self._told = 0.0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Worker seconds, those of earlier starts included."""
        return self.earlier.seconds + time.monotonic() - self._began

    def row(self, step: int, measurements: Sequence[Measurement]) -> None:
        """Take numbers of an epoch."""
        self.rows.append((step, to_plain(tuple(measurements))))
        if time.monotonic() - self._told >= SHORTEST_S:
            self.tell_if_possible()

    def tell_if_possible(self) -> None:
        """Write it; where that fails the work goes on, and the lease decides whether it was for long."""
        try:
            self.tell()
        except (ZigguratError, OSError) as error:
            print(f"no sign of life could be given: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log

    def keep_if_possible(self) -> None:
        """Have a checkpoint inside the segment kept; a large one may take longer than a beat."""
        try:
            self.keeper.keep_partial()
        except (ZigguratError, OSError) as error:
            print(f"a checkpoint is not kept yet: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log

    def tell(self) -> None:
        """Write it; it names a checkpoint once that is kept."""
        with self._lock:
            self._told = time.monotonic()
            if self.keeper.store is None:
                self.keeper.keep_partial()
            plain = {
                "job": to_plain(self.job),
                "seconds": self.seconds,
                "lost_s": self.earlier.lost_s + self.keeper.unkept_s(),
                "starts": self.earlier.starts + 1,
                "checkpoint": self.keeper.kept or self.earlier.checkpoint,
                "rows": list(self.rows),
                "usage": dict(usage.current()),
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "utc": time.time(),
            }
            self.shelf.put(beat_key(self.job.key), json.dumps(plain).encode())


class Seat:
    """A place where jobs of one run are done, one after the other; what they share stays warm."""

    def __init__(self, run: str) -> None:
        """Take a run: its directory, or its URL in a store."""
        self.stop = Stop()
        self.notice = ""
        """What was announced about the end of this machine, once something was."""
        self._busy = threading.Lock()
        self._grace_s = 0.0
        self._last: Order | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        store: Store | None = None
        folder = Path(run)
        if is_url(run):
            store = open_url(run)
            self._scratch = tempfile.TemporaryDirectory(prefix="ziggurat-")
            folder = Path(self._scratch.name) / run.partition("?")[0].rstrip("/").rsplit("/", 1)[-1]
            folder.mkdir()
            if not store.download(SPEC, folder / SPEC):
                raise ZigguratError(f"{run}: holds no run ({SPEC} is missing); name the URL of a run")
        self.shelf = Shelf(folder, store)
        self.desk = Desk(folder, "worker")
        self.desk.lenient = True
        self.desk.store = store
        self._notices = Notices(sources(), self._noticed)

    def warm(self) -> None:
        """Import and load what every job needs."""
        self.desk.warm()

    def _noticed(self, notice: str) -> None:
        self.notice = notice
        self.ask_to_stop(notice)

    def ask_to_stop(self, reason: str, grace_s: float | None = None) -> None:
        """Have the job write a checkpoint and end."""
        self.stop.ask(self._grace_s if grace_s is None else grace_s, reason)

    def do(self, key: str, spent_s: float = 0.0) -> bool:
        """Do a job whose order is there; whether it came to a result without a failure.

        Args:
            key: Of the job.
            spent_s: Seconds that getting ready for it has taken, which are its own.

        Raises:
            ZigguratError: There is no such order.
        """
        with self._busy:
            self._last = None
            order = self._order(key)
            done = self._result(key, order.job)
            if done is not None:
                return "failure" not in done
            self._grace_s = order.grace_s
            good = self._work(order, spent_s)
            self._last = order if good else None
            return good

    def due(self, key: str) -> str:
        """The job that a start under a key is for: that one, or the last that was passed on behind it."""
        while (following := passed(self.shelf, key)) is not None:
            key = following
        return key

    def following(self, asked: threading.Event) -> str | None:
        """Wait for the next job after one that was done here; None if none comes, or an end is asked for."""
        if self._last is None or self._last.linger_s <= 0 or asked.is_set() or self.notice:
            return None
        try:
            return awaited(
                self.shelf, self._last.job, self._last.linger_s, lambda s: asked.wait(s) or bool(self.notice)
            )
        except (ZigguratError, OSError) as error:
            print(f"no further job is waited for: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the log
            return None

    def _order(self, key: str) -> Order:
        raw = self.shelf.get(order_key(key))
        if raw is None:
            raise ZigguratError(f"{order_key(key)}: there is no such job; it may have been cancelled")
        plain = json.loads(raw)
        seconds = (float(plain.get(name, 0.0)) for name in ("grace_s", "beat_s", "linger_s"))
        return Order(job_from_plain(plain["job"]), *seconds)

    def _result(self, key: str, job: Job) -> dict[str, Any] | None:
        plain = parsed(self.shelf.get(result_key(key)))
        return plain if plain is not None and plain.get("job") == to_plain(job) else None

    def _earlier(self, job: Job, beat_s: float) -> Earlier:
        """What an earlier start has come to; it may have gone on until just before its next beat."""
        beat = heard(parsed(self.shelf.get(beat_key(job.key))), job)
        if beat is None:
            return Earlier()
        return Earlier(beat["checkpoint"], beat["seconds"] + beat_s, beat["lost_s"], beat["starts"])

    def _work(self, order: Order, spent_s: float) -> bool:
        job = order.job
        if self._scratch is not None:
            # another machine may have written a later one under the same name
            for stale in (self.shelf.folder / home(job.key)).glob("partial.*"):
                stale.unlink()
        keeper = Keeper(self.shelf.folder, self.shelf.store, job)
        earlier = self._earlier(job, order.beat_s)
        beat = Beat(self.shelf, job, keeper, replace(earlier, seconds=earlier.seconds + spent_s))
        over = threading.Event()
        threads = [
            threading.Thread(target=_repeat, args=(each, order.beat_s, over), daemon=True)
            for each in (beat.tell_if_possible, beat.keep_if_possible)
        ]
        beat.tell_if_possible()
        for thread in threads:
            thread.start()
        try:
            result = attempt(self.desk, job, beat.row, self.stop, keeper, beat.earlier)
        finally:
            over.set()
            for thread in threads:
                thread.join()
            self.stop.clear()
        beat.tell_if_possible()  # whoever sees the result is to see all numbers
        leave(result, job, keeper)
        return "failure" not in result

    def close(self) -> None:
        """Ask the cloud no more, and remove the scratch directory, if there is one."""
        self._notices.close()
        if self._scratch is not None:
            self._scratch.cleanup()


def _repeat(deed: Callable[[], None], every_s: float, over: threading.Event) -> None:
    while not over.wait(every_s):
        deed()


def main(run: str, key: str) -> int:
    """Do a job and those that follow on this machine; 0 if the last came to a result, 1 if it failed.

    Each job has a thread of its own: this one hears signals at once, and no library takes them for itself.
    """
    asked = threading.Event()
    reasons: list[str] = []

    def on_signal(number: int, _: object) -> None:
        reasons.append(f"the machine asked for an end ({signal.Signals(number).name})")
        asked.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    seat = Seat(run)
    if asked.is_set():
        return 1  # nothing has been begun, so nothing is to be kept
    due: str | None = seat.due(key)
    spent_s = time.time() - psutil.Process().create_time()
    with ThreadPoolExecutor(1) as thread:
        while due is not None:
            done = thread.submit(seat.do, due, spent_s)
            while not done.done():
                if asked.wait(LOOK_S):
                    seat.ask_to_stop(reasons[0])
                    break
            good = done.result()
            left = time.monotonic()
            due = seat.following(asked)
            spent_s = time.monotonic() - left
    seat.close()
    return 0 if good else 1


if __name__ == "__main__":
    try:
        code = main(sys.argv[1], sys.argv[2])
    except BaseException:  # noqa: BLE001 - the interpreter's own end may abort over threads of libraries
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
