"""Does jobs in the controller's own process, for launchers that only imagine their machines.

A job is answered at once. What a training would take is part of the answer; nothing is trained here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ziggurat.domain import Failure, FailureKind, Job
from ziggurat.errors import ZigguratError
from ziggurat.history import History
from ziggurat.jobs import Desk
from ziggurat.protocols import Progress


def performer(folder: Path, history: History) -> Callable[[Job], Progress]:
    """A function that answers jobs of a run, given its history as it grows."""
    desk = Desk(folder, "service", history)

    def perform(job: Job) -> Progress:
        try:
            outcome = desk.do(job, lambda _step, _found: None, lambda _: False)
        except ZigguratError as error:
            return Progress(True, 0.0, failure=Failure(FailureKind.USER_ERROR, str(error)))
        return Progress(
            done=True,
            seconds=outcome.seconds,
            measurements=outcome.measurements,
            checkpoint=outcome.checkpoint,
            failure=outcome.failure,
            payload=outcome.payload,
        )

    return perform
