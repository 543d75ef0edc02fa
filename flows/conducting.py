"""How every flow drives a run: take it, go through stages, say how that ended in the state of the flow run.

A run that has broken down ends as Crashed, which the automation `ziggurat: try again` schedules again; the
next try goes on with the same run. A mistake of the user's ends as Failed, a request to stop as Cancelled:
nothing tries these again by itself.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from prefect import get_run_logger, tags
from prefect.client.schemas.objects import State
from prefect.exceptions import Abort, PrefectHTTPStatusError, TerminationSignal
from prefect.states import Cancelled, Completed, Crashed, Failed

from flows import stages
from tasks import identity, session
from tasks.guard import END, guard_budget
from tasks.publish import Publisher
from ziggurat.domain import RunStatus
from ziggurat.errors import JournalError, RunBusyError, RunTakenError, SpecError, ZigguratError
from ziggurat.runs import Interrupted, Run
from ziggurat.session import Session

log = logging.getLogger(__name__)

TAG = "ziggurat"
"""Of every flow run of ours, stages included; automations go by it."""
BUSY_S, PAUSE_S = 20.0, 1.0
"""Seconds that a further try waits for the one before it to let go of the run, and between two looks."""
Result = dict[str, Any]
Stage = Callable[[str], object]


def conduct(take: Callable[[], Run], wanted: Sequence[Stage]) -> State[Result]:
    """Drive a run through stages.

    Args:
        take: Gives the run, taken.
        wanted: Stages, in order.
    """
    try:
        run = _taken(take)
    except (SpecError, RunBusyError, JournalError) as error:
        return refused(error)
    try:
        identity.remember(run)
        get_run_logger().info("run directory: %s", run.folder)
        with tags(TAG), session.heeding_signals(run), session.opened(run, sys.stderr) as here:
            publisher = Publisher(run)
            here.engine.ticks.append(publisher.tick)
            try:
                return _through(str(run.folder), here, wanted)
            finally:
                publisher.close()
    except SpecError as error:
        if run.fresh and not run.history.segments:
            run.remove()  # nothing was paid for, so nothing is left behind
            identity.forget()
        return refused(error)
    except RunTakenError as error:
        if identity.superseded():
            raise Abort(str(error)) from None  # the state belongs to the later try
        return refused(error)
    except JournalError as error:
        return refused(error)


def _taken(take: Callable[[], Run]) -> Run:
    """The run, taken; a further try waits a little for the one before it, and leaves the run to that one.

    Raises:
        RunBusyError: Somebody else drives it.
        Abort: Another try of this flow run does, whose state this one must not change.
    """
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            return take()
        except RunBusyError as error:
            if not identity.again():
                raise
            if time.monotonic() > deadline:
                raise Abort(f"another try of this flow run goes on: {error}") from None
        time.sleep(PAUSE_S)


def refused(error: Exception) -> State[Result]:
    """The state of what only a person can mend: one line each, without a traceback."""
    for line in str(error).splitlines():
        get_run_logger().error(line)
    return Failed(message=str(error), data=error)


def _through(run_dir: str, here: Session, wanted: Sequence[Stage]) -> State[Result]:
    """Go through the stages, write the report, end the run."""
    try:
        for stage in wanted:
            stage(run_dir)
        status, reason = here.status(), ""
    except (Interrupted, KeyboardInterrupt, TerminationSignal) as stop:
        return _interrupted(here, stop)
    except (OSError, PrefectHTTPStatusError) as error:  # connections that break are of this kind
        return _broken(here, f"{type(error).__name__}: {error}")
    except (SpecError, JournalError):
        raise
    except ZigguratError as error:
        status, reason = RunStatus.FAILED, str(error)
    guard_budget(run_dir, END)
    stages.report(run_dir, status.value, reason)
    here.run.finish(status, reason)
    here.raise_alerts()
    return _ended(status, reason, here.result())


def _interrupted(here: Session, stop: BaseException) -> State[Result]:
    """The state of a run that was asked to stop: for good, or because its machine goes away."""
    why = str(stop) if isinstance(stop, Interrupted) else "stopped on request"
    asked = here.run.stop.is_set() or not isinstance(stop, Interrupted)
    if asked and identity.deployed() and not identity.cancelling():
        return _broken(here, "its machine asked it to stop")
    if not asked and here.run.mirror is not None and here.run.mirror.down:
        return _broken(here, why)
    here.run.finish(RunStatus.INTERRUPTED, why)
    words = f"{why}; continue with `ziggurat resume {here.run.folder}`, or by a retry of this flow run"
    return Cancelled(message=words, data=here.result())


def _broken(here: Session, why: str) -> State[Result]:
    """The state of a run that can go on elsewhere, or later."""
    log.warning("%s; the run can go on from %s", why, here.run.folder)
    here.run.finish(RunStatus.INTERRUPTED, why)
    words = f"{why}; a retry goes on from {here.run.folder}"
    state = Crashed if identity.deployed() else Cancelled
    return state(message=words, data=here.result())


def _ended(status: RunStatus, reason: str, result: Result) -> State[Result]:
    """The state of a run that went through all its stages, or failed in one."""
    if status is RunStatus.FAILED:
        return Failed(message=reason, data=result)
    counts = result["trials"]
    front = len(result["front"])
    found = f"{counts['total']} trials, {front} on the front, {result['cost_usd']:.4g} USD"
    if status is RunStatus.STOPPED_BY_BUDGET:
        return Completed(name="Stopped by budget", message=found, data=result)
    return Completed(message=found, data=result)
