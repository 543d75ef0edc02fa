"""A pool of warm workers: who runs what, who is late, who died, and of what.

`workers` processes train, evaluate and export; one more, the service, proposes, profiles and inspects. A
run may have several pools, each for a role; one that only trains has no service. Jobs go in
as JSON lines on standard input; signs of life and numbers come out as JSON lines on standard output; a
result is a file written whole by the worker, so it is there even if the line about it, or the controller,
was lost. While an exclusive job runs, all other workers are stopped by a signal, and the time does not
count for them.
"""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ziggurat import usage
from ziggurat.budget import Vain
from ziggurat.domain import TRAINING, Failure, FailureKind, Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import job_to_json, measurements_from_plain
from ziggurat.launchers import gpus
from ziggurat.launchers.local import Local
from ziggurat.launchers.process import WorkerProcess
from ziggurat.launchers.results import read_result, result_path
from ziggurat.processes import kernel_kills
from ziggurat.protocols import Clock, Progress

SERVICE = "service"
MEMORY_CHECK_S = 0.25
STARTS_IN_VAIN = 3
DEAF_S = 1.0
"""Seconds after which a worker that has closed its line, but does not end, is ended."""


class Pool:
    """The local launcher."""

    def __init__(self, settings: Local, folder: Path, workers: int, role: str = "") -> None:
        """Start the workers; they become ready while the caller goes on."""
        before = f"{role}-" if role else ""
        self.settings = settings
        self.folder = folder
        self.clock = Clock()
        self._selector = selectors.DefaultSelector()
        self._closed = False
        self._checked = 0.0
        self._ended: dict[str, Progress] = {}
        self._rows: dict[str, list[tuple[int, Any]]] = {}
        self._usage: dict[str, dict[str, float]] = {}
        names = [f"{before}worker-{i}" for i in range(workers)]
        self._gpus = dict(zip(names, settings.gpu_shares(workers), strict=False))
        (folder / "logs").mkdir(exist_ok=True)
        self.service = None if role and workers else self._spawn(before + SERVICE)
        self.workers = [self._spawn(name) for name in names]

    def _spawn(self, name: str, vain: int = 0) -> WorkerProcess:
        worker = WorkerProcess(
            name,
            self.folder,
            self.settings.threads,
            cold=vain > 0,
            fork=self.settings.start == "fork" and not vain,
            environment={gpus.VARIABLE: self._gpus[name]} if name in self._gpus else {},
        )
        worker.vain = vain
        self._selector.register(worker.stdout, selectors.EVENT_READ, worker)
        return worker

    def _all(self) -> list[WorkerProcess]:
        return [*self._group(JobKind.PROFILE), *self.workers]

    def _group(self, kind: JobKind) -> list[WorkerProcess]:
        if kind in TRAINING:
            return self.workers
        return [] if self.service is None else [self.service]

    def plan(self, job: Job) -> str:
        """The command line of a worker and the line it would be given."""
        command = " ".join(WorkerProcess.command(self.folder, "worker-0"))
        return f"{command} < {job_to_json(job)}"

    def free(self, kind: JobKind) -> int:
        """Ready workers without a job; none while an exclusive job runs."""
        return 0 if self._quiet() else sum(w.idle for w in self._group(kind))

    def _quiet(self) -> bool:
        """Whether an exclusive job runs."""
        return any(w.job is not None and w.job.exclusive for w in self._group(JobKind.PROFILE))

    def start(self, job: Job) -> str:
        """Give a job to an idle worker."""
        worker = next(w for w in self._group(job.kind) if w.idle)
        path = result_path(self.folder, job.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # of another job: its journal was cut off, and its key is given again
        if job.exclusive:
            for other in self._all():
                if other is not worker:
                    other.pause()
        self._rows[job.key] = []
        worker.give(job, job.time_limit_s or self.settings.time_limit_s)
        return f"local:{worker.pid}"

    def find(self, job: Job, handle: str = "") -> Progress | None:
        """The result file of a job, whoever started it; no worker outlives its controller."""
        del handle
        return read_result(self.folder, job)

    def poll(self, key: str) -> Progress:
        """Where a job stands, with the numbers since the last poll."""
        rows = tuple((step, measurements_from_plain(m)) for step, m in self._rows.get(key, []))
        self._rows[key] = []
        if key in self._ended:
            del self._rows[key]
            self._usage.pop(key, None)
            return replace(self._ended.pop(key), rows=rows)
        return Progress(done=False, seconds=self.elapsed(key), rows=rows, usage=self._usage.get(key, {}))

    def elapsed(self, key: str) -> float:
        """Worker seconds of a job so far; 0 if it does not run here."""
        worker = next((w for w in self._all() if w.job is not None and w.job.key == key), None)
        return worker.seconds() if worker else 0.0

    def cancel(self, key: str, grace_s: float) -> None:
        """Ask the worker of a job to stop, and end it when the grace is over."""
        for worker in self._all():
            if worker.job is not None and worker.job.key == key:
                worker.ask_to_stop(grace_s)

    def vain(self) -> Sequence[Vain]:
        """Nothing: a worker that waits does not wait for its machine."""
        return ()

    def wait(self, seconds: float) -> None:
        """Read what workers have said, look after those that are late or dead, and return."""
        waiting = 0.0 if self._ended else max(0.0, min(seconds, MEMORY_CHECK_S))
        for key, _ in self._selector.select(waiting):
            worker: WorkerProcess = key.data
            for message in worker.read():
                self._hear(worker, message)
        for worker in self._all():
            self._look_after(worker)

    def _hear(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        match message.get("is"):
            case "row" if message.get("key") in self._rows:
                self._rows[message["key"]].append((int(message["step"]), message["measurements"]))
            case "beat" if worker.job is not None and message.get("usage"):
                self._usage[worker.job.key] = usage.from_plain(message["usage"])
            case "done" if worker.job is not None and message.get("key") == worker.job.key:
                self._finish(worker, None)

    def _finish(self, worker: WorkerProcess, failure: Failure | None, *, retry: bool = False) -> None:
        job = worker.job
        if job is None:
            return
        seconds = worker.seconds()
        found = read_result(self.folder, job, seconds)
        if found is None:
            failure = failure or Failure(FailureKind.LOST, "the worker left no result")
            found = Progress(done=True, seconds=seconds, failure=failure, retry=retry)
        self._ended[job.key] = found
        worker.job = worker.stop_by = None
        if job.exclusive:
            for other in self._all():
                other.proceed()

    def _look_after(self, worker: WorkerProcess) -> None:
        """End a worker that is late, silent or too large, and replace one that died."""
        now = time.monotonic()
        if worker.poll() is not None:
            for message in worker.read():
                self._hear(worker, message)
            self._bury(worker)
            return
        if worker.paused:
            return
        verdict = self._verdict(worker, now)
        if verdict is not None:
            worker.end(verdict)
        elif now - worker.weighed > MEMORY_CHECK_S:
            self._weigh(worker, now)

    def _verdict(self, worker: WorkerProcess, now: float) -> Failure | None:
        """Why a living worker must end; None if it may go on."""
        settings = self.settings
        if not worker.ready and now - worker.born > settings.start_timeout_s:
            return Failure(FailureKind.LOST, "the worker did not become ready")
        if worker.stop_by is not None and now > worker.stop_by:
            return Failure(FailureKind.PREEMPTED, "stopped without a checkpoint: the grace was over")
        if worker.job is not None and worker.seconds() > worker.limit_s:
            text = f"longer than its limit of {worker.limit_s:g} s"
            cure = "; raise time_limit_s of its launcher" if worker.limit_s == settings.time_limit_s else ""
            return Failure(FailureKind.TIMEOUT, text + cure)
        if worker.deaf_since is not None and now - worker.deaf_since > DEAF_S:
            return Failure(FailureKind.LOST, "the worker closed its line to the controller")
        if worker.ready and now - worker.heard > settings.lease_s:
            return Failure(FailureKind.LOST, f"no sign of life for {settings.lease_s:g} s")
        return None

    def _weigh(self, worker: WorkerProcess, now: float) -> None:
        worker.weighed = now
        size = worker.measure()
        limit = self.settings.memory_limit_mb
        if limit is not None and size > limit:
            text = f"{size:.0f} MB of memory, the limit is {limit:.0f} MB"
            worker.end(Failure(FailureKind.OUT_OF_MEMORY, text))

    def _bury(self, worker: WorkerProcess) -> None:
        """Classify the end of a dead worker's job and put a new worker in its place."""
        self._selector.unregister(worker.stdout)
        retry = worker.verdict is not None and worker.verdict.kind is FailureKind.PREEMPTED
        self._finish(worker, worker.verdict or _autopsy(worker), retry=retry)
        worker.close()
        if self._closed:
            return
        vain = 0 if worker.ready else worker.vain + 1
        if vain >= STARTS_IN_VAIN:
            why = worker.verdict.text if worker.verdict is not None else worker.last_words()
            raise ZigguratError(f"workers do not start ({vain} tries in a row); see {worker.log}: {why}")
        fresh = self._spawn(worker.name, vain)
        if self._quiet():
            fresh.pause()
        if worker is self.service:
            self.service = fresh
        else:
            self.workers[self.workers.index(worker)] = fresh

    def close(self, *, leave: bool = False) -> None:
        """End all workers."""
        del leave
        self._closed = True
        for worker in self._all():
            worker.end(None)
        for worker in self._all():
            with contextlib.suppress(Exception):
                worker.close()
        self._selector.close()


def _autopsy(worker: WorkerProcess) -> Failure:
    """Why a worker died that nobody here ended."""
    code = worker.poll() or 0
    if code == -signal.SIGKILL and kernel_kills() > worker.kernel_kills:
        return Failure(FailureKind.OUT_OF_MEMORY, "ended by the kernel for lack of memory")
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return Failure(FailureKind.LOST, f"the worker died ({how})")
