"""A child of the controller, started plainly as a fresh interpreter, and what the pool asks of any child."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Start:
    """What a child is started as.

    Attributes:
        module: Run as `python -m`.
        arguments: What follows.
        environment: All of it.
        log: File that takes its standard error.
        stdin: File descriptor.
        stdout: File descriptor.
    """

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    stdin: int
    stdout: int

    @property
    def command(self) -> tuple[str, ...]:
        """What follows the interpreter."""
        return ("-m", self.module, *self.arguments)

    def close(self) -> None:
        """Close the child's ends in this process; closing twice is an error."""
        os.close(self.stdin)
        os.close(self.stdout)


class Child(Protocol):
    """A started process, in a session of its own."""

    @property
    def pid(self) -> int:
        """Its number; 0 as long as that is not known."""

    def poll(self) -> int | None:
        """Exit code or negative signal; None while it lives. Its number stays its own until `close`."""

    def send_signal(self, number: int) -> None:
        """Send a signal, as soon as it is there."""

    def kill(self) -> None:
        """End its process group."""

    def close(self, timeout_s: float) -> None:
        """Wait for its end and collect it.

        Raises:
            TimeoutError: It has not ended.
        """


class Spawned:
    """A child that is a fresh interpreter."""

    def __init__(self, start: Start) -> None:
        """Start it; the ends of its pipes in this process are closed."""
        with start.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *start.command],
                stdin=start.stdin,
                stdout=start.stdout,
                stderr=log,
                env=dict(start.environment),
                start_new_session=True,
            )
        start.close()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Exit code; None while it lives."""
        if self._process.returncode is None:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT  # not yet collected, its number cannot be another's
            ended = os.waitid(os.P_PID, self.pid, how)
            return None if ended is None else code_of(ended)
        return self._process.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; it is not collected over that, as `Popen` would do."""
        if self._process.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End its process group, which is there as long as it is not collected."""
        os.killpg(self.pid, signal.SIGKILL)

    def close(self, timeout_s: float) -> None:
        """Wait for its end and collect it."""
        try:
            self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.pid} has not ended") from None


def code_of(ended: os.waitid_result) -> int:
    """Exit code, or the negative number of a signal."""
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
