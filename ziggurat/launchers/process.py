"""One worker process as the pool sees it: its pipes, its clock and its memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import psutil

from ziggurat.domain import Failure, Job
from ziggurat.events import to_plain

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
LONGEST_LINE = 4_000_000
COLD = "cold"
"""Last argument of a worker that is to begin without its dummy fit."""


def kernel_kills() -> int:
    """How often the kernel has ended a process for lack of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


class WorkerProcess:
    """A started worker."""

    def __init__(self, name: str, folder: Path, threads: int, *, cold: bool = False) -> None:
        """Start it; it says when it is ready. A cold one has not tried whether user code works."""
        self.name = name
        self.log = folder / "logs" / f"{name}.log"
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [*self.command(folder, name), *([COLD] if cold else [])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a worker's pipes were asked for")
        self._stdin: IO[bytes] = self._process.stdin
        self.stdout: IO[bytes] = self._process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.pid = self._process.pid
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
        self._buffer = b""
        self._given = 0.0
        self._paused_at = 0.0
        self._paused_s = 0.0

    @staticmethod
    def command(folder: Path, name: str) -> list[str]:
        """The argument list of a worker."""
        return [sys.executable, "-m", "ziggurat.worker", str(folder), name]

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
        """Stop it until `proceed`."""
        if not self.paused and self.poll() is None:
            self._process.send_signal(signal.SIGSTOP)
            self.paused, self._paused_at = True, time.monotonic()

    def proceed(self) -> None:
        """Let it go on."""
        if self.paused:
            now = time.monotonic()
            lost = now - self._paused_at
            self._paused_s += lost
            self.born += lost
            if self.stop_by is not None:
                self.stop_by += lost
            self.heard = now
            self.paused = False
            self._process.send_signal(signal.SIGCONT)

    def measure(self) -> float:
        """Resident memory of the worker and its children in MB."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            family = [process, *process.children(recursive=True)]
            return sum(p.memory_info().rss for p in family) / 1e6
        return 0.0

    def poll(self) -> int | None:
        """Exit code; None while it lives. What it has started dies with it."""
        if self._process.returncode is None:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not yet collected, its number cannot be another's
            if os.waitid(os.P_PID, self.pid, how) is None:
                return None
            self._kill()
        return self._process.poll()

    def _kill(self) -> None:
        """End its process group, and what it has started in groups of their own."""
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()

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
        self._process.wait(timeout=10)
        with contextlib.suppress(OSError, ValueError):
            self._stdin.close()
        self.stdout.close()
