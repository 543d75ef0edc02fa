"""How a job is done that is no segment: inspecting, trying a device or a script, publishing."""

from __future__ import annotations

import time
from typing import Any

from ziggurat.domain import Job
from ziggurat.errors import CallFailed, ZigguratError
from ziggurat.machines import Machines
from ziggurat.protocols import Progress
from ziggurat.runs import Run
from ziggurat.spending import Spending

WAIT_S = 0.2


def call(run: Run, pool: Machines, money: Spending, job: Job, timeout_s: float) -> Any:  # noqa: ANN401 - plain JSON
    """Have a job done, charge for it where a machine does it, and return its payload.

    Raises:
        CallFailed: It failed.
        ZigguratError: It took too long, or there is no money for it.
        Interrupted: Somebody asked the run to stop.
    """
    lasts_s = money.lasts_s(job)
    deadline = time.monotonic() + timeout_s
    while not pool.room(job):
        run.check_stop()
        if time.monotonic() > deadline:
            raise ZigguratError(
                f"the service worker was not ready within {timeout_s:g} s; see {run.folder}/logs"
            )
        pool.wait(WAIT_S)
    pool.start(job)
    progress = Progress(done=False, seconds=0.0)
    try:
        while not progress.done:
            run.check_stop()
            pool.wait(WAIT_S)
            progress = pool.poll(job.key)
            short = progress.seconds > lasts_s
            if not progress.done and (short or time.monotonic() > deadline):
                pool.cancel(job.key, 0.0)
                limit = "the limit allows" if short else f"{timeout_s:g} s"
                raise ZigguratError(f"{job.kind.value} took longer than {limit}")
    finally:
        run.record(money.called(job, progress.seconds))
    if progress.failure is not None:
        raise CallFailed(progress.failure.kind.value, progress.failure.text)
    return progress.payload
