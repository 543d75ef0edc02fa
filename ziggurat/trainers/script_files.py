"""Metrics in files that grow while a script runs: JSON lines and CSV; and in one that is there at its end.

What a file held before the script was started belongs to an earlier training and is passed over.
"""

from __future__ import annotations

import csv
import glob
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ziggurat.trainers.script_metrics import MetricSetting, check_name, number_of
from ziggurat.trainers.script_output import Tell

LONGEST = 1 << 16
"""Bytes of a line that are read; longer lines are passed over."""
PART = 1 << 22
"""Bytes that are read at a time."""
HEAD = 4096
"""Bytes by which a file is told from another one in its place."""
MOST_FILES = 20
LARGEST_RESULT = 1 << 24
STEPS = ("epoch", "step")
"""Keys of JSON lines that tell the epoch, the first that is there."""
_DELIMITERS = ",;\t"
_F = TypeVar("_F", bound="Growing")


def found(pattern: str) -> list[Path]:
    """Files, or folders, that a path with `*` and `**` stands for; a few of many."""
    if not glob.has_magic(pattern):
        return [Path(pattern)] if os.path.lexists(pattern) else []
    return sorted(Path(p) for p in glob.iglob(pattern, recursive=True))[:MOST_FILES]  # noqa: PTH207 - whole paths


