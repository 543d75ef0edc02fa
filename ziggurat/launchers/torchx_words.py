"""The ends of log files, of any size."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

END_BYTES = 32_768
LONGEST = 300


def tail(path: Path) -> list[str]:
    """The last lines of a file, stripped; none if it is not there."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - END_BYTES))
            return [line.strip() for line in file.read().decode("utf-8", "replace").splitlines()]
    except OSError:
        return []


def last_line(lines: Iterable[str], without: tuple[str, ...] = ()) -> str:
    """The last line that says something, cut to length; empty if none does.

    Args:
        lines: In order.
        without: Beginnings of lines that say nothing.
    """
    said = [line for line in lines if line and not (without and line.startswith(without))]
    return said[-1][:LONGEST] if said else ""
