"""The process beside a Ray worker in which jobs are done, as the worker sees it.

User code may crash it, fill its memory or hang: the worker lives on, says how it ended, and starts another.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ziggurat.processes import kernel_kills

MODULE = "ziggurat.launchers.ray_seat"
PIECE = 65_536
PIECES_AT_ONCE = 16
"""How much is read of a flood of output before it has to wait for the next look."""
LAST_LINES = 20
LONGEST_LINE = 300
PASSED_ON = 1_000_000
"""Bytes of a job's output that are passed on to Ray's log; the last lines are kept beyond them."""


@dataclass(frozen=True)
class Chair:
    """What a seat is started for; it serves only jobs of which this is the same.

    Attributes:
        python: Program; None for the one that Ray runs on the machine.
        warm: Module and run, for jobs that are done in the process itself; empty for commands.
        environment: Variables beside the Ray worker's own.
        cwd: Working directory, where the machine has it.
    """

    python: str | None
    warm: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    cwd: str | None


class SeatProcess:
    """A started seat."""

    def __init__(self, chair: Chair) -> None:
        """Start it; it says when it is ready."""
        self.chair = chair
        self.ready = False
        self._buffer, self._line = b"", b""
        self._tail: deque[str] = deque(maxlen=LAST_LINES)
        self._passed = 0
        self._kernel_kills = kernel_kills()
        self._messages, theirs = os.pipe()
        cwd = chair.cwd if chair.cwd is not None and Path(chair.cwd).is_dir() else None
        try:
            self._process = subprocess.Popen(
                [
                    chair.python or sys.executable,
                    "-m",
                    MODULE,
                    str(theirs),
                    *chair.warm,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs,),
                env=_environment(dict(chair.environment)),
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        assert self._process.stdout is not None
        self._output = self._process.stdout.fileno()
        for fd in (self._messages, self._output):
            os.set_blocking(fd, False)

    def tell(self, **message: object) -> None:
        """Send it a message; one that is dead is noticed elsewhere."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def hear(self) -> list[dict[str, Any]]:
        """What it has said since the last time; its output is taken in as well."""
        for piece in _pieces(self._output):
            self._take(piece)
        for piece in _pieces(self._messages):
            self._buffer += piece
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def _take(self, piece: bytes) -> None:
        if self._passed < PASSED_ON:
            self._passed += len(piece)
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.write(piece.decode(errors="replace"))
                sys.stdout.flush()
        *lines, self._line = (self._line + piece).split(b"\n")
        self._line = self._line[-LONGEST_LINE * 4 :]
        self._tail.extend(text for line in lines[-LAST_LINES:] if (text := _text(line)))

    def begin(self) -> None:
        """Forget the output of earlier jobs: another begins."""
        self._tail.clear()
        self._line, self._passed = b"", 0

    def last_words(self) -> str:
        """The last line of its output that says something."""
        return _text(self._line) or (self._tail[-1] if self._tail else "")

    def code(self) -> int | None:
        """Exit code or negative signal; None while it lives. What it has started dies with it."""
        if self._process.returncode is None:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not yet collected, its number cannot be another's
            with contextlib.suppress(ChildProcessError):
                if os.waitid(os.P_PID, self._process.pid, how) is None:
                    return None
            self._kill()
        return self._process.poll()

    @property
    def starved(self) -> bool:
        """Whether the kernel has ended a process for lack of memory since it was started."""
        return kernel_kills() > self._kernel_kills

    def _kill(self) -> None:
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            children = psutil.Process(self._process.pid).children(recursive=True)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()

    def close(self) -> None:
        """End it with all it has started, and collect it."""
        if self.code() is None:
            self._kill()
        self._process.wait(timeout=10)
        os.close(self._messages)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.stdout.close()


def _environment(wanted: Mapping[str, str]) -> dict[str, str]:
    """This process's variables and those of a job; what Ray has put on the search path stays there."""
    paths = [p for p in (wanted.get("PYTHONPATH"), os.environ.get("PYTHONPATH")) if p]
    path = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))} if paths else {}
    return {**os.environ, **wanted, **path}


def _pieces(fd: int) -> list[bytes]:
    """What can be read now, up to a limit."""
    found: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(found) < PIECES_AT_ONCE and (piece := os.read(fd, PIECE)):
            found.append(piece)
    return found


def _text(line: bytes) -> str:
    return " ".join(line[-LONGEST_LINE * 4 :].decode(errors="replace").split())[:LONGEST_LINE]
