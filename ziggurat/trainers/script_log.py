"""Logs of bounded size: how a program's output begins and how it ends, whatever comes between."""

from __future__ import annotations

from pathlib import Path
from typing import IO

WORDS = 4096
"""Bytes of a stream's end that are kept for messages."""
SHOWN = 300
"""Characters of a line that a message repeats."""


class BoundedLog:
    """A file that takes any amount of output and keeps its first half and its last quarter or more.

    While it is written, the end lies in two files beside it that replace each other; `close` joins them.
    """

    def __init__(self, path: Path, limit: int) -> None:
        """Begin anew.

        Args:
            path: Its folder is made if it is missing.
            limit: Bytes that it may take on disk.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._older, self._newer = (path.with_name(f"{path.name}.{n}") for n in (1, 2))
        self.remove_ends()
        self._left, self._turn = limit // 2, max(1, limit // 4)
        self._head: IO[bytes] = path.open("wb", buffering=0)
        self._end: IO[bytes] | None = None
        self._written = self._dropped = 0

    def remove_ends(self) -> None:
        """Remove what a log that was not closed has left."""
        for path in (self._older, self._newer):
            path.unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Add output."""
        if self._left:
            self._head.write(data[: self._left])
            data, self._left = data[self._left :], max(0, self._left - len(data))
        while data:
            if self._end is None or self._written >= self._turn:
                self._next()
            assert self._end is not None
            part, data = data[: self._turn - self._written], data[self._turn - self._written :]
            self._end.write(part)
            self._written += len(part)

    def _next(self) -> None:
        """Go on in a new file; the one before the last is given up."""
        if self._end is not None:
            self._end.close()
            self._dropped += self._older.stat().st_size if self._older.exists() else 0
            self._newer.replace(self._older)
        self._end, self._written = self._newer.open("wb", buffering=0), 0

    def close(self) -> None:
        """Put beginning and end together."""
        if self._end is not None:
            self._end.close()
            if self._dropped:
                self._head.write(b"\n[... %d bytes are left out here ...]\n" % self._dropped)
            for path in (self._older, self._newer):
                if path.exists():
                    self._head.write(path.read_bytes())
            self.remove_ends()
        self._head.close()


class LastWords:
    """The end of a stream, for messages."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self._kept = b""

    def write(self, data: bytes) -> None:
        """Add output."""
        self._kept = (self._kept + data)[-WORDS:]

    def text(self) -> str:
        """What was kept."""
        return self._kept.decode("utf-8", errors="replace")

    def line(self) -> str:
        """The last line that says something, without anything that a terminal would act on; may be empty."""
        lines = (" ".join(line.split()) for line in reversed(self.text().splitlines()))
        line = next((line for line in lines if line), "")
        plain = "".join(c if c.isprintable() else "?" for c in line)
        return plain if len(plain) <= SHOWN else f"...{plain[-SHOWN:]}"
