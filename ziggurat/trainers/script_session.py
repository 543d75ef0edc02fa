"""One start of a user's command: all that reads what it tells, and how its end is judged."""

from __future__ import annotations

import errno
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ziggurat.domain import FailureKind
from ziggurat.processes import kernel_kills
from ziggurat.trainers.failures import TrainingFailed
from ziggurat.trainers.script_files import CsvFiles, JsonLines, Result
from ziggurat.trainers.script_log import BoundedLog, LastWords
from ziggurat.trainers.script_metrics import STREAMS, Found, MetricSetting
from ziggurat.trainers.script_output import OutputReader, Tell
from ziggurat.trainers.script_place import Place
from ziggurat.trainers.script_process import Program

POLL_S = 0.15
FILES_S = 0.5
"""Seconds between two looks at files; more if looking takes long."""
SHARE = 20
MEGABYTE = 1_000_000
MEMORY_WORDS = (
    "out of memory",
    "outofmemoryerror",
    "memoryerror",
    "bad_alloc",
    "cannot allocate memory",
    "can't allocate memory",
    "not enough memory",
)
SIGNALLED = 128
"""A shell tells the signal that has ended a program by this much more than its number."""


SECRET = re.compile(r"passw|secret|token|credential|(^|_)keys?(_|$)|apikey|cookie|dsn|webhook", re.IGNORECASE)
"""Names of variables whose values no message repeats, though the script may have said them."""
HIDDEN, HIDDEN_FROM = "(hidden)", 5
TELL = "have it tell that, or set metrics to where it does"


class Reader(Protocol):
    """Reads metrics that are not printed."""

    def poll(self, *, final: bool) -> None:
        """Tell what is new; `final`: nothing will follow."""


def readers(
    place: Place, metrics: Mapping[str, MetricSetting], tell: Tell, declared: set[str]
) -> list[Reader]:
    """All readers that some metrics need, and that of the file that is always read."""
    found: list[Reader] = [JsonLines(place.pattern("${metrics_file}"), {}, tell, declared)]
    kinds: dict[str, Callable[[str, Mapping[str, MetricSetting], Tell], Reader]] = {
        "jsonl": JsonLines,
        "csv": CsvFiles,
        "result": Result,
        "tensorboard": _events,
    }
    groups: dict[tuple[str, str], dict[str, MetricSetting]] = {}
    for name, metric in metrics.items():
        if metric.source in kinds:
            groups.setdefault((metric.source, metric.file), {})[name] = metric
    return found + [kinds[kind](place.pattern(path), some, tell) for (kind, path), some in groups.items()]


def _events(pattern: str, metrics: Mapping[str, MetricSetting], tell: Tell) -> Reader:
    from ziggurat.trainers.script_events import EventFiles

    return EventFiles(pattern, metrics, tell)


