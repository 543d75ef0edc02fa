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
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

from ziggurat import jobs, usage
from ziggurat.domain import Job, JobKind
from ziggurat.events import job_from_plain, to_plain
from ziggurat.performing import Earlier, Keeper, Stop, attempt, leave

BEAT_S = 1.0


class Line:
    """The line to the controller: messages out, jobs and requests to stop in."""

    def __init__(self, stdin: IO[bytes], fd: int) -> None:
        """Listen on a stream and speak on a file descriptor."""
        self._stdin, self._fd = stdin, fd
        self._lock = threading.Lock()
        self.inbox: queue.Queue[Job] = queue.Queue()
        self.stop = Stop()
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()

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
                self.stop.clear()
                self.inbox.put(job_from_plain(message["job"]))
            elif message["do"] == "stop":
                self.stop.ask(float(message["grace_s"]))
        # the controller is gone: whatever runs here, children of user code included, is of no use any more
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def _beat(self) -> None:
        while not threading.Event().wait(BEAT_S):
            self.say(**{"is": "beat", "usage": dict(usage.current())})


def _serve_one(job: Job, desk: jobs.Desk, line: Line) -> None:
    """Do a job and tell the controller."""

    def row(step: int, measurements: object) -> None:
        line.say(**{"is": "row", "key": job.key, "step": step, "measurements": to_plain(measurements)})

    keeper = Keeper(desk.folder, desk.store, job)
    leave(attempt(desk, job, row, line.stop, keeper, Earlier()), job, keeper)
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
        _serve_one(job, desk, line)
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
