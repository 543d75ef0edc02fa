"""Processes of a controller, found by a mark in their environment, so that none outlives it.

A controller marks its environment before it starts anything. Everything it starts, servers of third parties
included, inherits the mark. `Reaper` is a small process that ends all marked ones when the controller is
gone, however it went; a controller that resumes a run ends what an earlier one may have left.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import uuid
from pathlib import Path

import psutil

MARK = "ZIGGURAT_CONTROLLER"
"""Environment variable that holds the mark: run directory, then a token of the controller."""


def mark(folder: Path) -> str:
    """Mark this process's environment for its future children and return the mark."""
    value = f"{folder.resolve()}::{uuid.uuid4().hex}"
    os.environ[MARK] = value
    return value


def unmark() -> None:
    """Take the mark out of the environment."""
    os.environ.pop(MARK, None)


def marked(prefix: str, but: str | None = None, *, variable: str = MARK) -> list[psutil.Process]:
    """Processes whose mark starts with a prefix and is not a given one, without this one and its parents.

    The mark is the value of an environment variable.
    """
    me = psutil.Process()
    mine = {me.pid, *(p.pid for p in me.parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            value = process.environ().get(variable)
            if value is not None and value.startswith(prefix) and value != but:
                found.append(process)
    return found


def kernel_kills() -> int:
    """How often the kernel has ended a process for lack of memory; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def end(processes: list[psutil.Process], patience_s: float = 2.0) -> None:
    """End processes: politely, and by force after some seconds. Stopped ones are ended as well."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
            process.resume()
    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=patience_s)


def end_leftovers(folder: Path, but: str | None = None) -> int:
    """End what earlier controllers of a run directory left running; returns how many processes that were."""
    left = marked(f"{folder.resolve()}::", but)
    end(left)
    return len(left)


class Reaper:
    """A process that waits for this one to go and then ends everything that bears its mark."""

    def __init__(self, value: str) -> None:
        """Start it."""
        environment = {k: v for k, v in os.environ.items() if k != MARK}
        self._process = subprocess.Popen(  # noqa: S603 - our own module
            [sys.executable, "-m", "ziggurat.processes", value],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    def close(self) -> None:
        """Have it end what is left and go."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)


def _reap(value: str) -> None:
    sys.stdin.buffer.read()  # returns when the controller's end of the pipe is closed, by whatever cause
    end(marked(value))


if __name__ == "__main__":
    _reap(sys.argv[1])
