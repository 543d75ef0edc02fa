"""One worker process as the pool sees it: its pipes, its clock and its memory."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from ziggurat.domain import Failure, Job
from ziggurat.events import to_plain
from ziggurat.launchers.child import Child, Spawned, Start
from ziggurat.launchers.family import Family
from ziggurat.launchers.forks import Forked, Refused
from ziggurat.launchers.remote import THREAD_VARIABLES
from ziggurat.processes import kernel_kills

log = logging.getLogger(__name__)

MODULE = "ziggurat.worker"
LONGEST_LINE = 4_000_000
COLD = "cold"
"""Last argument of a worker that is to begin without its dummy fit."""


class WorkerProcess:
    """A started worker."""

    def __init__(
        self,
        name: str,
        folder: Path,
        threads: int,
        *,
        cold: bool = False,
        fork: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; it says when it is ready.

        Args:
            name: Its name, also that of its log.
            folder: Run directory.
            threads: Of its numerical libraries.
            cold: It does not try whether user code works before it is ready.
            fork: From the template, where that can be.
            environment: Variables beside this process's own.
        """
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        self._family = Family()
        stdin, ours = os.pipe()
        self._stdin: IO[bytes] = os.fdopen(ours, "wb")
        ours, stdout = os.pipe()
        self.stdout: IO[bytes] = os.fdopen(ours, "rb")
        self._start = Start(
            module=MODULE,
            arguments=(str(folder), name, *([COLD] if cold else [])),
            environment={
                **os.environ,
                **dict.fromkeys(THREAD_VARIABLES, str(threads)),
                **(environment or {}),
                **self._family.environment,
            },
            log=self.log,
            stdin=stdin,
            stdout=stdout,
        )
        self._child = self._begin(fork=fork)
        os.set_blocking(self.stdout.fileno(), False)
        self.born = self.heard = time.monotonic()
        self.weighed = 0.0
        self.ready = False
        self.vain = 0
        self.job: Job | None = None
        self.limit_s = 0.0
        self.stop_by: float | None = None
        self.verdict: Failure | None = None
        self.paused = False
        self.deaf_since: float | None = None
        self.kernel_kills = kernel_kills()
        self._swept = False
        self._buffer = b""
        self._given = 0.0
        self._paused_at = 0.0
        self._paused_s = 0.0

    def _begin(self, *, fork: bool) -> Child:
        if fork:
            with contextlib.suppress(Refused):
                return Forked(self._start)
        return Spawned(self._start)

    @property
    def pid(self) -> int:
        """Its number; 0 as long as it is waiting for the template."""
        self._alive()
        return self._child.pid

    def _alive(self) -> bool:
        """Whether it lives; what the template has refused is started plainly."""
        try:
            return self._child.poll() is None
        except Refused as why:
            log.info("%s is started without the template: %s", self.name, why)
            self._child = Spawned(self._start)
            if self.paused:
                self._child.send_signal(signal.SIGSTOP)
            return True

    @staticmethod
    def command(folder: Path, name: str) -> list[str]:
        """The argument list of a worker."""
        return [sys.executable, "-m", MODULE, str(folder), name]

    @property
    def idle(self) -> bool:
        """Whether it can be given a job."""
        return self.ready and self.job is None and self.verdict is None

    def give(self, job: Job, limit_s: float) -> None:
        """Hand it a job."""
        self.job, self.limit_s = job, limit_s
        self.stop_by = self.verdict = None
        self._given, self._paused_s = time.monotonic(), 0.0
        self.heard = self._paused_at = self._given
        self._say({"do": "job", "job": to_plain(job)})

    def ask_to_stop(self, grace_s: float) -> None:
        """Ask it to checkpoint and stop; asking twice changes nothing."""
        if self.stop_by is None:
            self.stop_by = time.monotonic() + grace_s
            self._say({"do": "stop", "grace_s": grace_s})

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, ValueError):  # a dead worker is buried by the pool
            self._stdin.write(json.dumps(message).encode() + b"\n")
            self._stdin.flush()

    def read(self) -> list[dict[str, Any]]:
        """Whole messages that have arrived."""
        while True:
            try:
                chunk = os.read(self.stdout.fileno(), 1 << 16)
            except (BlockingIOError, OSError):
                break
            if not chunk:
                self.deaf_since = (
                    self.deaf_since or time.monotonic()
                )  # it is dead, or will never be heard again
                break
            self._buffer = (self._buffer + chunk)[-LONGEST_LINE:]
        *lines, self._buffer = self._buffer.split(b"\n")
        messages = []
        for line in lines:
            with contextlib.suppress(ValueError):  # a line of somebody else's print is no message
                message = json.loads(line)
                if isinstance(message, dict):
                    messages.append(message)
        if lines:
            self.heard = time.monotonic()
        self.ready = self.ready or any(m.get("is") == "ready" for m in messages)
        return messages

    def seconds(self) -> float:
        """Seconds since the job was given, without those in which it was paused."""
        now = time.monotonic()
        paused = self._paused_s + (now - self._paused_at if self.paused else 0.0)
        return max(0.0, now - self._given - paused)

    def pause(self) -> None:
        """Stop it, and what it has started, until `proceed`."""
        if not self.paused and self.poll() is None:
            self._child.send_signal(signal.SIGSTOP)
            self.paused, self._paused_at = True, time.monotonic()
            if self.pid:
                self._family.hold(self.pid, everywhere=self.job is not None)

    def proceed(self) -> None:
        """Let it go on."""
        if self.paused:
            self._family.let_go()
            now = time.monotonic()
            lost = now - self._paused_at
            self._paused_s += lost
            self.born += lost
            if self.stop_by is not None:
                self.stop_by += lost
            self.heard = now
            self.paused = False
            self._child.send_signal(signal.SIGCONT)

    def measure(self) -> float:
        """Resident memory of the worker and its children in MB."""
        if not self.pid:
            return 0.0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            return sum(p.memory_info().rss for p in family) / 1e6
        return 0.0

    def poll(self) -> int | None:
        """Exit code; None while it lives. What it has started dies with it."""
        if self._alive():
            return None
        if not self._swept:
            self._swept = True
            self._kill()
        return self._child.poll()

    def _kill(self) -> None:
        """End it, and what it has started in groups of their own."""
        pid = self.pid
        if pid:
            self._child.send_signal(signal.SIGSTOP)  # so that it starts no others meanwhile
            self._family.end(pid, everywhere=self.job is not None)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            self._child.kill()

    def end(self, verdict: Failure | None) -> None:
        """End it, with all it has started, and remember why."""
        self.verdict = verdict
        if self.poll() is None:
            self._kill()

    def last_words(self) -> str:
        """The last line of its log that says something."""
        with contextlib.suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            return lines[-1][:300] if lines else "the log is empty"
        return "the log cannot be read"

    def close(self) -> None:
        """Collect the dead process and close its pipes."""
        self._child.close(10.0)
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        self.stdout.close()
