"""An append-only file of events with one writer.

A line is on disk (fsync) before `append` returns. A torn last line, left by a crash, is dropped when
the file is opened again; a broken line anywhere else is an error that names the line.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from pydantic import ValidationError

from ziggurat.errors import JournalError, RunBusyError
from ziggurat.events import Body, Event, from_line, to_line

LONGEST_REASON = 100
"""Characters that a message quotes of why a line is no event."""


class Lock:
    """Exclusive ownership of a run directory by one process; the kernel gives it back if the process dies."""

    def __init__(self, path: Path) -> None:
        """Take the lock at a path.

        Raises:
            RunBusyError: Another process holds it.
            JournalError: The file cannot be written.
        """
        try:
            self._file: IO[str] = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise JournalError(f"{path}: cannot be opened for writing ({error.strerror})") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            owner = self._file.read().strip() or "another process"
            self._file.close()
            raise RunBusyError(
                f"{path.parent}: this run is driven by {owner}; wait for it or stop it, then resume"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()

    def release(self) -> None:
        """Give the lock back."""
        self._file.close()


def read_events(path: Path, offset: int = 0, first_seq: int = 0) -> Iterator[tuple[Event, int]]:
    """Events of a journal from a byte offset on, each with the offset behind it.

    A last line without its newline is not yielded.

    Raises:
        JournalError: The file cannot be read, a complete line is no event, or one is not the next one.
    """
    try:
        opened = path.open("rb")
    except OSError as error:
        raise JournalError(f"{path}: cannot be read ({error.strerror}); make it readable") from error
    with opened as file:
        file.seek(offset)
        seq = first_seq
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            offset += len(raw)
            try:
                event = from_line(raw.decode())
            except (ValueError, KeyError, TypeError) as error:
                raise JournalError(
                    f"{path}: line {seq + 1} is not a readable event ({_reason(error)}); "
                    "restore the file from a copy, or cut it off before that line"
                ) from error
            if event.seq != seq:
                raise JournalError(
                    f"{path}: line {seq + 1} has sequence number {event.seq}, expected {seq}; "
                    "restore the file from a copy, or cut it off before that line"
                )
            seq += 1
            yield event, offset


def _reason(error: Exception) -> str:
    """Why a line cannot be read, in a few words."""
    text = str(error.errors()[0]["msg"]) if isinstance(error, ValidationError) else str(error).splitlines()[0]
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + "..."


class Journal:
    """The open journal of one run."""

    def __init__(self, path: Path, run_id: str) -> None:
        """Open or create a journal for appending; a torn last line is cut off.

        Raises:
            JournalError: It cannot be read or written.
        """
        self.path = path
        self.run_id = run_id
        self._seq = 0
        self._end = 0
        self.events: list[Event] = []
        try:
            if path.exists():
                for event, end in read_events(path):
                    self.events.append(event)
                    self._seq, self._end = event.seq + 1, end
            self._file = path.open("ab", buffering=0)
            self._file.truncate(self._end)
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error

    def append(self, bodies: Sequence[Body] | Iterable[Body], utc: float) -> list[Event]:
        """Write events and return them once they are on disk.

        Raises:
            JournalError: They could not be written; the file is then as it was before.
        """
        events = [Event(self._seq + i, utc, self.run_id, body) for i, body in enumerate(bodies)]
        if not events:
            return events
        data = "".join(to_line(event) + "\n" for event in events).encode()
        try:
            written = self._file.write(data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            raise JournalError(
                f"{self.path}: cannot be written ({error.strerror}); free some space, then resume"
            ) from error
        self._seq += len(events)
        self._end += len(data)
        return events

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Use as a context manager that closes the file."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()
