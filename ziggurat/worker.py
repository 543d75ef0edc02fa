"""A warm worker: does one job after the other, as JSON lines tell it, until its input ends.

It is started as `python -m ziggurat.worker RUN_DIR NAME`. Standard output carries messages for the
controller and nothing else; what user code prints goes to the log. A result is written whole (temporary
name, fsync, rename) before the controller hears of it.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from ziggurat import jobs
from ziggurat.domain import Failure, FailureKind, Job, JobKind
from ziggurat.errors import ZigguratError
from ziggurat.events import job_from_plain, to_plain
from ziggurat.files import write_whole

BEAT_S = 1.0
LONGEST_TEXT = 500
PATIENCE = 0.6
"""Share of the grace in which a stop waits for the end of an epoch, where the state can be kept."""


class Line:
    """The line to the controller: messages out, jobs and requests to stop in."""

    def __init__(self, stdin: IO[bytes], fd: int) -> None:
        """Listen on a stream and speak on a file descriptor."""
        self._stdin, self._fd = stdin, fd
        self._lock = threading.Lock()
        self.inbox: queue.Queue[Job] = queue.Queue()
        self._stop_at: float | None = None
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

    def stopped(self, at_epoch_end: bool) -> bool:
        """Whether the job is to stop here: at the end of an epoch, or anywhere once the grace runs out."""
        if self._stop_at is None:
            return False
        return at_epoch_end or time.monotonic() >= self._stop_at

    def say(self, **message: object) -> None:
        """Send a message."""
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._fd, data) :]

    def _listen(self) -> None:
        for raw in self._stdin:
            message = json.loads(raw)
            if message["do"] == "job":
                self._stop_at = None
                self.inbox.put(job_from_plain(message["job"]))
            elif message["do"] == "stop":
                now = time.monotonic()
                self._stop_at = now + PATIENCE * float(message["grace_s"])
        # the controller is gone: whatever runs here, children of user code included, is of no use any more
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _beat(self) -> None:
        while not threading.Event().wait(BEAT_S):
            self.say(**{"is": "beat"})


def describe(error: BaseException) -> str:
    """An exception as one line: type, text and the place in the user's reach."""
    text = " ".join(str(error).split()) or "no text"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    name = "" if isinstance(error, ZigguratError) else f"{type(error).__name__}: "
    return f"{name}{text[:LONGEST_TEXT]}{'' if isinstance(error, ZigguratError) else place}"


def classify(error: BaseException) -> Failure:
    """The failure that an exception stands for."""
    from ziggurat.trainers import Diverged, StopTraining

    if isinstance(error, StopTraining):
        return Failure(FailureKind.PREEMPTED, "stopped on request")
    if isinstance(error, Diverged):
        return Failure(FailureKind.DIVERGED, describe(error))
    text = str(error).lower()
    memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    if memory or "can't allocate memory" in text or "not enough memory" in text:
        return Failure(FailureKind.OUT_OF_MEMORY, describe(error))
    return Failure(FailureKind.USER_ERROR, describe(error))


def perform(job: Job, desk: jobs.Desk, line: Line, folder: Path) -> None:
    """Do a job and leave its result, whatever happens."""
    from ziggurat.launchers.pool import result_path
    from ziggurat.trainers import StopTraining

    began, busy = time.monotonic(), time.process_time()
    result: dict[str, Any] = {}

    def row(step: int, measurements: object) -> None:
        line.say(**{"is": "row", "key": job.key, "step": step, "measurements": to_plain(measurements)})

    try:
        outcome = desk.do(job, row, line.stopped)
        result = {
            "measurements": to_plain(outcome.measurements),
            "checkpoint": outcome.checkpoint,
            "payload": outcome.payload,
        }
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a failed job is a value, classified and kept
        if not isinstance(error, StopTraining):
            traceback.print_exc()
        failure = classify(error)
        result = {
            "failure": to_plain(failure),
            "retry": failure.kind is FailureKind.PREEMPTED,
            "checkpoint": getattr(error, "checkpoint", None),
        }
    result |= {"job": to_plain(job), "seconds": time.monotonic() - began}
    result["cpu_s"] = time.process_time() - busy
    write_whole(result_path(folder, job.key), json.dumps(result))
    line.say(**{"is": "done", "key": job.key})


def serve(
    folder: Path, name: str, make_desk: Callable[[Path, str], jobs.Desk], *, cold: bool = False
) -> None:
    """Take jobs until the input ends; `cold`: without a dummy fit first."""
    fd = os.dup(1)
    os.dup2(2, 1)  # prints of user code and libraries go to the log
    line = Line(sys.stdin.buffer, fd)
    desk = make_desk(folder, name)
    desk.warm(fit=not cold)
    line.say(**{"is": "ready"})
    while True:
        job = line.inbox.get()
        perform(job, desk, line, folder)
        if job.kind is JobKind.INSPECT:
            desk.warm_searcher()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the controller decides what an interrupt means
    try:
        serve(Path(sys.argv[1]), sys.argv[2], jobs.Desk, cold=sys.argv[3:] == ["cold"])
    except BaseException:  # noqa: BLE001 - the interpreter's own end would abort over the thread that reads its input
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