@dataclass
class Session:
    """One start of a command, with all that reads what it tells."""

    place: Place
    command: Sequence[str]
    metrics: Mapping[str, MetricSetting]
    found: Found
    declared: set[str]

    def __post_init__(self) -> None:
        """Start it.

        Raises:
            TrainingFailed: It cannot be started.
        """
        self._words = {name: LastWords() for name in STREAMS}
        self._kills = kernel_kills()
        tell = self.found.tell
        self._readers = readers(self.place, self.metrics, tell, self.declared)
        environment = dict(self.place.environment)
        tracked = {n: m for n, m in self.metrics.items() if m.source == "mlflow"}
        if tracked:
            from ziggurat.trainers.script_mlflow import TrackedRun

            names = (f"ziggurat/{self.place.run_id}", self.place.key)
            run = TrackedRun(tracked, tell, environment, self.place.output, names)
            self._readers.append(run)
            environment |= run.environment
        self._streams = {
            name: OutputReader({n: m for n, m in self.metrics.items() if m.source == name}, tell)
            for name in STREAMS
        }
        self._log = BoundedLog(self.place.log, round(self.place.setting.output_limit_mb * MEGABYTE))
        self._files_at, self._closed = 0.0, False
        try:
            hear = {name: self._hear(name) for name in STREAMS}
            self.program = Program(self.command, self.place.folder, environment, hear)
        except (OSError, ValueError) as error:
            self._log.close()
            raise _unstarted(error, self.command, self.place.folder) from None

    def _hear(self, name: str) -> Callable[[bytes], None]:
        words, reader = self._words[name], self._streams[name]

        def hear(data: bytes) -> None:
            self._log.write(data)
            words.write(data)
            reader.feed(data)

        return hear

    def step(self) -> None:
        """Wait a moment for the program, and read what it has told."""
        self.program.listen(POLL_S)
        now = time.monotonic()
        if now >= self._files_at:
            for reader in self._readers:
                reader.poll(final=False)
            took = time.monotonic() - now
            self._files_at = now + max(FILES_S, SHARE * took)

    def close(self) -> int:
        """End it if it has not ended; its exit code."""
        code = self.program.close()
        if not self._closed:
            self._closed = True
            self._log.close()
        return code

    def finish(self) -> int:
        """Collect it once it has ended, and read all that it has left; its exit code."""
        code = self.close()
        for stream in self._streams.values():
            stream.finish()
        for reader in self._readers:
            reader.poll(final=True)
        return code

    def words(self) -> str:
        """Its last line on standard error, or else on standard output, without the secrets it was given."""
        text = self._words["stderr"].line() or self._words["stdout"].line()
        for name, value in self.place.environment.items():
            if len(value) >= HIDDEN_FROM and SECRET.search(name):
                text = text.replace(value, HIDDEN)
        return text

    def failure(self, code: int, what: str) -> TrainingFailed:
        """What a non-zero exit code means."""
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        said = f"its last words: {self.words()}" if self.words() else "it printed nothing"
        text = f"{what} ended with {end}; {said} (log: {_short(self.place.log)})"
        killed = code in {-signal.SIGKILL, SIGNALLED + signal.SIGKILL}
        if killed and kernel_kills() > self._kills:
            text = f"the kernel ended {what} for lack of memory (log: {_short(self.place.log)})"
            return TrainingFailed(FailureKind.OUT_OF_MEMORY, text)
        lower = self._words["stderr"].text().lower()
        if any(words in lower for words in MEMORY_WORDS):
            return TrainingFailed(FailureKind.OUT_OF_MEMORY, text)
        return TrainingFailed(FailureKind.USER_ERROR, text)

    def silence(self, missing: Sequence[str], what: str) -> TrainingFailed:
        """What is said of a command that has ended well and told nothing."""
        named = missing[:3] if self.declared else missing[:1]
        looked = "; ".join(self.metrics[name].where(name) for name in named)
        said = f"its last words: {self.words()}" if self.words() else "it printed nothing"
        text = f"{what} ended well but told no {missing[0]}: {looked}; {said}; {TELL}"
        return TrainingFailed(FailureKind.NO_METRIC, f"{text} (log: {_short(self.place.log)})")


def _short(path: Path) -> str:
    """A path from the run directory on."""
    return "/".join(path.parts[-4:])


def _unstarted(error: OSError | ValueError, command: Sequence[str], folder: Path) -> TrainingFailed:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    if not folder.is_dir():
        reason, cure = f"the working directory {folder} is missing", "correct trainer.working_directory"
    elif isinstance(error, OSError) and error.errno == errno.ENOEXEC:
        cure = "give it a first line such as #!/bin/sh, or write the interpreter before it"
    elif isinstance(error, FileNotFoundError) and Path(folder, command[0]).is_file():
        cure = "the interpreter in its first line is missing; correct that line, or write another before it"
    elif isinstance(error, PermissionError):
        cure = "make it executable (chmod +x), or write the interpreter before it"
    else:
        cure = "correct trainer.command, or install it"
    return TrainingFailed(FailureKind.USER_ERROR, f"'{command[0]}' cannot be started ({reason}); {cure}")
