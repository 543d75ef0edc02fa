"""The sessions that this process drives, by run directory: how tasks find the run they are called for.

Prefect sees the path of the run directory only, which is what it shows in its pages.
"""

from __future__ import annotations

import signal
import threading
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


@contextmanager
def at_work(run_dir: str) -> Iterator[Session]:
    """The open session of a run directory, for a step that takes long: it heeds signals."""
    session = of(run_dir)
    with heeding_signals(session.run):
        yield session


@contextmanager
def heeding_signals(run: Run) -> Iterator[None]:
    """An interrupt or a termination asks the run to checkpoint and stop, instead of breaking it off.

    Prefect sets its own handler of terminations whenever a subflow begins, so tasks set this one again.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: run.stop.set()) for number in wanted]
    try:
        yield
    finally:
        for number, handler in zip(wanted, before, strict=True):
            signal.signal(number, handler)
