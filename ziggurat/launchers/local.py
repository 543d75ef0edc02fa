"""Settings of the local launcher: a pool of warm worker processes on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from ziggurat.pricing import Priced
from ziggurat.setting import Setting

if TYPE_CHECKING:
    from ziggurat.domain import Job
    from ziggurat.launchers.pool import Pool
    from ziggurat.protocols import Site


LATE_S = 0.5
"""Seconds that ending a worker may take beyond its time."""


class LocalResources(Setting):
    """What each training worker gets of this machine."""

    gpus: int = Field(default=0, ge=0, le=64, description="GPUs of a worker; 0: it sees all of them.")
    share: bool = Field(
        default=False, description="Give a GPU to several workers where there is not one for each."
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that train one trial together (DDP), usually one for each GPU of the worker.",
    )


class Local(Priced):
    """Warm worker processes on this machine, each with torch imported and the data in memory."""

    kind: Literal["local"] = "local"
    charge: Literal["busy", "held"] = Field(
        default="busy",
        description="When a machine is paid: while it works, or from its start to its release, so that idle "
        "and waiting seconds are charged too.",
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
    resources: LocalResources = Field(
        default_factory=LocalResources, description="What each training worker gets of this machine."
    )
    start_timeout_s: float = Field(default=180, ge=10, description="Seconds a worker has to become ready.")
    start: Literal["fork", "spawn"] = Field(
        default="fork",
        description="How workers begin: forked from a process that has imported the libraries (Linux; where "
        "that cannot be, they are spawned), or spawned, each importing for itself.",
    )

    @property
    def starts_processes(self) -> bool:
        """Whether anything could outlive its controller."""
        return True

    def gpu_shares(self, workers: int) -> list[str]:
        """CUDA_VISIBLE_DEVICES of every worker; none if nothing is to be set.

        Raises:
            SpecError: There are too few GPUs.
        """
        from ziggurat.launchers.gpus import shares

        return shares(workers, self.resources.gpus, share=self.resources.share)

    def clock(self, last_utc: float) -> Callable[[], float]:
        """The time of what happens: the machine's."""
        del last_utc
        return time.time

    def stop_s(self, job: Job, margin_s: float) -> float:
        """Seconds that a job may still take once it is asked to stop, of which so many for its checkpoint."""
        del job
        return margin_s + LATE_S

    def launch(self, site: Site) -> Pool:
        """Start a pool: `site.workers` train, and a further one serves unless the pool's role is to train."""
        from ziggurat.launchers.pool import Pool

        return Pool(self, site.folder, site.workers, site.role)
