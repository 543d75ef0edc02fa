"""Children forked from a warm template, which spares each of them seconds of imports.

A controller process has one template, shared by all its pools and started with the first of them. What
cannot be forked says so (`Refused`) and is to be started plainly: there is no fork on this system, the
template could not be started, the new process would import something else, or the GPU driver was started too
early.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ziggurat.launchers.child import Start
from ziggurat.launchers.remote import THREAD_VARIABLES
from ziggurat.processes import MARK

log = logging.getLogger(__name__)

UNKNOWN_CODE = 1000
"""Exit code of a worker whose template was gone when it ended."""
_MARK_ROOM = 4500
_COMMAND_ROOM = 1000
_IMPORT_PREFIXES = (
    "PYTHON", "TORCH", "PYTORCH", "LIGHTNING", "PL_", "LD_", "KMP_", "GOMP_", "MALLOC_", "GLIBC_", "NPY_",
)  # fmt: skip
"""Variables that Python and the libraries read when they are loaded; others are read by user code."""
_ONE_THREAD = dict.fromkeys(THREAD_VARIABLES, "1")
"""A library that makes threads when it is loaded could not be forked."""
_GPU_LEFT_ALONE = "PYTORCH_NVML_BASED_CUDA_CHECK"
"""Has torch look for GPUs without starting their driver, which no fork could use."""


class Refused(Exception):  # noqa: N818 - names an outcome
    """The template cannot start this child."""


def _kind(environment: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What must be the same for a template and its workers, as variables with their values."""
    return tuple(
        sorted(
            (name, value)
            for name, value in environment.items()
            if name.startswith(_IMPORT_PREFIXES) and name not in {"PYTHONPATH", _GPU_LEFT_ALONE}
        )
    )


def _place(environment: Mapping[str, str]) -> tuple[object, ...]:
    """What a template's imports depend on."""
    return (_kind(environment), environment.get("PYTHONPATH"), str(Path.cwd()))


class Template:
    """The template of this process, as seen from here."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it; it imports while the caller goes on."""
        self.kind, self.place, self.owner = _kind(environment), _place(environment), os.getpid()
        self.served = False
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "ziggurat.launchers.template",
                    str(theirs.fileno()),
                    " " * _COMMAND_ROOM,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**environment, **_ONE_THREAD, _GPU_LEFT_ALONE: "1", MARK: "." * _MARK_ROOM},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid

    def alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, leash: socket.socket, start: Start, log_fd: int) -> None:
        """Ask for a child whose request has been written to the other end of its leash.

        Raises:
            OSError: It is gone.
        """
        with self._lock:
            socket.send_fds(self._control, [b"+"], [leash.fileno(), start.stdin, start.stdout, log_fd])

    def retire(self) -> None:
        """Have it go when its last worker has gone."""
        self._control.close()

    def end(self) -> None:
        """End it now; workers that it has forked go on."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()


_lock = threading.Lock()
_shared: list[Template] = []
_retired: list[Template] = []
_broken: set[object] = set()


def template(environment: Mapping[str, str]) -> Template:
    """The template for an environment; it is started if there is none, or one that is of no use for it.

    Raises:
        Refused: There can be none here.
    """
    if not sys.platform.startswith("linux") or not hasattr(os, "pidfd_open"):
        raise Refused("forking a process with these libraries is safe on Linux only")
    with _lock:
        here = _shared[0] if _shared and _shared[0].owner == os.getpid() else None
        if here is not None and not here.alive() and not here.served:
            _broken.add(here.place)
        if _place(environment) in _broken:
            raise Refused("the template could not be started")
        if here is not None and here.alive() and here.kind == _kind(environment):
            return here
        _retired[:] = [old for old in _retired if old.alive()]
        if here is not None:
            here.retire()
            _retired.append(here)
        _shared[:] = [Template(environment)]
        return _shared[0]


@atexit.register
def _end_all() -> None:
    for each in (*_shared, *_retired):
        with contextlib.suppress(OSError):
            each.end()


def _readable(fd: int, timeout_s: float) -> bool:
    """Whether a file descriptor is, within some seconds, to be read or closed at its other end."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


class Forked:
    """A child forked from a template."""

    def __init__(self, start: Start) -> None:
        """Ask for it; it is there as soon as the template has imported what it needs.

        Raises:
            Refused: There is no template to ask.
        """
        self._start: Start | None = start
        self._template = template(start.environment)
        self._leash, theirs = socket.socketpair()
        self._number, self._pidfd = 0, -1
        self._code: int | None = None
        self._held = self._orphaned = False
        self._said = b""
        request = {
            "module": start.module,
            "command": start.command,
            "arguments": start.arguments,
            "environment": dict(start.environment),
            "cwd": str(Path.cwd()),
        }
        with theirs, start.log.open("ab") as log_file:
            try:
                self._leash.settimeout(1.0)  # what does not fit into the socket is not waited for
                self._leash.sendall(json.dumps(request).encode() + b"\n")
                self._template.ask(theirs, start, log_file.fileno())
            except OSError as error:
                self._leash.close()
                raise Refused(f"the template is gone: {error}") from None
        self._leash.setblocking(False)

    @property
    def pid(self) -> int:
        """Its number; 0 as long as that is not known."""
        if not self._number:
            self.poll()
        return self._number

    def poll(self) -> int | None:
        """Exit code or negative signal; None while it lives.

        Raises:
            Refused: It was not started, and will not be.
        """
        while self._code is None:
            try:
                chunk = self._leash.recv(1 << 16)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            if not chunk:
                self._lost()
                break
            *lines, self._said = (self._said + chunk).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))
        return self._code

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "refused" in message:
            self._refuse(message["refused"])
        elif "pid" in message:
            self._number = int(message["pid"])
            self._template.served = True
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self._number)
            self._let_go()
            if self._held:
                self.send_signal(signal.SIGSTOP)
        elif self._start is not None:
            self._refuse("it has ended before it was a worker")
        else:
            self._code = int(message["exit"])

    def _let_go(self) -> None:
        """Close the child's ends, which it has by now."""
        if self._start is not None:
            self._start.close()
            self._start = None

    def _refuse(self, why: str) -> None:
        self._leash.close()
        raise Refused(why)

    def _lost(self) -> None:
        """The template is gone; a child that is there goes on, and only its end can be seen."""
        if self._start is not None:
            self._refuse("the template has died")
        self._orphaned = True
        if self._pidfd < 0 or _readable(self._pidfd, 0.0):
            self._code = UNKNOWN_CODE

    def send_signal(self, number: int) -> None:
        """Send a signal; stopping one that is not there yet has it stop as soon as it is."""
        if number in {signal.SIGSTOP, signal.SIGCONT}:
            self._held = number == signal.SIGSTOP
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """End its process group; of one that is not there yet, the request is taken back."""
        if self._number:
            os.killpg(self._number, signal.SIGKILL)
        elif self._start is not None:
            self._leash.close()
            self._let_go()
            self._code = -signal.SIGKILL

    def close(self, timeout_s: float) -> None:
        """Wait for its end and have it collected."""
        deadline = time.monotonic() + timeout_s
        while self.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"process {self._number} has not ended")
            _readable(self._pidfd if self._orphaned else self._leash.fileno(), left)
        self._leash.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
