"""Settings of the local launcher: a pool of warm worker processes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.domain import Job
    from ziggurat.launchers.pool import Pool
    from ziggurat.protocols import Progress


class Local(Setting):
    """Warm worker processes on this machine, each with torch imported and the data in memory."""

    kind: Literal["local"] = "local"
    usd_per_hour: float = Field(
        default=0.0, ge=0, description="Price of one hour of one worker in US dollars."
    )
    threads: int = Field(default=1, ge=1, le=256, description="Threads of a worker's numerical libraries.")
    memory_limit_mb: float | None = Field(
        default=None, ge=256, description="Resident memory above which a worker is ended (out_of_memory)."
    )
    time_limit_s: float = Field(
        default=3600, gt=0, description="Seconds after which a segment is ended (timeout)."
    )
    lease_s: float = Field(
        default=60, ge=2, description="Seconds without a sign of life after which a worker is lost."
    )
    grace_s: float = Field(
        default=10, ge=0, description="Seconds a cancelled job has to write its checkpoint."
    )
    start_timeout_s: float = Field(default=180, ge=10, description="Seconds a worker has to become ready.")

    @property
    def starts_processes(self) -> bool:
        """Whether anything could outlive its controller."""
        return True

    def clock(self, last_utc: float) -> Callable[[], float]:
        """The time of what happens: the machine's."""
        del last_utc
        return time.time

    def launch(
        self,
        folder: Path,
        workers: int,
        perform: Callable[[Job], Progress] | None = None,
        utc: float = 0.0,
        role: str = "",
    ) -> Pool:
        """Start a pool for a run directory; nothing is done in this process, by the machine's clock.

        Args:
            folder: Run directory.
            workers: How many train; a further one serves, except in a pool of a role that trains.
            perform: Makes no difference here.
            utc: Nor does this.
            role: What the pool is for, if the run has several; it is part of the names of its workers.
        """
        del perform, utc
        from ziggurat.launchers.pool import Pool

        return Pool(self, folder, workers, role)
