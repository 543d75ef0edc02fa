"""What the settings of all launchers of other machines have in common."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from ziggurat.domain import Job, JobKind
from ziggurat.events import to_plain
from ziggurat.launchers.scheduler import Request, Resources, Scheduler
from ziggurat.pricing import Priced

if TYPE_CHECKING:
    from ziggurat.launchers.dispatcher import Dispatcher
    from ziggurat.protocols import Site

LONGEST_NAME = 63
LONGEST_BEAT_S = 10.0
AFTERMATH_S = 5.0
"""Seconds that a result may take to become visible after the scheduler says that its job is over."""
EXTRA_S = 60.0
"""Seconds beyond the limit of a job, after which the scheduler may end it itself."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""How the common numerical libraries are told how many threads they may use."""


class RemoteSetting(Priced):
    """The base of launchers whose jobs are processes of their own on machines of a scheduler."""

    charge: Literal["busy", "held"] = Field(
        default="busy",
        description="When a machine is paid: while it works, or from its start to its release, so that idle "
        "and waiting seconds are charged too.",
    )
    time_limit_s: float = Field(
        default=86_400, gt=0, description="Seconds after which a segment is ended (timeout)."
    )
    lease_s: float = Field(
        default=120, ge=5, description="Seconds without a sign of life after which a running job is lost."
    )
    grace_s: float = Field(
        default=30, ge=0, description="Seconds a cancelled job has to write its checkpoint."
    )
    poll_s: float = Field(
        default=2.0, ge=0.05, le=600, description="Seconds between two looks at the scheduler and the jobs."
    )
    resources: Resources = Field(default_factory=Resources, description="What each job needs.")
    environment: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of the jobs; secrets as ${NAME}."
    )
    python: str | None = Field(
        default=None,
        min_length=1,
        description="Python on the machines; by default the controller's own path, or `python` in an image.",
    )

    @field_validator("environment", mode="before")
    @classmethod
    def _as_text(cls, given: object) -> object:
        """Numbers and truth values of YAML as a shell would have them."""
        if not isinstance(given, dict):
            return given
        told = {True: "true", False: "false"}
        return {
            k: told[v] if isinstance(v, bool) else str(v) if isinstance(v, int | float) else v
            for k, v in given.items()
        }

    @field_validator("environment")
    @classmethod
    def _named(cls, environment: dict[str, str]) -> dict[str, str]:
        for name, value in environment.items():
            if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
                raise ValueError(f"'{name}' cannot be set: use letters, digits and _")
            if "\0" in value:
                raise ValueError(f"the value of {name} holds a null character; remove it")
        return environment

    @property
    def needs_store(self) -> bool:
        """Whether the machines cannot see the run directory in any case."""
        return False

    @property
    def starts_processes(self) -> bool:
        """Whether anything could outlive its controller: the local service could."""
        return True

    @property
    def beat_s(self) -> float:
        """Seconds between two signs of life of a job."""
        return min(LONGEST_BEAT_S, self.lease_s / 6)

    def stop_s(self, job: Job, margin_s: float) -> float:
        """Seconds that a job may still be paid for once it is asked to stop.

        It may have begun since the last look, take all of its grace, be seen to have ended a look later, and
        its machine may then wait for more.
        """
        return max(margin_s, self.grace_s) + AFTERMATH_S + 2 * self.poll_s + self.beat_s + self.waits_s(job)

    def order(self, job: Job) -> dict[str, Any]:
        """What is written down about a job for its machine."""
        return {
            "job": to_plain(job),
            "grace_s": self.grace_s,
            "beat_s": self.beat_s,
            "linger_s": self.waits_s(job),
        }

    def limit_s(self, job: Job) -> float:
        """Seconds that a segment may take."""
        return job.time_limit_s or self.time_limit_s

    def waits_s(self, job: Job) -> float:
        """Seconds that the machine of a job waits for the next segment of its trial; 0: it ends at once."""
        del job
        return 0.0

    def lasts_s(self, job: Job) -> float:
        """Seconds that the machine of a job has before it is to checkpoint, all its segments together."""
        return self.limit_s(job)

    def clock(self, last_utc: float) -> Callable[[], float]:
        """The time of what happens: the machine's."""
        del last_utc
        return time.time

    def scheduler(self, folder: Path) -> Scheduler:
        """The scheduler's own side of it, for a run directory; nothing is reached for yet."""
        raise NotImplementedError

    def check(self) -> None:
        """Whether the scheduler can be reached and would take jobs.

        Raises:
            SpecError: It cannot; one line with the cure.
        """
        self.scheduler(Path()).check()

    def launch(self, site: Site) -> Dispatcher:
        """Start a launcher; jobs of an earlier controller are found again one by one."""
        from ziggurat.launchers.dispatcher import Dispatcher

        return Dispatcher(self, site)

    def request(self, site: Site, job: Job) -> Request:
        """What the scheduler is asked to run for a job; nothing is reached for."""
        image = getattr(self, "image", None)
        python = self.python or ("python" if image else sys.executable)
        run = site.store.url if site.store is not None else str(site.folder)
        environment = dict.fromkeys(THREAD_VARIABLES, str(self.resources.cpus)) | self.environment
        if not image and "PYTHONPATH" in os.environ:
            environment.setdefault("PYTHONPATH", os.environ["PYTHONPATH"])
        return Request(
            name=job_name(site.folder.name, job.key),
            command=(python, "-m", "ziggurat.once", run, job.key),
            resources=self.resources,
            time_limit_s=self.limit_s(job) + self.waits_s(job) + self.grace_s + EXTRA_S,
            grace_s=self.grace_s,
            environment=environment,
            folder=site.folder / "logs",
        )


class LingeringSetting(RemoteSetting):
    """The base of those whose every job would be a new process, did it not wait for the next segment."""

    linger_s: float = Field(
        default=5,
        ge=0,
        le=600,
        description="Seconds a machine is kept for the next segment of its trial, poll_s not counted; 0: "
        "every segment is a job of its own.",
    )

    def waits_s(self, job: Job) -> float:
        """Seconds that the machine of a job waits for the next segment of its trial, if there may be one."""
        goes_on = job.kind is JobKind.TRAIN and job.to_rung < len(job.ladder) - 1
        return self.linger_s + self.poll_s if goes_on and self.linger_s > 0 else 0.0


def job_name(run_id: str, key: str) -> str:
    """The name of a job at its scheduler: of a-z, 0-9 and "-", unique to the run, at most 63 characters."""
    tail = re.sub(r"[^a-z0-9]+", "-", key.lower()).strip("-")
    salt = hashlib.sha256(f"{run_id}/{key}".encode()).hexdigest()[:8]
    head = re.sub(r"[^a-z0-9]+", "-", run_id.lower()).strip("-")
    room = LONGEST_NAME - len(salt) - len("zig---")
    tail = tail[-room:]
    head = head[: max(0, room - len(tail))].strip("-")
    return "-".join(part for part in ("zig", head, tail, salt) if part)
