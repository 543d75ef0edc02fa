"""A seat beside a Ray worker: a process that does one job after the other and keeps warm what they share.

It is started as `python -m ziggurat.launchers.ray_seat FD [MODULE RUN]` and told what to do by JSON lines
on its standard input. It answers on a file descriptor of its own; what user code prints is the log. Jobs of
RUN are done in this very process by MODULE, as `python -m MODULE RUN KEY` would do them; without it, commands
are run as they are. When its input ends, its Ray worker is gone, and it ends itself with all it has started.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO, Any, Protocol

Message = dict[str, Any]


class Warm(Protocol):
    """What MODULE calls a Seat."""

    notice: str
    """What was announced about the end of the machine, once something was."""

    def warm(self) -> None:
        """Import and load what every job needs."""

    def do(self, key: str) -> bool:
        """Do a job; whether it came to a result without a failure."""

    def ask_to_stop(self, reason: str, grace_s: float | None = None) -> None:
        """Have the job write a checkpoint and end."""

    def close(self) -> None:
        """Remove what is of no use any more."""


class Line:
    """The line to the Ray worker: jobs and requests to stop in, messages out."""

    def __init__(self, stdin: IO[bytes], fd: int) -> None:
        """Listen on a stream and speak on a file descriptor."""
        self._stdin, self._fd = stdin, fd
        self.inbox: queue.Queue[Message] = queue.Queue()
        self.job = ""
        """Name of the job that was given last and has not ended."""
        self.stops: list[Message] = []
        self.on_stop = self.stops.append
        """Called for a request to stop, in another thread; until it is set, requests are kept."""

    def start(self) -> None:
        """Begin to listen."""
        threading.Thread(target=self._listen, daemon=True).start()

    def say(self, **message: object) -> None:
        """Send a message."""
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def _listen(self) -> None:
        for raw in self._stdin:
            message = json.loads(raw)
            if message["do"] == "job":
                self.job = message["name"]
                self.inbox.put(message)
            elif message["name"] == self.job:
                self.on_stop(message)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


class WarmSeat:
    """Does jobs of one run in this process."""

    def __init__(self, module: str, run: str, stack: ExitStack) -> None:
        """Take a run."""
        self._seat: Warm = importlib.import_module(module).Seat(run)
        stack.callback(self._seat.close)
        self._seat.warm()

    @property
    def notice(self) -> str:
        """What was announced about the end of the machine, once something was."""
        return self._seat.notice

    def stop(self, message: Message) -> None:
        """Have the job end soon."""
        self._seat.ask_to_stop(message["reason"], message["grace_s"])

    def do(self, message: Message) -> tuple[bool, str]:
        """Do a job; whether it was done, and if not, why not."""
        try:
            good = self._seat.do(message["key"])
        except Exception as error:  # noqa: BLE001 - it is told, and the seat goes on
            traceback.print_exc()
            return False, f"{type(error).__name__}: {error}"
        return good, "" if good else "the job has left a failure"


class ColdSeat:
    """Runs commands, one process each."""

    notice = ""

    def __init__(self) -> None:
        """Nothing runs."""
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self, message: Message) -> None:
        """Send the process its signal to stop."""
        del message
        if self._process is not None:
            self._process.terminate()

    def do(self, message: Message) -> tuple[bool, str]:
        """Run a command to its end; whether it ended well, and if not, how."""
        try:
            self._process = subprocess.Popen(message["command"], stdin=subprocess.DEVNULL)
        except OSError as error:
            return False, f"cannot be started: {error}"
        code = self._process.wait()
        self._process = None
        return code == 0, "" if code == 0 else ended(code)


def ended(code: int) -> str:
    """How a process ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def serve(fd: int, warm: Sequence[str]) -> None:
    """Do jobs until the input ends."""
    os.set_inheritable(fd, False)
    line = Line(sys.stdin.buffer, fd)

    def on_signal(number: int, _: object) -> None:
        name = signal.Signals(number).name
        line.on_stop({"reason": f"the machine asked for an end ({name})", "grace_s": None})

    signal.signal(signal.SIGTERM, on_signal)
    line.start()
    # jobs have a thread of their own: this one hears signals at once, and no library takes them for itself
    thread = threading.Thread(target=_work, args=(line, warm), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(1.0)


def _work(line: Line, warm: Sequence[str]) -> None:
    try:
        with ExitStack() as stack:
            seat = WarmSeat(warm[0], warm[1], stack) if warm else ColdSeat()
            line.on_stop = seat.stop
            for early in line.stops:
                seat.stop(early)
            line.say(**{"is": "ready"})
            while True:
                message = line.inbox.get()
                good, text = seat.do(message)
                line.job = ""
                sys.stdout.flush()
                sys.stderr.flush()
                about = {"name": message["name"], "good": good, "text": text, "notice": seat.notice}
                line.say(**{"is": "done", **about})
    except BaseException:  # noqa: BLE001 - the interpreter's own end would abort over threads of libraries
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the controller decides what an interrupt means
    serve(int(sys.argv[1]), sys.argv[2:])
