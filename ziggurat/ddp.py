"""A segment that several processes of one machine train together (DDP), as the process sees it that asks.

The processes are started by torch's elastic launcher as `python -m ziggurat.rank FOLDER`. They say what
happens over a Unix socket in FOLDER, as JSON lines: the first one its epochs, each of which is answered with
whether to stop there, and its end; any of them a failure. A process whose socket is closed ends itself, so
none outlives the one that asks. Starting them takes as long as importing torch and Lightning anew.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ziggurat.domain import FailureKind, Job
from ziggurat.events import job_from_plain, measurements_from_plain, to_plain
from ziggurat.protocols import Report, Trained
from ziggurat.trainers import StopTraining, TrainingFailed

ORDER, LINE = "order.json", "line"
_PULSE_S = 0.2
_END_S = 30.0
"""Seconds that processes have to end by themselves after they have said that all is done."""


@dataclass(frozen=True)
class Order:
    """What is to be trained.

    Attributes:
        run: Run directory.
        job: The job.
        place: Folder of its trial, for checkpoints.
        resume: Checkpoint to go on from.
        lenient: Whether the spec may lack what only its controller has.
    """

    run: Path
    job: Job
    place: Path
    resume: Path | None
    lenient: bool = False

    def write(self, folder: Path) -> None:
        """Leave it for the processes."""
        plain = {
            "run": str(self.run),
            "job": to_plain(self.job),
            "place": str(self.place),
            "resume": None if self.resume is None else str(self.resume),
            "lenient": self.lenient,
        }
        (folder / ORDER).write_text(json.dumps(plain), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Order:
        """The order in a folder."""
        plain = json.loads((folder / ORDER).read_text(encoding="utf-8"))
        return cls(
            Path(plain["run"]),
            job_from_plain(plain["job"]),
            Path(plain["place"]),
            None if plain["resume"] is None else Path(plain["resume"]),
            plain["lenient"],
        )


def command(folder: Path, processes: int) -> list[str]:
    """The argument list of torch's launcher."""
    own = [
        "--standalone",
        "--local-addr",
        "127.0.0.1",
        "--nproc-per-node",
        str(processes),
        "--max-restarts",
        "0",
    ]
    return [sys.executable, "-m", "torch.distributed.run", *own, "-m", "ziggurat.rank", str(folder)]


def train(order: Order, processes: int, report: Report) -> Trained:
    """Train a segment by so many processes; see `Lightning.train` for what `report` may raise.

    Raises:
        StopTraining: The report has asked for it.
        TrainingFailed: It has failed in one of the processes, or one of them has died.
    """
    with tempfile.TemporaryDirectory(prefix="ziggurat-") as temporary:
        folder = Path(temporary)
        order.write(folder)
        crew = _Crew(folder, processes, report)
        try:
            return crew.watch()
        finally:
            crew.close()


class _Crew:
    """The processes, and what they say."""

    def __init__(self, folder: Path, processes: int, report: Report) -> None:
        self._report = report
        self._stop: StopTraining | None = None
        self._lines: dict[socket.socket, bytes] = {}
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(folder / LINE))
        self._server.listen(processes)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._server, selectors.EVENT_READ)
        self._launcher = subprocess.Popen(command(folder, processes), stdin=subprocess.DEVNULL)

    def watch(self) -> Trained:
        """Pass on what they say until they are done."""
        pulse = time.monotonic()
        while True:
            ended = self._launcher.poll()
            heard = self._selector.select(0.0 if ended is not None else _PULSE_S)
            for key, _ in heard:
                for message in self._read(key.fileobj):
                    trained = self._hear(key.fileobj, message)
                    if trained is not None:
                        return trained
            if ended is not None and not heard:
                text = "the processes of the training have ended without a result; see the log of the worker"
                raise TrainingFailed(FailureKind.LOST, text)
            if time.monotonic() - pulse >= _PULSE_S:
                pulse = time.monotonic()
                self._report(())

    def _read(self, source: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - a socket
        """Whole messages of one process; a new one is taken on."""
        if source is self._server:
            line, _ = self._server.accept()
            self._lines[line] = b""
            self._selector.register(line, selectors.EVENT_READ)
            return []
        try:
            chunk = source.recv(1 << 16)
        except OSError:
            chunk = b""
        if not chunk:
            self._selector.unregister(source)
            del self._lines[source]
            source.close()
            return []
        *lines, self._lines[source] = (self._lines[source] + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def _hear(self, source: Any, message: dict[str, Any]) -> Trained | None:  # noqa: ANN401 - a socket
        match message["is"]:
            case "row":
                try:
                    self._report(measurements_from_plain(message["measurements"]))
                except StopTraining as error:
                    self._stop = error
                source.sendall(json.dumps({"stop": self._stop is not None}).encode() + b"\n")
            case "failed":
                raise TrainingFailed(FailureKind(message["kind"]), message["text"])
            case "stopped":
                request = self._stop or StopTraining()
                request.checkpoint = message["checkpoint"]
                raise request
            case "done":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._launcher.wait(timeout=_END_S)
                return Trained(measurements_from_plain(message["measurements"]), Path(message["checkpoint"]))
        return None

    def close(self) -> None:
        """End what still runs: each process when its socket is closed, then their launcher."""
        for line in self._lines:
            line.close()
        self._server.close()
        self._selector.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._launcher.poll() is None:
                self._launcher.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._launcher.wait(timeout=5.0)
