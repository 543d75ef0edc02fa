"""The sessions that this process drives, by run directory: how tasks find the run they are called for.

Prefect sees the path of the run directory only, which is what it shows in its pages.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from ziggurat.runs import Run
from ziggurat.session import Session

_OPEN: dict[str, Session] = {}
_TAKEN: dict[str, Run] = {}


def hand_over(run: Run) -> str:
    """Keep a run that this process has taken until the flow asks for it; returns its directory."""
    _TAKEN[str(run.folder)] = run
    return str(run.folder)


def taken(run_dir: str) -> Run | None:
    """The run that was handed over, once."""
    return _TAKEN.pop(run_dir, None)


@contextmanager
def opened(run: Run, stream: TextIO | None) -> Iterator[Session]:
    """A session that tasks can find while the block lasts."""
    session = Session(run, stream)
    _OPEN[str(run.folder)] = session
    try:
        yield session
    finally:
        del _OPEN[str(run.folder)]
        session.close()


def of(run_dir: str) -> Session:
    """The open session of a run directory."""
    return _OPEN[run_dir]