@dataclass
class Growing:
    """The part of a file that is new since the last look.

    Attributes:
        path: The file.
        offset: Bytes of it that were read.
        anew: Whether the last look found another beginning: the file was written anew.
    """

    path: Path
    offset: int = 0
    anew: bool = False
    _head: bytes = b""
    _state: tuple[int, int] = (0, 0)
    _untouched: bool = False

    def skip(self) -> None:
        """Pass over what is there now."""
        try:
            with self.path.open("rb") as file:
                self._head = file.read(HEAD)
                self.offset = file.seek(0, os.SEEK_END)
            self._state, self._untouched = self._look(), True
        except OSError:
            return

    def _look(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_mtime_ns, stat.st_size

    def lines(self, *, final: bool) -> Iterator[bytes]:
        """Whole lines that are new; at the end of all also one that is not ended.

        A file that was written anew is read only when it has not changed since the last look, for its writer
        may be at work.
        """
        self.anew = False
        try:
            state = self._look()
            with self.path.open("rb") as file:
                again = not self._goes_on(file, state)
                settled, self._state = state == self._state, state
                if again and not (settled or final):
                    return
                if again:
                    self.anew, self.offset = True, 0
                yield from self._new(file, final=final)
                self._untouched = False
                file.seek(0)
                self._head = file.read(min(HEAD, self.offset))
        except OSError:
            return

    def _goes_on(self, file: Any, state: tuple[int, int]) -> bool:  # noqa: ANN401 - an open file
        """Whether what was read is still there; a file that changed without growing was written anew."""
        if state[1] < self.offset or (self._untouched and state != self._state and state[1] == self.offset):
            return False
        return bool(file.read(len(self._head)) == self._head)

    def _new(self, file: Any, *, final: bool) -> Iterator[bytes]:  # noqa: ANN401 - an open file
        file.seek(self.offset)
        rest, passing = b"", False
        while part := file.read(PART):
            *lines, rest = (rest + part).split(b"\n")
            for line in lines:
                self.offset += len(line) + 1
                if len(line) <= LONGEST and not passing:
                    yield line
                passing = False
            if len(rest) > LONGEST:
                self.offset += len(rest)
                rest, passing = b"", True
        if final and rest and not passing:
            self.offset += len(rest)
            yield rest


class JsonLines:
    """Reads files of JSON objects, one a line."""

    def __init__(
        self,
        pattern: str,
        metrics: Mapping[str, MetricSetting],
        tell: Tell,
        but: Collection[str] | None = None,
    ) -> None:
        """Look for metrics by name; or, where `but` is given, for all that a file tells but these."""
        self._pattern, self._metrics, self._tell, self._but = pattern, metrics, tell, but
        self._files = _known(pattern, Growing)
        for file in self._files.values():
            file.skip()

    def poll(self, *, final: bool) -> None:
        """Tell what is new."""
        for path in found(self._pattern):
            for line in self._files.setdefault(path, Growing(path)).lines(final=final):
                plain = _parsed(line)
                if isinstance(plain, dict):
                    self._line(plain)

    def _line(self, plain: Mapping[str, Any]) -> None:
        if self._but is not None:
            self._any(plain, self._but)
        for name, metric in self._metrics.items():
            value = number_of(plain.get(metric.called(name)))
            if value is None and plain.get("metric") == metric.called(name):
                value = number_of(plain.get("value"))
            if value is not None:
                told = plain.get(metric.step) if metric.step else _step(plain)
                self._tell(name, value * metric.scale, number_of(told))

    def _any(self, plain: Mapping[str, Any], but: Collection[str]) -> None:
        step = number_of(_step(plain))
        name, value = plain.get("metric"), number_of(plain.get("value"))
        if isinstance(name, str):
            pairs: list[tuple[str, float | None]] = [(name, value)]
        else:
            pairs = [(k, number_of(v)) for k, v in plain.items() if k not in STEPS]
        for key, number in pairs:
            if number is not None and key not in but and _is_name(key):
                self._tell(key, number, step)


def _step(plain: Mapping[str, Any]) -> object:
    return next((plain[key] for key in STEPS if key in plain), None)


def _is_name(text: str) -> bool:
    try:
        check_name(text)
    except ValueError:
        return False
    return True


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - plain JSON, or None
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


class _Table(Growing):
    """A CSV file: its header, and the rows that were taken."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.header: list[str] = []
        self.taken = 0
        self.delimiter = ","

    def skip(self) -> None:
        for _ in self.rows(final=True):
            pass
        super().skip()

    def rows(self, *, final: bool) -> Iterator[Mapping[str, str]]:
        """New rows. Rows that were taken are passed over when the file comes back with another header."""
        lines = list(self.lines(final=final))
        passed = 0
        if self.anew:
            self.header = []
            rows = max(0, sum(1 for line in lines if line.strip()) - 1)
            passed = self.taken if rows >= self.taken else 0
            self.taken = 0
        for raw in lines:
            line = raw.decode("utf-8", errors="replace").strip("\r\ufeff")
            if not line.strip():
                continue
            if not self.header:
                self.delimiter = max(_DELIMITERS, key=line.count)
                self.header = self._cells(line)
                continue
            self.taken += 1
            if self.taken > passed:
                yield dict(zip(self.header, self._cells(line), strict=False))

    def _cells(self, line: str) -> list[str]:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=self.delimiter))]
        except csv.Error:
            return []


class CsvFiles:
    """Reads CSV files with a header; cells may be empty."""

    def __init__(self, pattern: str, metrics: Mapping[str, MetricSetting], tell: Tell) -> None:
        """Look for metrics by name."""
        self._pattern, self._metrics, self._tell = pattern, metrics, tell
        self._files = _known(pattern, _Table)
        for file in self._files.values():
            file.skip()

    def poll(self, *, final: bool) -> None:
        """Tell what is new."""
        for path in found(self._pattern):
            for row in self._files.setdefault(path, _Table(path)).rows(final=final):
                for name, metric in self._metrics.items():
                    value = _cell(row.get(metric.called(name)))
                    if value is not None:
                        self._tell(name, value * metric.scale, _cell(row.get(metric.step or "")))


def _known(pattern: str, make: Callable[[Path], _F]) -> dict[Path, _F]:
    return {path: make(path) for path in found(pattern)}


def _cell(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


class Result:
    """Reads a JSON file that a script writes at its end."""

    def __init__(self, pattern: str, metrics: Mapping[str, MetricSetting], tell: Tell) -> None:
        """Look for metrics by name."""
        self._pattern, self._metrics, self._tell = pattern, metrics, tell
        self._before = {path: _state(path) for path in found(pattern)}

    def poll(self, *, final: bool) -> None:
        """Tell what is there, at the end."""
        if not final:
            return
        for path in found(self._pattern):
            state = _state(path)
            if state is None or state == self._before.get(path) or state[1] > LARGEST_RESULT:
                continue
            try:
                plain = _parsed(path.read_bytes())
            except OSError:
                continue
            for name, metric in self._metrics.items():
                value = number_of(_inside(plain, metric.called(name)))
                if value is not None:
                    self._tell(name, value * metric.scale, None)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _inside(plain: object, key: str) -> object:
    """The value under a key; where there is no such key, `a.b` is b inside of a."""
    if not isinstance(plain, dict):
        return None
    if key in plain:
        return plain[key]
    first, dot, rest = key.partition(".")
    return _inside(plain.get(first), rest) if dot else None
