"""Runs a program of the user's; its time, what is kept of its output and what outlives it are bounded."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

KEPT = 1_000_000
"""Bytes kept of each stream: the last ones."""
GRACE_S = 2.0
"""Seconds between asking a program to end and ending it by force."""
DRAIN_S = 1.0
"""Seconds for reading what is left when a program has ended but something else holds its output open."""
_CHUNK = 1 << 16
_LONGEST_PAUSE_S = 0.05


@dataclass(frozen=True)
class Ended:
    """How a program has ended.

    Attributes:
        code: Exit code; minus the signal's number if a signal ended it.
        late: It was ended because its time was over.
        out: The end of its standard output.
        err: The end of its standard error.
    """

    code: int
    late: bool
    out: str
    err: str


class _Tail:
    """Reads a stream to its end in a thread and keeps its last bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._kept = stream, bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the stream is closed when nobody waits any more
            while chunk := os.read(self._stream.fileno(), _CHUNK):
                self._kept += chunk
                del self._kept[:-KEPT]

    def text(self) -> str:
        """What was kept, once the stream has ended or it has had time to."""
        self._thread.join(DRAIN_S)
        return bytes(self._kept).decode("utf-8", errors="replace")


def run(command: Sequence[str], timeout_s: float) -> Ended:
    """Run a program without input in a process group of its own, which ends with it.

    Args:
        command: The program and its arguments; no shell reads them.
        timeout_s: Seconds after which it is asked to end, and shortly after ended.

    Raises:
        OSError: It cannot be started.
    """
    with subprocess.Popen(  # noqa: S603 - an argument list, as the spec has it
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        tails = _Tail(process.stdout), _Tail(process.stderr)
        late = False
        try:
            if not _ends_within(process.pid, timeout_s):
                late = True
                _signal(process.pid, signal.SIGTERM)
                _ends_within(process.pid, GRACE_S)
        finally:
            # the leader is not collected yet, so its number cannot be another's
            _signal(process.pid, signal.SIGKILL)
        code = process.wait()
        out, err = (tail.text() for tail in tails)
    return Ended(code, late, out, err)


def _ends_within(pid: int, seconds: float) -> bool:
    """Whether a child ends within some seconds; it is not collected."""
    deadline, pause = time.monotonic() + seconds, 0.001
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, _LONGEST_PAUSE_S)
    return True


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
