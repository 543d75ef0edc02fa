"""A program of the user's while it runs: its output is read as it comes, and nothing of it outlives it.

The program leads a process group of its own. What it starts inside the group ends with the group; what has
left the group is found among its children, or by a mark in its environment.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from ziggurat.processes import marked

MARK = "ZIGGURAT_SCRIPT"
"""Environment variable that holds a token of one start of a program."""
CHUNK = 1 << 16
MOST_CHUNKS = 16
"""Chunks that are read of a stream before there is a look at everything else."""
FEW = 4096
GATHER_S = 0.005
"""A program that says a few bytes at a time is given a moment to say more, or each would cost a look."""
DRAIN_S = 1.0
"""Seconds for reading what is left when a program has ended but something else holds its output open."""
PAUSE_S = 0.02
ROUNDS = 10
"""How often leftovers are looked for; one that starts others while it is ended takes more than one look."""
HALT_S = 0.2
"""Seconds in which a program that was sent a signal takes notice of it, unless it waits for a disk."""
_STILL = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
SETTLE_S = 0.5
"""A file that was changed so shortly before its writer was killed may be half of one."""

Hear = Callable[[bytes], None]


class Program:
    """A started program."""

    def __init__(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], hear: Mapping[str, Hear]
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments; no shell reads them.
            folder: Where it runs.
            environment: Its whole environment.
            hear: What takes the output of `stdout` and of `stderr`.

        Raises:
            OSError: It cannot be started.
        """
        self._token = uuid.uuid4().hex
        self._process = subprocess.Popen(
            list(command),
            cwd=folder,
            env={**environment, MARK: self._token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        )
        self.pid = self._process.pid
        self.code: int | None = None
        self._seen = time.time()
        self._heard = 0
        self._selector = selectors.DefaultSelector()
        for name in ("stdout", "stderr"):
            stream = getattr(self._process, name)
            os.set_blocking(stream.fileno(), False)
            self._selector.register(stream, selectors.EVENT_READ, hear[name])
        self._wake: int | None = None
        with contextlib.suppress(AttributeError, OSError):  # Linux has it
            self._wake = os.pidfd_open(self.pid)
            self._selector.register(self._wake, selectors.EVENT_READ, None)

    @property
    def ended(self) -> bool:
        """Whether it has ended; it is not collected yet, so its number cannot be another's."""
        if self.code is None:
            now = time.time()
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                self._seen = now
                return False
        return True

    def listen(self, seconds: float) -> None:
        """Hear what it says, for some seconds at most; returns early when it speaks or ends."""
        if self._wake is None and not self._streams():
            time.sleep(min(seconds, PAUSE_S))  # its end is not told
            return
        before = self._heard
        for key, _ in self._selector.select(seconds):
            if key.data is not None:
                self._read(key)
        if before < self._heard < before + FEW:
            time.sleep(GATHER_S)

    def _streams(self) -> list[selectors.SelectorKey]:
        return [key for key in self._selector.get_map().values() if key.data is not None]

    def _read(self, key: selectors.SelectorKey) -> bool:
        """Read what is there, up to a bound; whether there may be more."""
        for _ in range(MOST_CHUNKS):
            try:
                chunk = os.read(key.fd, CHUNK)
            except BlockingIOError:
                return False
            except OSError:
                chunk = b""
            if not chunk:
                self._selector.unregister(key.fileobj)
                return False
            self._heard += len(chunk)
            key.data(chunk)
        return True

    def stop(self, grace_s: float, folder: Path) -> bool:
        """Ask it to stop; one that does not within its grace is halted, for `close` to end.

        It is asked while it does not write into the folder, if there is such a moment in half of the grace.

        Returns:
            Whether what it leaves in the folder can be relied on.
        """
        began = time.monotonic()
        while (writing := self._halted_writing(folder)) and time.monotonic() < began + grace_s / 2:
            self.signal(signal.SIGCONT)
            self.listen(PAUSE_S)
        if self.ended:
            return self.left_whole(folder)
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        while not self.ended and (left := began + grace_s - time.monotonic()) > 0:
            self.listen(min(left, 0.1))
        if not self.ended:
            return not self._halted_writing(folder)
        # one that has ended by itself has finished what it was writing
        return self._exit_code() >= 0 or not writing

    def _halted_writing(self, folder: Path) -> bool:
        """Halt it, and see whether it was writing into a folder."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + HALT_S
        with contextlib.suppress(psutil.Error):
            # one that was sent another signal before may be about to end, its files closed already
            while psutil.Process(self.pid).status() not in _STILL and time.monotonic() < deadline:
                time.sleep(0.001)
        return self.writes_into(folder)

    def left_whole(self, folder: Path) -> bool:
        """Whether what it has left in a folder can be relied on, though nobody here has ended it.

        It can if it has ended of its own accord, or has not touched it for a moment before.
        """
        return self._exit_code() >= 0 or settled(folder, self._seen)

    def writes_into(self, folder: Path) -> bool:
        """Whether it, or what it has started, has a file in a folder open for writing."""
        inside = f"{folder}{os.sep}"
        with contextlib.suppress(psutil.Error):
            return any(_writes(process, inside) for process in self._family())
        return False

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

    def _exit_code(self) -> int:
        """Exit code, minus the signal's number if a signal ended it; it must have ended."""
        if self.code is not None:
            return self.code
        state = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        assert state is not None
        return state.si_status if state.si_code == os.CLD_EXITED else -state.si_status

    def signal(self, number: signal.Signals) -> None:
        """Send its group a signal."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _end_all(self) -> None:
        """End the group, children that have left it, and all others that bear its mark."""
        with contextlib.suppress(psutil.Error):
            self.signal(signal.SIGSTOP)  # so that none is started meanwhile
            children = self._family()[1:]
            self.signal(signal.SIGKILL)
            _kill(children)
        self.signal(signal.SIGKILL)
        for _ in range(ROUNDS):
            left = [p for p in marked(self._token, variable=MARK) if p.pid != self.pid]
            if not left:
                return
            _kill(left)
            psutil.wait_procs(left, timeout=0.2)

    def close(self) -> int:
        """End what is left of it, hear the rest of its output, collect it, and return its exit code."""
        if self.code is None:
            self._end_all()
            self._drain()
            self.code = self._process.wait()
            self._selector.close()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
            if self._wake is not None:
                os.close(self._wake)
        return self.code

    def _drain(self) -> None:
        deadline = time.monotonic() + DRAIN_S
        while (streams := self._streams()) and time.monotonic() < deadline:
            more = [self._read(key) for key in streams]
            if not any(more) and self._streams():
                self._selector.select(PAUSE_S)


def _writes(process: psutil.Process, inside: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        found = process.open_files()
        return any(f.path.startswith(inside) and getattr(f, "mode", "w") != "r" for f in found)
    return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()


def settled(folder: Path, before: float) -> bool:
    """Whether no file of a folder was changed within half a second before a moment, in seconds since 1970."""
    times = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0) < before - SETTLE_S
