"""A worker's family: all that it has started, directly or not, wherever that has gone.

A worker leads a session, in which what it starts stays even if its own parent is gone. What has left the
session is found among the children of those that are there, or by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Sequence

import psutil

from ziggurat.processes import marked

MARK = "ZIGGURAT_WORKER"
"""Environment variable that holds a token of one start of a worker."""
ROUNDS = 10
"""How often members are looked for; until all are stopped or ended, some may start others."""
NOTICE_S = 0.2
"""Seconds in which a process that was sent a signal takes notice of it, unless it waits for a disk."""

Wanted = Callable[[psutil.Process], bool]


class Family:
    """The processes of a worker, without the worker itself."""

    def __init__(self) -> None:
        """The worker is not started yet; it is to get `environment`."""
        token = uuid.uuid4().hex
        self._token = token
        self.environment = {MARK: token}
        self._held: list[psutil.Process] = []

    def _next(self, pid: int, wanted: Wanted, *, everywhere: bool) -> list[psutil.Process]:
        """Members with a property; those that have left both session and parents if there are no others.

        The worker may have ended, but is not collected yet, so that its number is its own.
        """
        near = [p for p in _near(pid) if p.pid != pid and wanted(p)]
        if near or not everywhere:
            return near
        return [p for p in marked(self._token, variable=MARK) if p.pid != pid and wanted(p)]

    def hold(self, pid: int, *, everywhere: bool) -> None:
        """Stop all that are not stopped already.

        Args:
            pid: Number of the worker, which was sent the signal to stop.
            everywhere: Look also for those that have left both the session and their parents.
        """
        with contextlib.suppress(psutil.Error):
            _await(_halted, [psutil.Process(pid)])
        for _ in range(ROUNDS):
            found = self._next(pid, lambda p: not _halted(p), everywhere=everywhere)
            if not found:
                return
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.suspend()
                    self._held.append(process)
            _await(_halted, found)

    def let_go(self) -> None:
        """Have those go on that were stopped here."""
        for process in self._held:
            with contextlib.suppress(psutil.Error):
                process.resume()
        self._held = []

    def end(self, pid: int, *, everywhere: bool) -> None:
        """End all.

        Args:
            pid: Number of the worker, which has ended, or was sent the signal to stop.
            everywhere: Look also for those that have left both the session and their parents.
        """
        for _ in range(ROUNDS):
            found = self._next(pid, _runs, everywhere=everywhere)
            if not found:
                return
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            _await(lambda p: not _runs(p), found)


def _near(pid: int) -> list[psutil.Process]:
    """What descends from a process, or is in its session."""
    found: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error):
        found = {child.pid: child for child in psutil.Process(pid).children(recursive=True)}
    for other in psutil.pids():
        with contextlib.suppress(OSError, psutil.Error):
            if other not in found and os.getsid(other) == pid:
                found[other] = psutil.Process(other)
    return list(found.values())


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    return False


def _halted(process: psutil.Process) -> bool:
    """Whether it does nothing now: it is stopped, or has ended."""
    with contextlib.suppress(psutil.Error):
        return process.status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP} or not _runs(process)
    return True


def _await(wanted: Wanted, processes: Sequence[psutil.Process]) -> None:
    """Wait a moment until processes have a property."""
    deadline = time.monotonic() + NOTICE_S
    while not all(wanted(p) for p in processes) and time.monotonic() < deadline:
        time.sleep(0.001)
