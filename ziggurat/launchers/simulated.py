"""A launcher of imaginary machines: jobs are answered at once, and a virtual clock says when they end.

It serves trainers that know how long a training takes without doing it, such as `table`. Whole searches run
in seconds then, through the same planner, journal, searchers and stoppers as on real machines.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from ziggurat.budget import Vain
from ziggurat.domain import TRAINING, Failure, FailureKind, Job, JobKind
from ziggurat.events import job_to_json
from ziggurat.pricing import Priced
from ziggurat.protocols import Clock, Progress, Site

START_UTC = 1_000_000_000.0
"""Where the virtual clock begins, so that the journals of two equal searches are equal."""


class Simulated(Priced):
    """Imaginary workers with a virtual clock."""

    kind: Literal["simulated"] = "simulated"
    charge: Literal["busy", "held"] = Field(
        default="busy",
        description="When a machine is paid: while it works, or from its start to its release, so that idle "
        "and waiting seconds are charged too.",
    )
    grace_s: float = Field(default=0.0, ge=0, description="Virtual seconds a cancelled job has to stop.")

    @property
    def starts_processes(self) -> bool:
        """Whether anything could outlive its controller."""
        return False

    def stop_s(self, job: Job, margin_s: float) -> float:
        """Virtual seconds that a job may still take once it is asked to stop."""
        del job
        return max(self.grace_s, margin_s)

    def launch(self, site: Site) -> Simulator:
        """Imagine workers; `seconds` of an answer of `site.perform` are how long it takes by the clock."""
        if site.perform is None:
            raise AssertionError("imaginary workers need somebody who answers for them")
        return Simulator(site.workers, site.perform, site.utc or START_UTC)

    def clock(self, last_utc: float) -> Callable[[], float]:
        """The time of what happens before there are workers: the virtual clock stands."""
        return lambda: max(START_UTC, last_utc)


class Simulator:
    """Workers, and the clock they work by."""

    def __init__(self, workers: int, perform: Callable[[Job], Progress], utc: float = START_UTC) -> None:
        """Begin with all workers idle."""
        self._workers = workers
        self._perform = perform
        self._now = utc
        self._count = 0
        self._ends: list[tuple[float, int, str]] = []
        self._running: dict[str, tuple[Job, float, float, Progress]] = {}
        self.clock = Clock(utc=lambda: self._now, monotonic=lambda: self._now, virtual=True)

    def plan(self, job: Job) -> str:
        """The job itself: there is no machine to ask."""
        return job_to_json(job)

    def free(self, kind: JobKind) -> int:
        """Workers without a job, or whether the service has none."""
        same = sum((job.kind in TRAINING) == (kind in TRAINING) for job, *_ in self._running.values())
        return max(0, (self._workers if kind in TRAINING else 1) - same)

    def start(self, job: Job) -> str:
        """Answer a job; the answer is there when its time has passed."""
        progress = self._perform(job)
        takes = progress.seconds if job.kind in TRAINING else 0.0
        self._count += 1
        end = self._now + takes
        self._running[job.key] = (job, self._now, end, replace(progress, seconds=takes))
        heapq.heappush(self._ends, (end, self._count, job.key))
        return f"simulated:{self._count}"

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """Nothing outlives its controller here."""
        del job, handle
        return None

    def poll(self, key: str) -> Progress:
        """Where a job stands by the virtual clock."""
        _, begun, end, progress = self._running[key]
        if self._now < end:
            return Progress(done=False, seconds=self._now - begun)
        del self._running[key]
        return progress

    def elapsed(self, key: str) -> float:
        """Virtual seconds of a job so far; 0 if it does not run here."""
        if key not in self._running:
            return 0.0
        return self._now - self._running[key][1]

    def cancel(self, key: str, grace_s: float) -> None:
        """Have a job end after some seconds without a result, unless it ends sooner."""
        if key not in self._running:
            return
        job, begun, end, _ = self._running[key]
        stop = self._now + grace_s
        if stop < end:
            failure = Failure(FailureKind.PREEMPTED, "stopped before its end")
            stopped = Progress(done=True, seconds=stop - begun, failure=failure, retry=True)
            self._running[key] = (job, begun, stop, stopped)
            self._count += 1
            heapq.heappush(self._ends, (stop, self._count, key))

    def wait(self, seconds: float) -> None:
        """Put the clock to the next end of a job, but not by more than some seconds."""
        while self._ends and self._ends[0][2] not in self._running:
            heapq.heappop(self._ends)
        if seconds > 0 and self._ends:
            self._now = max(self._now, min(self._ends[0][0], self._now + seconds))

    def vain(self) -> Sequence[Vain]:
        """Nothing: imaginary machines are there when they are wanted."""
        return ()

    def close(self, *, leave: bool = False) -> None:
        """Forget everything."""
        del leave
        self._running.clear()
        self._ends.clear()
