"""The pipeline: preflight, validate, search, retrain, measure, report.

`ziggurat run` and a Prefect deployment both run this flow; a run directory is what it continues from.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow

from flows import stages
from tasks import session
from ziggurat import runs
from ziggurat import spec as specs
from ziggurat.domain import RunStatus
from ziggurat.errors import JournalError, SpecError, ZigguratError
from ziggurat.runs import Interrupted, Run


@flow(name="ziggurat", validate_parameters=False)
def pipeline(
    spec: str = "examples/digits.yaml",
    runs_dir: str = "runs",
    overrides: list[str] | None = None,
    run_dir: str | None = None,
) -> dict[str, Any]:
    """Run a spec, or continue a run directory, and return its result.

    Args:
        spec: Path of the spec; ignored if a run directory is given.
        runs_dir: Where run directories are made.
        overrides: Assignments such as `search.trials=20`.
        run_dir: A run directory to continue.
    """
    run = _take(spec, runs_dir, overrides or [], run_dir)
    try:
        with _signals(run), session.opened(run, sys.stderr) as here:
            return _stages(str(run.folder), here)
    except SpecError:
        if run.fresh:
            run.remove()  # nothing was paid for, so nothing is left behind
        raise


def _stages(run_dir: str, here: session.Session) -> dict[str, Any]:
    """The table of contents, and how a run ends."""
    try:
        stages.preflight(run_dir)
        stages.validate(run_dir)
        stages.search(run_dir)
        stages.retrain(run_dir)
        stages.measure(run_dir)
        status, reason = here.status(), ""
    except (Interrupted, KeyboardInterrupt):
        here.run.finish(RunStatus.INTERRUPTED, "stopped on request")
        raise Interrupted("stopped on request") from None
    except (SpecError, JournalError):
        raise
    except ZigguratError as error:
        status, reason = RunStatus.FAILED, str(error)
    stages.report(run_dir, status.value, reason)
    here.run.finish(status, reason)
    here.raise_alerts()
    return here.result()


def _take(spec: str, runs_dir: str, overrides: list[str], run_dir: str | None) -> Run:
    """The run that the command line has taken already, or an existing or new one."""
    if run_dir is not None:
        return session.taken(run_dir) or runs.open_run(Path(run_dir))
    parsed, raw = specs.read(Path(spec), overrides)
    return runs.create(parsed, raw, Path(runs_dir))


@contextmanager
def _signals(run: Run) -> Iterator[None]:
    """An interrupt or a termination asks the run to checkpoint and stop, instead of breaking it off."""
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
