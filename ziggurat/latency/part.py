"""Measurements on their way to a table: one JSON line each beside the file, so that a stopped build goes on.

A line is appended when it has been measured. What was measured twice counts with its smaller median, since
whatever disturbs a measurement makes it slower.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from ziggurat.errors import SpecError
from ziggurat.latency.table import Entry

SUFFIX = ".part"


class Part:
    """The lines of a build; a context manager that closes the file."""

    def __init__(self, table: Path, header: Mapping[str, Any]) -> None:
        """Take up the lines of an earlier build of the same table, or begin.

        Args:
            table: File of the table that is being built.
            header: What all lines depend on, as plain JSON.

        Raises:
            SpecError: The lines were measured under another header, or the file cannot be written.
        """
        self.path = table.with_name(table.name + SUFFIX)
        self.rows: list[tuple[str, Entry]] = []
        self._of: dict[str, list[int]] = {}
        try:
            kept = self._read(dict(header)) if self.path.exists() else 0
            self._file = self.path.open("ab")
            self._file.truncate(kept)
        except OSError as error:
            raise SpecError(f"{self.path}: cannot be written ({error.strerror}); name another file") from None
        if not kept:
            self._line(dict(header))

    def _read(self, header: dict[str, Any]) -> int:
        """Take the lines of an earlier build; the length of the whole ones, without a torn last one."""
        lines = self.path.read_bytes().splitlines(keepends=True)
        kept = 0
        for number, line in enumerate(lines):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if row is None:
                if number < len(lines) - 1:
                    raise SpecError(
                        f"{self.path}: line {number + 1} is broken; remove the file to measure anew"
                    )
                break
            if number == 0:
                _same(self.path, row, header)
            else:
                self._keep(row)
            kept += len(line)
        return kept

    def _keep(self, row: Mapping[str, Any]) -> None:
        try:
            self._take(str(row["key"]), Entry(**row["entry"]))
        except (KeyError, TypeError):
            raise SpecError(
                f"{self.path}: {row!r:.80} is no entry; remove the file to measure anew"
            ) from None

    def add(self, key: str, entry: Entry) -> None:
        """Keep a measurement, on disk as well."""
        self._take(key, entry)
        self._line({"key": key, "entry": asdict(entry)})

    def _line(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _take(self, key: str, entry: Entry) -> None:
        self._of.setdefault(key, []).append(len(self.rows))
        self.rows.append((key, entry))

    def best(self, key: str) -> Entry:
        """The measurement of a key with the smallest median."""
        return self.rows[self._best(key)][1]

    def _best(self, key: str) -> int:
        return min(self._of[key], key=lambda row: self.rows[row][1].p50_ms)

    def times(self, key: str) -> int:
        """How often a key has been measured."""
        return len(self._of.get(key, ()))

    def beside(self, key: str, other: str) -> list[Entry]:
        """The measurements of another key next before and next after the best one of a key."""
        row, rows = self._best(key), self._of.get(other, [])
        before = [r for r in rows if r < row][-1:]
        after = [r for r in rows if r > row][:1]
        return [self.rows[r][1] for r in before + after]

    def remove(self) -> None:
        """Give the file up, since the table is written."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _same(path: Path, row: Any, header: Mapping[str, Any]) -> None:  # noqa: ANN401 - whatever the file holds
    before = row if isinstance(row, dict) else {}
    for name in header:
        if before.get(name) != header[name]:
            raise SpecError(
                f"{path}: was begun with {name} {before.get(name)!r:.60}, now it is {header[name]!r:.60}; "
                "remove the file to measure anew, or name another table"
            )
